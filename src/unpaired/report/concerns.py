"""What a reader must know before any number: the warnings of a run, each with its advice, alike ones together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from unpaired.evaluate.checks import CALIBRATION, UNDECIDED
from unpaired.report.words import number, percent, quantity, unique

__all__ = ["Concern", "find_concerns", "mean_partners", "note_concerns", "plain_notes"]

_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(\.\d+)?(e[+-]?\d+)?(?!\w)")

_STATES: Mapping[str, tuple[Literal["error", "warning"], str]] = {
    "failed": ("error", "could not be matched"),
    "not_converged": ("warning", "did not converge"),
    "absent": ("warning", "not matched"),
    "too_small": ("warning", "matched without information"),
}


@dataclass(frozen=True)
class Concern:
    """One warning.

    Attributes
    ----------
    severity
        ``"error"`` or ``"warning"``.
    what
        What is wrong.
    advice
        What it means or what to do; may be empty.
    labels
        The labels it is about; empty when it is about the whole.
    check
        Name of the check of a diagnosis that speaks of the same thing; empty when none does.
    """

    severity: Literal["error", "warning"]
    what: str
    advice: str = ""
    labels: tuple[str, ...] = ()
    check: str = ""


def find_concerns(record: Mapping[str, Any], scores: Mapping[str, Any] | None) -> list[Concern]:
    """Return the warnings of a run, errors first.

    Parameters
    ----------
    record
        The contents of ``run.json``.
    scores
        The contents of ``scores.json``, or ``None``.
    """
    found = [
        *note_concerns(_notes(record)),
        *_from_coverage(record["matching"]),
        *_from_blocks(record["matching"]["blocks"]),
        *_from_partners(record["matching"]),
        *_from_classifiers(record["classifiers"]),
        *_from_scores(scores),
    ]
    return sorted(found, key=lambda c: c.severity != "error")


def plain_notes(record: Mapping[str, Any]) -> list[str]:
    """Return the notes that are no warnings."""
    return unique(n.removeprefix("note: ") for n in _notes(record) if not n.startswith(("warning:", "error:")))


def mean_partners(blocks: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    """Return between how many partners a matched source cell is undecided, and of how many, on average over cells."""
    matched = [b for b in blocks if b["partners"] is not None]
    cells = sum(b["source_cells"] for b in matched)
    if not cells:
        return None
    sums = [sum(b["source_cells"] * b[key] for b in matched) for key in ("partners", "target_cells")]
    return sums[0] / cells, sums[1] / cells


def _notes(record: Mapping[str, Any]) -> list[str]:
    return [*record["notes"], *record["embedding"]["notes"], *record["matching"]["notes"]]


def note_concerns(notes: Sequence[str]) -> Iterator[Concern]:
    """Iterate over the concerns of those notes that are warnings or errors."""
    for note in unique(notes):
        if note.startswith("error:"):
            yield Concern("error", note.removeprefix("error:").strip())
        elif note.startswith("warning:"):
            yield Concern("warning", note.removeprefix("warning:").strip())


def _from_coverage(matching: Mapping[str, Any]) -> Iterator[Concern]:
    c = matching["coverage"]
    sides = [(matching[side], c[side], c[f"{side}_total"]) for side in ("source", "target")]
    parts = [
        f"{total - covered:,d} of {quantity(total, 'cell')} of {name} ({percent((total - covered) / total)})"
        for name, covered, total in sides
        if covered < total
    ]
    if parts:
        verb = "has" if sum(total - covered for _, covered, total in sides) == 1 else "have"
        yield Concern(
            "warning",
            f"{' and '.join(parts)} {verb} no partner.",
            "A cell has no partner where its label is unknown, is on one side only, or could not be matched. Scores "
            "leave such cells out.",
            check="coverage",
        )


def _from_blocks(blocks: Sequence[Mapping[str, Any]]) -> Iterator[Concern]:
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for block in blocks:
        if block["state"] != "ok":
            groups.setdefault((block["state"], _kind(block)), []).append(block)
    for (state, _), alike in groups.items():
        severity, what = _STATES.get(state, ("warning", state))
        worst = max(alike, key=lambda b: b["marginal_error"] or 0.0)
        same = len({b["advice"] for b in alike}) == 1
        text = worst["advice"] if same else f"For example, {worst['label']}: {worst['advice']}"
        check = "coverage" if state in ("absent", "too_small") else "convergence"
        labels = tuple(b["label"] for b in alike)
        yield Concern(severity, f"{quantity(len(alike), 'label')} {what}.", text, labels, check)


def _kind(block: Mapping[str, Any]) -> str:
    """Return the advice without what differs from label to label: the numbers of the solver."""
    advice = str(block["advice"])
    return _NUMBER.sub("#", advice) if block["state"] in ("not_converged", "failed") else advice


def _from_partners(matching: Mapping[str, Any]) -> Iterator[Concern]:
    mean = mean_partners(matching["blocks"])
    if mean is not None and mean[1] > 1 and mean[0] > UNDECIDED * mean[1]:
        yield Concern(
            "warning",
            f"The matching says little beyond the label: a cell of {matching['source']} stays undecided between "
            f"{number(mean[0])} of {number(mean[1])} candidates.",
            "The readings may say nothing about the cells' differences within a label, or eps is too large.",
            check="partners",
        )


def _from_classifiers(classifiers: Mapping[str, Any]) -> Iterator[Concern]:
    for name, quality in classifiers.items():
        loss, base = quality["cross_entropy"], quality["base_cross_entropy"]
        if loss is None or base is None or not loss < base:
            yield Concern(
                "warning",
                f"The classifier of {name} is no better than knowing how frequent each label is "
                f"(cross-entropy {number(loss)}, base {number(base)}).",
                f"The readings of {name} hardly tell its labels apart, and the matching rests on that.",
                check=f"label signal of {name}",
            )
        error = quality["calibration_error"]
        if error is not None and error > CALIBRATION:
            yield Concern(
                "warning",
                f"The probabilities of the classifier of {name} are off by {number(error, 2)} on average "
                "(calibration error; 0 is perfect).",
                "Distances in the common space are distorted where it is surer, or less sure, than it should be.",
                check=f"calibration of {name}",
            )


def _from_scores(scores: Mapping[str, Any] | None) -> Iterator[Concern]:
    if scores is None:
        return
    c = scores["coverage"]
    if c["pairs"] < c["pairs_total"] or c["labels"] < c["labels_total"]:
        yield Concern(
            "warning",
            f"The averages of the scores cover {c['labels']:,d} of {quantity(c['labels_total'], 'label')} and "
            f"{c['pairs']:,d} of {quantity(c['pairs_total'], 'true pair')}.",
            "Why the others are left out is said under the scores.",
        )
    gain, foscttm = scores["trace_over_uniform"], scores["foscttm"]["mean"]
    if (gain is not None and gain <= 1) or (foscttm is not None and foscttm >= 0.5):
        yield Concern(
            "warning",
            f"Judged by the true pairs, the matching is no better than the label alone: the true partner is "
            f"{number(gain)} times as likely, FOSCTTM is {number(foscttm)} (0.5 is chance).",
            "Do not read anything into who is matched with whom within a label.",
        )
