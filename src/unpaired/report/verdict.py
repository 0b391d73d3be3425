"""What the page begins with: the verdict, and the reasons for it, each said once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired.data.types import Array
from unpaired.report import verdict_pictures as pictures
from unpaired.report.concerns import Concern
from unpaired.report.words import fixed, number, quantity

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["Item", "Reason", "Verdict", "find_verdict", "said_by_checks", "without_said"]

_TITLES: Mapping[str, str] = {"use": "Use", "average": "Average", "do not use": "Do not use"}
_MARKS: Mapping[str, str] = {"good": "✓", "caution": "!", "bad": "✗", "unknown": "?"}
_WORDS: Mapping[str, str] = {"good": "good", "caution": "caution", "bad": "bad", "unknown": "not known"}

_SPEAK_FOR_THEMSELVES = ("label signal", "calibration")
"""Checks whose sentence has all that a warning of the same thing would add."""


@dataclass(frozen=True)
class Item:
    """One check as the page shows it.

    Attributes
    ----------
    check
        As it was saved.
    mark, word
        Its state as a sign and as a word.
    added
        Sentences that go with it, each with the labels that it is about.
    """

    check: Mapping[str, Any]
    mark: str
    word: str
    added: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Reason:
    """One question to the matching: a picture, how to read it, and the checks that answer it."""

    title: str
    picture: Markup | None
    caption: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Verdict:
    """The first screen.

    Attributes
    ----------
    title, state, mark
        The verdict in a word, the state that gives it its colour, and its sign.
    sentence
        As it was saved.
    tally
        How many checks are good, and which are not.
    picture
        The expected quality, or ``None``.
    caption
        How to read it.
    reasons
        The checks with their pictures.
    measured
        What was expected and what the truth said, in a sentence; empty where one of them is not known.
    """

    title: str
    state: str
    mark: str
    sentence: str
    tally: str
    picture: Markup | None
    caption: str
    reasons: tuple[Reason, ...]
    measured: str


def find_verdict(
    diagnosis: Mapping[str, Any],
    scores: Mapping[str, Any] | None,
    confidence: Mapping[str, Array],
    concerns: Sequence[Concern],
) -> Verdict:
    """Return what the page begins with.

    Parameters
    ----------
    diagnosis
        The contents of ``diagnosis.json``.
    scores
        The contents of ``scores.json``, or ``None``.
    confidence
        Modality -> confidence of its cells; empty where it was not saved.
    concerns
        All warnings of the run; those that a check says are told with the check.
    """
    state = pictures.VERDICT_STATES.get(diagnosis["verdict"], "unknown")
    picture = pictures.expected_picture(diagnosis, scores)
    return Verdict(
        title=_TITLES.get(diagnosis["verdict"], diagnosis["verdict"]),
        state=state,
        mark={"caution": "≈"}.get(state, _MARKS[state]),
        sentence=diagnosis["sentence"],
        tally=_tally(diagnosis["checks"]),
        picture=picture,
        caption=_expected_caption(scores),
        reasons=tuple(_reasons(diagnosis, confidence, concerns)),
        measured="" if scores is None or picture is None else _measured(diagnosis["expected"], scores),
    )


def said_by_checks(concern: Concern, diagnosis: Mapping[str, Any]) -> bool:
    """Whether a check of the diagnosis says what a warning says."""
    checks = diagnosis["checks"]
    return bool(concern.check) and any(c["name"] == concern.check and c["state"] != "unknown" for c in checks)


def without_said(concerns: Sequence[Concern], diagnosis: Mapping[str, Any] | None) -> list[Concern]:
    """Return the warnings that no check says."""
    return [c for c in concerns if diagnosis is None or not said_by_checks(c, diagnosis)]


def _tally(checks: Sequence[Mapping[str, Any]]) -> str:
    others = {s: [c["name"] for c in checks if c["state"] == s] for s in ("bad", "caution", "unknown")}
    parts = [f"{_WORDS[state]}: {', '.join(names)}" for state, names in others.items() if names]
    good = sum(c["state"] == "good" for c in checks)
    text = f"{good} of {quantity(len(checks), 'check')} {'is' if good == 1 else 'are'} good"
    return "; ".join([text, *parts]) + "."


def _expected_caption(scores: Mapping[str, Any] | None) -> str:
    told = "Better is to the right. Dot: expected without any truth; bar: where it should lie in most data sets"
    shaded = "single matches are worth using where both dots lie in the shaded part."
    return f"{told}; diamond: measured by the true pairs; {shaded}" if scores is not None else f"{told}; {shaded}"


def _measured(expected: Mapping[str, Sequence[float]], scores: Mapping[str, Any]) -> str:
    low, middle, high = expected["trace_over_uniform"]
    best, central, worst = expected["foscttm"]
    gain, foscttm = scores["trace_over_uniform"], scores["foscttm"]["mean"]
    return (
        f"Without the truth, the true partner was expected to be {number(middle, 2)} times as likely as by the label "
        f"alone ({number(low, 2)} to {number(high, 2)}) and FOSCTTM to be {fixed(central, 2)} ({fixed(best, 2)} to "
        f"{fixed(worst, 2)}); the true pairs say {number(gain, 2)} times "
        f"({_place(gain, low, high, 'worse', 'better')}) and "
        f"{fixed(foscttm, 2)} ({_place(foscttm, best, worst, 'better', 'worse')})."
    )


def _place(value: float | None, low: float, high: float, below: str, above: str) -> str:
    if value is None:
        return "not known"
    if low <= value <= high:
        return "as expected"
    return f"{below if value < low else above} than expected"


def _reasons(
    diagnosis: Mapping[str, Any], confidence: Mapping[str, Array], concerns: Sequence[Concern]
) -> Iterator[Reason]:
    items = [_item(c, diagnosis, concerns) for c in diagnosis["checks"]]
    source, target, labels = diagnosis["source"], diagnosis["target"], diagnosis["labels"]
    taken: list[Item] = []

    def those(*names: str) -> tuple[Item, ...]:
        found = tuple(i for i in items if str(i.check["name"]).startswith(names))
        taken.extend(found)
        return found

    known = those("label signal", "calibration")
    signals = [i.check for i in known if i.check["name"].startswith("label signal")]
    if known:
        caption = (
            "How much of an unseen cell's label its readings tell. Up to the dashed line there is nothing to match by."
        )
        yield Reason("Do the readings tell the labels?", pictures.signal_picture(signals), caption, known)
    caption = (
        f"One dot a label, the farthest first: how far its cells as {source} sees them lie from those that {target} "
        "sees. A hollow dot is no more than chance makes."
    )
    alike = those("same distribution", "directions", "overlap")
    yield Reason("Do both see the same cells?", pictures.distance_picture(labels), caption, alike)
    caption = (
        f"One line a label, the least decided first: between how many cells of {target} a cell of {source} is left "
        "undecided. A dot at its diamond says nothing beyond the label; a dot at 1 is a decision."
    )
    decided = those("partners", "coverage", "convergence")
    yield Reason("Does the matching decide?", pictures.partner_picture(labels), caption, decided)
    histogram = pictures.confidence_picture(confidence)
    if histogram is not None:
        yield Reason("How sure is it of each cell?", histogram, _confidence_caption(confidence), ())
    rest = tuple(i for i in items if i not in taken)
    if rest:
        yield Reason("What else was looked at", None, "", rest)


def _item(check: Mapping[str, Any], diagnosis: Mapping[str, Any], concerns: Sequence[Concern]) -> Item:
    own = [c for c in concerns if c.check == check["name"] and said_by_checks(c, diagnosis)]
    if check["name"].startswith(_SPEAK_FOR_THEMSELVES):
        own = []
    added = tuple((_added(c), c.labels) for c in own)
    return Item(check, _MARKS.get(check["state"], "?"), _WORDS.get(check["state"], check["state"]), added)


def _added(concern: Concern) -> str:
    """Return what a warning says beyond its check, which has counted the cells, and the labels left open, itself."""
    counted = not concern.labels or (concern.check == "convergence" and concern.severity == "warning")
    return concern.advice if counted else f"{concern.what} {concern.advice}".strip()


def _confidence_caption(values: Mapping[str, Array]) -> str:
    without = sum(int(np.isnan(v).sum()) for v in values.values())
    left = f" {quantity(without, 'cell')} without a choice of partners {'is' if without == 1 else 'are'} left out."
    return (
        "What the matching claims of itself; how much of it can be believed is what the verdict says. Each "
        f"cell's value is in aligned.h5mu (unpaired_confidence), to keep the surest cells.{left if without else ''}"
    )
