"""The cells of a simulated screen: who responds, each cell's latent state, and what is each instrument's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from unpaired.data.types import Array
from unpaired.seeds import named_rng

__all__ = ["CONTROL", "NOISE", "Cells", "Design", "draw_cells"]

CONTROL = 0
"""The code of the control."""

NOISE: Mapping[str, int] = {"rna": 4, "image": 16}
"""Dimensions of each modality's own noise ``U``: a picture has more of what has nothing to do with the response."""

_SPREAD = 0.3  # of the logarithm of how a perturbation stretches each direction


@dataclass(frozen=True)
class Design:
    """The options of a screen; see :func:`unpaired.simulate.screen`."""

    cells: int
    perturbations: int
    latents: int
    effect: float
    batches: int
    guide_efficiency: float
    violate_a1: float
    violate_a2: float
    seed: int


@dataclass(frozen=True, eq=False)
class Cells:
    """What was drawn, ordered by label.

    Attributes
    ----------
    labels
        ``(n,)`` codes: :data:`CONTROL`, then the perturbations.
    responds
        ``(n,)`` whether the perturbation works in the cell; never in the control.
    batches
        ``(n,)`` codes of the batches.
    latents
        ``(n, d)`` states ``Z``, in standard deviations of the control.
    noise
        Modality -> ``(n, k)`` its own ``U``, in standard deviations of the control.
    """

    labels: Array
    responds: Array
    batches: Array
    latents: Array
    noise: Mapping[str, Array]


def draw_cells(design: Design) -> Cells:
    """Draw the cells. Every quantity has a generator of its own, so an option changes what it is about and no more."""
    labels = np.repeat(np.arange(design.perturbations + 1), design.cells)
    n, d = len(labels), design.latents
    responds = (_rng(design, "guides").random(n) < design.guide_efficiency) & (labels != CONTROL)
    shift = design.effect * _by_perturbation(design, "shift", d)
    stretch = np.exp(_SPREAD * _by_perturbation(design, "stretch", d))
    state = _rng(design, "state").normal(size=(n, d))
    moved = shift[labels] + stretch[labels] * state
    return Cells(
        labels=labels,
        responds=responds,
        batches=_rng(design, "batches").integers(design.batches, size=n),
        latents=np.where(responds[:, None], moved, state),
        noise={name: _noise(design, name, labels, responds) for name in NOISE},
    )


def _noise(design: Design, name: str, labels: Array, responds: Array) -> Array:
    """Return ``U`` of a modality: the same for all labels, unless (A1) is violated."""
    own = _rng(design, "noise", name).normal(size=(len(labels), NOISE[name]))
    shift = design.violate_a1 * design.effect * _by_perturbation(design, f"noise shift {name}", NOISE[name])
    return np.asarray(own + responds[:, None] * shift[labels])


def _by_perturbation(design: Design, what: str, d: int) -> Array:
    """Return ``(labels, d)`` standard normal numbers, zero for the control."""
    drawn = _rng(design, what).normal(size=(design.perturbations, d))
    return np.concatenate([np.zeros((1, d)), drawn])


def _rng(design: Design, *names: str) -> np.random.Generator:
    return named_rng(design.seed, "screen", *names)
