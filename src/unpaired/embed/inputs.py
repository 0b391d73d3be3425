"""What the classifiers are given: standardised features, and the labels that can be learned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from unpaired.data.types import UNKNOWN, Array, Dataset, Modality
from unpaired.errors import DataError, Problem

__all__ = [
    "Inputs",
    "check_features",
    "label_codes",
    "new_inputs",
    "read_inputs",
    "standardise",
    "trained_labels",
]


@dataclass(frozen=True, eq=False)
class Inputs:
    """A modality's cells as networks take them, in an order of their own; images stay as they are stored.

    ``dense`` makes all of them at once; :class:`unpaired.embed.feed.Feed` makes them batch by batch, on a device.

    Attributes
    ----------
    values
        ``(m, d)`` float32 features, or ``(m, C, H, W)`` images, uint8 or float32. Not a copy where none is needed.
    rows
        ``(n,)`` row of ``values`` of every cell.
    moments
        ``(2, C, 1, 1)`` float32 means and standard deviations, which are still to be taken off the values and divided
        by; ``None`` where the values are as they should be.
    """

    values: Array
    rows: Array
    moments: Array | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, d)`` or ``(n, C, H, W)``."""
        return (len(self.rows), *self.values.shape[1:])

    def take(self, cells: Array) -> Self:
        """Return some of the cells: ``cells`` are indices, or ``(n,)`` whether each is one of them."""
        return replace(self, rows=self.rows[cells])

    def dense(self) -> Array:
        """Return ``(n, ...)`` float32 inputs of all cells at once."""
        x = np.asarray(self.values[self.rows], dtype=np.float32)
        return x if self.moments is None else np.asarray((x - self.moments[0]) / self.moments[1])


def read_inputs(modality: Modality) -> tuple[Inputs, Array, float]:
    """Return a modality's cells in canonical order, and the centre and the scale that its features were given.

    Features of tables are standardised. Images are left as their recipe makes them, and images of bytes (uint8, recipe
    ``"image"`` or none) are not even copied.
    """
    if modality.X.ndim != 4:
        features = modality.features[modality.order]
        center, scale = standardise(features)
        return _plain(np.asarray((features - center) / scale, dtype=np.float32)), center, scale
    none, one = np.zeros(1, dtype=np.float32), 1.0
    if _are_bytes(modality, modality.X):
        return _bytes(modality, modality.X, modality.order), none, one
    return Inputs(modality.features, modality.order), none, one


def new_inputs(modality: Modality, X: Any, rows: Array, center: Array, scale: float) -> Inputs:
    """Return the cells ``rows`` of other readings ``X`` of the same instrument as inputs for what was learned before.

    Parameters
    ----------
    modality
        What was learned from: its recipe serves.
    X
        ``(m, p)`` dense or CSR, or ``(m, C, H, W)``.
    rows
        ``(n,)`` indices into ``X``.
    center, scale
        As :func:`read_inputs` gave them.

    Raises
    ------
    DataError
        If the readings have other features.
    """
    check_features(modality, X)
    if _are_bytes(modality, X):
        return _bytes(modality, X, rows)
    return _plain(np.asarray((modality.transform(X[rows]) - center) / scale, dtype=np.float32))


def check_features(modality: Modality, X: Any) -> None:
    """Raise :class:`~unpaired.errors.DataError` if readings ``X`` have another shape than those learned from."""
    if X.shape[1:] != modality.X.shape[1:]:
        found, fitted = ("x".join(map(str, s)) for s in (X.shape[1:], modality.X.shape[1:]))
        what = f"its readings have the shape {found}, and {fitted} where the model was fitted."
        raise DataError([Problem("error", f"memory {modality.name}", what, "Give it the same features.")])


def _plain(values: Array) -> Inputs:
    return Inputs(values, np.arange(len(values)))


def _are_bytes(modality: Modality, X: Any) -> bool:
    """Whether these are images whose recipe can wait for the batch."""
    recipe = modality.recipe
    simple = recipe is None or (recipe.name in {"image", "none"} and "median" not in recipe.arrays)
    return X.ndim == 4 and X.dtype == np.uint8 and simple


def _bytes(modality: Modality, X: Array, rows: Array) -> Inputs:
    if modality.recipe is None or modality.recipe.name == "none":
        return Inputs(X, rows)
    moments = np.stack([modality.recipe.arrays["mean"], modality.recipe.arrays["std"]]).astype(np.float32)
    return Inputs(X, rows, moments)


def standardise(x: Array) -> tuple[Array, float]:
    """Centre every feature and divide all by one number: principal components keep their relative sizes."""
    if x.ndim > 2:
        return np.zeros(1, dtype=np.float32), 1.0
    center = x.mean(axis=0)
    scale = float(np.sqrt(x.var(axis=0).mean()))
    return center, scale if scale > 0 else 1.0


def trained_labels(data: Dataset, *, folds: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the labels with two or more cells in every modality, and what there is to say of the small ones.

    Parameters
    ----------
    data
        The data set.
    folds
        Folds of the cross-fitting: a label with fewer cells is learned from fewer of them.

    Raises
    ------
    DataError
        If fewer than two labels can be trained on.
    """
    counts = {n: _distinct(m, len(data.classes)) for n, m in data.modalities.items()}
    least = np.min(list(counts.values()), axis=0)
    names = tuple(str(data.classes[t]) for t in np.flatnonzero(least >= 2))
    if len(names) < 2:
        what = f"{len(names)} of {len(data.classes)} labels have two cells with different readings in every modality."
        fix = "Two such labels are needed: merge small ones, or leave a modality out."
        raise DataError([Problem("error", "the data set", what, fix)])
    short = [
        f"{name!r} ({', '.join(f'{c[t]} in {m}' for m, c in counts.items() if c[t] < 2)})"
        for t, name in enumerate(data.classes)
        if least[t] < 2
    ]
    notes = []
    if short:
        notes.append(
            f"not trained on, because a classifier needs two cells of a label in every modality: {_some(short)}."
        )
    for modality, count in counts.items():
        few = [f"{data.classes[t]!r} ({count[t]})" for t in np.flatnonzero((least >= 2) & (count < folds))]
        if few:
            what = (
                f"{len(few)} labels have fewer cells than the {folds} folds"
                if len(few) > 1
                else f"a label has fewer cells than the {folds} folds"
            )
            notes.append(f"{modality}: {what}, and each cell is scored by models that saw the others: {_some(few)}.")
    return names, tuple(notes)


def label_codes(modality: Modality, classes: tuple[str, ...], labels: tuple[str, ...]) -> Array:
    """``(n,)`` codes into ``labels``; -1 for cells without a label or with one that is not trained on."""
    table = np.full(len(classes) + 1, UNKNOWN)  # the last entry serves label code -1
    for new, name in enumerate(labels):
        table[classes.index(name)] = new
    return table[modality.labels]


def _distinct(modality: Modality, classes: int) -> Array:
    """Cells of every label, those with equal readings counted once: they cannot be told apart by any fold."""
    known = modality.labels >= 0
    pairs = np.unique(np.stack([modality.labels[known].astype(np.uint64), modality.keys[known]]), axis=1)
    return np.bincount(pairs[0].astype(np.int64), minlength=classes)


def _some(items: list[str], most: int = 10) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
