"""Where the objects of a scene are: the mechanism, the twelve interventions on it, what the second modality sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unpaired.data.types import Array
from unpaired.seeds import named_rng

__all__ = ["CHUNK", "COORDINATES", "INTERVENTIONS", "VALUES", "Scenes", "draw_scenes", "seen_by_squares"]

CHUNK = 256
"""Scenes that share a generator. A chunk is drawn whole and then cut, so the first scenes do not depend on ``n``."""

COORDINATES = ("x1", "y1", "x2", "y2")
VALUES = (0.25, 0.5, 0.75)
INTERVENTIONS = tuple(f"{name}={value:g}" for name in COORDINATES for value in VALUES)
"""The names of the labels; label ``t`` sets coordinate ``t // 3`` to ``VALUES[t % 3]``."""

_ANGLE = 0.3 * np.pi
_LOW, _HIGH = (0.1, 0.5), (0.5, 0.9)


@dataclass(frozen=True, eq=False)
class Scenes:
    """What was drawn.

    Attributes
    ----------
    labels
        ``(n,)`` codes into :data:`INTERVENTIONS`.
    latents
        ``(n, 4)`` coordinates of both objects, ``(x1, y1, x2, y2)``; ``y`` points up.
    """

    labels: Array
    latents: Array


def draw_scenes(n: int, seed: int) -> Scenes:
    """Draw an intervention for each scene, and the coordinates under it.

    Object 1 is uniform in the square from 0.1 to 0.9. With ``c = 1.25 (x1^2 + y1^2)``, object 2 is uniform in
    ``[0.1, 0.5] x [0.5, 0.9]`` where ``c >= 1`` and in ``[0.5, 0.9] x [0.1, 0.5]`` elsewhere. An intervention on object
    1 comes before the mechanism, which then draws object 2; one on object 2 comes after it, and changes that
    coordinate alone.
    """
    parts = [_draw_chunk(seed, k) for k in range(-(-n // CHUNK))]
    labels, latents = (np.concatenate(a)[:n] for a in zip(*parts, strict=True))
    return Scenes(labels, latents)


def _draw_chunk(seed: int, chunk: int) -> tuple[Array, Array]:
    rng = named_rng(seed, "interventional_images", "latents", str(chunk))
    labels = rng.integers(len(INTERVENTIONS), size=CHUNK)
    coordinate, value = labels // len(VALUES), np.array(VALUES)[labels % len(VALUES)]
    z = np.empty((CHUNK, 4))
    z[:, :2] = rng.uniform(_LOW[0], _HIGH[1], size=(CHUNK, 2))
    first = np.flatnonzero(coordinate < 2)
    z[first, coordinate[first]] = value[first]
    z[:, 2:] = _second_object(z[:, :2], rng)
    second = np.flatnonzero(coordinate >= 2)
    z[second, coordinate[second]] = value[second]
    return labels, z


def _second_object(first: Array, rng: np.random.Generator) -> Array:
    """Return ``(n, 2)`` coordinates of object 2, given those of object 1."""
    high = 1.25 * np.sum(first**2, axis=1) >= 1
    low_part, high_part = rng.uniform(*_LOW, size=len(first)), rng.uniform(*_HIGH, size=len(first))
    return np.where(high[:, None], np.stack([low_part, high_part], 1), np.stack([high_part, low_part], 1))


def seen_by_squares(latents: Array) -> Array:
    """Return ``(n, 4)`` positions in the second modality: ``z' = sigmoid(2 ((z - 0.5) R + 0.2))``.

    ``R = [[cos a, -sin a], [sin a, cos a]]`` with ``a = 0.3 pi`` multiplies each object's ``(x, y)`` from the right.
    """
    cos, sin = np.cos(_ANGLE), np.sin(_ANGLE)
    centred = latents.reshape(-1, 2, 2) - 0.5
    x = centred[..., 0] * cos + centred[..., 1] * sin
    y = centred[..., 1] * cos - centred[..., 0] * sin
    return np.asarray(1 / (1 + np.exp(-2 * (np.stack([x, y], axis=-1) + 0.2)))).reshape(-1, 4)
