"""Scores of predicted readings: by true pairs where they are known, and label by label as distributions (D.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unpaired.data.types import Array, Dataset, Truth
from unpaired.errors import DataError, OptionError, Problem
from unpaired.evaluate.distribution_scores import DistributionScores, score_distributions
from unpaired.evaluate.prediction_scores import PairScores, mean_reading, score_pairs
from unpaired.options import check_seed
from unpaired.translate.prediction import Prediction, feature_labels, target_values

__all__ = ["TranslationScores", "score_translation"]


@dataclass(frozen=True)
class TranslationScores:
    """Scores of a prediction.

    Attributes
    ----------
    source, target
        Names of the modalities.
    space
        ``"features"`` or ``"raw"``: in which units.
    pairs
        Scores by true pairs; ``None`` if fewer than two are known and predicted.
    distributions
        Scores by label; ``None`` if no cell has a label.
    """

    source: str
    target: str
    space: str
    pairs: PairScores | None
    distributions: DistributionScores | None

    def __repr__(self) -> str:
        parts = []
        if self.pairs is not None:
            p = self.pairs
            r2 = f"R2 {_shown(p.r2)} (of the label {_shown(p.r2_of_label)})"
            parts.append(f"{r2}, Pearson {_shown(p.pearson)}; {p.pairs} of {p.pairs_total} pairs")
        if self.distributions is not None:
            d = self.distributions
            shown = ", ".join(
                f"{title} {_shown(getattr(d.by_cells, name))} (baseline {_shown(getattr(d.baseline_by_cells, name))})"
                for title, name in (("L2", "l2"), ("W1", "wasserstein"), ("KL", "kl_gaussian"))
            )
            parts.append(f"by cells {shown}; {d.coverage.labels} of {d.coverage.labels_total} labels")
        return f"TranslationScores({self.source} -> {self.target}: {'; '.join(parts) or 'nothing to score by'})"

    def to_dict(self) -> dict[str, Any]:
        """Return the layout of one part's scores in ``translation.json``; nothing in it is NaN."""
        return {
            "source": self.source,
            "target": self.target,
            "space": self.space,
            "pairs": None if self.pairs is None else self.pairs.to_dict(),
            "distributions": None if self.distributions is None else self.distributions.to_dict(),
        }


def score_translation(
    prediction: Prediction,
    data: Dataset,
    truth: Truth | None = None,
    *,
    reference: Dataset | None = None,
    seed: int = 0,
) -> TranslationScores:
    """Judge predicted readings by what was measured.

    Parameters
    ----------
    prediction
        Predicted readings of cells of ``data``.
    data
        The cells to judge by: the labels of the source's cells, and the measured cells of the target.
    truth
        Which rows are one cell; without it only distributions are compared.
    reference
        Where the baselines come from, measured cells of other labels and the labels' means; ``data`` by default. For
        cells that were held out give the training cells: the cells to judge by are not what one knows beforehand.
    seed
        Seed of what is drawn: cells to compare of more than 2,000, the baseline's cells, points of scatter plots.

    Raises
    ------
    DataError
        If a predicted reading is not finite.
    OptionError
        If the prediction, the truth and the data do not have the same cells or features.
    """
    check_seed(seed)
    reference = data if reference is None else reference
    target = data[prediction.target]
    measured = target_values(target, prediction.space)
    _check(prediction, data, measured, truth)
    # In the canonical order of the cells, so that nothing depends on the order of the rows.
    place = np.empty(prediction.cells, dtype=np.int64)
    place[data[prediction.source].order] = np.arange(prediction.cells)
    order = np.argsort(place[prediction.rows], kind="stable")
    scores = score_distributions(prediction, order, data, reference, seed=seed)
    pairs = None
    if truth is not None:
        partners = truth.partners(prediction.source, prediction.target)
        known = order[partners[prediction.rows[order]] >= 0]
        pairs = score_pairs(
            measured,
            partners[prediction.rows[known]],
            prediction.mean[known],
            feature_labels(target, prediction.space),
            guess=_label_means(prediction, known, data, reference),
            pairs_total=int((partners >= 0).sum()),
            seed=seed,
        )
    return TranslationScores(prediction.source, prediction.target, prediction.space, pairs, scores)


def _label_means(prediction: Prediction, known: Array, data: Dataset, reference: Dataset) -> tuple[Array, Array] | None:
    """Return mean readings of labels in the reference, and which of them each cell has; ``None`` if one has none."""
    codes = {name: code for code, name in enumerate(reference.classes)}
    in_reference = np.array([*(codes.get(name, -1) for name in data.classes), -1])  # the last: -1, an unknown label
    found, of = np.unique(in_reference[data[prediction.source].labels[prediction.rows[known]]], return_inverse=True)
    target = reference[prediction.target]
    labels = target.labels[target.order]
    if not len(found) or found[0] < 0 or not np.isin(found, labels).all():
        return None
    values = target_values(target, prediction.space)
    return np.stack([mean_reading(values, target.order[labels == code]) for code in found]), of


def _check(prediction: Prediction, data: Dataset, measured: Any, truth: Truth | None) -> None:
    source, target = prediction.source, prediction.target
    if prediction.cells != len(data[source]):
        msg = f"the prediction is of {prediction.cells} cells and {source!r} has {len(data[source])}."
        raise OptionError(msg)
    if prediction.mean.shape[1] != measured.shape[1]:
        msg = f"the prediction has {prediction.mean.shape[1]} features and {target!r} has {measured.shape[1]}."
        raise OptionError(msg)
    if truth is not None:
        known, have = (tuple(len(v[n]) for n in (source, target)) for v in (truth.units, data))
        if known != have:
            msg = f"the truth is of {known} cells and the data have {have}."
            raise OptionError(msg)
    bad = np.flatnonzero(~np.isfinite(prediction.mean).all(axis=1))
    if len(bad):
        what = f"{len(bad)} predicted cells of {target!r} have readings that are not finite."
        raise DataError([Problem("error", "memory", what, "Train again, in space='features' or with more cells.")])


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
