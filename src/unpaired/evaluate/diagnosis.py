"""What a diagnosis says: checks, an expected quality and a verdict, as values and as sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from unpaired.evaluate.expected import Evidence, Expected
from unpaired.options import check_choice

__all__ = ["Check", "Diagnosis", "LabelDiagnosis"]

State = Literal["good", "caution", "bad", "unknown"]
_MARKS: Mapping[str, str] = {"good": "+", "caution": "!", "bad": "-", "unknown": "?"}


@dataclass(frozen=True)
class Check:
    """One item of a diagnosis.

    Attributes
    ----------
    name
        What is looked at.
    value
        Its number; ``None`` where there is none.
    threshold
        Where ``good`` ends, in the unit of the value; ``None`` for what is told only.
    state
        ``"good"``, ``"caution"``, ``"bad"`` or ``"unknown"``.
    sentence
        What it means.
    details
        Further numbers, by name.
    """

    name: str
    value: float | None
    threshold: float | None
    state: State
    sentence: str
    details: Mapping[str, Any]


@dataclass(frozen=True)
class LabelDiagnosis:
    """One label.

    Attributes
    ----------
    cells
        Cells of the two modalities.
    distance, p_value
        Of the energy test; ``None`` where a side has fewer than two cells.
    partners
        Mean effective number of partners of the source cells that have one; ``None`` without a coupling.
    claimed_foscttm
        Where the coupling itself expects the true partner (0: first, 0.5: anywhere); ``None`` without a coupling.
    """

    cells: tuple[int, int]
    distance: float | None
    p_value: float | None
    partners: float | None
    claimed_foscttm: float | None


@dataclass(frozen=True)
class Diagnosis:
    """Whether a matching can be believed, and why.

    Attributes
    ----------
    source, target
        Names of the modalities.
    verdict
        ``"use"``: who is matched with whom carries information; ``"average"``: only averages over a label's cells do;
        ``"do not use"``: neither.
    sentence
        The verdict and its main reason.
    expected
        What the truth would say, predicted; ``None`` where nothing can be predicted.
    evidence
        What that was predicted from.
    checks
        The items, in the order of a reader's questions.
    labels
        Label -> :class:`LabelDiagnosis`.
    """

    source: str
    target: str
    verdict: Literal["use", "average", "do not use"]
    sentence: str
    expected: Expected | None
    evidence: Evidence | None
    checks: tuple[Check, ...]
    labels: Mapping[str, LabelDiagnosis]

    def __getitem__(self, name: str) -> Check:
        """Return the check of that name."""
        check_choice("check", name, [c.name for c in self.checks])
        return next(c for c in self.checks if c.name == name)

    def __repr__(self) -> str:
        return f"Diagnosis({self.source} -> {self.target}: {self.verdict!r})"

    def __str__(self) -> str:
        lines = [f"{self.verdict.upper()}: {self.sentence}"]
        return "\n".join([*lines, *(f"  {_MARKS[c.state]} {c.name}: {c.sentence}" for c in self.checks)])

    def to_dict(self) -> dict[str, Any]:
        """Return the layout of ``diagnosis.json`` (see docs/formats.md)."""
        return asdict(self)
