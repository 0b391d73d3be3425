"""Distances between predicted and measured cells, label by label, and their averages with what they cover (D.1.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from unpaired.data.types import Array, Dataset
from unpaired.errors import OptionError
from unpaired.evaluate import distributions as between
from unpaired.evaluate.distributions import MOST_CELLS, Distance
from unpaired.evaluate.prediction_scores import as_dense
from unpaired.seeds import named_rng
from unpaired.translate.prediction import Prediction, target_values

__all__ = ["Distances", "DistributionCoverage", "DistributionScores", "LabelDistances", "score_distributions"]


@dataclass(frozen=True)
class Distances:
    """The distances between measured and predicted cells; see :mod:`unpaired.evaluate.distributions`.

    Attributes
    ----------
    l2
        Euclidean distance of the means.
    wasserstein
        1-Wasserstein distance.
    kl_gaussian, kl_neighbours
        KL(measured || predicted) in nats: of two fitted Gaussians, and by the distances to neighbours.
    energy
        Energy distance.
    """

    l2: float | None = None
    wasserstein: float | None = None
    kl_gaussian: float | None = None
    kl_neighbours: float | None = None
    energy: float | None = None


_METRICS = tuple(f.name for f in fields(Distances))


@dataclass(frozen=True)
class LabelDistances:
    """Distances of one label.

    Attributes
    ----------
    predicted_cells, measured_cells
        How many cells of the label there are.
    compared
        How many measured and predicted cells the Wasserstein distance, the energy distance and the neighbours' KL are
        computed from: at most 2,000 a side. The other two use all, but the Gaussians of more than 2,000 features.
    predicted
        The distances of the predicted cells.
    baseline
        The same with measured cells of other labels, as many, in place of the predicted ones.
    not_computed
        Metric -> why it is ``None``.
    """

    predicted_cells: int
    measured_cells: int
    compared: tuple[int, int]
    predicted: Distances
    baseline: Distances
    not_computed: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the layout of one label in docs/formats.md."""
        return {
            "predicted_cells": self.predicted_cells,
            "measured_cells": self.measured_cells,
            "compared": list(self.compared),
            **asdict(self.predicted),
            "baseline": asdict(self.baseline),
            "not_computed": dict(self.not_computed),
        }


@dataclass(frozen=True)
class DistributionCoverage:
    """What the averages speak of.

    Attributes
    ----------
    labels, labels_total
        Labels compared, and labels with cells in either modality.
    left_out
        Label -> why it is not compared.
    metrics
        Metric -> how many labels are in its averages.
    """

    labels: int
    labels_total: int
    left_out: Mapping[str, str]
    metrics: Mapping[str, int]


@dataclass(frozen=True)
class DistributionScores:
    """Distances between predicted and measured cells, label by label and on average.

    Attributes
    ----------
    per_label
        Label -> :class:`LabelDistances`.
    by_cells, by_inverse_cells
        Averages over labels weighted by the label's measured cells (appendix D.1.2), and by one over that (section
        6.3).
    baseline_by_cells, baseline_by_inverse_cells
        The same averages, over the same labels, of the baseline.
    coverage
        What the averages cover.
    """

    per_label: Mapping[str, LabelDistances]
    by_cells: Distances
    by_inverse_cells: Distances
    baseline_by_cells: Distances
    baseline_by_inverse_cells: Distances
    coverage: DistributionCoverage

    def to_dict(self) -> dict[str, Any]:
        """Return the part ``distributions`` of the layout in docs/formats.md; nothing in it is NaN."""
        return {
            "per_label": {n: s.to_dict() for n, s in self.per_label.items()},
            "by_cells": asdict(self.by_cells),
            "by_inverse_cells": asdict(self.by_inverse_cells),
            "baseline_by_cells": asdict(self.baseline_by_cells),
            "baseline_by_inverse_cells": asdict(self.baseline_by_inverse_cells),
            "coverage": {
                "labels": self.coverage.labels,
                "labels_total": self.coverage.labels_total,
                "left_out": dict(self.coverage.left_out),
                "metrics": dict(self.coverage.metrics),
            },
        }


def score_distributions(
    prediction: Prediction, order: Array, data: Dataset, reference: Dataset, *, seed: int
) -> DistributionScores | None:
    """Compare predicted and measured cells of every label.

    Parameters
    ----------
    prediction
        Predicted readings of cells of ``data``.
    order
        Positions in the prediction in the canonical order of the source's cells.
    data
        The cells to judge by.
    reference
        Where the baseline's cells are drawn from.
    seed
        Seed of what is drawn.

    Returns
    -------
    DistributionScores or None
        ``None`` if no cell has a label.
    """
    target = data[prediction.target]
    measured = target_values(target, prediction.space)
    codes = data[prediction.source].labels[prediction.rows[order]]
    in_order = target.order
    pool = _Pool.of(reference, prediction)
    per_label: dict[str, LabelDistances] = {}
    left_out: dict[str, str] = {}
    for code, label in enumerate(data.classes):
        own = order[codes == code]
        cols = in_order[target.labels[in_order] == code]
        if len(own) < 2 or len(cols) < 2:
            if len(cols) or (data[prediction.source].labels == code).any():
                left_out[label] = _few(len(own), len(cols))
            continue
        rng = named_rng(seed, "translation", label)
        per_label[label] = _one_label(
            _rows(measured, cols), _rows(prediction.mean, own), pool.draw(label, len(own), seed), rng
        )
    if not per_label and not left_out:
        return None
    return _averaged(per_label, left_out)


def _few(predicted: int, measured: int) -> str:
    counts = {"predicted": predicted, "measured": measured}
    name, n = next((k, v) for k, v in counts.items() if v < 2)
    return f"it has {n} {name} cell{'' if n == 1 else 's'}; two are needed."


@dataclass(frozen=True, eq=False)
class _Pool:
    """The measured cells from which the baseline is drawn, with their labels."""

    values: Any
    rows: Array
    labels: Array

    @classmethod
    def of(cls, reference: Dataset, prediction: Prediction) -> _Pool:
        target = reference[prediction.target]
        values = target_values(target, prediction.space)
        if values.shape[1] != prediction.mean.shape[1]:
            msg = f"the reference has {values.shape[1]} features of {target.name!r}; got {prediction.mean.shape[1]}."
            raise OptionError(msg)
        rows = target.order[target.labels[target.order] >= 0]
        return cls(values, rows, np.array(reference.classes, dtype=object)[target.labels[rows]])

    def draw(self, label: str, cells: int, seed: int) -> Any:
        """Return as many cells of other labels as were predicted, as finite samples of other sizes score otherwise.

        Of other labels alone: among the label's own might be the very cells that are compared with. ``None`` where
        there are fewer than two.
        """
        others = self.rows[self.labels != label]
        if len(others) < 2:
            return None
        rng = named_rng(seed, "translation", "baseline", label)
        return _rows(self.values, others[np.sort(rng.choice(len(others), min(cells, len(others)), replace=False))])


def _rows(values: Any, rows: Array) -> Any:
    """Return some rows: dense where all go into the Gaussians, as they are stored where they are wide."""
    return values[rows] if values.shape[1] > MOST_CELLS else as_dense(values, rows)


def _one_label(measured: Any, predicted: Array, baseline: Any, rng: np.random.Generator) -> LabelDistances:
    few = _sample(measured, rng)
    own, why, compared = _compare(measured, few, predicted, rng)
    other = Distances() if baseline is None else _compare(measured, few, baseline, rng)[0]
    return LabelDistances(predicted.shape[0], measured.shape[0], compared, own, other, why)


def _compare(
    measured: Any, few: Array, predicted: Any, rng: np.random.Generator
) -> tuple[Distances, dict[str, str], tuple[int, int]]:
    """All distances: the means of all cells, and what needs pairs of cells on a sample of both."""
    some = _sample(predicted, rng)
    whole = (few, some) if measured.shape[1] > MOST_CELLS else (measured, predicted)
    found: dict[str, Distance] = {
        "l2": between.l2_of_means(measured, predicted),
        "wasserstein": between.wasserstein(few, some),
        "kl_gaussian": between.kl_gaussian(*whole),
        "kl_neighbours": between.kl_neighbours(few, some),
        "energy": between.energy_distance(few, some),
    }
    why = {name: d.why for name, d in found.items() if d.value is None}
    return Distances(**{name: d.value for name, d in found.items()}), why, found["wasserstein"].compared


def _sample(cells: Any, rng: np.random.Generator) -> Array:
    n = cells.shape[0]
    rows = np.arange(n) if n <= MOST_CELLS else np.sort(rng.choice(n, MOST_CELLS, replace=False))
    return as_dense(cells, rows)


def _averaged(per_label: Mapping[str, LabelDistances], left_out: Mapping[str, str]) -> DistributionScores:
    used = {name: _in_average(per_label, name) for name in _METRICS}
    means: dict[str, dict[str, float | None]] = {}
    for side in ("predicted", "baseline"):
        for kind, power in (("by_cells", 1), ("by_inverse_cells", -1)):
            means[side + kind] = {n: _mean([per_label[x] for x in used[n]], side, n, power) for n in _METRICS}
    return DistributionScores(
        per_label=per_label,
        by_cells=Distances(**means["predictedby_cells"]),
        by_inverse_cells=Distances(**means["predictedby_inverse_cells"]),
        baseline_by_cells=Distances(**means["baselineby_cells"]),
        baseline_by_inverse_cells=Distances(**means["baselineby_inverse_cells"]),
        coverage=DistributionCoverage(
            labels=len(per_label),
            labels_total=len(per_label) + len(left_out),
            left_out=left_out,
            metrics={name: len(labels) for name, labels in used.items()},
        ),
    )


def _in_average(per_label: Mapping[str, LabelDistances], name: str) -> list[str]:
    """Labels with the number and the baseline's, so that both averages speak of the same; with the number if none."""
    have = [label for label, d in per_label.items() if getattr(d.predicted, name) is not None]
    return [label for label in have if getattr(per_label[label].baseline, name) is not None] or have


def _mean(labels: list[LabelDistances], side: str, name: str, power: int) -> float | None:
    values = [getattr(getattr(d, side), name) for d in labels]
    if not values or None in values:
        return None
    return float(np.average(values, weights=[float(d.measured_cells) ** power for d in labels]))
