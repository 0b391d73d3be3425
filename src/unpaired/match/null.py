"""Matchings to compare with: uniform, random, and the true pairs."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array, Dataset, Pairs, Truth
from unpaired.embed.embedding import Provenance
from unpaired.match.block import Product, Status
from unpaired.match.blocks import match_labels, one_by_one
from unpaired.match.matching import Matching

__all__ = ["match_pairs", "match_random", "match_uniform"]


def match_uniform(data: Dataset, *, source: str | None = None, target: str | None = None) -> Matching:
    """Match every cell with all cells of its label alike: what knowing the label alone gives.

    Parameters
    ----------
    data
        The data set.
    source, target
        Names of the modalities; not needed when there are two.
    """
    return match_labels(data, None, one_by_one(_uniform), Provenance("match_uniform", {}), source=source, target=target)


def _uniform(x: Array, y: Array, a: Array, b: Array, seed: int) -> tuple[Product, Status]:
    return Product(a, b), Status("ok", marginal_error=0.0)


def match_random(data: Dataset, *, source: str | None = None, target: str | None = None, seed: int = 0) -> Matching:
    """Match at random within the label: every cell of the larger side with one cell, those of the smaller in turn.

    Parameters
    ----------
    data
        The data set.
    source, target
        Names of the modalities; not needed when there are two.
    seed
        Seed of the draw; each label has its own generator.
    """
    made_by = Provenance("match_random", {"seed": seed})
    return match_labels(data, None, one_by_one(_random), made_by, source=source, target=target, seed=seed)


def _random(x: Array, y: Array, a: Array, b: Array, seed: int) -> tuple[sp.csr_matrix, Status]:
    n, m = len(a), len(b)
    larger = max(n, m)
    rng = np.random.default_rng(seed)
    # The smaller side is repeated until it covers the larger one, so that no cell is left without a partner.
    rows, cols = (np.resize(rng.permutation(k), larger) for k in (n, m))
    weights = sp.csr_matrix((np.full(larger, 1 / larger), (rows, cols)), shape=(n, m))
    error = abs(np.asarray(weights.sum(1)).ravel() - a).sum() + abs(np.asarray(weights.sum(0)).ravel() - b).sum()
    return weights, Status("ok", marginal_error=float(error))


def match_pairs(
    data: Dataset, pairs: Pairs | Truth, *, source: str | None = None, target: str | None = None
) -> Matching:
    """Turn known pairs into a matching: the upper bound for what learns from a matching.

    Cells whose partner is unknown, or has another label, have no partner.

    Parameters
    ----------
    data
        The data set.
    pairs
        The pairs, or the truth of a simulation or a hidden pairing.
    source, target
        Names of the modalities; not needed when there are two.
    """
    names = data.direction(source, target)
    partner = pairs.partners(*names)

    def solve(x: Array, y: Array, a: Array, b: Array, seed: int) -> tuple[sp.csr_matrix, Status]:
        wanted, there = partner[x[:, 0]], y[:, 0]
        by_row = np.argsort(there)
        cols = by_row[np.searchsorted(there, wanted, sorter=by_row).clip(max=len(there) - 1)]
        rows = np.flatnonzero(there[cols] == wanted)
        if len(rows) == 0:
            return None, Status("absent", "no pair of this label is known.")
        weights = np.full(len(rows), 1 / len(rows))
        return sp.csr_matrix((weights, (rows, cols[rows])), shape=(len(a), len(b))), Status("ok")

    made_by = Provenance("match_pairs", {})
    return match_labels(data, None, one_by_one(solve), made_by, source=names[0], target=names[1], force_single=False)
