"""What the codes of drawn partners have in common, beyond chance, when neither was learned from that pair."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from unpaired.data.types import Array

__all__ = ["common_covariance"]

_SHUFFLES = 20
_FLAT = 1e-9  # of the largest variance: a direction in which no code varies


def common_covariance(
    codes: tuple[Array, Array], labels: tuple[Array, Array], pairs: Array, rng: np.random.Generator
) -> Array:
    """Return the covariance, within labels, between the codes of two cells that were drawn as partners.

    Codes that learned nothing are still correlated over a sample, the more so the fewer the cells and the wider the
    codes. Partners shuffled among the cells of their label tell how much (Horn's parallel analysis): canonical
    correlations lose the square of what the largest one of shuffled partners is in the mean.

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
        ``(d, d)``, in the units of the codes; zero where the pairs say nothing of them.
    """
    x, y = (_within(c, own) for c, own in zip(codes, labels, strict=True))
    whiten = [_inverse_root(z[own >= 0]) for z, own in zip((x, y), labels, strict=True)]
    x, y = x @ whiten[0], y @ whiten[1]
    ones = np.ones(pairs.shape[1])
    drawn = sparse.csr_array((ones, (pairs[0], pairs[1])), shape=(len(x), len(y)))

    def between(z: Array) -> Array:
        return np.asarray(x.T @ (drawn @ z) / max(1, pairs.shape[1]))

    u, r, vt = np.linalg.svd(between(y))
    chance = np.mean([np.linalg.norm(between(y[_shuffled(labels[1], rng)]), 2) for _ in range(_SHUFFLES)])
    r = np.sqrt(np.maximum(0, np.minimum(r, 1) ** 2 - chance**2))
    back = [np.linalg.pinv(w, hermitian=True) for w in whiten]
    return np.asarray(back[0] @ (u * r) @ vt @ back[1])


def _within(codes: Array, labels: Array) -> Array:
    """Take the mean of its label off every code; cells without a partner are all zero."""
    out = np.zeros(codes.shape)
    known = labels >= 0
    _, at = np.unique(labels[known], return_inverse=True)
    z = codes[known].astype(np.float64)
    sums = np.stack([np.bincount(at, column) for column in z.T], axis=1)
    out[known] = z - (sums / np.bincount(at)[:, None])[at]
    return out


def _inverse_root(x: Array) -> Array:
    values, vectors = np.linalg.eigh(x.T @ x / max(1, len(x)))
    keep = values > _FLAT * values.max(initial=np.finfo(float).tiny)
    return np.asarray((vectors[:, keep] / np.sqrt(values[keep])) @ vectors[:, keep].T)


def _shuffled(labels: Array, rng: np.random.Generator) -> Array:
    """Return cells in an order that is random within every label."""
    at = np.empty(len(labels), dtype=np.int64)
    at[np.argsort(labels, kind="stable")] = np.lexsort((rng.random(len(labels)), labels))
    return at
