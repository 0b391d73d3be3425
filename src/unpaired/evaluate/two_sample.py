"""Do two clouds of cells have the same distribution within every label? An energy test that needs no pairing.

Under (A1) and (A2) the scores of a label's cells are distributed alike in both modalities (Xi et al. 2024, Prop. 3.1),
so what this finds is a violation of one of them, or the classifiers' unequal noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unpaired.data.types import Array
from unpaired.match.blocks import evenly
from unpaired.seeds import named_rng

__all__ = ["LabelTest", "TwoSampleTest", "compare_clouds"]

_BLOCK = 100  # cells a side that are compared with each other
_BLOCKS = 5  # of one label at most
_CELLS = 20_000  # a side, of all labels together: of many labels fewer cells each, for the mean over labels is as sure
_FEWEST = 20
_PERMUTATIONS = 199  # the smallest p-value is one in 200


@dataclass(frozen=True)
class LabelTest:
    """One label's two clouds.

    Attributes
    ----------
    distance
        Energy distance ``2 E|x-y| - E|x-x'| - E|y-y'|`` over ``E|x-y|``, without the bias of finite samples: about 0
        for equal distributions (a little below by chance), 2 for two points apart.
    p_value
        Fraction of random exchanges of cells between the two sides that give as large a distance.
    cells
        Cells a side compared.
    """

    distance: float
    p_value: float
    cells: tuple[int, int]


@dataclass(frozen=True)
class TwoSampleTest:
    """All labels.

    Attributes
    ----------
    distance
        Mean over labels, each alike.
    p_value
        Of the mean over labels, under exchanges within each label.
    labels
        Label -> :class:`LabelTest`; those with two cells or more on both sides.
    """

    distance: float
    p_value: float
    labels: Mapping[str, LabelTest]


def compare_clouds(clouds: Mapping[str, tuple[Array, Array]], *, seed: int = 0) -> TwoSampleTest:
    """Compare the two clouds of every label.

    Parameters
    ----------
    clouds
        Label -> ``(n, d)`` and ``(m, d)`` coordinates, in an order that says nothing of the pairing. Of a large label
        up to five blocks of 100 cells a side are compared, spread evenly over that order; of many labels together
        about 20,000 cells, though at least 20 of each.
    seed
        Seed of the exchanges; every label has its own generator.
    """
    most = int(np.clip(_CELLS / max(1, len(clouds)), _FEWEST, _BLOCK * _BLOCKS))
    found: dict[str, LabelTest] = {}
    total = np.zeros(_PERMUTATIONS + 1)
    for label, (x, y) in clouds.items():
        if min(len(x), len(y)) < 2:
            continue
        values, cells = _label(evenly(x, most), evenly(y, most), named_rng(seed, "two-sample", label))
        found[label] = LabelTest(float(values[0]), _p_value(values), cells)
        total += values
    if not found:
        return TwoSampleTest(float("nan"), float("nan"), {})
    return TwoSampleTest(float(total[0]) / len(found), _p_value(total), found)


def _p_value(values: Array) -> float:
    """Return how often chance does as well; the first value is the observed one."""
    return float((values >= values[0] - 1e-12).mean())


def _label(x: Array, y: Array, rng: np.random.Generator) -> tuple[Array, tuple[int, int]]:
    """``(permutations + 1,)`` distances, the observed one first, mean over the blocks; and cells a side in them."""
    blocks = _blocks(x, y)
    values = [_block(a, b, rng) for a, b in blocks]
    return np.mean(values, axis=0), (sum(len(a) for a, _ in blocks), sum(len(b) for _, b in blocks))


def _blocks(x: Array, y: Array) -> Sequence[tuple[Array, Array]]:
    """Deal the cells of both sides like cards into so many blocks, each of at most 100 cells a side."""
    count = min(-(-max(len(x), len(y)) // _BLOCK), len(x) // 2, len(y) // 2)
    return [(evenly(x[i::count], _BLOCK), evenly(y[i::count], _BLOCK)) for i in range(count)]


def _distances(cells: Array) -> Array:
    """``(k, k)`` Euclidean distances. By matrix product: labels have as many dimensions as there are labels."""
    cells = np.asarray(cells, dtype=np.float64)
    cells = cells - cells.mean(axis=0)
    norms = np.einsum("ij,ij->i", cells, cells)
    square = np.maximum(norms[:, None] + norms - 2 * cells @ cells.T, 0.0)
    np.fill_diagonal(square, 0.0)
    return np.asarray(np.sqrt(square))


def _block(x: Array, y: Array, rng: np.random.Generator) -> Array:
    n, m = len(x), len(y)
    apart = _distances(np.concatenate([x, y]))
    side = np.zeros((_PERMUTATIONS + 1, n + m))
    side[0, :n] = 1
    for row in side[1:]:
        row[rng.permutation(n + m)[:n]] = 1
    own = side @ apart  # sums of distances to the cells of the first side
    within_x = (own * side).sum(axis=1)
    across = (own * (1 - side)).sum(axis=1)
    within_y = apart.sum() - within_x - 2 * across
    mean = across / (n * m)
    value = 2 * mean - within_x / (n * (n - 1)) - within_y / (m * (m - 1))
    return np.asarray(np.divide(value, mean, out=np.zeros_like(value), where=mean > 0))
