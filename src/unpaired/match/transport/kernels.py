"""What every compiled loop of the engine shares: compiler options, the exponential, blocks of distances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from unpaired.data.types import Array

__all__ = [
    "FAST",
    "INLINE",
    "LANES",
    "SAFE",
    "TILE",
    "distances",
    "exp2_tile",
    "exp_tile",
    "padded",
    "tile_max",
    "tile_sum",
    "tiled",
]

SAFE: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy", "cache": True}
"""For loops that gather: reassociation would only make them slower."""
FAST: dict[str, Any] = SAFE | {"fastmath": {"contract", "nnan", "ninf", "nsz", "arcp", "reassoc"}}
"""For loops over contiguous memory: sums may be reassociated, so that they use whole vector registers."""
INLINE: dict[str, Any] = {"forceinline": True}
"""For compiled functions that only other compiled functions call.

A function that is called is compiled by itself and again with every caller, each time with sums in an order of its own;
which of the copies a process runs depends on what it compiled and what it read from the cache. Inlined there is one.
"""

TILE = 256
"""Points of a tile. Tiles hold one coordinate after the other, so that a loop over a tile's points reads contiguous
memory and needs no slice (a slice costs the compiled code as much as ten distances)."""


LANES = TILE // 8


def padded(points: Array, dtype: Any) -> Array:
    """Return the points with coordinates of zero up to a multiple of four, as :func:`distances` reads them."""
    n, d = points.shape
    out = np.zeros((n, max(4, -(-d // 4) * 4)), dtype)
    out[:, :d] = points
    return out


def tiled(points: Array, dtype: Any) -> Array:
    """Return ``(tiles, d, TILE)`` of ``(n, d)`` points, both filled up with zeros: d to a multiple of four."""
    wide = padded(points, dtype)
    n, d = wide.shape
    count = -(-n // TILE)
    out = np.zeros((count * TILE, d), dtype)
    out[:n] = wide
    return np.ascontiguousarray(out.reshape(count, TILE, d).transpose(0, 2, 1))


@njit(**FAST, **INLINE)
def distances(x: Array, tiles: Array, t: int, squared: bool, out: Array) -> None:
    """Write the costs between the padded point ``x`` and tile ``t`` into ``out``: as differences, so nothing cancels.

    Single or double precision, as the arrays are.
    """
    x0, x1, x2, x3 = x[0], x[1], x[2], x[3]
    for k in range(TILE):
        e0, e1, e2, e3 = x0 - tiles[t, 0, k], x1 - tiles[t, 1, k], x2 - tiles[t, 2, k], x3 - tiles[t, 3, k]
        out[k] = e0 * e0 + e1 * e1 + e2 * e2 + e3 * e3
    for c in range(4, tiles.shape[1], 4):
        x0, x1, x2, x3 = x[c], x[c + 1], x[c + 2], x[c + 3]
        for k in range(TILE):
            e0, e1 = x0 - tiles[t, c, k], x1 - tiles[t, c + 1, k]
            e2, e3 = x2 - tiles[t, c + 2, k], x3 - tiles[t, c + 3, k]
            out[k] += e0 * e0 + e1 * e1 + e2 * e2 + e3 * e3
    if not squared:
        for k in range(TILE):
            out[k] = math.sqrt(out[k])


@njit(**FAST, **INLINE)
def tile_max(z: Array, half: Array) -> Any:
    """Return the largest entry of a float32 tile; ``half`` is half a tile to work in.

    Halves are compared entry by entry: the compiler does not use vector registers for a running maximum.
    """
    for k in range(TILE // 2):
        half[k] = z[k] if z[k] > z[k + TILE // 2] else z[k + TILE // 2]
    for k in range(TILE // 4):
        half[k] = half[k] if half[k] > half[k + TILE // 4] else half[k + TILE // 4]
    for k in range(LANES):
        half[k] = half[k] if half[k] > half[k + LANES] else half[k + LANES]
    top = half[0]
    for k in range(1, LANES):
        top = max(top, half[k])
    return top


@njit(**FAST, **INLINE)
def tile_sum(z: Array) -> Any:
    """Return the sum of a tile."""
    s = z[0]
    for k in range(1, TILE):
        s += z[k]
    return s


_LOWEST, _HIGHEST, _ROUND = np.float32(-126.0), np.float32(127.0), np.float32(1.5 * 2**23)
_P0, _P1, _P2, _P3, _P4, _P5, _P6 = (np.float32(math.log(2) ** k / math.factorial(k)) for k in range(7))
_BIAS, _SHIFT = np.int32(127), np.int32(23)
_ORDERED: dict[str, Any] = SAFE | {"fastmath": {"contract", "nnan", "ninf", "nsz", "arcp"}}
"""For the exponentials: reassociation would undo the rounding by a large constant."""


@njit(**_ORDERED, **INLINE)
def exp2_tile(z: Array) -> None:
    """Replace the float32 tile ``z`` by ``2**z``, z clipped to [-126, 127]; the relative error is below 2e-7.

    The library's function would keep the loop from using vector registers, and so would ``floor``, which returns a long
    integer. Adding 1.5 * 2^23 rounds to a whole number, and leaves it in the lowest bits; those become the exponent.
    """
    for k in range(TILE):
        t = z[k]
        t = _LOWEST if t < _LOWEST else t
        t = _HIGHEST if t > _HIGHEST else t
        whole = np.float32(t + _ROUND)
        r = t - (whole - _ROUND)
        p = _P0 + r * (_P1 + r * (_P2 + r * (_P3 + r * (_P4 + r * (_P5 + r * _P6)))))
        z[k] = p * np.int32((np.float32(whole).view(np.int32) + _BIAS) << _SHIFT).view(np.float32)


_Q2, _Q3, _Q4, _Q5, _Q6, _Q7, _Q8, _Q9, _Q10, _Q11, _Q12 = (1 / math.factorial(k) for k in range(2, 13))
_LN2_HIGH, _LN2_LOW, _LOG2_E = 6.93147180369123816490e-01, 1.90821492927058770002e-10, 1.4426950408889634
_ROUND64, _BIAS64, _SHIFT64 = 1.5 * 2**52, np.int64(1023), np.int64(52)


@njit(**_ORDERED, **INLINE)
def exp_tile(z: Array, width: int) -> None:
    """Replace the first ``width`` entries of the float64 ``z`` by their exponential, z clipped to [-700, 700].

    As :func:`exp2_tile`; the logarithm of 2 is taken off in two parts.
    """
    for k in range(width):
        t = z[k]
        t = -700.0 if t < -700.0 else t
        t = 700.0 if t > 700.0 else t
        whole = np.float64(t * _LOG2_E + _ROUND64)
        n = whole - _ROUND64
        r = (t - n * _LN2_HIGH) - n * _LN2_LOW
        p = _Q8 + r * (_Q9 + r * (_Q10 + r * (_Q11 + r * _Q12)))
        p = _Q3 + r * (_Q4 + r * (_Q5 + r * (_Q6 + r * (_Q7 + r * p))))
        p = 1.0 + r * (1.0 + r * (_Q2 + r * p))
        z[k] = p * np.int64((np.float64(whole).view(np.int64) + _BIAS64) << _SHIFT64).view(np.float64)
