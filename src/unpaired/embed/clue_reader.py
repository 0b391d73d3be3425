"""From a modality's readings to what CLUE encodes and what it decodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg import eigh

from unpaired import options
from unpaired.data.counts import are_counts
from unpaired.data.preprocess import Recipe
from unpaired.data.recipes import fill_missing, log_normalise
from unpaired.data.types import Array, Dataset, Modality
from unpaired.embed.inputs import standardise
from unpaired.errors import DataError, OptionError, Problem

if TYPE_CHECKING:
    from unpaired.embed.clue_model import Likelihood

__all__ = ["Reader", "check_table", "fit_reader", "read_modalities"]

_WORDS = {
    "nb": "counts, of a negative binomial distribution",
    "bernoulli": "0 or 1, of a Bernoulli distribution",
    "normal": "numbers, of a normal distribution",
}
_FLAT = 1e-8  # a standard deviation below which a feature does not vary


@dataclass(frozen=True, eq=False)
class Reader:
    """How one modality's readings are taken in: fitted once, and kept with the model.

    Attributes
    ----------
    name
        The modality's name.
    width
        ``p``, its readings of a cell.
    likelihood
        What a reading is; see :class:`unpaired.embed.clue_model.ClueModality`.
    sized
        Whether readings are counts, which tell a library size.
    reason
        How the likelihood was decided, in one sentence.
    recipe
        The fitted recipe whose features are encoded; ``None`` takes ``log(1 + 1e4 x / sum(x))`` of counts, and other
        readings as they are.
    center, axes, scale
        ``(d,)`` means of the features, ``(d, c)`` principal axes or ``(d, 0)`` where the features are few enough, and
        the number that all are divided by.
    moments
        ``(2, p)`` means and standard deviations of the readings, with which numbers are decoded; else ``(2, 0)``.
    size
        Median library size of the cells learned from; NaN where readings are no counts.
    """

    name: str
    width: int
    likelihood: Likelihood
    sized: bool
    reason: str
    recipe: Recipe | None
    center: Array
    axes: Array
    scale: float
    moments: Array
    size: float

    @property
    def inputs_width(self) -> int:
        """How many numbers of a cell are encoded."""
        return self.axes.shape[1] or len(self.center)

    def inputs(self, modality: Modality) -> Array:
        """Return ``(n, c)`` float32 inputs of the encoders, in canonical order.

        Raises
        ------
        DataError
            If the readings have other features, or are not finite.
        """
        self.check(modality)
        features = _features(self.recipe, modality, counts=self.sized) - self.center
        projected = features @ self.axes if self.axes.shape[1] else features
        return np.asarray(projected / self.scale, dtype=np.float32)

    def readings(self, modality: Modality) -> Any:
        """Return ``(n, p)`` float32 readings as decoders are judged by, in canonical order; counts may be CSR."""
        self.check(modality)
        X = modality.X[modality.order]
        if self.likelihood != "normal":
            return X.astype(np.float32)
        X = _filled(self.recipe, X)
        return ((X - self.moments[0]) / self.moments[1]).astype(np.float32)

    def check(self, modality: Modality) -> None:
        """Raise :class:`~unpaired.errors.DataError` unless these are readings of the kind that was fitted."""
        where = f"memory {modality.name}"
        if modality.X.shape[1:] != (self.width,):
            found = "x".join(map(str, modality.X.shape[1:]))
            what = f"its readings have the shape {found}, and {self.width} where the model was fitted."
            raise DataError([Problem("error", where, what, "Give it the same features.")])
        _check_finite(modality, self.recipe)
        if self.sized and not are_counts(modality):
            what = "its readings are not counts, and were where the model was fitted."
            raise DataError([Problem("error", where, what, "Give it readings as measured.")])


def fit_reader(modality: Modality, *, components: int, likelihood: str | None) -> Reader:
    """Look at a modality's readings, decide what they are, and learn how they are encoded.

    Parameters
    ----------
    modality
        All its cells.
    components
        Principal components that are encoded, where there are more features.
    likelihood
        What its readings are, if it is not to be decided here: whole numbers that are not negative are counts, of
        which none above 1 are 0 or 1, and all else are numbers.

    Raises
    ------
    DataError
        If these are images, are fewer than two cells, or are not finite.
    OptionError
        If readings cannot be what they are said to be.
    """
    check_table(modality)
    _check_finite(modality, modality.recipe)
    sized = are_counts(modality)
    kind = likelihood or _kind(modality, sized=sized)
    if (kind == "nb" and not sized) or (kind == "bernoulli" and _kind(modality, sized=sized) != "bernoulli"):
        msg = f"likelihood of {modality.name!r} cannot be {kind!r}: its readings are not such; leave it out."
        raise OptionError(msg)
    told = "as asked for" if likelihood else "by its readings"
    features = _features(modality.recipe, modality, counts=sized)
    axes = _axes(features, components)
    projected = (features - features.mean(axis=0)) @ axes if axes.shape[1] else features
    moments, size = np.zeros((2, 0)), float("nan")
    if kind == "normal":
        X = _filled(modality.recipe, modality.X[modality.order])
        std = X.std(axis=0)
        moments = np.stack([X.mean(axis=0), np.where(std > _FLAT, std, 1.0)])
    if sized:
        size = float(np.median(np.asarray(modality.X.sum(axis=1))))
    return Reader(
        name=modality.name,
        width=modality.X.shape[1],
        likelihood=kind,  # type: ignore[arg-type]  # the networks check it
        sized=sized,
        reason=f"{modality.name} is decoded as {_WORDS[kind]}, {told}.",
        recipe=modality.recipe,
        center=features.mean(axis=0),
        axes=axes,
        scale=standardise(projected)[1],
        moments=moments,
        size=size,
    )


def read_modalities(data: Dataset, *, components: int, likelihoods: Mapping[str, str]) -> dict[str, Reader]:
    """Return modality name -> its reader; ``likelihoods`` are those that are not to be decided by the readings.

    Raises
    ------
    DataError
        If there is one modality, or one cannot be read.
    OptionError
        If readings cannot be what they are said to be.
    """
    if len(data.modalities) < 2:
        what = "it has one modality, and a space of several needs two or more."
        raise DataError([Problem("error", "the data set", what, "Add another modality.")])
    for name in likelihoods:
        options.check_choice("modality of likelihoods", name, tuple(data))
    return {n: fit_reader(m, components=components, likelihood=likelihoods.get(n)) for n, m in data.modalities.items()}


def _kind(modality: Modality, *, sized: bool) -> str:
    if not sized:
        return "normal"
    return "bernoulli" if modality.X.max() <= 1 else "nb"


def _features(recipe: Recipe | None, modality: Modality, *, counts: bool) -> Array:
    """``(n, d)`` float64 features in canonical order."""
    order = modality.order
    if recipe is None or recipe.name == "none":
        X = modality.X[order]
        features = log_normalise(X) if counts else _filled(recipe, X)
        return _dense(features)
    features = modality.features[order] if modality.recipe is recipe else recipe.transform(modality.X[order])
    return features.astype(np.float64)


def _axes(features: Array, components: int) -> Array:
    """``(d, components)`` principal axes; ``(d, 0)`` where there are no more features than that."""
    n, d = features.shape
    if d <= components:
        return np.zeros((d, 0))
    x = features - features.mean(axis=0)
    keep = min(components, n)
    small = x @ x.T if n < d else x.T @ x
    values, vectors = eigh(small, subset_by_index=[len(small) - keep, len(small) - 1])
    # Of cells fewer than features, there are fewer directions by one: the last would be noise.
    vectors = vectors[:, values > _FLAT * values.max(initial=1e-300)][:, ::-1]
    axes = x.T @ vectors if n < d else vectors
    axes = axes / np.linalg.norm(axes, axis=0)
    largest = np.abs(axes).argmax(axis=0)  # an axis has no sign of its own: its largest entry is made positive
    return np.asarray(axes * np.sign(axes[largest, np.arange(axes.shape[1])]))


def _filled(recipe: Recipe | None, X: Any) -> Array:
    """``(n, p)`` float64 readings, missing ones filled as the recipe does."""
    median = None if recipe is None else recipe.arrays.get("median")
    return _dense(X if median is None else fill_missing(X, median))


def _dense(X: Any) -> Array:
    return np.asarray(X.toarray() if sp.issparse(X) else X, dtype=np.float64)


def check_table(modality: Modality) -> None:
    """Raise :class:`~unpaired.errors.DataError` if these are images, or fewer than two cells."""
    where = f"memory {modality.name}"
    if modality.X.ndim != 2:
        what, fix = "these are images, and CLUE decodes tables.", "Give it features of the images."
        raise DataError([Problem("error", where, what, fix)])
    if len(modality) < 2:
        what = f"it has {len(modality)} cells, and two are needed to learn from."
        raise DataError([Problem("error", where, what, "Add cells, or leave the modality out.")])


def _check_finite(modality: Modality, recipe: Recipe | None) -> None:
    """Raise :class:`~unpaired.errors.DataError` where readings are missing or infinite and nothing fills them."""
    values = modality.X.data if sp.issparse(modality.X) else modality.X
    filled = recipe is not None and "median" in recipe.arrays
    bad = np.isinf(values) if filled else ~np.isfinite(values)
    if bad.any():
        what = f"{int(bad.sum())} readings are missing or infinite."
        fix = "Remove them, or read the data with missing='median'."
        raise DataError([Problem("error", f"memory {modality.name}", what, fix)])
