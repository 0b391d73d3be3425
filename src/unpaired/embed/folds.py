"""Who learns from whom: folds for cross-fitting, and the cells kept aside to choose the epoch by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unpaired.data.types import Array

__all__ = ["Split", "deal_folds", "make_splits"]


@dataclass(frozen=True, eq=False)
class Split:
    """The cells of one model: what it learns from, what chooses its epoch, and what it never saw.

    Attributes
    ----------
    train, valid
        Row indices.
    repeat
        Which repeat of the cross-fitting it belongs to.
    held_out
        ``(n,)`` True for the rows that this model scores out of fold.
    """

    train: Array
    valid: Array
    repeat: int
    held_out: Array


def deal_folds(y: Array, folds: int, rng: np.random.Generator) -> Array:
    """Deal the cells of every label over the folds like cards, so that no fold holds all of a label (of two or more).

    Parameters
    ----------
    y
        ``(n,)`` codes; negative for cells that are never trained on, which get fold -1.
    folds
        Number of folds, at least two.
    rng
        Generator.

    Returns
    -------
    ``(n,)`` fold of every cell.
    """
    fold = np.full(len(y), -1)
    for t in np.unique(y[y >= 0]):
        rows = rng.permutation(np.flatnonzero(y == t))
        fold[rows] = (np.arange(len(rows)) + rng.integers(folds)) % folds
    return fold


def _set_aside(rows: Array, y: Array, fraction: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Split rows into (train, valid) by label; a label keeps at least one cell to learn from."""
    valid = []
    for t in np.unique(y[rows]):
        own = rng.permutation(rows[y[rows] == t])
        share = fraction * len(own)
        count = int(share) + int(rng.random() < share - int(share))
        valid.append(own[: min(count, len(own) - 1)])
    aside = np.sort(np.concatenate(valid))
    if len(aside) == 0:
        aside = rows
    train = np.setdiff1d(rows, aside) if aside is not rows else rows
    return train, aside


def make_splits(y: Array, *, folds: int, repeats: int, valid: float, rng: np.random.Generator) -> list[Split]:
    """Return ``folds * repeats`` splits; with ``folds=1`` the published scheme: one split, and no cell is held out.

    Parameters
    ----------
    y
        ``(n,)`` codes; negative for cells that are never trained on.
    folds, repeats
        Cross-fitting: every repeat deals the cells anew. With one fold, each repeat is one model.
    valid
        Fraction of a model's cells that choose its epoch.
    rng
        Generator.
    """
    known = np.flatnonzero(y >= 0)
    splits = []
    for repeat in range(repeats):
        fold = deal_folds(y, folds, rng) if folds > 1 else np.where(y >= 0, 0, -1)
        for k in range(folds):
            rows = known[fold[known] != k] if folds > 1 else known
            train, aside = _set_aside(rows, y, valid, rng)
            held_out = (fold == k) | (fold < 0) if folds > 1 else np.ones(len(y), dtype=bool)
            splits.append(Split(train=train, valid=aside, repeat=repeat, held_out=held_out))
    return splits
