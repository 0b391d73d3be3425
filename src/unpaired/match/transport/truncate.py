"""The sparse coupling: of every row the entries that hold nearly all of its mass, and what was left out."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp
from numba import njit

from unpaired.data.types import Array
from unpaired.match.transport.kernels import SAFE, TILE, distances, exp_tile, padded, tiled
from unpaired.match.transport.problem import Problem
from unpaired.match.transport.search import boxes, gap, lower, pad, pair_cost, reach
from unpaired.match.transport.workers import Workers, parts_of

__all__ = ["ENTRY_BYTES", "couple"]

ENTRY_BYTES = 12
"""Bytes of an entry of the coupling: a value and a column."""
_HALVINGS = 20  # of the bracket around the threshold of a row, in the logarithm


def couple(
    problem: Problem, f: Array, g: Array, sums: Array, *, keep: float, most: int, workers: Workers
) -> tuple[sp.csr_matrix, Array] | None:
    """Return the coupling as CSR and the mass dropped from each row; None if it would hold more than ``most`` entries.

    Parameters
    ----------
    problem
        The problem.
    f, g
        Potentials.
    sums
        ``(n,)`` row sums of the whole plan.
    keep
        Fraction of each row's mass that stays; a column that would lose every entry keeps its largest.
    most
        Entries that fit in memory.
    workers
        Threads.
    """
    n, m = problem.shape
    tiles = tiled(problem.y, np.float32)
    low, high = boxes(problem.y)
    g64 = pad(g, len(tiles))
    x32, f32, g32 = padded(problem.x, np.float32), f.astype(np.float32), g64.astype(np.float32)
    # Entries below the cut could not add up to half of what may go: they need not be looked at one by one.
    with np.errstate(divide="ignore"):
        cut = np.log((1 - keep) / (2.0 * m)) + np.log(sums) if keep < 1 else np.full(n, -700.0)
    margin = 0.01 + 4e-7 * reach(problem, f, g)
    top = g64.max(axis=1)
    parts = parts_of(n, n * m * 4)
    room = most // len(parts) + m
    counts, kept = np.zeros(n, np.int64), np.zeros(n)
    found: list[tuple[Array, Array] | None] = [None] * len(parts)

    def one(i: int, j: int, k: int) -> None:
        size = 64 * (j - i) + m
        while True:
            cols, values = np.empty(size, np.int32), np.empty(size)
            used = _rows(
                problem.x, x32, problem.y, tiles, problem.squared, f, f32, g64, g32, top, low, high, cut, margin,
                sums * keep, i, j, cols, values, counts, kept,
            )  # fmt: skip
            if used >= 0:
                found[k] = cols[:used].copy(), values[:used].copy()
                return
            if size > room:
                return
            size *= 3

    workers.each(one, parts)
    done = [part for part in found if part is not None]
    if len(done) < len(parts) or counts.sum() > most:
        return None
    starts = np.concatenate([[0], np.cumsum(counts)])
    matrix = sp.csr_matrix(
        (np.concatenate([v for _, v in done]), np.concatenate([c for c, _ in done]), starts), shape=(n, m)
    )
    matrix, kept = _fill_columns(matrix, kept, problem, f, g)
    return matrix, np.maximum(sums - kept, 0.0)


def _fill_columns(
    matrix: sp.csr_matrix, kept: Array, problem: Problem, f: Array, g: Array
) -> tuple[sp.csr_matrix, Array]:
    """Give every column without an entry its largest one."""
    from scipy.spatial.distance import cdist

    bare = np.flatnonzero(np.bincount(matrix.indices, minlength=matrix.shape[1]) == 0)
    if len(bare) == 0:
        return matrix, kept
    kept = kept.copy()
    rows, values = np.empty(len(bare), np.int64), np.empty(len(bare))
    step = max(1, 2**22 // matrix.shape[0])
    for start in range(0, len(bare), step):
        at = bare[start : start + step]
        logs = f[:, None] - cdist(problem.x, problem.y[at], "sqeuclidean" if problem.squared else "euclidean")
        rows[start : start + step] = logs.argmax(axis=0)
        values[start : start + step] = np.exp(logs.max(axis=0) + g[at])
    np.add.at(kept, rows, values)
    return (matrix + sp.csr_matrix((values, (rows, bare)), shape=matrix.shape)).tocsr(), kept


@njit(**SAFE)
def _rows(
    x: Array, x32: Array, y: Array, tiles: Array, squared: bool, f: Array, f32: Array, g: Array, g32: Array,
    top: Array, low: Array, high: Array, cut: Array, margin: float, wanted: Array, i0: int, i1: int,
    cols: Array, values: Array, counts: Array, kept: Array,
) -> int:  # fmt: skip
    """Write rows i0 to i1; return how many entries, -1 if they do not fit."""
    m = y.shape[0]
    z32, half = np.empty(TILE, np.float32), np.empty(TILE // 2, np.float32)
    ids, z = np.empty(m, np.int64), np.empty(m)
    at = 0
    for i in range(i0, i1):
        point, point32, bar = x[i], x32[i], np.float32(cut[i] - margin) - f32[i]
        width = 0
        for t in range(tiles.shape[0]):
            room = f[i] + top[t] - cut[i]
            limit = room if squared else room * room
            if room <= 0.0 or gap(point, low, high, t, limit) > limit:
                continue
            distances(point32, tiles, t, squared, z32)
            if lower(z32, g32, t, half) <= bar:
                continue
            for k in range(min(TILE, m - t * TILE)):
                if z32[k] > bar:
                    j = t * TILE + k
                    ids[width] = j
                    z[width] = f[i] + g[t, k] - pair_cost(x, y, i, j, squared)
                    width += 1
        threshold = _threshold(z, width, wanted[i])
        if at + width > cols.shape[0]:
            return -1
        start, mass = at, 0.0
        for k in range(width):
            if z[k] >= threshold:
                cols[at] = ids[k]
                values[at] = z[k]
                mass += z[k]
                at += 1
        counts[i] = at - start
        kept[i] = mass
    return at


@njit(**SAFE)
def _threshold(z: Array, width: int, wanted: float) -> float:
    """Turn logarithms into values; return the largest threshold (nearly) above which they hold the mass wanted."""
    if width == 0:
        return 0.0
    high = z[0]
    low = z[0]
    for k in range(width):
        high = max(high, z[k])
        low = min(low, z[k])
    exp_tile(z, width)
    below, above = math.exp(max(low, -700.0)) * 0.999999, math.exp(min(high, 700.0))
    if _mass_above(z, width, above) >= wanted:
        return above
    for _ in range(_HALVINGS):
        middle = math.sqrt(below * above)
        if _mass_above(z, width, middle) >= wanted:
            below = middle
        else:
            above = middle
    return below


@njit(**SAFE)
def _mass_above(z: Array, width: int, threshold: float) -> float:
    s = 0.0
    for k in range(width):
        s += z[k] if z[k] >= threshold else 0.0
    return s
