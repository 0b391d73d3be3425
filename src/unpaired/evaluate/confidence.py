"""How sure a matching is of every cell, in words that the truth can check: where the true partner should rank.

The coupling gives every candidate a probability. Were they right, the true partner would be farther from the cell's
projection than a certain share of the other candidates: the cell's expected FOSCTTM. Without truth that share is what
the coupling claims; the confidence of a cell is one less twice of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unpaired.data.types import Array, Dataset, Truth
from unpaired.errors import DataError, OptionError, Problem
from unpaired.match.block import Block
from unpaired.match.matching import Matching

__all__ = ["Claim", "Confidence", "SelectiveRisk", "confidence", "selective_risk"]

_CHUNK = 2**21  # distances at a time
_ALL = 1000  # candidates, up to which each is ranked among all others
_PROBES = 256  # of more: ranked among so many, spread evenly
_POINTS = 101  # of a selective-risk curve
_TIE = 1e-12  # of a row's largest squared distance: what rounding can make of two equal ones


@dataclass(frozen=True)
class Claim:
    """What the coupling of one label says of itself.

    Attributes
    ----------
    trace_over_uniform
        Expected by its own probabilities: ``n sum_j p_ij^2``, mean over source cells.
    foscttm_source, foscttm_target
        Expected share of candidates nearer than the true partner, in the source's and in the target's features.
    """

    trace_over_uniform: float
    foscttm_source: float
    foscttm_target: float

    @property
    def foscttm(self) -> float:
        """Mean of both sides."""
        return (self.foscttm_source + self.foscttm_target) / 2


@dataclass(frozen=True, eq=False)
class Confidence:
    """Confidence of every cell.

    Attributes
    ----------
    values
        Modality name -> ``(n,)`` from about 0 (no better than the label) to 1 (the partner is certain); below 0 where
        the likely partners are the farthest from their own mean. NaN for a cell without a partner, or with one
        candidate only.
    claims
        Label -> :class:`Claim`; of labels with two or more cells on both sides and any weight between them.
    """

    values: Mapping[str, Array]
    claims: Mapping[str, Claim]


@dataclass(frozen=True, eq=False)
class SelectiveRisk:
    """What is gained by keeping only the cells that the matching is surest of.

    Attributes
    ----------
    kept
        ``(k,)`` fractions of the cells kept, surest first.
    risk
        ``(k,)`` mean FOSCTTM of the kept cells.
    area, area_random
        Mean of the risk over all fractions, surest first and in random order.
    cells
        Cells judged.
    """

    kept: Array
    risk: Array
    area: float
    area_random: float
    cells: int

    @property
    def ratio(self) -> float:
        """Area over that of random order: below 1 where confidence tells better cells from worse, 1 without errors."""
        return self.area / self.area_random if self.area_random > 0 else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the layout of ``selective_risk`` in ``scores.json`` (see docs/formats.md)."""
        return {
            "kept": self.kept.tolist(),
            "risk": self.risk.tolist(),
            "area": self.area,
            "area_random": self.area_random,
            "cells": self.cells,
        }


def confidence(matching: Matching, data: Dataset) -> Confidence:
    """Return the confidence of every cell of both modalities.

    Parameters
    ----------
    matching
        Any matching; a hard one claims to be certain.
    data
        The data set that was matched. Distances are those of the features, as in :func:`unpaired.score`.

    Notes
    -----
    Among more than 1,000 candidates a rank is that among 256 of them, spread evenly over their canonical order.
    """
    names = (matching.source, matching.target)
    values = {n: np.full(k, np.nan) for n, k in zip(names, matching.shape, strict=True)}
    claims = {}
    for block in matching.matched:
        if min(len(block.rows), len(block.cols)) < 2:
            continue
        there, sharp = _expected(block, data[names[1]].flat_features[block.cols])
        if not np.isfinite(there).any():
            continue
        back, _ = _expected(block.transpose, data[names[0]].flat_features[block.rows])
        values[names[0]][block.rows], values[names[1]][block.cols] = 1 - 2 * there, 1 - 2 * back
        claims[block.label] = Claim(float(np.nanmean(sharp)), float(np.nanmean(back)), float(np.nanmean(there)))
    return Confidence(values, claims)


def selective_risk(matching: Matching, truth: Truth, data: Dataset, *, sure: Confidence | None = None) -> SelectiveRisk:
    """Judge the confidence of the source cells by the true pairs.

    The risk of a cell is its own FOSCTTM: the share of candidates that are nearer to its projection, in the target's
    features, than its true partner is; ties one half.

    Parameters
    ----------
    matching, truth, data
        As in :func:`unpaired.score`.
    sure
        The confidence of the cells, where it is known already.

    Raises
    ------
    DataError
        If no cell of a label with two or more cells a side has its true partner in the same label.
    OptionError
        If the truth does not have the matching's cells.
    """
    names = (matching.source, matching.target)
    if tuple(len(truth.units[n]) for n in names) != matching.shape:
        msg = f"the truth is not of the {matching.shape} cells of the matching."
        raise OptionError(msg)
    partner = truth.partners(*names)
    certain = (confidence(matching, data) if sure is None else sure).values[names[0]]
    risk = np.full(matching.shape[0], np.nan)
    for block in matching.matched:
        if min(len(block.rows), len(block.cols)) > 1:
            risk[block.rows] = _true_ranks(block, data[names[1]].flat_features[block.cols], partner[block.rows])
    judged = np.flatnonzero(np.isfinite(risk) & np.isfinite(certain))
    if not len(judged):
        what = "no cell with a confidence has a true partner in its label."
        raise DataError([Problem("error", "memory", what, "Check that the truth fits the data.")])
    order = judged[np.argsort(-certain[judged], kind="stable")]
    running = _fair(risk[order], certain[order]).cumsum() / np.arange(1, len(order) + 1)
    kept = np.linspace(1 / len(order), 1, min(_POINTS, len(order)))
    at = np.ceil(kept * len(order) - 1e-6).astype(np.int64) - 1  # less what rounding adds to a whole number of cells
    return SelectiveRisk(kept, running[at], float(running.mean()), float(risk[judged].mean()), len(judged))


def _fair(risk: Array, sure: Array) -> Array:
    """Give cells of equal confidence their mean risk: their order says nothing."""
    _, group = np.unique(sure, return_inverse=True)
    return np.asarray((np.bincount(group, risk) / np.bincount(group))[group])


def _expected(block: Block, features: Array) -> tuple[Array, Array]:
    """Return every row's expected share of nearer candidates, and ``n sum p^2``; NaN for a row without weight."""
    z = np.asarray(features, dtype=np.float64)
    z = z - z.mean(axis=0)
    ranks, sharp = np.full(len(block.rows), np.nan), np.full(len(block.rows), np.nan)
    for start, part, apart in _chunks(block, z):
        some = part.sum(axis=1) > 0
        rows = np.flatnonzero(some) + start
        expected = _rank_all(part, apart) if len(z) <= _ALL else _rank_probed(part, apart)
        ranks[rows] = expected[some]
        sharp[rows] = (part[some] ** 2).sum(axis=1) * len(z)
    return ranks, sharp


def _chunks(block: Block, z: Array) -> Iterator[tuple[int, Array, Array]]:
    """Iterate over ``(start, conditional rows, squared distances of their projections to all candidates)``."""
    norms = np.einsum("ij,ij->i", z, z)
    step = max(1, _CHUNK // len(z))
    total = block.sums(1)
    for start in range(0, len(block.rows), step):
        part = block.dense(start, start + step)
        own = total[start : start + step, None]
        part = np.divide(part, own, out=np.zeros_like(part, dtype=np.float64), where=own > 0)
        centre = part @ z
        apart = norms - 2 * centre @ z.T  # but for a constant of the row
        yield start, part, apart


def _margin(apart: Array) -> Array:
    """``(rows, 1)`` difference up to which two distances of a row are the same."""
    return np.asarray(_TIE * np.abs(apart).max(axis=1, initial=0.0)[:, None])


def _rank_all(part: Array, apart: Array) -> Array:
    order = np.argsort(apart, axis=1)
    place = np.arange(apart.shape[1]) / (apart.shape[1] - 1)
    ordered = np.take_along_axis(part, order, axis=1)
    ranks = np.asarray(ordered @ place)
    same = np.diff(np.take_along_axis(apart, order, axis=1), axis=1) <= _margin(apart)
    for i in np.flatnonzero(same.any(axis=1)):  # candidates at the same distance share their places
        group = np.concatenate([[0], np.cumsum(~same[i])])
        ranks[i] = ordered[i] @ (np.bincount(group, place) / np.bincount(group))[group]
    return ranks


def _rank_probed(part: Array, apart: Array) -> Array:
    probes = np.sort(apart[:, np.linspace(0, apart.shape[1] - 1, _PROBES).astype(np.int64)], axis=1)
    out = np.empty(len(part))
    for i, (p, d, known, tie) in enumerate(zip(part, apart, probes, _margin(apart), strict=True)):
        there = np.flatnonzero(p)
        there = there[np.argsort(d[there])]
        mass = np.concatenate([[0.0], p[there].cumsum()])  # of the so many nearest candidates
        sorted_ = d[there]
        near, far = np.searchsorted(sorted_, known - tie, "left"), np.searchsorted(sorted_, known + tie, "right")
        out[i] = mass[-1] - (mass[near] + mass[far]).mean() / 2
    return out


def _true_ranks(block: Block, features: Array, partner: Array) -> Array:
    """``(rows,)`` share of candidates that are nearer than the true partner; NaN where that is not among them."""
    z = np.asarray(features, dtype=np.float64)
    z = z - z.mean(axis=0)
    place = dict(zip(block.cols.tolist(), range(len(block.cols)), strict=True))
    at = np.array([place.get(int(p), -1) for p in partner])
    out = np.full(len(at), np.nan)
    for start, part, apart in _chunks(block, z):
        own = at[start : start + len(part)]
        rows = np.flatnonzero((own >= 0) & (part.sum(axis=1) > 0))
        limit = apart[rows, own[rows]][:, None]
        margin = _margin(apart[rows])
        nearer = (apart[rows] < limit - margin).sum(axis=1) + 0.5 * (np.abs(apart[rows] - limit) <= margin).sum(axis=1)
        out[rows + start] = (nearer - 0.5) / (len(z) - 1)
    return out
