"""When a search ends, and what it found."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from unpaired.data.types import Array

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
    """

    tol: float
    max_iter: int
    deadline: float
    halt: threading.Event = field(default_factory=threading.Event)

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
    rows
        ``(n,)`` certified row sums, where they are known.
    """

    f: Array
    g: Array
    error: float
    passes: int
    rows: Array | None = None


class Relaxation:
    """Over-relaxation of a scaling iteration (Thibault et al. 2021), called off for a while where it does not contract.

    Parameters
    ----------
    factor
        1 is the plain iteration; below 2.
    """

    def __init__(self, factor: float) -> None:
        self.factor, self.now = factor, 1.0
        self._best, self._plain = float("inf"), 2

    def look(self, error: float) -> None:
        """Take note of an iteration's error and set ``now``, the factor of the next one."""
        if error > 3 * self._best:  # it goes up and down a little on its way even where all is well
            self._plain, self._best = 3, error
        self._best = min(self._best, error)
        self._plain -= 1
        self.now = 1.0 if self._plain >= 0 else self.factor
