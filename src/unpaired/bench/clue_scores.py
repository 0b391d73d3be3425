"""How good a space of cells is whose partners are known, and readings that were imputed from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import UNKNOWN, Array, Dataset
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.evaluate.ranks import foscttm_sides
from unpaired.match.matching import Matching
from unpaired.match.neighbours import match_snn, unit_rows

__all__ = ["Metric", "coupling_scores", "imputation_score", "space_scores"]

Metric = Literal["cosine", "euclidean"]


def space_scores(
    data: Dataset, arrays: Mapping[str, Array], partners: Array, sides: tuple[str, str], metric: Metric
) -> dict[str, float | None]:
    """Return the matching score and FOSCTTM in a space, in both directions.

    Parameters
    ----------
    data
        The cells.
    arrays
        Side -> ``(n, d)`` places.
    partners
        ``(n_source,)`` row of the target that is the partner, -1 where there is none.
    sides
        Source and target.
    metric
        Distance for FOSCTTM. The matching score is that of the shared nearest neighbours by cosine, k = 1, among all
        cells at once (Tu et al. 2022, eqs. 16 and 17).
    """
    rows = np.flatnonzero(partners >= 0)
    own = {n: np.asarray(a, dtype=np.float64) for n, a in arrays.items()}
    own = {n: unit_rows(a) for n, a in own.items()} if metric == "cosine" else own
    x, y = own[sides[0]][rows], own[sides[1]][partners[rows]]
    within = _within(x, y, data[sides[0]].labels[rows])
    matched = _matching_score(data, arrays, partners, sides)
    return {
        **_both("matching_score", *matched),
        **_both("foscttm", *foscttm_sides(x, y)),
        **_both("foscttm_label", *within),
    }


def coupling_scores(matching: Matching, partners: Array) -> dict[str, float | None]:
    """Return the mean probability of the true partner, and FOSCTTM by the ranks of a coupling within labels."""
    back = np.full(matching.shape[1], UNKNOWN)
    back[partners[partners >= 0]] = np.flatnonzero(partners >= 0)
    chance, ahead = zip(*(_coupled(m, p) for m, p in ((matching, partners), (matching.transpose, back))), strict=True)
    return {**_both("coupling_score", *chance), **_both("foscttm_coupling", *ahead)}


def imputation_score(imputed: Array, measured: Array) -> float | None:
    """Return Pearson's r of log(1 + counts) over the cells, mean over the features; those that never vary are left out.

    Unlike that of :func:`~unpaired.evaluate.imputation.score_imputation` it is of counts as they are, not scaled to a
    library of 10,000, and a feature that is imputed alike for all cells has an r of 0 and is not left out.

    Parameters
    ----------
    imputed, measured
        ``(n, p)`` counts of the same cells.
    """
    x, y = (np.log1p(np.asarray(v, dtype=np.float64)) for v in (imputed, measured))
    varied = np.ptp(y, axis=0) > 0
    if not varied.any():
        return None
    told = np.ptp(x, axis=0) > 0  # what is imputed alike for all cells tells nothing: r of 0
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    size = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    r = np.where(told, (x * y).sum(axis=0) / np.where(told & varied, size, 1.0), 0.0)
    return float(r[varied].mean())


def _both(name: str, there: float | None, back: float | None) -> dict[str, float | None]:
    mean = None if there is None or back is None else (there + back) / 2
    return {name: mean, f"{name}_there": there, f"{name}_back": back}


def _matching_score(
    data: Dataset, arrays: Mapping[str, Array], partners: Array, sides: tuple[str, str]
) -> tuple[float, float]:
    """Return the mean probability of the true partner in both directions, all cells in one block."""
    dims = tuple(map(str, range(arrays[sides[0]].shape[1])))
    space = Embedding({n: arrays[n] for n in sides}, "latent", None, dims, Provenance("space", {}))
    matching = match_snn(data, space, k=1, metric="cosine", within="all", source=sides[0], target=sides[1])
    rows = np.flatnonzero(partners >= 0)
    there = _entries(matching.to_sparse("rows"), rows, partners[rows])
    back = _entries(matching.transpose.to_sparse("rows"), partners[rows], rows)
    return float(there.mean()), float(back.mean())


def _entries(matrix: sp.csr_matrix, rows: Array, cols: Array) -> Array:
    return np.asarray(matrix[rows, cols]).ravel()


def _within(x: Array, y: Array, labels: Array) -> tuple[float | None, float | None]:
    """Return FOSCTTM both ways within labels, mean over cells; labels of one cell say nothing."""
    sizes = {label: int((labels == label).sum()) for label in np.unique(labels[labels != UNKNOWN])}
    sizes = {label: k for label, k in sizes.items() if k > 1}
    if not sizes:
        return None, None
    found = [foscttm_sides(x[labels == label], y[labels == label]) for label in sizes]
    there, back = np.average(found, axis=0, weights=list(sizes.values())).tolist()
    return there, back


def _coupled(matching: Matching, partners: Array) -> tuple[float, float | None]:
    """Return the mean probability of the true partner, and the mean share of its label's cells that are likelier."""
    chance = np.zeros(matching.shape[0])
    ahead: list[Array] = []
    for block in matching.matched:
        rows = np.flatnonzero(np.isin(partners[block.rows], block.cols))  # rows whose partner has the same label
        place = {int(c): at for at, c in enumerate(block.cols)}
        cols = np.array([place[int(c)] for c in partners[block.rows[rows]]], dtype=np.int64)
        for start, part in block.chunks():
            here = (rows >= start) & (rows < start + len(part))
            p, own = part[rows[here] - start], cols[here]
            true = p[np.arange(len(p)), own]
            chance[block.rows[rows[here]]] = true
            if p.shape[1] > 1:
                more = (p > true[:, None]).sum(axis=1) + ((p == true[:, None]).sum(axis=1) - 1) / 2
                ahead.append(more / (p.shape[1] - 1))
    known = partners >= 0
    return float(chance[known].mean()), float(np.concatenate(ahead).mean()) if ahead else None
