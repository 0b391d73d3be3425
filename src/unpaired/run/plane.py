"""A picture of a space: some cells in the plane, by UMAP where it is installed, else by principal components."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.util import find_spec

import numpy as np

from unpaired.data.types import Array
from unpaired.seeds import named_rng

__all__ = ["MOST", "in_plane", "principal_plane"]

MOST = 6000
"""Cells that are drawn: more would cover each other."""

_FEWEST = 30  # cells that UMAP can be asked to lay out


def in_plane(arrays: Mapping[str, Array], *, seed: int) -> tuple[dict[str, Array], str]:
    """Lay out cells of all modalities together, by their directions.

    Parameters
    ----------
    arrays
        Modality name -> ``(n, d)`` places of length one.
    seed
        Seed of which cells are drawn where there are more than :data:`MOST`, and of the layout.

    Returns
    -------
    planes
        Modality name -> ``(n, 2)``, NaN for a cell that is not drawn.
    method
        ``"UMAP"`` or ``"PCA"``.
    """
    sizes = [len(a) for a in arrays.values()]
    drawn = np.sort(named_rng(seed, "plane").permutation(sum(sizes))[:MOST])
    some = np.concatenate(list(arrays.values()))[drawn]
    method = "UMAP" if len(some) >= _FEWEST and find_spec("umap") is not None else "PCA"
    xy = np.full((sum(sizes), 2), np.nan)
    xy[drawn] = _umap(some, seed) if method == "UMAP" else principal_plane(some)
    return dict(zip(arrays, np.split(xy, np.cumsum(sizes)[:-1]), strict=True)), method


def principal_plane(x: Array) -> Array:
    """Return ``(n, 2)`` first two principal components."""
    from sklearn.decomposition import PCA

    flat = PCA(n_components=min(2, *x.shape), svd_solver="covariance_eigh").fit_transform(x)
    return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))


def _umap(x: Array, seed: int) -> Array:
    from umap import UMAP

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that a seed leaves it one thread
        return np.asarray(UMAP(metric="cosine", random_state=seed % 2**31).fit_transform(x))
