"""Shared nearest neighbours. Source: Xi et al. 2024, appendix B, eqs. 16-18, after Cao and Gao 2022."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array, Dataset
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.match.block import Status
from unpaired.match.blocks import grouped, match_labels, one_by_one
from unpaired.match.matching import Matching
from unpaired.options import check_choice, check_integer

__all__ = ["check_snn_options", "match_snn", "unit_rows"]


def match_snn(
    data: Dataset,
    embedding: Embedding,
    *,
    k: int = 1,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    within: Literal["label", "batch", "all"] = "label",
    source: str | None = None,
    target: str | None = None,
    jobs: int = 1,
    progress: bool = False,
) -> Matching:
    """Match by the overlap of nearest neighbours within and between the modalities, within each label (or batch).

    The weight of a pair is J / (4k - J), where J counts the neighbours they share in both modalities (eqs. 16, 17).
    The block holds these weights, divided by their sum; its rows divided by theirs are eq. 18.

    Parameters
    ----------
    data
        The data set.
    embedding
        The shared space.
    k
        Number of neighbours; the published recipe takes 1. In a label with fewer cells, that number.
    metric
        Distance in the space; the published code normalises the logits, which is ``"cosine"``.
    within
        What the cells of a pair have in common: their label, as in the paper on propensity scores; their batch, as in
        the competition that CLUE was made for, whose blocks are then named by batches; or nothing.
    source, target
        Names of the modalities; not needed when there are two.
    jobs
        Worker processes.
    progress
        Show a progress bar over the labels.

    Raises
    ------
    OptionError
        If an option is not allowed.
    """
    check_snn_options(k=k, metric=metric)
    data = grouped(data, within)
    made_by = Provenance("match_snn", {"k": k, "metric": metric, "within": within})
    solve = one_by_one(partial(_solve, k=k, metric=metric), jobs=jobs)
    return match_labels(data, embedding, solve, made_by, source=source, target=target, progress=progress)


def check_snn_options(*, k: int, metric: str) -> None:
    """Raise :class:`~unpaired.errors.OptionError` if an option of :func:`match_snn` is not allowed."""
    check_integer("k", k, low=1)
    check_choice("metric", metric, ("euclidean", "cosine"))


def _solve(x: Array, y: Array, a: Array, b: Array, seed: int, *, k: int, metric: str) -> tuple[sp.csr_matrix, Status]:
    k1, k2 = min(k, len(x)), min(k, len(y))
    if metric == "cosine":
        x, y = unit_rows(x), unit_rows(y)
    shared = _graph(x, x, k1) @ _graph(y, x, k1).T + _graph(x, y, k2) @ _graph(y, y, k2).T
    shared = sp.csr_matrix(shared)
    shared.eliminate_zeros()
    # 4k of eq. 17 counts the members of the four sets, which are smaller in a label with fewer cells than k.
    shared.data = shared.data / (2 * (k1 + k2) - shared.data)
    used = {"k": k if k == k1 == k2 else [k1, k2], "metric": metric}
    return shared / shared.sum(), Status("ok", used=used)


def unit_rows(x: Array) -> Array:
    """Return the rows divided by their lengths; one of zeros stays as it is."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(norm > 0, norm, 1.0))


def _graph(of: Array, among: Array, k: int) -> sp.csr_matrix:
    """``(len(of), len(among))`` 0/1 graph of the k nearest; among themselves a point is its own first neighbour."""
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=k).fit(among).kneighbors(of, return_distance=False)
    if of is among:
        # Of several identical points any may come first; eq. 16 wants the point itself.
        missing = ~(near == np.arange(len(of))[:, None]).any(axis=1)
        near[missing, -1] = np.flatnonzero(missing)
    ends = np.arange(0, k * len(of) + 1, k)
    return sp.csr_matrix((np.ones(near.size), near.ravel(), ends), shape=(len(of), len(among)))
