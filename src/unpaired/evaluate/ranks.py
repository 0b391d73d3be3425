"""FOSCTTM in one modality's space, in chunks, with ties at one half."""

from __future__ import annotations

import numpy as np

from unpaired.data.types import Array

__all__ = ["foscttm", "foscttm_sides"]

_CHUNK = 2**23  # distances at a time
_TIE = 1e-10  # of the squared norms: what rounding can make of two equal distances in float64


def foscttm(projected: Array, measured: Array) -> float:
    """Fraction of samples closer than the true match, the mean of eqs. 26 and 27, with ties at one half.

    A candidate at the same distance as the true one counts one half, and the true one is no candidate. So a coupling
    that projects all cells onto one point scores exactly 0.5 (the strict "<" and 1/n of the paper give it 0.25).

    Parameters
    ----------
    projected
        ``(k, d)`` cells of one modality projected into the other's space by the matching; two or more.
    measured
        ``(k, d)`` their true partners. Cells without a known partner are not candidates: among them "closer than the
        true match" has no meaning, and chance would not be 0.5.

    Returns
    -------
    float
        0 is perfect, 0.5 is chance.
    """
    k = len(projected)
    # Each true partner was compared with itself, twice: a tie, so take one half away for both.
    return (sum(_ahead_of_partners(projected, measured)) - k) / (2 * k * (k - 1))


def foscttm_sides(projected: Array, measured: Array) -> tuple[float, float]:
    """Return the two fractions whose mean :func:`foscttm` is: eqs. 26 and 27, with ties at one half.

    Parameters
    ----------
    projected, measured
        As :func:`foscttm` takes them.

    Returns
    -------
    (float, float)
        Of the measured cells, those that are closer to a projected one than its true match; and of the projected cells
        those that are closer to a measured one.
    """
    k = len(projected)
    rows, cols = _ahead_of_partners(projected, measured)
    return (rows - k / 2) / (k * (k - 1)), (cols - k / 2) / (k * (k - 1))


def _ahead_of_partners(projected: Array, measured: Array) -> tuple[float, float]:
    """Count the candidates closer than the true partner: of all projected cells, and of all measured ones."""
    center = measured.mean(axis=0, dtype=np.float64)
    p, m = (np.asarray(v, dtype=np.float64) - center for v in (projected, measured))
    p_norm, m_norm = (np.einsum("ij,ij->i", v, v) for v in (p, m))
    own = p_norm + m_norm - 2 * np.einsum("ij,ij->i", p, m)
    # Closer than the true match: |p|^2 + |m|^2 - 2 p.m < own, up to rounding. Written as 2 p.m - |m|^2 > |p|^2 - own
    # the limit is one number a row (and with |p|^2 on the left one a column), which saves most of the work.
    row_limit, row_margin = p_norm - own, _TIE * (p_norm + m_norm.max())
    col_limit, col_margin = m_norm - own, _TIE * (m_norm + p_norm.max())
    rows, cols, k = 0.0, 0.0, len(p)
    step = max(1, _CHUNK // k)
    for start in range(0, k, step):
        part = slice(start, start + step)
        score = (2 * p[part]) @ m.T
        score -= m_norm
        rows += _ahead(score, row_limit[part, None], row_margin[part, None])
        score += m_norm - p_norm[part, None]
        cols += _ahead(score, col_limit, col_margin)
    return rows, cols


def _ahead(score: Array, limit: Array, margin: Array) -> float:
    """Count 1 where a candidate is closer than the true partner, and 1/2 where they tie."""
    return 0.5 * float(np.count_nonzero(score > limit + margin) + np.count_nonzero(score >= limit - margin))
