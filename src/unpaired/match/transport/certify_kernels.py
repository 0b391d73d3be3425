"""The compiled loop of the certificate and of the sparse coupling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from unpaired.data.types import Array
from unpaired.match.transport.kernels import FAST, INLINE, LANES, SAFE, TILE, distances, exp_tile, tile_sum
from unpaired.match.transport.search import above, gap, lower, pair_cost

__all__ = ["marginals"]

_FEW = 24  # pairs of a tile above the floor that are cheaper one by one
_HALVINGS = 13  # of the bracket around the threshold of a row, in the logarithm


@njit(**SAFE)
def marginals(
    x: Array, x32: Array, x64: Array, y: Array, tiles: Array, tiles64: Array, f: Array, g: Array, g32: Array,
    top: Array, low: Array, high: Array, cut: Array, least: Array, squared: bool, keep: float, i0: int, i1: int,
    rows: Array, cols: Array, left: Array, ids: Array, values: Array, counts: Array, kept: Array,
) -> int:  # fmt: skip
    """Add up rows i0 to i1; count the pairs left out of each; write the entries worth keeping.

    ``keep`` below 0 writes none; entries below ``least`` are not worth it. Returns how many entries were written, -1 if
    they do not fit; the sums are made all the same.
    """
    m, room = y.shape[0], ids.shape[0]
    z32, half, z = np.empty(TILE, np.float32), np.empty(TILE // 2, np.float32), np.empty(TILE)
    near, row, where = np.empty(TILE, np.int64), np.empty(m + 1), np.empty(m + 1, np.int32)
    cols[:] = 0.0
    at = 0
    for i in range(i0, i1):
        total, out, width = 0.0, 0, 0
        point, point32, bar, fi, small = x[i], x32[i], cut[i], f[i], least[i]
        limit32 = np.float32(bar) - np.float32(fi)
        for t in range(tiles.shape[0]):
            size = min(TILE, m - t * TILE)
            reach = fi + top[t] - bar
            limit = reach if squared else reach * reach
            if reach <= 0.0 or gap(point, low, high, t, limit) > limit:
                out += size
                continue
            distances(point32, tiles, t, squared, z32)
            count = 0
            if lower(z32, g32, t, half) > limit32:
                count = TILE if _lanes(half, limit32) > _FEW else above(z32, half, limit32, near)
            if count > _FEW:
                distances(x64[i], tiles64, t, squared, z)
                total += _whole_tile(z, g, t, fi, cols)
                for k in range(size if keep >= 0.0 else 0):
                    row[width], where[width] = z[k], t * TILE + k
                    width += 1 if z[k] > small else 0
                continue
            out += size - count
            for q in range(count):
                z[q] = fi + g[t, near[q]] - pair_cost(x, y, i, t * TILE + near[q], squared)
            exp_tile(z, count)
            for q in range(count):
                cols[t, near[q]] += z[q]
                total += z[q]
                row[width], where[width] = z[q], t * TILE + near[q]
                width += 1
        rows[i], left[i] = total, out
        if keep < 0.0 or at < 0:
            continue
        threshold = _threshold(row, width, total, keep)
        if at + width > room:
            at = -1
            continue
        start, mass = at, 0.0
        for k in range(width):
            ids[at], values[at] = where[k], row[k]
            if row[k] >= threshold:
                mass += row[k]
                at += 1
        counts[i], kept[i] = at - start, mass
    return at


@njit(**SAFE, **INLINE)
def _lanes(half: Array, limit: float) -> int:
    """Return in how many lanes of a tile an entry is above ``limit``: no more than there are such entries."""
    count = 0
    for k in range(LANES):
        count += 1 if half[k] > limit else 0
    return count


@njit(**FAST, **INLINE)
def _whole_tile(z: Array, g: Array, t: int, fi: float, cols: Array) -> Any:
    """Turn a tile's costs in ``z`` into its entries, and add them to the columns; return their sum."""
    for k in range(TILE):
        z[k] = fi + g[t, k] - z[k]
    exp_tile(z, TILE)
    for k in range(TILE):
        cols[t, k] += z[k]
    return tile_sum(z)


@njit(**SAFE, **INLINE)
def _threshold(row: Array, width: int, total: float, keep: float) -> Any:
    """Return the largest threshold (nearly) above which the row's entries hold the fraction ``keep`` of its mass."""
    if width == 0 or keep >= 1.0:
        return 0.0
    wanted, high = keep * total, total
    spare = _mass_above(row, width, 0.0) - wanted  # what is not in the row has gone already
    if spare <= 0.0:
        return 0.0
    low = spare / width  # all entries below it together hold less than may go
    for _ in range(_HALVINGS):
        middle = math.sqrt(low) * math.sqrt(high)
        if _mass_above(row, width, middle) >= wanted:
            low = middle
        else:
            high = middle
    return low


@njit(**FAST, **INLINE)
def _mass_above(row: Array, width: int, threshold: float) -> Any:
    s = 0.0
    for k in range(width):
        s += row[k] if row[k] >= threshold else 0.0
    return s
