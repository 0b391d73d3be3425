"""How well a space of several modalities puts the readings of one cell together, where true pairs are known."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from unpaired.data.types import Array, Dataset, Modality
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import OptionError
from unpaired.evaluate.ranks import foscttm_sides
from unpaired.match.neighbours import match_snn, unit_rows
from unpaired.seeds import named_rng

__all__ = ["LatentScores", "score_latent"]


@dataclass(frozen=True)
class LatentScores:
    """Scores of the places of cells that were read by two modalities, each reading placed by itself.

    Attributes
    ----------
    source, target
        Names of the modalities.
    cells
        How many cells, all candidates of each other: whatever their labels.
    matching_score, matching_score_back
        Mean of p(true partner | cell), as in the competition of Tu et al. 2022 (eq. 17): of the source's cells, and of
        the target's. p is by shared nearest neighbours (one, by cosine).
    matching_score_chance
        What a guess scores: one over the number of cells.
    foscttm_source, foscttm_target
        Fraction of the other cells that are nearer, by the cosine, than the true partner, with ties at one half: among
        the source's cells, seen from the target's, and the other way. 0 is perfect, 0.5 is chance.
    """

    source: str
    target: str
    cells: int
    matching_score: float
    matching_score_back: float
    matching_score_chance: float
    foscttm_source: float
    foscttm_target: float

    def to_dict(self) -> dict[str, Any]:
        """Return the layout of ``latent`` in a run's ``scores.json``; nothing in it is NaN."""
        return asdict(self)


def score_latent(x: Array, y: Array, *, source: str, target: str) -> LatentScores:
    """Judge a space by cells whose two readings were placed by themselves.

    Computed in chunks: no matrix of all cells by all cells is made.

    Parameters
    ----------
    x, y
        ``(n, d)`` places of the same n cells by their readings in the source and in the target; row i of both is one
        cell. Only their directions count.
    source, target
        Names of the modalities.

    Raises
    ------
    OptionError
        If there are fewer than two cells, or the shapes differ.
    """
    if x.shape != y.shape or len(x) < 2:
        msg = f"x and y must be places of the same cells, two or more; got {x.shape} and {y.shape}."
        raise OptionError(msg)
    x, y = (
        np.asarray(unit_rows(v), dtype=np.float64) for v in (x, y)
    )  # squared distances of unit vectors are ordered as their cosines
    there, back = _matching_scores(x, y)
    among_source, among_target = foscttm_sides(y, x)
    return LatentScores(source, target, len(x), there, back, 1 / len(x), among_source, among_target)


def _matching_scores(x: Array, y: Array) -> tuple[float, float]:
    """Mean of p(true partner | cell) of the rows of ``x``, and of those of ``y``."""
    # The rows of one side are shuffled: where cells lie on one point, the search takes the first, and that would be a
    # hint.
    cells, order = np.arange(len(x)), named_rng(0, "latent").permutation(len(x))
    sides = {"source": x[order], "target": y}
    readings, labels = np.zeros((len(x), 1), np.float32), np.zeros(len(x), np.int64)
    data = Dataset({n: Modality(n, readings, labels, cells) for n in sides}, ("cells",))
    space = Embedding(sides, "latent", None, (), Provenance("given", {}))
    (block,) = match_snn(data, space, k=1, metric="cosine").blocks
    return float(block.at(cells, order).mean()), float(block.transpose.at(order, cells).mean())
