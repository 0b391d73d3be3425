"""Every exception of the package, in one tree; the command line's exit code lives on the class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "DataError",
    "LabelError",
    "NotFittedError",
    "OptionError",
    "OutputError",
    "Problem",
    "UnpairedError",
]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or worth knowing, about the input.

    Attributes
    ----------
    severity
        ``"error"`` stops the work, ``"warning"`` is carried into the report, ``"note"`` only informs.
    where
        The file, or ``"memory"`` followed by the modality's name.
    what
        One sentence that names the column, cell or value.
    fix
        What to do about it; may be empty for a note.
    """

    severity: Literal["error", "warning", "note"]
    where: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.what}" + (f" {self.fix}" if self.fix else "")


class UnpairedError(Exception):
    """Base class of every error that the package raises on purpose."""

    exit_code = 1


class OptionError(UnpairedError, ValueError):
    """An option has a value that is not allowed."""

    exit_code = 2


class OutputError(UnpairedError, OSError):
    """The place for the results cannot be used (it exists, it cannot be written, it is not a run)."""

    exit_code = 2


class DataError(UnpairedError, ValueError):
    """The data cannot be used as they are; lists all the problems at once.

    Parameters
    ----------
    problems
        What is wrong, errors first. Warnings and notes may be among them.
    """

    exit_code = 3

    def __init__(self, problems: Iterable[Problem]) -> None:
        rank = {"error": 0, "warning": 1, "note": 2}
        self.problems: tuple[Problem, ...] = tuple(sorted(problems, key=lambda p: rank[p.severity]))
        super().__init__("\n".join(str(p) for p in self.problems))

    def __reduce__(self) -> tuple[type[DataError], tuple[tuple[Problem, ...]]]:
        """Pickle it with its problems: an exception's own way would give its text back to the constructor."""
        return type(self), (self.problems,)


class LabelError(UnpairedError):
    """The matching of at least one label failed (its block says why)."""

    exit_code = 4


class NotFittedError(UnpairedError, AttributeError):
    """Something learned was asked for before ``fit``."""
