"""Named preprocessing recipes, fitted on training cells and stored with the run.

A recipe is a pair of functions: ``fit`` turns training readings into a few arrays, ``apply`` uses those arrays on any
readings. :class:`Recipe` holds the name, the options and the arrays, so that it can be written to disk and used again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from unpaired.data.recipes import STEPS, fill_missing
from unpaired.data.types import Array, Dataset, Modality
from unpaired.errors import DataError, OptionError, Problem
from unpaired.options import check_choice, check_integer

__all__ = ["RECIPES", "Recipe", "choose", "fit_recipe", "parse_recipe", "prepare"]


@dataclass(frozen=True, eq=False)
class Recipe:
    """A fitted recipe.

    Attributes
    ----------
    name
        One of :data:`RECIPES`.
    reason
        Why it was chosen, in one sentence.
    options
        Its options, e.g. ``{"pcs": 50}``.
    arrays
        What was learned; empty for ``"none"``.
    """

    name: str
    reason: str
    options: Mapping[str, int]
    arrays: Mapping[str, Array]

    @property
    def spec(self) -> str:
        """Its name and options, as :func:`parse_recipe` splits them."""
        return ":".join(filter(None, (self.name, ",".join(f"{k}={v}" for k, v in self.options.items()))))

    def transform(self, X: Any) -> Array:
        """Return the float32 features of readings ``X``: ``(n, d)``, or ``(n, C, H, W)`` for images."""
        filled = fill_missing(X, self.arrays["median"]) if "median" in self.arrays else X
        features = np.ascontiguousarray(STEPS[self.name].apply(filled, dict(self.arrays)), dtype=np.float32)
        bad = np.flatnonzero(~np.isfinite(features).all(axis=tuple(range(1, features.ndim))))
        if len(bad):
            what = f"{len(bad)} cells have readings that are missing or infinite, the first in row {bad[0]}."
            fix = "Remove them; only a recipe that was fitted on missing values fills them."
            raise DataError([Problem("error", "memory", what, fix)])
        return features


RECIPES: tuple[str, ...] = tuple(STEPS)
"""Names of the recipes: library size + log + PCA, TF-IDF + LSI, CLR, z-score, per-channel z-score, nothing."""


def parse_recipe(spec: str) -> tuple[str, dict[str, int]]:
    """Split ``"counts:pcs=100,hvg=2000"`` into the name and its options.

    Raises
    ------
    OptionError
        If the recipe or one of its options is unknown, or a value is not a whole number.
    """
    name, _, tail = str(spec).partition(":")
    check_choice("recipe", name, (*RECIPES, "auto"))
    allowed = STEPS[name].options if name != "auto" else {}
    options: dict[str, int] = {}
    for item in filter(None, tail.split(",")):
        key, _, value = item.partition("=")
        check_choice(f"option of recipe {name!r}", key, tuple(allowed))
        if not value.isdigit():
            msg = f"{key} of recipe {name!r} must be a whole number; got {value!r}."
            raise OptionError(msg)
        options[key] = int(value)
    return name, options


def choose(X: Any, *, feature_names: Array | None = None, feature_types: Array | None = None) -> tuple[str, str]:
    """Look at the readings and return the name of a recipe and the reason, in one sentence.

    Parameters
    ----------
    X
        ``(n, p)`` dense or sparse readings, possibly with NaN, or ``(n, C, H, W)`` images.
    feature_names
        ``(p,)`` names, which may be genomic intervals.
    feature_types
        ``(p,)`` types as written by Cell Ranger ("Gene Expression", "Antibody Capture", "Peaks") or by NeurIPS 2021
        (GEX, ADT, ATAC).
    """
    if np.ndim(X) == 4:
        return "image", "four dimensions: images"
    values = np.asarray(X.data if sp.issparse(X) else X, dtype=np.float64).ravel()
    values = values[np.isfinite(values)]
    whole = values.size > 0 and bool(np.all(values >= 0) and np.all(values == np.round(values)))
    if not whole and X.shape[1] > _MANY:
        return "scale:pcs=50", f"real values of {X.shape[1]} features: standardised, then 50 principal components"
    if not whole:
        return "scale", "real values: each feature is standardised"
    return _choose_by_type(feature_types) or _choose_counts(X, values, feature_names)


def _choose_counts(X: Any, values: Array, feature_names: Array | None) -> tuple[str, str]:
    if feature_names is not None and _are_intervals(feature_names):
        return "peaks", "counts over genomic intervals"
    largest = int(values.max())
    if largest <= _SMALL_COUNT and np.count_nonzero(values) > 0.2 * np.prod(X.shape):
        return "scale", f"whole numbers, none above {largest}: scores rather than counts, each feature is standardised"
    if X.shape[1] <= _PANEL and np.count_nonzero(values) > 0.5 * np.prod(X.shape):
        middle, high = np.quantile(values, [0.5, 0.99])
        if high < _SKEW * (middle + 1):
            return "scale", "whole numbers without the long tail of counts: each feature is standardised"
        return "protein", f"counts of a panel of {X.shape[1]} features, mostly non-zero: like antibody tags"
    return "counts", f"counts of {X.shape[1]} features: like gene expression"


_SMALL_COUNT = 20
_PANEL = 300
_MANY = 500  # features; real values of so many are an expression profile that somebody has log-normalised
_SKEW = 30.0  # antibody tags: the 99th percentile over the median is 80 to 180; other whole numbers stay below 30
_TYPES = {
    "gene expression": "counts",
    "gex": "counts",
    "antibody capture": "protein",
    "adt": "protein",
    "peaks": "peaks",
    "atac": "peaks",
}


def _choose_by_type(types: Array | None) -> tuple[str, str] | None:
    if types is None or len(types) == 0:
        return None
    kinds = {str(t).strip().lower() for t in types}
    found = {_TYPES.get(k) for k in kinds}
    if len(found) == 1 and None not in found:
        return str(found.pop()), f"its feature type is {str(types[0])!r}"
    return None


def _are_intervals(names: Array) -> bool:
    pattern = re.compile(r"^(chr)?[\w.]+[:\-_]\d+[\-_]\d+$")
    sample = [str(n) for n in names[:: max(1, len(names) // 200)]]
    return sum(bool(pattern.match(n)) for n in sample) > 0.9 * len(sample)


def fit_recipe(spec: str, X: Any, *, reason: str = "asked for", missing: bool = False, seed: int = 0) -> Recipe:
    """Fit a recipe on readings of training cells.

    Parameters
    ----------
    spec
        A name of :data:`RECIPES`, with options after a colon: ``"counts:pcs=100"``.
    X
        ``(n, p)`` dense or CSR readings, or ``(n, C, H, W)`` images.
    reason
        Kept in the recipe.
    missing
        Learn the features' medians, so that missing values are filled by them.
    seed
        Seed of the truncated decompositions' starting vector.

    Raises
    ------
    OptionError
        If the recipe or an option is unknown, or it does not fit the shape of the readings.
    DataError
        If a feature has no value to fill by.
    """
    name, given = parse_recipe(spec)
    if (name == "image") != (np.ndim(X) == 4) and name != "none":
        msg = f"recipe {name!r} does not fit readings of {np.ndim(X)} dimensions (images have four)."
        raise OptionError(msg)
    options = {**STEPS[name].options, **given}
    for key, value in options.items():
        # hvg=0 and scale's pcs=0 mean "all", its clip=0 "never"; a decomposition needs one component.
        check_integer(f"{key} of recipe {name!r}", value, low=0 if key in STEPS[name].off else 1)
    if name in {"counts", "peaks"} and min(X.shape) < 3:
        msg = f"recipe {name!r} needs three cells and three features or more; got {X.shape[0]} x {X.shape[1]}."
        raise OptionError(msg)
    arrays: dict[str, Array] = {}
    if missing:
        empty = np.flatnonzero(np.isnan(X).all(axis=0))
        if len(empty):
            what = f"{len(empty)} features have no value in any training cell, the first is column {empty[0]}."
            raise DataError([Problem("error", "memory", what, "Remove them.")])
        arrays["median"] = np.nanmedian(np.asarray(X, dtype=np.float64), axis=0).astype(np.float32)
        X = fill_missing(X, arrays["median"])
    arrays.update(STEPS[name].fit(X, seed=seed, **options))
    return Recipe(name=name, reason=reason, options=options, arrays=arrays)


def prepare(
    data: Dataset,
    *,
    recipes: Mapping[str, str] | str = "auto",
    missing: Literal["median", "error"] = "median",
    hints: Mapping[str, Array | None] | None = None,
    train: Mapping[str, Array] | None = None,
    seed: int = 0,
) -> Dataset:
    """Return the data set with a fitted recipe in every modality.

    Parameters
    ----------
    data
        The data set; a recipe that it has is replaced.
    recipes
        One recipe for all, or modality name -> recipe; a modality that is not named gets ``"auto"``.
    missing
        ``"median"`` fills missing values (NaN) of a table with the feature's median over the training cells;
        ``"error"`` raises.
    hints
        Modality name -> ``(p,)`` feature types, for ``"auto"``.
    train
        Modality name -> rows to fit on; all rows by default.
    seed
        Seed of the decompositions.

    Raises
    ------
    OptionError
        If a recipe is unknown, does not fit, or names a modality that does not exist.
    """
    chosen = dict.fromkeys(data, recipes) if isinstance(recipes, str) else dict(recipes)
    for name in chosen:
        data[name]
    check_choice("missing", missing, ("median", "error"))
    done: dict[str, Modality] = {}
    for name, modality in data.modalities.items():
        spec, reason = chosen.get(name, "auto"), "asked for"
        if spec == "auto":
            types = (hints or {}).get(name)
            spec, reason = choose(modality.X, feature_names=modality.feature_names, feature_types=types)
        rows = modality.order
        if train is not None and name in train:
            rows = rows[np.isin(rows, train[name])]
        has_missing = not sp.issparse(modality.X) and modality.X.dtype.kind == "f" and bool(np.isnan(modality.X).any())
        if has_missing and missing == "error":
            msg = f"modality {name!r} has missing values; remove them or use missing='median'."
            raise OptionError(msg)
        recipe = fit_recipe(spec, modality.X[rows], reason=reason, missing=has_missing, seed=seed)
        done[name] = replace(modality, recipe=recipe)
    return replace(data, modalities=done)
