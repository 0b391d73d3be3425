"""When a search ends, and what it found."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field

from unpaired.data.types import Array
from unpaired.match.transport.certify import Certificate, certify
from unpaired.match.transport.problem import Problem
from unpaired.match.transport.workers import Workers

__all__ = ["Found", "Limits", "Relaxation"]


@dataclass(frozen=True)
class Limits:
    """When a search ends.

    Attributes
    ----------
    tol
        L1 error of both marginals to reach.
    max_iter
        Passes over the pairs.
    deadline
        A time of :func:`time.perf_counter`.
    halt
        Set from another thread to end the search at once.
    keep, most
        What the certificate keeps of the plan: see :func:`~unpaired.match.transport.certify.certify`.
    """

    tol: float
    max_iter: int
    deadline: float
    halt: threading.Event = field(default_factory=threading.Event)
    keep: float | None = None
    most: int = 0

    def certify(self, problem: Problem, f: Array, g: Array, workers: Workers) -> Certificate:
        """Certify potentials (in units of eps)."""
        return certify(problem, f, g, self.tol, workers, keep=self.keep, most=self.most)

    def over(self, passes: int) -> bool:
        """Whether to stop for the passes, the time or a halt."""
        return passes >= self.max_iter or time.perf_counter() > self.deadline or self.halt.is_set()


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found.

    Attributes
    ----------
    f, g
        Potentials, in units of eps.
    error
        L1 error of both marginals, certified in float64.
    passes
        Passes over the pairs.
    certificate
        Where the potentials were certified by :meth:`Limits.certify`.
    """

    f: Array
    g: Array
    error: float
    passes: int
    certificate: Certificate | None = None


class Relaxation:
    """Over-relaxation of a scaling iteration (Thibault et al. 2021), adapted to how fast it turns out to contract.

    Near the solution the error falls by a constant c an iteration. At the factor w, the plain iteration's own constant
    is ``(c + w - 1)^2 / (c w^2)``, for which the best factor is known (Young's formula for successive over-relaxation).

    Parameters
    ----------
    factor
        To begin with; below 2. 1 is the plain iteration, and stays.
    """

    def __init__(self, factor: float) -> None:
        self.factor, self.now = factor, 1.0
        self._best, self._plain, self._errors = math.inf, 2, list[float]()

    def look(self, error: float) -> None:
        """Take note of an iteration's error and set ``now``, the factor of the next one."""
        if error > 3 * self._best:  # it goes up and down a little on its way even where all is well
            self._plain, self._best, self._errors = 3, error, []
        self._best = min(self._best, error)
        self._plain -= 1
        if self._plain >= 0:
            self.now = 1.0
            return
        self._errors.append(error)
        if len(self._errors) > _SETTLED:
            self._adapt((self._errors[-1] / self._errors[-4]) ** (1 / 3))
        self.now = self.factor

    def _adapt(self, rate: float) -> None:
        w = self.factor
        if w == 1.0 or not w - 1 + 0.02 < rate < 1:
            return
        plain = min((rate + w - 1) ** 2 / (rate * w**2), 1 - 1e-4)
        best = min(2 / (1 + math.sqrt(1 - plain)), 1.95)
        if best > w + 0.01:
            self.factor, self._errors = best, []


_SETTLED = 6  # iterations after which a factor's rate can be read
