"""Do two modalities' scores look like scores of the same cells? What (A1) and (A2) imply, tested without pairing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from unpaired.data.types import Array, Dataset
from unpaired.embed.embedding import Embedding
from unpaired.evaluate.two_sample import TwoSampleTest, compare_clouds
from unpaired.match.blocks import cells_by_label, evenly

__all__ = ["Agreement", "compare_modalities"]

_CELLS = 40_000  # a side whose spreads are compared, all labels together
_FEWEST, _MOST = 40, 1000  # of one label
_DEGREES = 3  # correlations of so few labels are high by chance alone: they count 1 - 3 / T
_SWEEPS = 5  # of the double centring; an off-diagonal table has no closed form
_FLAT = 1e-4  # of a logarithm: what the sweeps and rounding leave of a table without differences correlates by chance


@dataclass(frozen=True)
class Agreement:
    """How alike two modalities' scores are within labels.

    Attributes
    ----------
    clouds
        Whether they are distributed alike: the energy test.
    spread
        From about 0 to 1: whether the same labels vary in the same coordinates. For the label of every cell and every
        *other* label, the logarithm of the standard deviation of the score, less the means of its row and its column;
        correlated between the modalities, times 1 - 3 / T for the number of labels T, for with few of them it is high
        by chance. ``None`` where it is not defined: under four labels, or a space whose dimensions are not labels.
    """

    clouds: TwoSampleTest
    spread: float | None


def compare_modalities(data: Dataset, embedding: Embedding, source: str, target: str, *, seed: int = 0) -> Agreement:
    """Compare the scores of two modalities, label by label.

    Parameters
    ----------
    data, embedding
        The data set and its space.
    source, target
        Names of the modalities.
    seed
        Seed of the permutation test.
    """
    sides = [cells_by_label(data[n], len(data.classes)) for n in (source, target)]
    x, y = embedding[source], embedding[target]
    both = {c: (i, j) for c, i, j in zip(data.classes, *sides, strict=True) if min(len(i), len(j)) > 1}
    clouds = compare_clouds({c: (x[i], y[j]) for c, (i, j) in both.items()}, seed=seed)
    return Agreement(clouds, _spread(embedding, both, x, y))


def _spread(embedding: Embedding, cells: Mapping[str, tuple[Array, Array]], x: Array, y: Array) -> float | None:
    place = {label: i for i, label in enumerate(embedding.dims)}
    labels = [c for c in cells if c in place]
    if embedding.space != "logit" or len(labels) <= _DEGREES:
        return None
    most = int(np.clip(_CELLS / len(labels), _FEWEST, _MOST))
    own = np.zeros((len(labels), len(place)), dtype=bool)
    own[np.arange(len(labels)), [place[c] for c in labels]] = True
    tables = []
    for values, side in ((x, 0), (y, 1)):
        spread = np.stack([values[evenly(cells[c][side], most)].std(axis=0) for c in labels])
        floor = 1e-6 * max(float(spread.max()), np.finfo(float).tiny)
        tables.append(_centred(np.log(np.maximum(spread, floor)), own)[~own])
    sizes = [float(np.linalg.norm(t)) for t in tables]
    if min(sizes) <= _FLAT * np.sqrt(len(tables[0])):
        return 0.0
    return max(0.0, float(tables[0] @ tables[1]) / (sizes[0] * sizes[1])) * (1 - _DEGREES / len(labels))


def _centred(table: Array, without: Array) -> Array:
    """Take out the means of rows and columns over all entries but those ``without``."""
    out = np.where(without, 0.0, table)
    counts = [np.maximum((~without).sum(axis=a, keepdims=True), 1) for a in (0, 1)]
    for _ in range(_SWEEPS):
        for axis in (0, 1):
            out = np.where(without, 0.0, out - out.sum(axis=axis, keepdims=True) / counts[axis])
    return out
