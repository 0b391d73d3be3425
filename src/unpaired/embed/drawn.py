"""What the codes of drawn partners have in common, beyond chance, when neither was learned from that pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from unpaired.data.types import Array

__all__ = ["common_covariance", "within_labels"]

_SHUFFLES = 20
_FLAT = 1e-9  # of the largest variance: a direction in which no code varies


def common_covariance(
    codes: tuple[Array, Array], labels: tuple[Array, Array], pairs: Array, rng: np.random.Generator
) -> Array:
    """Return the covariance, within labels, between the codes of two cells that were drawn as partners.

    Codes that learned nothing are still correlated over a sample, the more so the fewer the cells and the wider the
    codes. Partners shuffled among the cells of their label tell how much (Horn's parallel analysis, with the largest
    canonical correlation for all): what is not above the largest of twenty shuffles is nothing, and what is loses the
    square of their mean. One time in twenty chance is above; of fewer than thirty cells true partners seldom are.

    Parameters
    ----------
    codes
        ``(n, d)`` and ``(m, d)`` codes, each by encoders that saw neither the cell nor any pair drawn for it.
    labels
        ``(n,)`` and ``(m,)`` labels; of cells without a partner -1.
    pairs
        ``(2, k)`` drawn partners, sorted.
    rng
        Of the shuffling.

    Returns
    -------
    Array
        ``(d, d)``, in the units of the codes, as an average over the drawn pairs; zero where they say nothing.
    """
    ones = np.ones(pairs.shape[1])
    drawn = sparse.csr_array((ones, (pairs[0], pairs[1])), shape=(len(codes[0]), len(codes[1])))
    sides = [
        _Side.of(c, own, np.asarray(drawn.sum(axis=axis))) for c, own, axis in zip(codes, labels, (1, 0), strict=True)
    ]
    x, y = (s.codes @ s.whiten for s in sides)

    def between(z: Array) -> Array:
        return np.asarray(x.T @ (drawn @ z) / max(1, pairs.shape[1]))

    u, r, vt = np.linalg.svd(between(y))
    chance = [np.linalg.norm(between(y[_shuffled(labels[1], rng)]), 2) for _ in range(_SHUFFLES)]
    r = np.where(r > max(chance), np.sqrt(np.maximum(0, r**2 - np.mean(chance) ** 2)), 0)
    return np.asarray(sides[0].root @ (u * r) @ vt @ sides[1].root)


@dataclass(frozen=True, eq=False)
class _Side:
    """Codes without the means of their labels, and the map to unit covariance, every cell as often as it was drawn."""

    codes: Array
    whiten: Array
    root: Array

    @classmethod
    def of(cls, codes: Array, labels: Array, times: Array) -> _Side:
        out, known = np.zeros(codes.shape), labels >= 0
        sizes = np.bincount(labels[known])[labels[known]]
        unbiased = np.sqrt(sizes / np.maximum(1, sizes - 1))[:, None]  # deviations from a mean of few cells are small
        out[known] = within_labels(codes[known].astype(np.float64), labels[known], times[known]) * unbiased
        values, vectors = np.linalg.eigh((out * times[:, None]).T @ out / max(1, times.sum()))
        keep = values > _FLAT * values.max(initial=np.finfo(float).tiny)
        root, vectors = np.sqrt(values[keep]), vectors[:, keep]
        return cls(out, vectors / root @ vectors.T, vectors * root @ vectors.T)


def within_labels(x: Array, labels: Array, weights: Array | None = None) -> Array:
    """Take the mean of its label off every row of ``(n, d)``, a mean in which rows count by their weights."""
    _, at = np.unique(labels, return_inverse=True)
    weights = np.ones(len(x)) if weights is None else weights
    means = np.stack([np.bincount(at, weights * column) for column in x.T], axis=1)
    return np.asarray(x - (means / np.bincount(at, weights)[:, None])[at])


def _shuffled(labels: Array, rng: np.random.Generator) -> Array:
    """Return cells in an order that is random within every label."""
    at = np.empty(len(labels), dtype=np.int64)
    at[np.argsort(labels, kind="stable")] = np.lexsort((rng.random(len(labels)), labels))
    return at
