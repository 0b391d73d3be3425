"""Compiled loops that make costs as they go and leave out the tiles that are too far to matter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from unpaired.data.types import Array
from unpaired.match.transport.kernels import FAST, INLINE, SAFE, TILE, distances, exp2_tile, exp_tile, tile_sum
from unpaired.match.transport.search import above, gap, lower

__all__ = ["log_sums", "select", "stream", "stream_exact"]

_LOG2_E = np.float32(math.log2(math.e))
_ZERO: Any = np.float32(0)
_FAR = 24.0  # temperatures below a row's largest entry at which an entry adds nothing in single precision


@njit(**SAFE)
def log_sums(x: Array, tiles: Array, g: Array, squared: bool, heat: float, i0: int, i1: int, out: Array) -> None:
    """Write ``log sum_j exp((g_j - C_ij) / heat)`` of rows i0 to i1."""
    z, half = np.empty(TILE, np.float32), np.empty(TILE // 2, np.float32)
    scale = _LOG2_E / np.float32(heat)
    for i in range(i0, i1):
        point, largest, total = x[i], np.float32(-3e38), 0.0
        for t in range(tiles.shape[0]):
            distances(point, tiles, t, squared, z)
            here = lower(z, g, t, half)
            if here <= largest - np.float32(_FAR * heat):
                continue
            if here > largest:
                total *= math.exp(max((largest - here) / heat, -700.0))
                largest = here
            total += _sum_above(z, largest, scale)
        out[i] = largest / heat + math.log(total)


@njit(**FAST, **INLINE)
def _sum_above(z: Array, largest: float, scale: float) -> Any:
    for k in range(TILE):
        z[k] = (z[k] - largest) * scale
    exp2_tile(z)
    return tile_sum(z)


@njit(**SAFE)
def select(
    x: Array, x32: Array, tiles: Array, low: Array, high: Array, g: Array, top: Array, squared: bool, f: Array,
    f32: Array, slack: float, i0: int, i1: int, cols: Array, counts: Array,
) -> int:  # fmt: skip
    """Write the columns with ``F_i + G_j - C_ij > -slack`` of rows i0 to i1; return how many, -1 if they do not fit."""
    z, half = np.empty(TILE, np.float32), np.empty(TILE // 2, np.float32)
    near = np.empty(TILE, np.int64)
    at = 0
    for i in range(i0, i1):
        point, point32 = x[i], x32[i]
        start, bar = at, np.float32(-slack) - f32[i]
        for t in range(tiles.shape[0]):
            room = top[t] + f[i] + slack
            limit = room if squared else room * room
            if room <= 0.0 or gap(point, low, high, t, limit) > limit:
                continue
            distances(point32, tiles, t, squared, z)
            if lower(z, g, t, half) <= bar:
                continue
            if at + TILE > cols.shape[0]:
                return -1
            count = above(z, half, bar, near)
            for q in range(count):
                cols[at + q] = t * TILE + near[q]
            at += count
        counts[i] = at - start
    return at


@njit(**FAST)
def stream(
    x: Array, tiles: Array, g: Array, f: Array, squared: bool, target: Array, power: float, i0: int, i1: int,
    step: Array, sums: Array,
) -> None:  # fmt: skip
    """Make every row once: ``step = (target / row sum)^power``, and add the rows so scaled to the columns' sums."""
    count = tiles.shape[0]
    row, z = np.empty((count, TILE), np.float32), np.empty(TILE, np.float32)
    part = np.zeros((count, TILE), np.float32)
    for i in range(i0, i1):
        point, fi, total = x[i], f[i], 0.0
        for t in range(count):
            distances(point, tiles, t, squared, z)
            for k in range(TILE):
                z[k] = (fi + g[t, k] - z[k]) * _LOG2_E
            exp2_tile(z)
            total += tile_sum(z)
            for k in range(TILE):
                row[t, k] = z[k]
        step[i] = (target[i] / total) ** power
        by = np.float32(step[i])
        for t in range(count):
            for k in range(TILE):
                part[t, k] += by * row[t, k]
        if (i - i0) % 32 == 31 or i == i1 - 1:
            for t in range(count):
                for k in range(TILE):
                    sums[t, k] += part[t, k]
                    part[t, k] = _ZERO


@njit(**FAST)
def stream_exact(
    x: Array, tiles: Array, g: Array, f: Array, squared: bool, target: Array, power: float, i0: int, i1: int,
    step: Array, sums: Array,
) -> None:  # fmt: skip
    """As :func:`stream`, in double precision."""
    count = tiles.shape[0]
    row, z = np.empty((count, TILE)), np.empty(TILE)
    for i in range(i0, i1):
        point, fi, total = x[i], f[i], 0.0
        for t in range(count):
            distances(point, tiles, t, squared, z)
            for k in range(TILE):
                z[k] = fi + g[t, k] - z[k]
            exp_tile(z, TILE)
            total += tile_sum(z)
            for k in range(TILE):
                row[t, k] = z[k]
        step[i] = (target[i] / total) ** power
        by = step[i]
        for t in range(count):
            for k in range(TILE):
                sums[t, k] += by * row[t, k]
