"""Compiled loops over a dense cost matrix and kernel; both are ``(n, tiles, TILE)``, the last tile filled up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from unpaired.data.types import Array
from unpaired.match.transport.kernels import (
    FAST,
    INLINE,
    SAFE,
    TILE,
    distances,
    exp2_tile,
    exp_tile,
    tile_max,
    tile_sum,
)
from unpaired.match.transport.search import above

__all__ = [
    "absorb",
    "absorb_exact",
    "back",
    "best_columns",
    "best_rows",
    "count_above",
    "fill_costs",
    "forth",
    "select",
    "square",
    "sweep",
]

_LOG2_E = np.float32(math.log2(math.e))
_ZERO: Any = np.float32(0)
_FLUSH = 32  # rows after which single-precision column sums are added to the double ones
_HIGH = 80.0  # exp of more would not fit single precision; a search that gets here turns back


@njit(**FAST)
def fill_costs(x: Array, tiles: Array, squared: bool, i0: int, i1: int, costs: Array) -> None:
    """Write the costs of rows i0 to i1."""
    z = np.empty(TILE, np.float32)
    for i in range(i0, i1):
        point = x[i]
        for t in range(tiles.shape[0]):
            distances(point, tiles, t, squared, z)
            for k in range(TILE):
                costs[i, t, k] = z[k]


@njit(**FAST)
def absorb(costs: Array, f: Array, g: Array, heat: float, i0: int, i1: int, kernel: Array) -> None:
    """``kernel = exp((F + G - C) / heat)`` from single-precision costs; ``g`` is (tiles, TILE)."""
    scale = _LOG2_E / np.float32(heat)
    z = np.empty(TILE, np.float32)
    for i in range(i0, i1):
        fi = f[i]
        for t in range(costs.shape[1]):
            for k in range(TILE):
                z[k] = (fi + g[t, k] - costs[i, t, k]) * scale
            exp2_tile(z)
            for k in range(TILE):
                kernel[i, t, k] = z[k]


@njit(**FAST)
def absorb_exact(
    x: Array, tiles: Array, squared: bool, f: Array, g: Array, heat: float, i0: int, i1: int, kernel: Array, sums: Array
) -> None:  # fmt: skip
    """Do the same with exponents in double precision; add the column sums to ``sums`` (tiles, TILE)."""
    z, cold = np.empty(TILE), 1 / heat
    for i in range(i0, i1):
        point, fi = x[i], f[i]
        for t in range(tiles.shape[0]):
            distances(point, tiles, t, squared, z)
            for k in range(TILE):
                e = (fi + g[t, k] - z[k]) * cold
                z[k] = e if e < _HIGH else _HIGH
            exp_tile(z, TILE)
            for k in range(TILE):
                kernel[i, t, k] = z[k]
                sums[t, k] += z[k]


@njit(**FAST)
def sweep(
    kernel: Array, v: Array, target: Array, power: float, relax: float, i0: int, i1: int, u: Array, sums: Array
) -> None:
    """One read of rows i0 to i1 for half of an iteration and the sums for the other half.

    ``u <- u^(1 - relax) * (target / (K v))^(power * relax)``, then ``sums = K' u``. ``kernel`` is (n, width).
    """
    width = kernel.shape[1]
    part = np.zeros(width, np.float32)
    for k in range(width):
        sums[k] = 0.0
    for i in range(i0, i1):
        row = kernel[i]
        s = _ZERO
        for k in range(width):
            s += row[k] * v[k]
        new = target[i] / s
        if power != 1.0:
            new = new**power
        if relax != 1.0:
            new = u[i] * (new / u[i]) ** relax
        u[i] = np.float32(new)
        ui = np.float32(new)
        for k in range(width):
            part[k] += ui * row[k]
        if (i - i0) % _FLUSH == _FLUSH - 1 or i == i1 - 1:
            for k in range(width):
                sums[k] += part[k]
                part[k] = _ZERO


@njit(**FAST)
def best_columns(costs: Array, f: Array, heat: float, t0: int, t1: int, out: Array) -> None:
    """``out = log sum_i exp((F_i - C_ij) / heat)`` for the columns of tiles t0 to t1."""
    scale = _LOG2_E / np.float32(heat)
    z = np.empty(TILE, np.float32)
    top, total = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    for t in range(t0, t1):
        for k in range(TILE):
            top[k] = np.float32(-3e38)
            total[k] = _ZERO
        for i in range(costs.shape[0]):
            fi = f[i]
            for k in range(TILE):
                e = fi - costs[i, t, k]
                top[k] = e if e > top[k] else top[k]
        for i in range(costs.shape[0]):
            fi = f[i]
            for k in range(TILE):
                z[k] = (fi - costs[i, t, k] - top[k]) * scale
            exp2_tile(z)
            for k in range(TILE):
                total[k] += z[k]
        for k in range(TILE):
            out[t, k] = top[k] / heat + math.log(total[k])


@njit(**FAST)
def best_rows(costs: Array, g: Array, heat: float, i0: int, i1: int, out: Array) -> None:
    """``out_i = log sum_j exp((G_j - C_ij) / heat)``; ``g`` is (tiles, TILE), very low where a tile is filled up."""
    scale = _LOG2_E / np.float32(heat)
    z, half = np.empty(TILE, np.float32), np.empty(TILE // 2, np.float32)
    for i in range(i0, i1):
        top = np.float32(-3e38)
        for t in range(costs.shape[1]):
            for k in range(TILE):
                z[k] = g[t, k] - costs[i, t, k]
            top = max(top, tile_max(z, half))
        total = 0.0
        for t in range(costs.shape[1]):
            for k in range(TILE):
                z[k] = (g[t, k] - costs[i, t, k] - top) * scale
            exp2_tile(z)
            total += tile_sum(z)
        out[i] = top / heat + math.log(total)


@njit(**FAST)
def count_above(costs: Array, f: Array, g: Array, slack: float, i0: int, i1: int, counts: Array) -> None:
    """Count the columns with ``F_i + G_j - C_ij > -slack`` of rows i0 to i1."""
    for i in range(i0, i1):
        limit = np.float32(-slack) - f[i]
        total = 0
        for t in range(costs.shape[1]):
            few: Any = np.int32(0)
            for k in range(TILE):
                few += np.int32(1) if g[t, k] - costs[i, t, k] > limit else np.int32(0)
            total += few
        counts[i] = total


@njit(**SAFE)
def select(costs: Array, f: Array, g: Array, slack: float, i0: int, i1: int, cols: Array) -> None:
    """Write the columns with ``F_i + G_j - C_ij > -slack`` of rows i0 to i1."""
    z, half = np.empty(TILE, np.float32), np.empty(TILE // 2, np.float32)
    near = np.empty(TILE, np.int64)
    at = 0
    for i in range(i0, i1):
        limit = np.float32(-slack) - f[i]
        for t in range(costs.shape[1]):
            _slacks(costs, g, i, t, z)
            if tile_max(z, half) <= limit:
                continue
            count = above(z, half, limit, near)
            for q in range(count):
                cols[at + q] = t * TILE + near[q]
            at += count


@njit(**FAST, **INLINE)
def _slacks(costs: Array, g: Array, i: int, t: int, z: Array) -> None:
    for k in range(TILE):
        z[k] = g[t, k] - costs[i, t, k]


@njit(**FAST)
def forth(kernel: Array, v: Array, i0: int, i1: int, out: Array) -> None:
    """``out = K v`` for rows i0 to i1; ``kernel`` is (n, tiles, TILE) and ``v`` (tiles, TILE)."""
    for i in range(i0, i1):
        total = 0.0
        for t in range(kernel.shape[1]):
            s = kernel[i, t, 0] * v[t, 0]
            for k in range(1, TILE):
                s += kernel[i, t, k] * v[t, k]
            total += s
        out[i] = total


@njit(**FAST)
def square(kernel: Array, v: Array, i0: int, i1: int, out: Array) -> None:
    """``out_i = sum_j K_ij^2 v_j`` for rows i0 to i1."""
    for i in range(i0, i1):
        total = 0.0
        for t in range(kernel.shape[1]):
            s = kernel[i, t, 0] * kernel[i, t, 0] * v[t, 0]
            for k in range(1, TILE):
                s += kernel[i, t, k] * kernel[i, t, k] * v[t, k]
            total += s
        out[i] = total


@njit(**FAST)
def back(kernel: Array, p: Array, i0: int, i1: int, out: Array) -> None:
    """``out = K' p`` over rows i0 to i1; ``kernel`` is (n, width) and ``out`` (width,)."""
    width = kernel.shape[1]
    part = np.zeros(width, kernel.dtype)
    for k in range(width):
        out[k] = 0.0
    for i in range(i0, i1):
        row = kernel[i]
        for k in range(width):
            part[k] += p[i] * row[k]
        if (i - i0) % _FLUSH == _FLUSH - 1 or i == i1 - 1:
            for k in range(width):
                out[k] += part[k]
                part[k] = 0
