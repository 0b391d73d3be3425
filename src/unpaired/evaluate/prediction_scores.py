"""How near a predicted cell is to the same cell as it was measured, where true pairs are known (appendix D.1.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array
from unpaired.evaluate.feature_sums import FeatureSums
from unpaired.seeds import named_rng

__all__ = ["FeatureScores", "PairScores", "Scatter", "as_dense", "mean_reading", "score_pairs", "unique_names"]

_POINTS = 300  # of a scatter plot
_CHUNK = 2**22  # readings at a time


@dataclass(frozen=True)
class FeatureScores:
    """Scores of one feature.

    Attributes
    ----------
    r2
        1 - MSE / MSE of the mean; ``None`` if the measured readings are all the same.
    pearson
        Correlation of measured and predicted readings; ``None`` if either are all the same.
    """

    r2: float | None
    pearson: float | None


@dataclass(frozen=True)
class Scatter:
    """Some cells of one feature, to be drawn.

    Attributes
    ----------
    feature
        Its name.
    r2
        Its R2, of all pairs.
    measured, predicted
        Readings of the same cells, 300 at most.
    """

    feature: str
    r2: float
    measured: tuple[float, ...]
    predicted: tuple[float, ...]


@dataclass(frozen=True)
class PairScores:
    """Scores by true pairs.

    Attributes
    ----------
    pairs, pairs_total
        Pairs scored (the source cell was predicted and its partner is known), and pairs known.
    r2
        1 - MSE / MSE of the mean, pooled over all features: those of large variance count most. 0 is what the mean of
        the measured cells of these pairs scores, 1 is perfect. ``None`` if those cells are all the same.
    r2_of_label
        The same of the plainest guess that knows the label: the mean of the reference's measured cells of the label of
        the source cell. ``None`` if a cell's label is not among them (it was held out, or is unknown).
    mse, mse_of_mean
        The two means of squared differences, over cells and features; eq. 28 prints their ratio.
    pearson
        Mean of the features' correlations; ``None`` if no feature has one.
    features, features_total
        Features with both scores, and all.
    per_feature
        Feature -> :class:`FeatureScores`.
    left_out
        Feature -> why it lacks a score.
    scatter
        The features of the best, the median and the worst R2.
    """

    pairs: int
    pairs_total: int
    r2: float | None
    r2_of_label: float | None
    mse: float
    mse_of_mean: float
    pearson: float | None
    features: int
    features_total: int
    per_feature: Mapping[str, FeatureScores]
    left_out: Mapping[str, str]
    scatter: tuple[Scatter, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the part ``pairs`` of the layout in docs/formats.md; nothing in it is NaN."""
        return {
            "pairs": self.pairs,
            "pairs_total": self.pairs_total,
            "r2": self.r2,
            "r2_of_label": self.r2_of_label,
            "mse": self.mse,
            "mse_of_mean": self.mse_of_mean,
            "pearson": self.pearson,
            "features": self.features,
            "features_total": self.features_total,
            "per_feature": {n: asdict(s) for n, s in self.per_feature.items()},
            "left_out": dict(self.left_out),
            "scatter": [
                {**asdict(s), "measured": list(s.measured), "predicted": list(s.predicted)} for s in self.scatter
            ],
        }


def score_pairs(
    measured: Any,
    partners: Array,
    predicted: Array,
    names: Array,
    *,
    guess: tuple[Array, Array] | None = None,
    pairs_total: int,
    seed: int = 0,
) -> PairScores | None:
    """Compare predicted readings with those of the true partners, in chunks.

    Parameters
    ----------
    measured
        ``(n, p)`` readings of the target's cells, dense or CSR; never made dense as a whole.
    partners
        ``(k,)`` rows of ``measured``: the true partner of each predicted cell.
    predicted
        ``(k, p)`` predicted readings.
    names
        ``(p,)`` names of the features.
    guess
        ``(labels, p)`` mean readings of labels, and ``(k,)`` which of them each predicted cell has.
    pairs_total
        How many pairs are known.
    seed
        Seed of which cells are drawn for the scatter plots.

    Returns
    -------
    PairScores or None
        ``None`` with fewer than two pairs: the mean of one cell has no error.
    """
    k, p = predicted.shape
    if k < 2:
        return None

    def chunks() -> Iterator[tuple[Array, Array]]:
        step = max(1, _CHUNK // p)
        for start in range(0, k, step):
            part = slice(start, start + step)
            yield as_dense(measured, partners[part]), np.asarray(predicted[part], dtype=np.float64)

    sums = FeatureSums(p)
    for y, f in chunks():
        sums.add(y, f)
    (flat_y, flat_f), r2, pearson = sums.flat, sums.r2(), sums.pearson()
    labels = unique_names(names)
    of_mean = float(sums.spread[~flat_y].sum())
    scored = int(np.isfinite(pearson).sum())
    return PairScores(
        pairs=k,
        pairs_total=pairs_total,
        r2=1 - float(sums.error.sum()) / of_mean if of_mean > 0 else None,
        r2_of_label=None if guess is None or of_mean <= 0 else 1 - _error(chunks, *guess) / of_mean,
        mse=float(sums.error.sum()) / (k * p),
        mse_of_mean=of_mean / (k * p),
        pearson=float(np.nanmean(pearson)) if scored else None,
        features=scored,
        features_total=p,
        per_feature={n: FeatureScores(_number(a), _number(b)) for n, a, b in zip(labels, r2, pearson, strict=True)},
        left_out={labels[i]: _why(flat_measured=bool(flat_y[i])) for i in np.flatnonzero(flat_y | flat_f)},
        scatter=_scatter(measured, partners, predicted, labels, r2, seed),
    )


def as_dense(values: Any, rows: Array) -> Array:
    """Return some rows of a dense or sparse matrix in float64."""
    part = values[rows]
    return np.asarray(part.toarray() if sp.issparse(part) else part, dtype=np.float64)


def mean_reading(values: Any, rows: Array) -> Array:
    """Return the ``(p,)`` mean of some rows of a dense or sparse matrix, in chunks and in float64.

    scipy's mean of a sparse matrix adds up in float32 whatever it is asked for, which loses what many cells differ by.
    """
    step = max(1, _CHUNK // values.shape[1])
    total = np.zeros(values.shape[1])
    for start in range(0, len(rows), step):
        total += as_dense(values, rows[start : start + step]).sum(axis=0)
    return total / len(rows)


def _error(chunks: Callable[[], Iterator[tuple[Array, Array]]], means: Array, of: Array) -> float:
    """Return the sum of squared differences between measured readings and a mean for each cell."""
    total, start = 0.0, 0
    for y, _ in chunks():
        total += float(((y - means[of[start : start + len(y)]]) ** 2).sum())
        start += len(y)
    return total


def _scatter(
    measured: Any, partners: Array, predicted: Array, labels: list[str], r2: Array, seed: int
) -> tuple[Scatter, ...]:
    """Draw cells for the features of the best, the median and the worst R2."""
    ranked = np.argsort(-r2, kind="stable")[: int(np.isfinite(r2).sum())]
    if not len(ranked):
        return ()
    shown = list(dict.fromkeys(int(ranked[i]) for i in (0, len(ranked) // 2, len(ranked) - 1)))
    k = len(partners)
    rows = np.sort(named_rng(seed, "translation", "scatter").choice(k, min(k, _POINTS), replace=False))
    y = as_dense(measured, partners[rows])
    return tuple(
        Scatter(labels[i], float(r2[i]), tuple(y[:, i].tolist()), tuple(predicted[rows, i].astype(float).tolist()))
        for i in shown
    )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _why(*, flat_measured: bool) -> str:
    if flat_measured:
        return "its measured readings are all the same."
    return "its predicted readings are all the same: no correlation."


def unique_names(names: Array) -> list[str]:
    """Tell equal names apart: the scores are kept by name."""
    out: dict[str, None] = {}
    seen: Counter[str] = Counter()
    for name in (str(n) for n in names):
        label = name
        while label in out:
            seen[name] += 1
            label = f"{name} ({seen[name] + 1})"
        out[label] = None
    return list(out)
