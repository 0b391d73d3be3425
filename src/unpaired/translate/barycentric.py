"""The matching itself as a predictor: every matched cell gets its partners' mean, and how much they differ."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array, Dataset
from unpaired.embed.embedding import Provenance
from unpaired.errors import NotFittedError, OptionError
from unpaired.match.block import Block
from unpaired.match.matching import Matching
from unpaired.options import check_choice
from unpaired.translate.partners import turned
from unpaired.translate.prediction import SPACES, Prediction, Space, feature_labels, target_values

__all__ = ["Barycentric"]

_CHUNK = 2**24  # entries of the products that are dense at a time


class Barycentric:
    """Predict each matched cell's other reading by the mean of its partners', E_M[x_target | source cell].

    There is nothing to train, and nothing to say of other cells. Source: Xi et al. 2024, section 5.

    Parameters
    ----------
    space
        ``"features"``: the features of the target's recipe; ``"raw"``: its readings as measured.

    Examples
    --------
    >>> import unpaired as up
    >>> data, truth = up.examples.digits(pairing="hide")
    >>> matching = up.match_uniform(data)
    >>> up.Barycentric().fit(data, matching).predict().mean.shape
    (1797, 32)
    """

    prediction_: Prediction

    def __init__(self, *, space: Space = "features") -> None:
        self.space = space

    def fit(self, data: Dataset, matching: Matching, *, source: str | None = None, target: str | None = None) -> Self:
        """Take the means over a matching's partners: products of the coupling with the readings, label by label.

        Parameters
        ----------
        data
            The data set that was matched.
        matching
            Any :class:`~unpaired.Matching` of the two modalities, in either direction.
        source, target
            From which modality, and which is predicted; those of the matching by default.

        Raises
        ------
        OptionError
            If an option is not allowed, or the matching is of other cells.
        """
        check_choice("space", self.space, SPACES)
        names = matching.direction(source, target)
        rows = turned(matching, names[1], names[0])
        cells = len(data[names[0]]), len(data[names[1]])
        if rows.shape != cells:
            msg = f"the matching is of {rows.shape} cells and the data have {cells}."
            raise OptionError(msg)
        target_side = data[names[1]]
        values = target_values(target_side, self.space)
        blocks = [b.take(np.flatnonzero(b.sums(1) > 0)) for b in rows.matched]
        blocks = [b for b in blocks if b.matched]
        width = values.shape[1]
        covered = np.concatenate([b.rows for b in blocks]) if blocks else np.zeros(0, dtype=np.int64)
        mean, spread = (np.empty((len(covered), width), dtype=np.float32) for _ in range(2))
        start = 0
        for block in blocks:
            stop = start + len(block.rows)
            mean[start:stop], spread[start:stop] = _moments(block, values)
            start = stop
        order = np.argsort(covered)
        self.prediction_ = Prediction(
            source=names[0],
            target=names[1],
            space=self.space,
            rows=covered[order],
            cells=cells[0],
            mean=mean[order],
            spread=spread[order],
            feature_names=feature_labels(target_side, self.space),
            made_by=Provenance("Barycentric", {"space": self.space, "matching": matching.made_by.method}),
        )
        return self

    def predict(self) -> Prediction:
        """Return the means of the matched source cells, and the standard deviations between their partners.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        """
        if not hasattr(self, "prediction_"):
            msg = "call fit before asking for what is learned."
            raise NotFittedError(msg)
        return self.prediction_


def _moments(block: Block, values: Any) -> tuple[Array, Array]:
    """``(rows, p)`` means and standard deviations over each row's partners, columns a few at a time."""
    total = block.sums(1)[:, None]
    means, spreads = [], []
    step = max(1, _CHUNK // max(1, len(block.rows) + len(block.cols)))
    own: Any = values[block.cols]
    own = own.tocsc() if sp.issparse(own) else np.asarray(own)
    for start in range(0, values.shape[1], step):
        part = own[:, start : start + step]
        part = (part.toarray() if sp.issparse(part) else part).astype(np.float64)
        # Around the label's mean, because the difference of two large squares has no digits left.
        center = part.mean(axis=0)
        part -= center
        # Both at once: where the coupling makes its entries on demand, a pass over them is the price.
        mean, square = np.split(block.dot(np.concatenate([part, part**2], axis=1)) / total, 2, axis=1)
        means.append(mean + center)
        spreads.append(np.sqrt(np.maximum(square - mean**2, 0)))
    return np.concatenate(means, axis=1), np.concatenate(spreads, axis=1)
