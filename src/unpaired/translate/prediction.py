"""What a model of the other instrument says: predicted readings, how sure it is of them, and in which units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array, Modality
from unpaired.embed.embedding import Provenance

__all__ = ["SPACES", "Prediction", "Space", "feature_labels", "target_values"]

Space = Literal["features", "raw"]
SPACES = ("features", "raw")
"""Where a target is predicted: in its recipe's features (principal components, scaled proteins), or as measured."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Readings of one modality predicted from another's.

    Attributes
    ----------
    source, target
        Names of the modalities: from which and of which.
    space
        ``"features"``: in the target's recipe's features; ``"raw"``: in the units of its readings.
    rows
        ``(k,)`` which of the source's ``cells`` are predicted.
    cells
        Number of the source's cells, those without a prediction included.
    mean
        ``(k, p)`` float32 predicted readings.
    spread
        ``(k, p)`` float32 standard deviations in the same units: between the members of the ensemble
        (:class:`~unpaired.Translator`), or between a cell's possible partners (:class:`~unpaired.Barycentric`).
    feature_names
        ``(p,)`` names of the columns.
    made_by
        How it was made.
    """

    source: str
    target: str
    space: Space
    rows: Array
    cells: int
    mean: Array
    spread: Array
    feature_names: Array
    made_by: Provenance

    def __repr__(self) -> str:
        shown = f"{len(self.rows)} of {self.cells}" if len(self.rows) < self.cells else str(self.cells)
        width = self.mean.shape[1]
        return (
            f"Prediction({self.source} -> {self.target}: {shown} cells x {width} {self.space}; {self.made_by.method})"
        )


def target_values(modality: Modality, space: Space) -> Any:
    """Return what is to be predicted of a modality's cells: ``(n, p)`` dense features, or readings, dense or CSR.

    Images are flattened. Missing readings are filled as the recipe fills them.
    """
    if space == "features":
        return modality.flat_features
    X = modality.X
    if sp.issparse(X):
        return X
    X = np.asarray(X)
    X = X.reshape(len(modality), int(np.prod(X.shape[1:])))
    if modality.recipe is not None and "median" in modality.recipe.arrays:
        return np.where(np.isnan(X), modality.recipe.arrays["median"], X)
    return X


def feature_labels(modality: Modality, space: Space) -> Array:
    """Return ``(p,)`` names of the columns of :func:`target_values`."""
    recipe = modality.recipe
    kind = {"counts": "PC", "peaks": "LSI"}.get(recipe.name, "") if recipe is not None and space == "features" else ""
    if recipe is not None and space == "features" and recipe.name == "scale" and "axes" in recipe.arrays:
        kind = "PC"
    width = int(np.prod(target_values(modality.take(np.arange(min(1, len(modality)))), space).shape[1:]))
    if kind:
        return np.array([f"{kind}{i + 1}" for i in range(width)])
    if modality.feature_names is not None and len(modality.feature_names) == width:
        return np.asarray(modality.feature_names, dtype=str)
    return np.array([f"{modality.name} {i}" for i in range(width)])
