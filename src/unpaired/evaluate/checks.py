"""The items of a diagnosis: each a number, its threshold, and a sentence for someone who knows the cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from unpaired.data.types import Array, Dataset
from unpaired.embed.embedding import Embedding
from unpaired.evaluate.agreement import Agreement
from unpaired.evaluate.diagnosis import Check, State
from unpaired.evaluate.signal import Signal
from unpaired.match.blocks import cells_by_label, evenly
from unpaired.match.matching import Matching

__all__ = ["alike", "calibration", "convergence", "coverage", "labels", "overlap", "partners", "signal"]

EXPLAINED = 0.05
"""Share of the labels' entropy below which the scores say little of the labels."""
P_VALUE = 0.01
"""Above it, the scores say nothing of the labels that permuted labels would not say: nothing can be matched by them."""
CALIBRATION = 0.1
"""Expected calibration error above which probabilities cannot be taken at their word."""
DISTANCE = (0.3, 0.7)
"""Energy distances within labels: below the first the scores are alike, above the second they hardly overlap."""
SPREAD = 0.3
"""Agreement of the spreads from which on the two modalities see the same differences between cells."""
UNDECIDED = 0.9
"""Of the candidates: a cell that is undecided between more of them has no partner to speak of."""
UNEQUAL = 3.0
"""Ratio of a label's shares in the two modalities from which on its cells may be others on each side."""
COVERED = 0.9
_MANY = 8  # labels from which on the agreement of spreads is judged
_RANKED = 20_000  # cells that tell the number of directions


_GOOD: State = "good"
_CAUTION: State = "caution"
_BAD: State = "bad"
_UNKNOWN: State = "unknown"


def signal(signals: Mapping[str, Signal | None]) -> Iterator[Check]:
    """Ask whether the space knows anything of the labels."""
    for name, s in signals.items():
        title = f"label signal of {name}"
        if s is None:
            sentence = "The space is none of propensity scores, or has one label only: it cannot be asked about labels."
            yield Check(title, None, EXPLAINED, _UNKNOWN, sentence, {})
            continue
        percent, p = f"{max(0.0, s.explained):.0%}", f"{s.p_value:.3g}"
        told = f"{percent} of what there is to know of the labels (p = {p} against permuted labels)"
        details = {"p_value": s.p_value, "cells": s.cells}
        if s.p_value > P_VALUE or s.explained <= 0:
            sentence = (
                f"The labels carry no signal in {name}: on unseen cells its readings take away {told}, so there is "
                "nothing to match by."
            )
            yield Check(title, s.explained, EXPLAINED, _BAD, sentence, details)
        elif s.explained < EXPLAINED:
            sentence = f"The labels carry little signal in {name}: its readings take away {told}."
            yield Check(title, s.explained, EXPLAINED, _CAUTION, sentence, details)
        else:
            yield Check(title, s.explained, EXPLAINED, _GOOD, f"The readings of {name} take away {told}.", details)


def calibration(signals: Mapping[str, Signal | None]) -> Iterator[Check]:
    """Ask whether the probabilities can be taken at their word."""
    for name, s in signals.items():
        if s is None:
            continue
        off = s.calibration_error > CALIBRATION
        sentence = f"The probabilities of the labels in {name} are off by {s.calibration_error:.3f} on average" + (
            ": distances between scores are distorted." if off else "."
        )
        state: State = "caution" if off else "good"
        details = {"temperature": s.temperature}
        yield Check(f"calibration of {name}", s.calibration_error, CALIBRATION, state, sentence, details)


def alike(agreement: Agreement, names: tuple[str, str]) -> Check:
    """Ask whether (A1) and (A2) hold as far as can be seen."""
    clouds, spread = agreement.clouds, agreement.spread
    if not clouds.labels:
        sentence = "No label has two cells in both modalities, so their scores cannot be compared."
        return Check("same distribution", None, DISTANCE[0], "unknown", sentence, {"spread": spread})
    # Correlations over few labels are high or low by chance, and are taken down for it: no ground for a state.
    judged = spread if len(clouds.labels) >= _MANY else None
    far = sum(t.p_value <= P_VALUE for t in clouds.labels.values())
    told = (
        f"energy distance {clouds.distance:.2f}, p = {clouds.p_value:.3g}; {far} of {len(clouds.labels)} labels differ "
        f"at p = {P_VALUE:g}; "
        + ("spreads cannot be compared" if spread is None else f"agreement of spreads {spread:.2f}")
    )
    if clouds.distance <= DISTANCE[0] and (judged is None or judged >= SPREAD):
        state, what = _GOOD, f"Within labels, cells look alike by {names[0]} and by {names[1]}"
    elif clouds.distance > DISTANCE[1] or (judged is not None and judged < SPREAD / 2):
        state, what = _BAD, f"Within labels, {names[0]} and {names[1]} hardly see the same differences between cells"
    else:
        state, what = _CAUTION, f"Within labels, {names[0]} and {names[1]} see partly other differences between cells"
    details = {"p_value": clouds.p_value, "spread": spread, "labels_that_differ": far, "labels": len(clouds.labels)}
    return Check("same distribution", clouds.distance, DISTANCE[0], state, f"{what} ({told}).", details)


def labels(data: Dataset, embedding: Embedding, names: tuple[str, str]) -> Check:
    """Ask how many differences between cells the labels can tell apart (Prop. 3.2)."""
    ranks = {n: _effective_rank(data, embedding, n) for n in names}
    rank = min(ranks.values())
    count = len(embedding.dims)
    of = f"{count} labels" if embedding.space == "logit" else f"a space of {count} dimensions"
    sentence = (
        f"The scores of {of} spread the cells of a label along about {rank:.0f} "
        f"direction{'' if round(rank) == 1 else 's'}: differences between cells in more ways than that cannot be told."
    )
    state: State = "good" if rank >= 2 else "caution"
    return Check(
        "directions", rank, 2.0, state, sentence, {**{f"rank_{n}": r for n, r in ranks.items()}, "dims": count}
    )


def _effective_rank(data: Dataset, embedding: Embedding, name: str) -> float:
    """Return exp of the entropy of the spectrum of the covariance within labels."""
    cells = [c for c in cells_by_label(data[name], len(data.classes)) if len(c) > 1]
    if not cells:
        return 0.0
    most = max(2, _RANKED // len(cells))
    x = embedding[name]
    within = np.concatenate([x[own] - x[own].mean(axis=0) for own in (evenly(c, most) for c in cells)])
    values = np.maximum(np.linalg.eigvalsh(within.T @ within), 0.0)
    share = values[values > 0] / max(values.sum(), np.finfo(float).tiny)
    return float(np.exp(-(share * np.log(share)).sum())) if len(share) else 0.0


def overlap(data: Dataset, names: tuple[str, str]) -> Check:
    """Ask whether the labels are as frequent on one side as on the other."""
    counts = np.array(
        [np.bincount(m.labels[m.labels >= 0], minlength=len(data.classes)) for m in (data[n] for n in names)]
    )
    shared = counts.min(axis=0) > 0
    shares = counts[:, shared] / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if not shared.any():
        sentence = "No label has cells in both modalities."
        return Check("overlap", None, UNEQUAL, "bad", sentence, {"smallest_label": 0, "labels_shared": 0})
    ratios = np.exp(np.abs(np.log(shares[0] / shares[1])))
    worst = float(ratios.max())
    least = int(counts[:, shared].min())
    name = np.array(data.classes)[shared][ratios.argmax()]
    alone = int((counts.max(axis=0) > 0).sum() - shared.sum())
    sentence = f"The smallest label has {least} cell{'' if least == 1 else 's'} on a side; "
    sentence += (
        f"{name} makes up {worst:.1f} times as large a part of one modality as of the other: are these the same cells?"
        if worst > UNEQUAL
        else "the labels that both have are about as frequent in one modality as in the other."
    )
    if alone:
        sentence += f" {alone} label{' is' if alone == 1 else 's are'} in one modality only."
    state: State = "caution" if worst > UNEQUAL or least < 2 or alone else "good"
    return Check(
        "overlap", worst, UNEQUAL, state, sentence, {"smallest_label": least, "labels_shared": int(shared.sum())}
    )


def partners(matching: Matching, found: Mapping[str, Array]) -> Check:
    """Ask whether the coupling decides anything."""
    blocks = [b for b in matching.matched if len(b.cols) > 1]
    cells = sum(len(found[b.label]) for b in blocks)
    if not cells:
        return Check("partners", None, UNDECIDED, "unknown", "No label leaves a choice between partners.", {})
    effective = sum(float(found[b.label].sum()) for b in blocks) / cells
    candidates = sum(len(found[b.label]) * len(b.cols) for b in blocks) / cells
    part = effective / candidates
    sentence = (
        f"A cell of {matching.source} stays undecided between {effective:.3g} of {candidates:.3g} candidates on average"
    ) + ("; the coupling says little beyond the label." if part > UNDECIDED else ".")
    details = {"effective": effective, "candidates": candidates}
    return Check("partners", part, UNDECIDED, "caution" if part > UNDECIDED else "good", sentence, details)


def coverage(matching: Matching) -> Check:
    """Ask how much of the data is matched at all."""
    c = matching.coverage
    part = min(c.source / max(1, c.source_total), c.target / max(1, c.target_total))
    sentence = (
        f"{c.source:,d} of {c.source_total:,d} cells of {matching.source} and {c.target:,d} of {c.target_total:,d} of "
        f"{matching.target} are matched, in {c.labels} of {c.labels_total} labels."
    )
    state: State = "bad" if c.labels == 0 else "caution" if part < COVERED else "good"
    return Check("coverage", part, COVERED, state, sentence, {"left_out": dict(c.left_out)})


def convergence(matching: Matching) -> Check:
    """Ask whether the solver reached what it was asked for."""
    states = [b.status.state for b in matching.blocks]
    open_ = [b for b in matching.blocks if b.status.state in ("not_converged", "failed")]
    errors = [b.status.marginal_error for b in matching.matched if np.isfinite(b.status.marginal_error)]
    worst = max(errors, default=None)
    off = "" if worst is None else f" (marginals off by {worst:.1g} at most)"
    sentence = (
        f"{len(open_)} of {len(states)} labels did not converge{off}."
        if open_
        else "There was nothing to converge: no marginals were asked for."
        if worst is None
        else f"All labels converged{off}."
    )
    state: State = "bad" if any(b.status.state == "failed" for b in open_) else "caution" if open_ else "good"
    return Check("convergence", worst, None, state, sentence, {"labels": [b.label for b in open_]})
