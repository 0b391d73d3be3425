"""What the classifiers are given: standardised features, and the labels that can be learned."""

from __future__ import annotations

import numpy as np

from unpaired.data.types import Array, Dataset, Modality
from unpaired.errors import DataError, Problem

__all__ = ["standardise", "trained_labels"]


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


def _distinct(modality: Modality, classes: int) -> Array:
    """Cells of every label, those with equal readings counted once: they cannot be told apart by any fold."""
    known = modality.labels >= 0
    pairs = np.unique(np.stack([modality.labels[known].astype(np.uint64), modality.keys[known]]), axis=1)
    return np.bincount(pairs[0].astype(np.int64), minlength=classes)


def _some(items: list[str], most: int = 10) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
