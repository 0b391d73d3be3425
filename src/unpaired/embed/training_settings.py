"""How an ensemble is trained: settings, and what follows from them alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["TrainingSettings"]

_DIVIDED = 10  # what a plateau divides the rate by
_NOTICED = 1e-4  # of the loss: a smaller improvement is none, where the rate is concerned


@dataclass(frozen=True)
class TrainingSettings:
    """How an ensemble is trained.

    Attributes
    ----------
    epochs
        Most passes over the training cells.
    batch
        Cells a step and member.
    rate
        Largest learning rate of the one-cycle schedule, first one of the other.
    decay
        Weight decay.
    optimizer
        ``"adam"`` (decay as a penalty, as published), ``"adamw"`` (decoupled) or ``"rmsprop"`` (as a penalty).
    patience
        Stop when no member has improved for so many epochs.
    cycle
        Whether the schedule moves with every step, or with every epoch (as published).
    precision
        Of what the losses are computed in; weights, their averages and validation are of float32 in any case.
    plateau
        Divide the rate by ten whenever the mean validation loss has not improved for more than so many epochs, in
        place of the one-cycle schedule; ``None`` keeps that.
    burn_in
        First epochs that are not judged: none of them is kept, ends the training or lowers the rate. The last epoch is
        judged in any case.
    """

    epochs: int
    batch: int
    rate: float
    decay: float
    optimizer: Literal["adam", "adamw", "rmsprop"]
    patience: int
    cycle: Literal["step", "epoch"] = "step"
    precision: Literal["float32", "bfloat16"] = "float32"
    plateau: int | None = None
    burn_in: int = 0

    def judged(self, epoch: int) -> bool:
        """Whether an epoch, numbered from 0, may be kept."""
        return epoch >= min(self.burn_in, self.epochs - 1)

    def rate_after(self, history: Sequence[float]) -> float:
        """Return the rate after the epochs of these validation losses, where it is divided at a plateau.

        It depends on the losses alone, so a training that is taken up again needs nothing else to know it.
        """
        if self.plateau is None:
            return self.rate
        best, waited, rate = math.inf, 0, self.rate
        for loss in history[self.burn_in :]:
            best, waited = (loss, 0) if loss < best - _NOTICED * abs(loss) else (best, waited + 1)
            if waited > self.plateau:
                rate, waited = rate / _DIVIDED, 0
        return rate
