"""Scenes to pixels: overlapping discs behind, two small objects before them; compiled, because it is all loops.

The loops draw as a screen does, row 0 on top, and write their rows from the bottom: the picture comes out flipped
vertically, so that ``y`` points up in what is seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from unpaired.data.types import Array

__all__ = ["BACKGROUND", "DISC", "DISCS", "RADIUS", "SQUARE", "draw"]

DISC, SQUARE = 0, 1
DISCS = 25
"""Discs of a background."""
BACKGROUND = 0.3
"""Their radius, in widths of the picture."""
RADIUS = 0.02 * 128
"""Radius of an object of the first modality, in pixels; half the side of one of the second. Kept at every size."""

_COMPILE: dict[str, Any] = {"nogil": True, "error_model": "numpy", "cache": True}


def draw(kind: int, size: int, centres: Array, colours: Array, places: Array, object_colours: Array) -> Array:
    """Return ``(n, 3, size, size)`` uint8 pictures.

    Parameters
    ----------
    kind
        :data:`DISC`: the objects are discs around their places. :data:`SQUARE`: squares with their top left corner
        there, before the flip; so it is the lower left corner that is seen at the place.
    size
        Pixels in a row.
    centres
        ``(n, DISCS, 2)`` centres of the background's discs, in widths; later ones cover earlier ones. A pixel belongs
        to a disc if its centre does.
    colours
        ``(n, DISCS, 3)`` uint8 colours of these.
    places
        ``(n, 2, 2)`` places ``(x, y)`` of the objects, in widths; the second covers the first.
    object_colours
        ``(2, 3)`` uint8 colours of the objects, which are mixed with what is behind by the covered part of a pixel.
    """
    out = np.empty((len(centres), 3, size, size), dtype=np.uint8)
    _draw_all(kind, centres * size, BACKGROUND * size, colours, places * size, object_colours, out)
    return out


def _draw_background(centres: Array, radius: float, colours: Array, out: Array) -> None:
    size = out.shape[2]
    front = np.empty(size, np.int64)
    for row in range(size):
        front[:] = -1
        for disc in range(len(centres)):
            across = radius**2 - (row + 0.5 - centres[disc, 1]) ** 2
            if across >= 0:
                half = np.sqrt(across)
                start = max(0, int(np.ceil(centres[disc, 0] - half - 0.5)))
                stop = min(size, int(np.floor(centres[disc, 0] + half - 0.5)) + 1)
                for column in range(start, stop):
                    front[column] = disc
        for channel in range(3):
            for column in range(size):
                disc = front[column]
                out[channel, size - 1 - row, column] = 255 if disc < 0 else colours[disc, channel]


def _cover_disc(x: float, y: float, left: int, top: int) -> float:
    """Return the part of a pixel that a disc around ``(x, y)`` covers, by the distance of the pixel's centre."""
    away = np.sqrt((left + 0.5 - x) ** 2 + (top + 0.5 - y) ** 2)
    part: float = min(1.0, max(0.0, RADIUS + 0.5 - away))
    return part


def _cover_square(x: float, y: float, left: int, top: int) -> float:
    """Return the part of a pixel that a square with its corner at ``(x, y)`` covers."""
    across = min(left + 1.0, x + 2 * RADIUS) - max(float(left), x)
    down = min(top + 1.0, y + 2 * RADIUS) - max(float(top), y)
    return max(0.0, across) * max(0.0, down)


def _draw_object(kind: int, x: float, y: float, colour: Array, out: Array) -> None:
    size, reach = out.shape[2], int(2 * RADIUS) + 2
    for row in range(max(0, int(y) - reach), min(size, int(y) + reach + 1)):
        for column in range(max(0, int(x) - reach), min(size, int(x) + reach + 1)):
            part = cover_disc(x, y, column, row) if kind == DISC else cover_square(x, y, column, row)
            if part > 0:
                for channel in range(3):
                    behind = out[channel, size - 1 - row, column]
                    mixed = part * colour[channel] + (1.0 - part) * behind
                    out[channel, size - 1 - row, column] = int(mixed + 0.5)


def _draw_scenes(
    kind: int, centres: Array, radius: float, colours: Array, places: Array, object_colours: Array, out: Array
) -> None:
    for i in range(len(out)):
        draw_background(centres[i], radius, colours[i], out[i])
        for k in range(2):
            draw_object(kind, places[i, k, 0], places[i, k, 1], object_colours[k], out[i])


# As calls, not as decorators, which have no types.
cover_disc = njit(**_COMPILE)(_cover_disc)
cover_square = njit(**_COMPILE)(_cover_square)
draw_background = njit(**_COMPILE)(_draw_background)
draw_object = njit(**_COMPILE)(_draw_object)
_draw_all = njit(**_COMPILE)(_draw_scenes)
