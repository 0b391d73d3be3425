"""Is our method the best, case by case: what the bench of real data ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unpaired.bench.tables import Summary, grid

__all__ = ["Verdict", "verdict_text", "verdicts"]

_BEST, _TIE, _WORSE, _NONE = "best", "within noise of the best", "worse than the best", "without a result"
_RANK_SD = 1 / np.sqrt(12)  # of a uniform rank between 0 and 1


@dataclass(frozen=True)
class Verdict:
    """How a method's FOSCTTM stands to that of the others in a case.

    Attributes
    ----------
    case
        Name of the case.
    state
        ``"best"``, ``"within noise of the best"``, ``"worse than the best"`` or ``"without a result"``.
    best
        The method with the lowest median.
    gap
        By how much the method's median is above that.
    noise
        The standard error of a FOSCTTM without any signal.
    chance
        Whether no method is below 0.5, what the label alone gives, by more than the noise.
    methods
        Methods compared.
    """

    case: str
    state: str
    best: str
    gap: float
    noise: float
    chance: bool
    methods: int


def verdicts(found: Sequence[Summary], pairs: Mapping[str, Sequence[int]], ours: str = "ps+ot") -> list[Verdict]:
    """Say in which cases a method's FOSCTTM is the best, or within noise of it.

    Within noise: the medians over seeds differ by less than the standard error of a mean, over labels alike, of means
    of so many uniform ranks: of the labels' ``0.29 / sqrt(pairs)``, the root of their sum of squares over the number of
    labels. Methods that are scored on fewer labels are no rivals; where a rival is scored on more labels than ours,
    ours has no result.

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
        values = {s.method: s.values for s in found if s.case == case and s.metric == "foscttm" and s.values}
        most = max((labels.get((case, m), 0.0) for m in values), default=0.0)
        medians = {m: float(np.median(v)) for m, v in values.items() if labels.get((case, m), 0.0) == most}
        if not medians:
            continue
        best = min(medians, key=lambda m: medians[m])
        counts = np.asarray(pairs[case], dtype=float)
        noise = float(_RANK_SD * np.sqrt((1 / counts).sum()) / len(counts))
        gap = medians[ours] - medians[best] if ours in medians else float("nan")
        state = _NONE if ours not in medians else _BEST if best == ours else _TIE if gap <= noise else _WORSE
        out.append(Verdict(case, state, best, gap, noise, medians[best] > 0.5 - noise, len(medians)))
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
    if all(v.state == _NONE for v in verdict):
        return ""
    rows = [
        [
            v.case,
            v.state + (" (nobody beats the label alone)" if v.chance else ""),
            titles[v.best],
            "" if v.state == _NONE else f"{v.gap:.3f}",
            f"{v.noise:.3f}",
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
