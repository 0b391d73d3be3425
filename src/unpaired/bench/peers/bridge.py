"""Bridge integration (Hao et al. 2022, Seurat v4) in a few lines: cells in terms of the paired ones."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from unpaired.data.types import Array, Dataset
from unpaired.errors import OptionError
from unpaired.evaluate.prediction_scores import as_dense

__all__ = ["Bridge"]

_COMPONENTS = 100
_ALPHAS = np.logspace(-3, 5, 17)


class Bridge:
    """Cells of one modality written as combinations of the paired cells, a dictionary that both modalities share.

    A cell's principal components times the pseudo-inverse of the paired cells' are its weights on these, and the
    weights times the paired cells' leading left singular vectors are its place; both products together are a ridge
    regression of these vectors on the components. The singular vectors are of both modalities' components side by side,
    each side scaled to the same variance. Seurat takes eigenvectors of a graph of neighbours there, and corrects the
    result by mutual neighbours; this does not.

    Parameters
    ----------
    dims
        Singular vectors, at most as many as the smaller side has components.
    """

    def __init__(self, *, dims: int = 20) -> None:
        self.dims = dims

    def fit(self, data: Dataset) -> Self:
        """Learn from the paired cells, and nothing else.

        Raises
        ------
        OptionError
            If no pairs are known.
        """
        from sklearn.linear_model import RidgeCV

        from unpaired.embed.clue_inputs import slots_of
        from unpaired.embed.clue_reader import read_modalities

        names = list(data)
        slots = slots_of(data, names)
        slots = slots[(slots >= 0).all(axis=1)]
        if len(slots) < 2:
            msg = "bridge integration needs cells that were measured in all modalities."
            raise OptionError(msg)
        self.readers = read_modalities(data, components=_COMPONENTS, likelihoods={})
        own = {n: self.readers[n].inputs(data[n])[slots[:, k]].astype(np.float64) for k, n in enumerate(names)}
        # The readers' inputs have a mean square of one a column, so a side weighs as it has columns: make sides equal.
        joint = np.hstack([(x - x.mean(axis=0)) / np.linalg.norm(x - x.mean(axis=0)) for x in own.values()])
        atoms = np.linalg.svd(joint, full_matrices=False)[0][:, : min(self.dims, *(x.shape[1] for x in own.values()))]
        atoms = atoms * np.sqrt(len(atoms))
        self._to_atoms: dict[str, Any] = {n: RidgeCV(alphas=_ALPHAS).fit(x, atoms) for n, x in own.items()}
        logged = {n: np.log1p(as_dense(data[n].X, data[n].order[slots[:, k]])) for k, n in enumerate(names)}
        self._to_readings: dict[tuple[str, str], Any] = {
            (a, b): RidgeCV(alphas=_ALPHAS).fit(own[a], logged[b]) for a in names for b in names if a != b
        }
        return self

    def transform(self, data: Dataset) -> dict[str, Array]:
        """Return modality name -> ``(n, d)`` places."""
        return {n: _in_rows(self._to_atoms[n].predict(self.readers[n].inputs(m)), m.order) for n, m in _items(data)}

    def impute(self, data: Dataset, source: str, target: str) -> Array:
        """Return the target's counts of the source's cells, by a ridge regression of their logarithms."""
        modality = data[source]
        logged = self._to_readings[source, target].predict(self.readers[source].inputs(modality))
        return np.expm1(np.maximum(_in_rows(logged, modality.order), 0.0))


def _items(data: Dataset) -> list[tuple[str, Any]]:
    return list(data.modalities.items())


def _in_rows(values: Array, order: Array) -> Array:
    out = np.empty(values.shape)
    out[order] = values
    return out
