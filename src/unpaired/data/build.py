"""Tables to a data set: checked, converted, labels matched by name, pairs found, used or hidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from unpaired.data.check import check_tables
from unpaired.data.labels import ONE_LABEL, names_of
from unpaired.data.pairing import find_units, hide_pairing, limit_cells
from unpaired.data.preprocess import parse_recipe, prepare
from unpaired.data.scan import readings
from unpaired.data.tables import Table, as_found
from unpaired.data.types import UNKNOWN, Array, Dataset, Modality, Pairs, Truth
from unpaired.data.wording import counted, did_you_mean, listed
from unpaired.errors import DataError, OptionError, Problem
from unpaired.options import check_choice, check_integer, check_seed

__all__ = ["build_dataset", "hide_pairing", "tables_from_arrays"]


def tables_from_arrays(
    arrays: Mapping[str, Any],
    labels: Mapping[str, Sequence[Any] | Array],
    *,
    ids: Mapping[str, Sequence[str]] | None = None,
    batch: Mapping[str, Sequence[Any]] | None = None,
) -> list[Table]:
    """Return the tables of arrays in memory, with columns ``label`` and ``batch``; nothing is modified.

    Parameters
    ----------
    arrays
        Modality name -> ``(n, p)`` array, sparse matrix or pandas table, or ``(n, C, H, W)`` images.
    labels
        Modality name -> ``(n,)`` names of the labels; ``None`` or NaN where unknown.
    ids
        Modality name -> ``(n,)`` names of the cells; numbered when absent.
    batch
        Modality name -> ``(n,)`` batch names.

    Raises
    ------
    DataError
        If something is missing or of the wrong length; with everything of the kind.
    OptionError
        If an argument is no mapping from names of modalities.
    """
    given = {"labels": labels, "ids": ids, "batch": batch}
    _check_mapping("arrays", arrays, None)
    for option, value in given.items():
        if value is not None:
            _check_mapping(option, value, list(arrays))
    problems: list[Problem] = []
    tables = []
    for name, array in arrays.items():
        columns = {k: v.get(name) for k, v in given.items() if v is not None}
        if columns["labels"] is None:
            problems.append(Problem("error", f"memory:{name}", "has no labels.", f"Give labels[{name!r}]."))
            continue
        X = as_found(array)
        wrong = [_check_length(name, k, v, X) for k, v in columns.items() if v is not None]
        problems += [p for p in wrong if p is not None]
        if not any(wrong):
            tables.append(_table_of(name, array, X, columns))
    if problems:
        raise DataError(problems)
    return tables


def build_dataset(
    tables: Sequence[Table],
    *,
    label: str | None,
    batch: str | None = None,
    pairing: Literal["none", "use", "hide"] = "none",
    recipes: Mapping[str, str] | str = "auto",
    missing: Literal["median", "error"] = "median",
    max_cells_per_label: int | None = None,
    matched: bool = True,
    seed: int = 0,
) -> tuple[Dataset, Truth | None]:
    """Make a data set of tables, which are not modified.

    Parameters
    ----------
    tables
        The modalities, as found.
    label
        Column with the label of each cell's experiment; ``None`` gives all cells one label.
    batch
        Column with the batch, if any.
    pairing
        What to do with cells of the same id: keep them apart (``"none"``), offer the pairs for learning (``"use"``),
        or take them out, shuffle each side and return them as the truth (``"hide"``).
    recipes
        One recipe for all, or modality name -> recipe.
    missing
        Fill missing values by their feature's median, or raise.
    max_cells_per_label
        Keep at most so many cells of every label in each modality; partners stay together.
    matched
        Whether cells will be matched by their labels, which must then be shared by all modalities.
    seed
        Seed of everything that is drawn.

    Raises
    ------
    DataError
        With every problem of the data.
    OptionError
        If an option has a value that is not allowed.
    """
    _check_options(tables, label=label, batch=batch, recipes=recipes)
    check_choice("pairing", pairing, ("none", "use", "hide"))
    check_choice("missing", missing, ("median", "error"))
    check_seed(seed)
    if max_cells_per_label is not None:
        check_integer("max_cells_per_label", max_cells_per_label, low=1)
    found = check_tables(
        tables, label=label, batch=batch, missing=missing, recipes=recipes, pairing=pairing, matched=matched
    )
    if any(p.severity == "error" for p in found):
        raise DataError(p for p in found if p.severity != "note")
    data = _assemble(tables, label=label, batch=batch, paired=pairing != "none")
    data = replace(data, notes=tuple(str(p) for p in found if p.severity == "warning"))
    if max_cells_per_label is not None:
        data = _limited(data, max_cells_per_label, seed)
    truth = None
    if pairing == "hide":
        data, truth = hide_pairing(data, seed)
    hints = {t.name: t.feature_types for t in tables}
    return prepare(data, recipes=recipes, missing=missing, hints=hints, seed=seed), truth


# --------------------------------------------------------------------------------------------------------- options


def _check_options(
    tables: Sequence[Table], *, label: str | None, batch: str | None, recipes: Mapping[str, str] | str
) -> None:
    names = [t.name for t in tables]
    for name in names:
        if not name or "/" in name or names.count(name) > 1:
            msg = f"modalities must have unique names, not empty and without a slash; got {listed(names)}."
            raise OptionError(msg)
    for option, value in (("label", label), ("batch", batch)):
        if value is not None and (not isinstance(value, str) or not value):
            msg = f"{option} must be the name of a column; got {value!r}."
            raise OptionError(msg)
    for name, spec in ({} if isinstance(recipes, str) else recipes).items():
        if name not in names:
            msg = f"recipes names the modality {name!r}. {did_you_mean(str(name), names, kind='modalities')}"
            raise OptionError(msg)
        parse_recipe(spec)
    if isinstance(recipes, str):
        parse_recipe(recipes)


def _check_mapping(option: str, value: Any, names: list[str] | None) -> None:
    if not isinstance(value, Mapping):
        msg = f"{option} must map the names of modalities to arrays; got {type(value).__name__}."
        raise OptionError(msg)
    for name in value:
        if names is not None and name not in names:
            msg = f"{option} names the modality {name!r}. {did_you_mean(str(name), names, kind='modalities')}"
            raise OptionError(msg)


# ---------------------------------------------------------------------------------------------------------- tables


def _check_length(name: str, option: str, values: Any, X: Any) -> Problem | None:
    shape = np.shape(values)
    if len(shape) == 1 and np.shape(X)[:1] == shape:
        return None
    rows = np.shape(X)[0] if np.ndim(X) else 0
    what = f"X has {counted(rows, 'row')}, but {option} has the shape {shape}."
    return Problem("error", f"memory:{name}", what, f"Give {option}[{name!r}] one entry for each row.")


def _table_of(name: str, array: Any, X: Any, columns: Mapping[str, Any]) -> Table:
    import pandas as pd

    ids = columns.get("ids")
    index = np.arange(len(columns["labels"])).astype(str) if ids is None else [str(i) for i in ids]
    # A Series of the caller's would be aligned by its own index: only its values are taken.
    obs = pd.DataFrame({"label": pd.Series(columns["labels"]).array}, index=pd.Index(index, dtype=object))
    if columns.get("batch") is not None:
        obs["batch"] = pd.Series(columns["batch"]).array
    names = np.asarray(array.columns, dtype=str) if isinstance(array, pd.DataFrame) else None
    return Table(name, X, obs, names, None, where=f"memory:{name}", numbered=ids is None)


# --------------------------------------------------------------------------------------------------------- data set


def _assemble(tables: Sequence[Table], *, label: str | None, batch: str | None, paired: bool) -> Dataset:
    labels = {t.name: [ONE_LABEL] * len(t) if label is None else names_of(t.obs[label]) for t in tables}
    classes = sorted({n for names in labels.values() for n in names if n is not None})
    codes: dict[str | None, int] = {name: k for k, name in enumerate(classes)} | {None: UNKNOWN}
    modalities = {
        t.name: Modality(
            name=t.name,
            X=_converted(t.X),
            labels=np.array([codes[n] for n in labels[t.name]], dtype=np.int64),
            ids=np.array([f"{t.name}:{i}" for i in t.ids.tolist()], dtype=str),
            feature_names=t.feature_names,
            batch=None if batch is None else _batch(t, batch),
        )
        for t in tables
    }
    return Dataset(modalities, tuple(classes), pairs=Pairs(find_units(tables)) if paired else None)


def _converted(X: Any) -> Any:
    """Return float32 readings; sparse ones with missing values become dense, because these will be filled."""
    values = readings(X)
    return values.toarray() if sp.issparse(values) and np.isnan(values.data).any() else values


def _batch(table: Table, batch: str) -> Array:
    return np.array(["unknown" if n is None else n for n in names_of(table.obs[batch])], dtype=str)


def _limited(data: Dataset, limit: int, seed: int) -> Dataset:
    rows = limit_cells(data, limit, seed=seed)
    left_out = [
        f"{len(m) - len(rows[n]):,} of {counted(len(m), 'cell')} of {n}"
        for n, m in data.modalities.items()
        if len(rows[n]) < len(m)
    ]
    if not left_out:
        return data
    kept = data.take(rows)
    problems = [p for m in kept.modalities.values() for p in _check_left(m)]
    if problems:
        raise DataError(problems)
    note = f"max_cells_per_label={limit} left out {' and '.join(left_out)}."
    return replace(kept, notes=(*kept.notes, note))


def _check_left(modality: Modality) -> list[Problem]:
    """Return the problem of features whose measured values have all been left out: nothing could fill them."""
    if sp.issparse(modality.X) or not np.isnan(modality.X).any():
        return []
    empty = np.flatnonzero(np.isnan(modality.X).all(axis=0))
    if not len(empty):
        return []
    what = f"{counted(len(empty), 'feature')} without a measured value among the cells that are kept."
    return [Problem("error", modality.name, what, "Remove them, or raise max_cells_per_label.")]
