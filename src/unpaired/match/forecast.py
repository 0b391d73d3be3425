"""What matching some tables by optimal transport will take, told from their sizes before any work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unpaired.data.labels import names_of
from unpaired.data.tables import Table

__all__ = ["Forecast", "forecast_ot"]

_FEWEST = 2  # cells on both sides: with one there is nothing to solve, and no classifier is trained on the label
_UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))


@dataclass(frozen=True)
class Forecast:
    """What matching by optimal transport will take on a CPU.

    Attributes
    ----------
    source, target
        Names of the modalities.
    labels
        Labels that will be solved: two or more cells on both sides.
    largest
        The one with the most pairs: ``label``, ``source_cells``, ``target_cells``; ``None`` without any label.
    paths
        Way of solving -> number of labels.
    seconds
        Least and most.
    memory
        Bytes at most.
    """

    source: str
    target: str
    labels: int
    largest: Mapping[str, Any] | None
    paths: Mapping[str, int]
    seconds: tuple[float, float]
    memory: int

    def to_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON (see docs/formats.md)."""
        return asdict(self) | {"seconds": list(self.seconds)}

    def __str__(self) -> str:
        head = f"matching {self.source} -> {self.target} by optimal transport:"
        if self.largest is None:
            return f"{head} no label has two cells on both sides."
        one = self.largest
        ways = ", ".join(f"{n} {name}" for name, n in self.paths.items())
        return (
            f"{head} about {_span(*self.seconds)} and {_amount(self.memory)} of memory; {self.labels:,} "
            f"label{'' if self.labels == 1 else 's'} ({ways}), the largest {one['label']!r} with "
            f"{one['source_cells']:,} x {one['target_cells']:,} cells."
        )


def forecast_ot(
    tables: Sequence[Table],
    *,
    label: str,
    source: str | None = None,
    target: str | None = None,
    memory: int | None = None,
    jobs: int = 1,
) -> Forecast | None:
    """Return what matching two tables will take; ``None`` where there are not two, or it is not said which.

    Parameters
    ----------
    tables
        The modalities, without errors.
    label
        Column with the label of each cell's experiment.
    source, target
        Names of the modalities; the order of the tables by default.
    memory, jobs
        As for :func:`unpaired.match_ot`, the memory in bytes.
    """
    from unpaired.match.transport.estimate import estimate

    if len(tables) != 2:
        return None
    one, two = tables
    if source == two.name or target == one.name:
        one, two = two, one
    mine, theirs = (Counter(n for n in names_of(t.obs[label]) if n is not None) for t in (one, two))
    sizes = {n: (mine[n], theirs[n]) for n in mine if min(mine[n], theirs[n]) >= _FEWEST}
    largest = max(sizes, key=lambda n: (sizes[n][0] * sizes[n][1], n), default=None)
    found = estimate(list(sizes.values()), len(sizes), memory=memory, jobs=jobs)
    return Forecast(
        source=one.name,
        target=two.name,
        labels=len(sizes),
        largest=None
        if largest is None
        else {"label": largest, "source_cells": sizes[largest][0], "target_cells": sizes[largest][1]},
        paths=dict(Counter(found.paths)),
        seconds=(float(found.seconds[0]), float(found.seconds[1])),
        memory=int(found.memory),
    )


def _span(low: float, high: float) -> str:
    size, unit = next((u for u in _UNITS if high >= 2 * u[0]), _UNITS[-1])
    ends = [f"{v / size:.2g}" if v / size < 10 else f"{v / size:,.0f}" for v in (low, high)]
    return f"{ends[1] if ends[0] == ends[1] else ' to '.join(ends)} {unit}"


def _amount(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6)):,} MB"
