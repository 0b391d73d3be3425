"""Is our method the best, case by case: what the bench of real data ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unpaired.bench.tables import Summary, grid

__all__ = ["Verdict", "verdict_text", "verdicts"]

_BEST, _TIE, _WORSE = "best", "within noise of the best", "worse than the best"
_FEWER, _FAILED = "scored on fewer labels", "failed"
_RANK_SD = 1 / np.sqrt(12)  # of a uniform rank between 0 and 1


@dataclass(frozen=True)
class Verdict:
    """How a method's FOSCTTM stands to that of the others in a case.

    Attributes
    ----------
    case
        Name of the case.
    state
        ``"best"``, ``"within noise of the best"``, ``"worse than the best"``, ``"scored on fewer labels"`` (than a
        rival), or ``"failed"`` (with one seed at least).
    best
        The method with the lowest median among those scored on the most labels; empty where there is none.
    gap
        By how much the method's median is above that; NaN where the two cannot be compared.
    noise
        The standard error of a FOSCTTM without any signal.
    chance
        Whether no method at all is below 0.5, what the label alone gives, by more than the noise.
    methods
        Methods compared.
    """

    case: str
    state: str
    best: str = ""
    gap: float = float("nan")
    noise: float = float("nan")
    chance: bool = False
    methods: int = 0


def verdicts(found: Sequence[Summary], pairs: Mapping[str, Sequence[int]], ours: str = "ps+ot") -> list[Verdict]:
    """Say in which cases a method's FOSCTTM is the best, or within noise of it.

    Within noise: the medians over seeds differ by less than the standard error of a mean, over labels alike, of means
    of so many uniform ranks: of the labels' ``0.29 / sqrt(pairs)``, the root of their sum of squares over the number of
    labels. Methods that are scored on fewer labels than others are no rivals.

    Parameters
    ----------
    found
        Summaries of metric ``"foscttm"`` and ``"labels"``, among others.
    pairs
        Case -> true pairs of every label.
    ours
        The method.
    """
    labels = {(s.case, s.method): min(s.values, default=0.0) for s in found if s.metric == "labels"}
    out = []
    for case in dict.fromkeys(s.case for s in found):
        own = {s.method: s for s in found if s.case == case and s.metric == "foscttm"}
        medians = {m: float(np.median(s.values)) for m, s in own.items() if s.values}
        if ours not in own:
            continue
        if not medians:
            out.append(Verdict(case, _FAILED))
            continue
        most = max(labels.get((case, m), 0.0) for m in medians)
        whole = {m: v for m, v in medians.items() if labels.get((case, m), 0.0) == most}
        best = min(whole, key=lambda m: whole[m])
        counts = np.asarray(pairs[case], dtype=float)
        noise = float(_RANK_SD * np.sqrt((1 / counts).sum()) / len(counts))
        gap = whole.get(ours, float("nan")) - whole[best]
        if own[ours].failed[0]:
            state = _FAILED
        elif ours not in whole:
            state = _FEWER
        elif best == ours:
            state = _BEST
        else:
            state = _TIE if gap <= noise else _WORSE
        out.append(Verdict(case, state, best, gap, noise, min(medians.values()) > 0.5 - noise, len(whole)))
    return out


def verdict_text(verdict: Sequence[Verdict], found: Sequence[Summary], titles: Mapping[str, str]) -> str:
    """Return the verdicts as a table, and their sum: of the cases, and of the data sets (case less its last word).

    Parameters
    ----------
    verdict
        As of :func:`verdicts`.
    found
        The same summaries.
    titles
        Method -> its title.
    """
    if not verdict:
        return ""

    def shown(value: float) -> str:
        return "" if np.isnan(value) else f"{value:.3f}"

    rows = [
        [
            v.case,
            v.state + (" (nobody beats the label alone)" if v.chance else ""),
            titles.get(v.best, ""),
            shown(v.gap),
            shown(v.noise),
            str(v.methods),
        ]
        for v in verdict
    ]
    header = ["case", "ours is", "best", "gap", "noise", "methods compared"]
    by_set: dict[str, list[bool]] = {}
    for v in verdict:
        by_set.setdefault(v.case.rpartition(" ")[0], []).append(v.state in (_BEST, _TIE))
    good = sum(map(sum, by_set.values()))
    whole = sum(map(all, by_set.values()))
    blank = sum(v.chance for v in verdict)
    lost = sorted({titles[s.method] for s in found if not s.values and s.metric == "foscttm"})
    return "\n".join(
        [
            "### PS+OT (ours) by FOSCTTM\n",
            grid(header, rows),
            "",
            "Noise is the standard error of a mean over labels of means of so many uniform ranks. Best or within noise "
            f"in {good} of {len(verdict)} pairs of modalities, and in all pairs of {whole} of {len(by_set)} data sets; "
            f"in {blank} of the pairs no method is below 0.5 by more than noise.",
            *([f"Without a result somewhere: {', '.join(lost)}."] if lost else []),
            "",
        ]
    )
