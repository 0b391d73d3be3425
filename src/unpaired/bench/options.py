"""What a bench is asked to do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unpaired import options
from unpaired.errors import OptionError

__all__ = ["PRESETS", "Options", "chosen"]

PRESETS = ("smoke", "cpu", "paper")
"""Seconds on any machine; minutes on two cores; the published sizes, for a GPU."""


@dataclass(frozen=True)
class Options:
    """The options of a bench.

    Attributes
    ----------
    out
        Folder of the results; one of the same settings is gone on with.
    preset
        One of :data:`PRESETS`.
    methods
        Names of methods; all of the bench's by default.
    seeds
        Seeds 0 to ``seeds - 1``.
    data
        Folder of data sets, or the file, for the benches that read some.
    pairs
        ``"NAME:SOURCE-TARGET"``: which modalities of a data set with more than three are matched.
    jobs
        Worker processes, each on one thread; the results do not depend on it.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``, for networks.
    """

    out: Path
    preset: Literal["smoke", "cpu", "paper"] = "cpu"
    methods: tuple[str, ...] = ()
    seeds: int = 3
    data: Path | None = None
    pairs: tuple[str, ...] = ()
    jobs: int = 1
    device: str = "auto"

    def check(self, takes: Collection[str] = ()) -> None:
        """Raise :class:`~unpaired.errors.OptionError` if an option has a value that is never allowed.

        Parameters
        ----------
        takes
            Which of ``data`` and ``pairs`` the bench has a use for; the other must not be given.
        """
        options.check_choice("preset", self.preset, PRESETS)
        options.check_integer("seeds", self.seeds, low=1)
        options.check_integer("jobs", self.jobs, low=1)
        options.check_choice("device", self.device, ("auto", "cpu", "cuda", "mps"))
        for name in ("data", "pairs"):
            if name not in takes and getattr(self, name):
                msg = f"this bench has no use for {name}; got {getattr(self, name)!r}."
                raise OptionError(msg)


def chosen(names: Sequence[str], among: Collection[str]) -> tuple[str, ...]:
    """Return the methods asked for in the bench's order; all when none is named, and the uniform coupling always.

    Raises
    ------
    OptionError
        With every name that there is not.
    """
    unknown = [n for n in names if n not in among]
    if unknown:
        msg = f"method must be one of {', '.join(among)}; got {', '.join(map(repr, unknown))}."
        raise OptionError(msg)
    return tuple(n for n in among if not names or n in names or n == "uniform")
