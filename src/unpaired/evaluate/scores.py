"""Scores of a matching when the truth is known, label by label, and their averages with what they cover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from unpaired.data.types import Array, Dataset, Truth
from unpaired.errors import DataError, OptionError, Problem
from unpaired.evaluate.ranks import foscttm
from unpaired.match.block import Block, Product
from unpaired.match.matching import Matching
from unpaired.seeds import named_rng

__all__ = ["LabelScores", "ScoreCoverage", "Scores", "score"]

_METRICS = (
    "trace",
    "trace_over_uniform",
    "foscttm_source",
    "foscttm_target",
    "foscttm_sampled_source",
    "foscttm_sampled_target",
    "latent_mse",
)


@dataclass(frozen=True)
class LabelScores:
    """Scores of one label.

    Attributes
    ----------
    pairs
        True pairs scored.
    trace
        Mean of p(true partner | source cell), eq. 24.
    trace_over_uniform
        That times the number of candidates: how many times likelier than by the label alone.
    foscttm_source, foscttm_target
        FOSCTTM (eqs. 26, 27; ties one half) of the barycentric projections, judged in the source's and in the
        target's features.
    foscttm_sampled_source, foscttm_sampled_target
        The same with one partner drawn from the matching in place of the mean, as published.
    latent_mse
        Mean squared difference of the latents and their projection, per dimension (eq. 25); ``None`` if unknown.
    """

    pairs: int
    trace: float
    trace_over_uniform: float
    foscttm_source: float
    foscttm_target: float
    foscttm_sampled_source: float
    foscttm_sampled_target: float
    latent_mse: float | None


@dataclass(frozen=True)
class ScoreCoverage:
    """What the averages speak of.

    Attributes
    ----------
    labels, labels_total
        Labels scored, and labels in either modality.
    pairs, pairs_total
        True pairs scored, and known between the two modalities.
    left_out
        Label -> why it is not scored.
    """

    labels: int
    labels_total: int
    pairs: int
    pairs_total: int
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class Scores:
    """Scores of a matching.

    Attributes
    ----------
    source, target
        Names of the modalities.
    per_label
        Label -> :class:`LabelScores`.
    unweighted, weighted
        Averages over labels: each label the same (as published), or by its number of pairs.
    matching_score
        CLUE's (eq. 17): mean of p(true partner | source cell) over *all* known pairs; one that the matching does not
        cover counts zero.
    coverage
        What the averages cover.
    uniform
        ``unweighted`` of the uniform coupling: what knowing the label alone scores on the same cells.
    """

    source: str
    target: str
    per_label: Mapping[str, LabelScores]
    unweighted: Mapping[str, float | None]
    weighted: Mapping[str, float | None]
    matching_score: float
    coverage: ScoreCoverage
    uniform: Mapping[str, float | None]

    def __repr__(self) -> str:
        u = self.unweighted
        return (
            f"Scores({self.source} -> {self.target}: trace {u['trace']:.4f} = {u['trace_over_uniform']:.2f} x uniform, "
            f"FOSCTTM {u['foscttm_source']:.3f} / {u['foscttm_target']:.3f}, "
            f"matching score {self.matching_score:.4f}; {self.coverage.labels} of {self.coverage.labels_total} labels, "
            f"{self.coverage.pairs} of {self.coverage.pairs_total} pairs)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the layout of ``scores.json`` (see docs/formats.md); nothing in it is NaN."""
        return {
            "source": self.source,
            "target": self.target,
            **_nested(self.unweighted),
            "matching_score": self.matching_score,
            "coverage": {**asdict(self.coverage), "left_out": dict(self.coverage.left_out)},
            "weighted": _nested(self.weighted),
            "uniform": _nested(self.uniform),
            "per_label": {n: {"pairs": s.pairs, **_nested(asdict(s))} for n, s in self.per_label.items()},
        }


def _nested(flat: Mapping[str, float | None]) -> dict[str, Any]:
    def pair(prefix: str) -> dict[str, float | None]:
        source, target = flat[f"{prefix}_source"], flat[f"{prefix}_target"]
        mean = None if source is None or target is None else (source + target) / 2
        return {"source": source, "target": target, "mean": mean}

    return {
        "trace": flat["trace"],
        "trace_over_uniform": flat["trace_over_uniform"],
        "foscttm": pair("foscttm"),
        "foscttm_sampled": pair("foscttm_sampled"),
        "latent_mse": flat["latent_mse"],
    }


def score(matching: Matching, truth: Truth | None, data: Dataset, *, seed: int = 0) -> Scores:
    """Judge a matching by the true pairs.

    Distances are those of the modalities' features (after the recipe), and everything is computed in chunks: a label
    of 100,000 cells needs no matrix of its size.

    Parameters
    ----------
    matching
        The matching.
    truth
        Which rows are one cell; with latents, the latent MSE is computed too.
    data
        The data set that was matched.
    seed
        Seed of the sampled partners.

    Raises
    ------
    DataError
        If no label has two true pairs.
    OptionError
        If there is no truth, or the matching, the truth and the data set do not have the same cells.
    """
    names = (matching.source, matching.target)
    if truth is None:
        msg = (
            "there is no truth to score by; read the data with pairing='hide', or make a Truth of pairs that you know."
        )
        raise OptionError(msg)
    if matching.shape != (len(data[names[0]]), len(data[names[1]])):
        msg = f"the matching is of {matching.shape} cells and the data have {tuple(len(data[n]) for n in names)}."
        raise OptionError(msg)
    known = tuple(len(truth.units[n]) for n in names)
    if known != matching.shape:
        msg = f"the truth is of {known} cells and the matching of {matching.shape}."
        raise OptionError(msg)
    partner = truth.partners(*names)
    by_label, left_out, sums = _score_blocks(matching, truth, data, partner, seed)
    pairs_total = int((partner >= 0).sum())
    if not by_label:
        why = "; ".join(f"{n}: {r}" for n, r in list(left_out.items())[:5])
        problem = Problem("error", "memory", f"no label can be scored ({why}).", "Check that the truth fits the data.")
        raise DataError([problem])
    baseline = _score_blocks(_uniform(matching), truth, data, partner, seed)[0]
    coverage = ScoreCoverage(
        labels=len(by_label),
        labels_total=len(matching.blocks),
        pairs=sum(s.pairs for s in by_label.values()),
        pairs_total=pairs_total,
        left_out=left_out,
    )
    return Scores(
        source=names[0],
        target=names[1],
        per_label=by_label,
        unweighted=_average(list(by_label.values()), weighted=False),
        weighted=_average(list(by_label.values()), weighted=True),
        matching_score=sums / pairs_total,
        coverage=coverage,
        uniform=_average([baseline[n] for n in by_label], weighted=False),
    )


def _uniform(matching: Matching) -> Matching:
    """Return the independent coupling of every block that is matched, whether blocks are labels or batches."""
    even = [tuple(np.full(len(side), 1 / len(side)) for side in (b.rows, b.cols)) for b in matching.matched]
    blocks = [replace(b, weights=Product(*sides)) for b, sides in zip(matching.matched, even, strict=True)]
    return replace(matching, blocks=tuple(blocks))


def _average(scores: Sequence[LabelScores], *, weighted: bool) -> dict[str, float | None]:
    weights = [s.pairs if weighted else 1 for s in scores]
    out: dict[str, float | None] = {}
    for name in _METRICS:
        values = [getattr(s, name) for s in scores]
        out[name] = None if any(v is None for v in values) else float(np.average(values, weights=weights))
    return out


def _score_blocks(
    matching: Matching, truth: Truth, data: Dataset, partner: Array, seed: int
) -> tuple[dict[str, LabelScores], dict[str, str], float]:
    """Scores by label, reasons for labels without, and the sum of p(true partner) over all pairs covered."""
    scores: dict[str, LabelScores] = {}
    left_out: dict[str, str] = {}
    total = 0.0
    position = np.full(matching.shape[1] + 1, -1)  # the last entry serves partner -1
    for block in matching.blocks:
        if not block.matched:
            left_out[block.label] = block.status.advice or block.status.state
            continue
        position[block.cols] = np.arange(len(block.cols))
        own = position[partner[block.rows]]
        position[block.cols] = -1
        rows = np.flatnonzero(own >= 0)
        cols = own[rows]
        on_pair = block.at(rows, cols)
        total += float(on_pair.sum())
        if len(rows) < 2:
            left_out[block.label] = f"it has {len(rows)} true pair{'' if len(rows) == 1 else 's'}; two are needed."
            continue
        scores[block.label] = _score_label(block, on_pair, (rows, cols), truth, data, matching, seed)
    return scores, left_out, total


def _score_label(
    block: Block,
    on_pair: Array,
    pairs: tuple[Array, Array],
    truth: Truth,
    data: Dataset,
    matching: Matching,
    seed: int,
) -> LabelScores:
    rows, cols = pairs
    rng = named_rng(seed, "score", block.label)
    x = data[matching.source].flat_features[block.rows].astype(np.float64)
    y = data[matching.target].flat_features[block.cols].astype(np.float64)
    back = block.transpose
    return LabelScores(
        pairs=len(rows),
        trace=float(on_pair.mean()),
        trace_over_uniform=float(on_pair.mean() * len(block.cols)),
        foscttm_source=foscttm(back.project(x)[cols], x[rows]),
        foscttm_target=foscttm(block.project(y)[rows], y[cols]),
        foscttm_sampled_source=foscttm(x[back.sample(rng)][cols], x[rows]),
        foscttm_sampled_target=foscttm(y[block.sample(rng)][rows], y[cols]),
        latent_mse=_latent_mse(block, pairs, truth, matching),
    )


def _latent_mse(block: Block, pairs: tuple[Array, Array], truth: Truth, matching: Matching) -> float | None:
    if truth.latents is None:
        return None
    rows = pairs[0]
    latents = truth.latents[matching.target][block.cols].astype(np.float64)
    own = truth.latents[matching.source][block.rows[rows]]
    return float(np.mean((own - block.project(latents)[rows]) ** 2))
