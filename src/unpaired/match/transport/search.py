"""Finding the pairs that matter: bounding boxes of tiles in float64, then all pairs of a tile in float32."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from unpaired.data.types import Array
from unpaired.match.transport.kernels import FAST, INLINE, LANES, SAFE, TILE, tile_max
from unpaired.match.transport.problem import Problem

__all__ = ["above", "boxes", "gap", "lower", "pad", "pair_cost", "rounding"]


def boxes(points: Array) -> tuple[Array, Array]:
    """Return the ``(tiles, d)`` lower and upper corners of every tile's bounding box."""
    starts = np.arange(0, len(points), TILE)
    return np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)


def pad(values: Array, tiles: int, rest: float = -1e30, kind: Any = np.float64) -> Array:
    """Return ``(tiles, TILE)`` values, ``rest`` where the last tile is filled up: very low, for potentials."""
    out = np.full(tiles * TILE, rest, kind)
    out[: len(values)] = values
    return out.reshape(tiles, TILE)


def rounding(problem: Problem, f: Array, g: Array) -> float:
    """Return a bound on the error of ``F + G - C`` in single precision.

    Coordinates, d / 4 partial sums, the root, the potentials and two sums are rounded, each by at most 6e-8 of the
    largest size that a cost or a potential has.
    """
    far = float(np.linalg.norm(problem.x, axis=1).max() + np.linalg.norm(problem.y, axis=1).max())
    largest = max(float(np.abs(f).max()), float(np.abs(g).max()), far**2 if problem.squared else far)
    return float((12 + problem.x.shape[1] / 4) * 1.2e-7 * largest)


@njit(**SAFE, **INLINE)
def gap(x: Array, low: Array, high: Array, t: int, limit: float) -> float:
    """Squared distance from a point to a box, or something above ``limit``."""
    s = 0.0
    for c in range(x.shape[0]):
        e = max(low[t, c] - x[c], x[c] - high[t, c], 0.0)
        s += e * e
        if s > limit:
            break
    return s


@njit(**FAST, **INLINE)
def lower(costs: Array, g: Array, t: int, half: Array) -> Any:
    """Replace a tile's costs by ``G - C`` and return the largest; ``half`` is half a tile to work in."""
    for k in range(TILE):
        costs[k] = g[t, k] - costs[k]
    return tile_max(costs, half)


@njit(**SAFE, **INLINE)
def above(z: Array, half: Array, limit: float, chosen: Array) -> int:
    """Write the places of a tile's entries above ``limit``; return how many.

    ``half`` is as :func:`~unpaired.match.transport.kernels.tile_max` leaves it: its first entries are the largest of
    every so many-th entry of the tile, so that few entries are looked at where few are above.
    """
    count = 0
    for lane in range(LANES):
        if half[lane] > limit:
            for k in range(lane, TILE, LANES):
                chosen[count] = k
                if z[k] > limit:
                    count += 1
    return count


@njit(**SAFE, **INLINE)
def pair_cost(x: Array, y: Array, i: int, j: int, squared: bool) -> float:
    """Return the cost of one pair in float64."""
    s = 0.0
    for c in range(x.shape[1]):
        e = x[i, c] - y[j, c]
        s += e * e
    return s if squared else math.sqrt(s)
