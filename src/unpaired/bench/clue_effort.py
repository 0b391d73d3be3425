"""What the methods of the bench of CLUE are given and what they return: how long they learn, and their answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unpaired.bench.citeseq_prediction import passes
from unpaired.bench.clue_scores import Metric
from unpaired.data.types import Array, Dataset
from unpaired.embed.embedding import Embedding
from unpaired.match.matching import Matching

if TYPE_CHECKING:
    from unpaired.embed.clue_learning import Schedule

__all__ = ["BATCH", "PRESET", "RATE", "Answer", "Effort", "Propensities", "Seconds", "Spaces", "cells_in", "planned"]

PRESET = "citeseq"
BATCH = 128
RATE = 2e-3
_LEARNED = 0.9  # of the cells are learned from, the others choose the epoch


@dataclass(frozen=True)
class Seconds:
    """Of learning: by the clock, and of the processor, which others on the same machine change little."""

    wall: float = 0.0
    core: float = 0.0

    @classmethod
    def now(cls) -> Seconds:
        """Return the time of both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.core + other.core)

    def passed(self) -> Seconds:
        """Return what has passed since this was :meth:`now`."""
        now = Seconds.now()
        return Seconds(now.wall - self.wall, now.core - self.core)


@dataclass(frozen=True, eq=False)
class Propensities:
    """The space of the propensity score, which no pair has a say in: made once for all methods that use it.

    Attributes
    ----------
    learn, match
        Places of the cells to learn from, and of those to be matched.
    seconds
        Of learning.
    """

    learn: Embedding
    match: Embedding
    seconds: Seconds


Spaces = Callable[[], Propensities]


@dataclass(frozen=True)
class Effort:
    """How long methods learn.

    Attributes
    ----------
    steps
        Of an optimizer; every method passes over its cells as often as makes so many. ``None`` leaves it to them.
    seed
        Seed of everything that a method draws.
    device
        For our networks.
    """

    steps: int | None
    seed: int
    device: str = "cpu"

    def epochs(self, cells: int) -> int | None:
        """Return the passes over so many cells, those that choose the epoch among them."""
        return None if self.steps is None else passes(self.steps, round(_LEARNED * cells), BATCH)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method makes of the cells.

    Attributes
    ----------
    latents
        Modality name -> ``(n, d)`` places of the cells to be matched.
    seconds, epochs
        Of learning; methods without passes have none.
    imputed
        ``(n_source, p)`` counts of the target that the source foretells; ``None`` where a method does not.
    metric
        Distance in the space.
    matching
        The method's own matching of the cells to be matched, if it makes one.
    model
        What was learned, for a method that goes on from it.
    """

    latents: Mapping[str, Array]
    seconds: Seconds = Seconds()
    epochs: int | None = None
    imputed: Array | None = None
    metric: Metric = "cosine"
    matching: Matching | None = None
    model: Any = None


def cells_in(data: Dataset) -> int:
    """Return how many cells a data set has, of which some may be in several modalities."""
    from unpaired.embed.clue_inputs import slots_of

    return len(slots_of(data, list(data)))


def planned(cells: int, effort: Effort) -> Schedule:
    """Return the schedule of ours for so many cells, which the authors' own package is given too."""
    from unpaired.embed.clue_learning import schedule

    return schedule(max(1, round(_LEARNED * cells / BATCH)), RATE, effort.epochs(cells))
