"""Partners for CLUE that are drawn from matchings, and how far each is to be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from unpaired import options
from unpaired.data.types import Array, Dataset
from unpaired.embed.clue_inputs import Cells
from unpaired.errors import OptionError
from unpaired.seeds import named_rng

if TYPE_CHECKING:
    from unpaired.match.matching import Matching

__all__ = ["Drawn", "Soft", "soft_partners"]


class Drawn(NamedTuple):
    """For every row of one modality a row of the other, -1 where it has no partner, and how likely it is the true one.

    Modalities are told by their position, and rows are in canonical order.
    """

    source: int
    target: int
    partners: Array
    trust: Array


@dataclass(frozen=True, eq=False)
class Soft:
    """Partners drawn from a matching.

    Attributes
    ----------
    matching
        Of modalities ``at``, two positions among those that are learned.
    at
        Positions of its source and target.
    orders
        Rows of its source and target, in canonical order.
    trust
        For every row of its source and target, in canonical order, how likely a partner that is drawn is the true one,
        by the matching itself.
    """

    matching: Matching
    at: tuple[int, int]
    orders: tuple[Array, Array]
    trust: tuple[Array, Array]

    def draw(self, seed: int, *names: str) -> tuple[Drawn, Drawn]:
        """Draw a partner of every cell of either side."""
        (one, other), (rows, cols) = self.at, self.orders
        there = self.matching.sample(named_rng(seed, "soft", "there", *names))
        back = self.matching.transpose.sample(named_rng(seed, "soft", "back", *names))
        return (
            Drawn(one, other, _in_order(there, rows, cols), self.trust[0]),
            Drawn(other, one, _in_order(back, cols, rows), self.trust[1]),
        )


def soft_partners(data: Dataset, cells: Cells, matching: Matching | Sequence[Matching] | None) -> tuple[Soft, ...]:
    """Check matchings against the data that they are of.

    Raises
    ------
    OptionError
        If one is of other modalities, or of other numbers of cells.
    """
    names, found = list(data), []
    for one in [] if matching is None else matching if isinstance(matching, Sequence) else [matching]:
        for name in (one.source, one.target):
            options.check_choice("modality of the matching", name, names)
        sizes = len(data[one.source]), len(data[one.target])
        if one.shape != sizes:
            msg = f"the matching is of {one.shape} cells; the data have {sizes[0]} and {sizes[1]}."
            raise OptionError(msg)
        at = names.index(one.source), names.index(one.target)
        orders = cells.orders[at[0]], cells.orders[at[1]]
        trust = _repeats(one)[orders[0]], _repeats(one.transpose)[orders[1]]
        found.append(Soft(one, at, orders, trust))
    return tuple(found)


def _repeats(matching: Matching) -> Array:
    """``(n_source,)`` probability that a partner drawn for a cell is the true one, if the matching's are right.

    Of a pair it is the smaller one of both directions: where many cells share one partner, it is not that of each.
    """
    found = np.zeros(matching.shape[0])
    for block in matching.matched:
        mass, shared = block.sums(1)[:, None], np.maximum(block.sums(0), np.finfo(float).tiny)
        for start, part in block.chunks():
            back = part * mass[start : start + len(part)] / shared
            found[block.rows[start : start + len(part)]] = (part * np.minimum(part, back)).sum(axis=1)
    return found


def _in_order(partners: Array, rows: Array, cols: Array) -> Array:
    """Turn partners of a data set's rows into those of rows in canonical order."""
    position = np.empty(len(cols) + 1, dtype=np.int64)
    position[cols], position[-1] = np.arange(len(cols)), -1  # the last entry serves -1
    return np.asarray(position[partners[rows]])
