"""How good imputed readings are, feature by feature, on cells that were measured in both modalities."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired.data.recipes import log_normalise
from unpaired.data.types import Array
from unpaired.errors import OptionError
from unpaired.evaluate.feature_sums import FeatureSums
from unpaired.evaluate.prediction_scores import unique_names

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EXPECTED_COVERAGE", "ImputationScores", "score_imputation"]

_Z = 1.96

EXPECTED_COVERAGE = 0.95
"""Of normal readings within 1.96 of their standard deviations."""


@dataclass(frozen=True, eq=False)
class ImputationScores:
    """Scores of one modality's readings, imputed from another's.

    Attributes
    ----------
    source, target
        From which modality, and of which.
    cells
        How many cells were measured in both and are judged.
    scale
        What correlations and R2 are of: ``"log1p"`` of counts, measured and imputed ones scaled to 10,000 a cell, or
        ``"values"`` as measured.
    names
        ``(p,)`` the target's features; a repeated name is numbered.
    pearson, r2
        ``(p,)`` correlation of measured and imputed readings, and 1 - MSE / MSE of the mean of these cells; NaN where
        all measured readings are the same, and for correlations where all imputed ones are.
    coverage
        ``(p,)`` share of the readings, as measured, within 1.96 spreads of what was imputed. 0.95 is honest; of counts
        that are mostly zero it is more. NaN where no reading was measured.
    r2_pooled
        R2 of all features together, of which those of large variance count most; NaN if no reading differs.
    """

    source: str
    target: str
    cells: int
    scale: str
    names: tuple[str, ...]
    pearson: Array
    r2: Array
    coverage: Array
    r2_pooled: float

    def to_dict(self) -> dict[str, Any]:
        """Return the layout of an entry of ``imputation`` in a run's ``scores.json``; nothing in it is NaN.

        Its means and quartiles are over the features that have a correlation, that of the coverage over those that were
        measured.
        """
        known, covered = (v[np.isfinite(v)] for v in (self.pearson, self.coverage))
        low, middle, high = np.quantile(known, [0.25, 0.5, 0.75]).tolist() if len(known) else (None, None, None)
        return {
            "source": self.source,
            "target": self.target,
            "cells": self.cells,
            "scale": self.scale,
            "pearson": float(known.mean()) if len(known) else None,
            "pearson_quartiles": [low, middle, high],
            "r2": self.r2_pooled if np.isfinite(self.r2_pooled) else None,
            "coverage": float(covered.mean()) if len(covered) else None,
            "features": len(known),
            "features_total": len(self.names),
        }

    def table(self) -> pd.DataFrame:
        """Return a row for each feature: source, target, feature, pearson, r2 and coverage."""
        import pandas as pd

        columns = {"feature": self.names, "pearson": self.pearson, "r2": self.r2, "coverage": self.coverage}
        return pd.DataFrame({"source": self.source, "target": self.target, **columns})


def score_imputation(
    parts: Iterable[tuple[Array, Array, Array]], *, source: str, target: str, names: Array, counts: bool
) -> ImputationScores:
    """Compare imputed readings with measured ones, part by part.

    Parameters
    ----------
    parts
        ``(measured, mean, spread)`` of some cells each, all ``(k, p)``, as measured: the readings, what was imputed,
        and its standard deviations. A measured reading that is missing (NaN) judges nothing.
    source, target
        Names of the modalities.
    names
        ``(p,)`` names of the target's features.
    counts
        Whether readings are counts, which are compared as ``log(1 + 1e4 x / sum(x))``.

    Raises
    ------
    OptionError
        If there are fewer than two cells.
    """
    sums, covered = FeatureSums(len(names)), np.zeros(len(names))
    for measured, mean, spread in parts:
        covered += (np.abs(measured - mean) <= _Z * spread).sum(axis=0)
        if counts:
            sums.add(log_normalise(measured), log_normalise(mean))
        else:
            sums.add(measured, mean)
    if sums.cells < 2:
        msg = f"imputed readings are judged by two cells or more; got {sums.cells}."
        raise OptionError(msg)
    differ = ~sums.flat[0]
    total = float(sums.spread[differ].sum())
    return ImputationScores(
        source=source,
        target=target,
        cells=sums.cells,
        scale="log1p" if counts else "values",
        names=tuple(unique_names(names)),
        pearson=sums.pearson(),
        r2=sums.r2(),
        coverage=np.where(sums.readings > 0, covered / np.maximum(sums.readings, 1), np.nan),
        r2_pooled=1 - float(sums.error.sum()) / total if total > 0 else float("nan"),
    )
