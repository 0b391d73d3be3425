"""The certificate: both marginals of the plan in float64, from the potentials and the points alone.

It shares nothing with the search but the distance function, and is run on what is returned. Pairs below a floor may be
left out; what they can add up to is part of the error that is reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from unpaired.data.types import Array
from unpaired.match.transport.kernels import FAST, SAFE, TILE, distances, exp_tile, padded, tiled
from unpaired.match.transport.problem import Problem
from unpaired.match.transport.search import boxes, gap, lower, pad, pair_cost, reach
from unpaired.match.transport.workers import Workers, parts_of

__all__ = ["Certificate", "certify"]

_SHARE = 0.1  # of the tolerance, for all the pairs left out together
_FEW = 24  # pairs of a tile above the floor that are cheaper one by one


@dataclass(frozen=True, eq=False)
class Certificate:
    """Marginals of a plan.

    Attributes
    ----------
    rows, cols
        ``(n,)`` and ``(m,)`` sums.
    omitted
        What the pairs left out can add to the error at most.
    error
        L1 distance of both marginals to what is asked for, and ``omitted``.
    """

    rows: Array
    cols: Array
    omitted: float
    error: float


def certify(problem: Problem, f: Array, g: Array, tol: float, workers: Workers) -> Certificate:
    """Return the marginals of ``exp(F + G - C)``.

    Parameters
    ----------
    problem
        The problem; a side whose points lie in the order of a tree is faster.
    f, g
        Potentials.
    tol
        All omitted pairs together stay below a tenth of it.
    workers
        Threads.
    """
    n, m = problem.shape
    floor = math.log(_SHARE * tol / (2.0 * n * m))
    if not (np.isfinite(f).all() and np.isfinite(g).all()):
        return Certificate(np.full(n, np.nan), np.full(m, np.nan), 0.0, math.inf)
    tiles = tiled(problem.y, np.float32)
    low, high = boxes(problem.y)
    g64 = pad(g, len(tiles))
    top = g64.max(axis=1)
    # Single precision finds the pairs above the floor; its own error is allowed for.
    cut = floor - 0.01 - 4e-7 * reach(problem, f, g)
    parts = parts_of(n, n * m * 4)
    rows, cols = np.empty(n), np.zeros((len(parts), *g64.shape))
    left = np.zeros(len(parts), np.int64)
    x32, x64, y64 = padded(problem.x, np.float32), padded(problem.x, np.float64), tiled(problem.y, np.float64)
    f32, g32 = f.astype(np.float32), g64.astype(np.float32)

    def one(i: int, j: int, k: int) -> None:
        left[k] = _marginals(
            problem.x, x32, x64, y64, tiles, problem.y, problem.squared, f, f32, g64, g32, top, low, high, cut, i, j,
            rows, cols[k],
        )  # fmt: skip

    workers.each(one, parts)
    total = cols.sum(axis=0).ravel()[:m]
    omitted = 2.0 * float(left.sum()) * math.exp(floor)
    error = np.abs(rows - problem.targets(f, 0)).sum() + np.abs(total - problem.targets(g, 1)).sum()
    return Certificate(rows, total, omitted, float(error) + omitted)


@njit(**SAFE)
def _marginals(
    x: Array, x32: Array, x64: Array, y64: Array, tiles: Array, y: Array, squared: bool, f: Array, f32: Array,
    g: Array, g32: Array, top: Array, low: Array, high: Array, cut: float, i0: int, i1: int, rows: Array, cols: Array,
) -> int:  # fmt: skip
    """Add up rows i0 to i1; return how many pairs were left out."""
    z32, half, z = np.empty(TILE, np.float32), np.empty(TILE // 2, np.float32), np.empty(TILE)
    chosen = np.empty(TILE, np.int64)
    left = 0
    m = y.shape[0]
    for i in range(i0, i1):
        total = 0.0
        point, point32, limit32 = x[i], x32[i], np.float32(cut) - f32[i]
        for t in range(tiles.shape[0]):
            width = min(TILE, m - t * TILE)
            room = f[i] + top[t] - cut
            if room <= 0.0:
                left += width
                continue
            limit = room if squared else room * room
            if gap(point, low, high, t, limit) > limit:
                left += width
                continue
            distances(point32, tiles, t, squared, z32)
            count = _above(z32, g32, t, limit32, half, chosen)
            left += width - count
            if count == 0:
                continue
            if count <= _FEW:
                for q in range(count):
                    k = chosen[q]
                    z[q] = f[i] + g[t, k] - pair_cost(x, y, i, t * TILE + k, squared)
                exp_tile(z, count)
                for q in range(count):
                    cols[t, chosen[q]] += z[q]
                    total += z[q]
            else:
                left -= width - count
                distances(x64[i], y64, t, squared, z)
                for k in range(width):
                    z[k] = f[i] + g[t, k] - z[k]
                exp_tile(z, width)
                total += _add(z, cols, t, width)
        rows[i] = total
    return left


@njit(**SAFE)
def _above(costs: Array, g: Array, t: int, limit: float, half: Array, chosen: Array) -> int:
    if lower(costs, g, t, half) <= limit:
        return 0
    count = 0
    for k in range(TILE):
        chosen[count] = k
        if costs[k] > limit:
            count += 1
    return count


@njit(**FAST)
def _add(z: Array, sums: Array, t: int, width: int) -> float:
    s = 0.0
    for k in range(width):
        s += z[k]
        sums[t, k] += z[k]
    return s
