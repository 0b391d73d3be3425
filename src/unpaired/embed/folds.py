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
        ``(n,)`` True for the rows that this model scores.
    judge
        Labelled rows that it is judged on: those held out, or with one fold those that choose the epoch.
    """

    train: Array
    valid: Array
    repeat: int
    held_out: Array
    judge: Array

    @property
    def learn(self) -> Array:
        """Rows for a model that has no epoch to choose: all of its cells but those it is judged on."""
        return np.setdiff1d(np.r_[self.train, self.valid], self.judge)


def deal_folds(y: Array, folds: int, rng: np.random.Generator, keys: Array | None = None) -> Array:
    """Deal the cells of every label over the folds like cards, so that no fold holds all of a label (of two or more).

    Parameters
    ----------
    y
        ``(n,)`` codes; negative for cells that are never trained on, which get fold -1.
    folds
        Number of folds, at least two.
    rng
        Generator.
    keys
        ``(n,)`` keys of the readings: cells with equal readings go to the same fold, or a model would score a reading
        that it has learned. All differ by default.

    Returns
    -------
    ``(n,)`` fold of every cell.
    """
    known = np.flatnonzero(y >= 0)
    # Rarest label first: a reading that occurs under two labels is dealt as one of the rarer.
    known = known[np.argsort(np.bincount(y[known])[y[known]], kind="stable")]
    readings, first, group = np.unique(known if keys is None else keys[known], return_index=True, return_inverse=True)
    of_group = np.empty(len(first), dtype=np.int64)
    label = y[known[first]]
    for t in np.unique(label):
        groups = rng.permutation(np.flatnonzero(label == t))
        of_group[groups] = (np.arange(len(groups)) + rng.integers(folds)) % folds
    fold = np.full(len(y), -1)
    fold[known] = of_group[group]
    if keys is not None:
        # A twin without a label shares the fold, so that the models that learned the reading do not score it either.
        place = np.searchsorted(readings, keys).clip(max=len(readings) - 1)
        twin = readings[place] == keys
        fold[twin] = of_group[place[twin]]
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


def make_splits(
    y: Array, *, folds: int, repeats: int, valid: float, rng: np.random.Generator, keys: Array | None = None
) -> list[Split]:
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
    keys
        As in :func:`deal_folds`.
    """
    known = np.flatnonzero(y >= 0)
    splits = []
    for repeat in range(repeats):
        fold = deal_folds(y, folds, rng, keys) if folds > 1 else np.where(y >= 0, 0, -1)
        for k in range(folds):
            rows = known[fold[known] != k] if folds > 1 else known
            train, aside = _set_aside(rows, y, valid, rng)
            held_out = (fold == k) | (fold < 0) if folds > 1 else np.ones(len(y), dtype=bool)
            judge = known[held_out[known]] if folds > 1 else np.setdiff1d(aside, train)
            splits.append(Split(train=train, valid=aside, repeat=repeat, held_out=held_out, judge=judge))
    return splits
