"""FOSCTTM in one modality's space, in chunks, with ties at one half."""

from __future__ import annotations

import numpy as np

from unpaired.data.types import Array

__all__ = ["foscttm"]

_CHUNK = 2**23  # distances at a time
_TIE = 1e-10  # of the squared norms: what rounding can make of two equal distances in float64


def foscttm(projected: Array, measured: Array, rows: Array, cols: Array) -> float:
    """Fraction of samples closer than the true match, the mean of eqs. 26 and 27, with ties at one half.

    A candidate at the same distance as the true one counts one half, and the true one is no candidate. So a coupling
    that projects all cells onto one point scores 0.5 (the strict "<" and 1/n of the paper would give it 0.25).

    Parameters
    ----------
    projected
        ``(n, d)`` cells of one modality projected into the other's space by the matching.
    measured
        ``(m, d)`` cells of the other modality.
    rows, cols
        ``(k,)`` each: ``projected[rows[i]]`` and ``measured[cols[i]]`` are one cell; two or more pairs.

    Returns
    -------
    float
        0 is perfect, 0.5 is chance.
    """
    center = measured.mean(axis=0)
    p, m = (np.asarray(v, dtype=np.float64) - center for v in (projected, measured))
    p_norm, m_norm = (np.einsum("ij,ij->i", v, v) for v in (p, m))
    own = p_norm[rows] + m_norm[cols] - 2 * np.einsum("ij,ij->i", p[rows], m[cols])
    row_limit, col_limit = np.full(len(p), np.nan), np.full(len(m), np.nan)
    row_limit[rows], col_limit[cols] = own, own  # NaN compares as False: cells without a partner count nothing
    closer_rows, closer_cols = np.zeros(len(p)), np.zeros(len(m))
    step = max(1, _CHUNK // len(m))
    for start in range(0, len(p), step):
        part = slice(start, start + step)
        norms = p_norm[part, None] + m_norm
        distance = norms - 2 * p[part] @ m.T
        margin = _TIE * norms
        closer_rows[part] = _ahead(distance - row_limit[part, None], margin).sum(axis=1)
        closer_cols += _ahead(distance - col_limit, margin).sum(axis=0)
    # The true partner ties with itself: take its half away.
    from_rows = (closer_rows[rows] - 0.5).sum() / (len(m) - 1)
    from_cols = (closer_cols[cols] - 0.5).sum() / (len(p) - 1)
    return float((from_rows + from_cols) / (2 * len(rows)))


def _ahead(difference: Array, margin: Array) -> Array:
    """1 where closer than the true partner, 1/2 where tied, 0 where farther or where there is no partner."""
    return 0.5 * (difference < -margin) + 0.5 * (difference <= margin)
