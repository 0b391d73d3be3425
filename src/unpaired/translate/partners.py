"""Who may stand in for whom: a matching turned to the target's cells, cut into what is learned and what is held out.

Eq. 9 of Xi et al. 2024 asks of every target cell i that its partners' predictions average to it; so the rows here are
target cells, and what is drawn for them are source cells, p(source cell | target cell).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unpaired.data.types import Array
from unpaired.errors import DataError, OptionError, Problem
from unpaired.match.block import Block
from unpaired.match.matching import Matching
from unpaired.seeds import named_rng

__all__ = ["Partners", "split_partners", "turned"]

_VALID = 10  # every tenth matched target cell chooses the epoch
_AHEAD = 8  # epochs drawn for in one pass over a coupling: for one that is made on demand the pass is the price
_LEFT = 0.5  # a training cell that loses more than this of its mass to the held-out partners is not learned from


@dataclass(frozen=True, eq=False)
class Partners:
    """Target cells and, for each, the source cells that may be its partner.

    Attributes
    ----------
    blocks
        Blocks whose rows are target cells, all with some mass, and whose columns are source cells.
    """

    blocks: tuple[Block, ...]

    @property
    def rows(self) -> Array:
        """``(n,)`` the target cells, block after block: the order of everything here."""
        return np.concatenate([b.rows for b in self.blocks]) if self.blocks else np.zeros(0, dtype=np.int64)

    @property
    def inputs(self) -> Array:
        """The source cells that they may be matched to, block after block: every cell has one label, so each once."""
        return np.concatenate([b.cols for b in self.blocks]) if self.blocks else np.zeros(0, dtype=np.int64)

    def draw(self, draws: int, *names: str, seed: int) -> Array:
        """Return ``(n, draws)`` source cells drawn independently from p(source cell | target cell).

        Parameters
        ----------
        draws
            How many for each target cell.
        *names, seed
            What the draw is for: every label has a generator of its own, told by these and its name.
        """
        drawn = (b.cols[b.sample(named_rng(seed, *names, b.label), draws)] for b in self.blocks)
        return np.concatenate(list(drawn))

    def epochs(self, draws: int, *, seed: int, first: int = 0) -> Iterator[Array]:
        """Iterate over the ``(n, draws)`` partners of one epoch after another, from epoch ``first`` on."""
        epoch = first
        while True:
            part = epoch // _AHEAD
            drawn = self.draw(_AHEAD * draws, "partners", str(part), seed=seed).astype(np.int32)
            for at in range(epoch % _AHEAD, _AHEAD):
                yield drawn[:, at * draws : (at + 1) * draws]
            epoch = (part + 1) * _AHEAD

    def expect(self, values: Array, at: Array) -> Array:
        """Return ``(n, d)`` means of the partners' values: E_M[value | target cell].

        Parameters
        ----------
        values
            ``(k, d)`` values of source cells.
        at
            Source cell -> its row in ``values``.
        """
        return np.concatenate([b.project(values[at[b.cols]]) for b in self.blocks])


def turned(matching: Matching, source: str, target: str) -> Matching:
    """Return the matching with ``target`` cells as rows and ``source`` cells as columns.

    Raises
    ------
    OptionError
        If it is a matching of other modalities.
    """
    if (matching.source, matching.target) == (target, source):
        return matching
    if (matching.source, matching.target) == (source, target):
        return matching.transpose
    msg = f"the matching is of {matching.source!r} and {matching.target!r}; asked for {source!r} to {target!r}."
    raise OptionError(msg)


def split_partners(matching: Matching, *, seed: int) -> tuple[Partners, Partners, tuple[str, ...]]:
    """Cut a matching into what is learned from and what chooses the epoch.

    Every tenth target cell is held out, and with them the tenth of each label's source cells that holds most of their
    mass: under true pairs these are just their partners, under a uniform coupling any tenth. So the epoch is chosen on
    inputs and outputs that nothing was learned from.

    Parameters
    ----------
    matching
        Rows are target cells (see :func:`turned`).
    seed
        Seed of the choice.

    Returns
    -------
    learn, valid
        The two parts.
    notes
        What was left out, as sentences.

    Raises
    ------
    DataError
        If fewer than two target cells have a partner.
    """
    whole = [b.take(np.flatnonzero(b.sums(1) > 0)) for b in matching.matched]
    whole = [b for b in whole if b.matched]
    matched = sum(len(b.rows) for b in whole)
    if matched < 2:
        what = (
            f"the matching gives {matched} cells of {matching.source} a partner; a translator learns from two or more."
        )
        raise DataError([Problem("error", "memory", what, "Match more cells.")])
    learn, valid, open_learn, open_valid = [], [], [], []
    dealt = 0
    for block in whole:
        order = named_rng(seed, "valid", block.label).permutation(len(block.rows))
        # The deck goes on from label to label, so that labels of fewer than ten cells give their share too.
        out = np.sort(order[(dealt + np.arange(len(order))) % _VALID == _VALID - 1])
        if matched < _VALID and block is whole[-1]:
            out = order[:1]
        dealt += len(order)
        stay = np.setdiff1d(np.arange(len(block.rows)), out)
        inner, outer = _share_columns(block, out)
        learn.append(_massive(block, stay, inner, _LEFT))
        valid.append(_massive(block, out, outer, _LEFT / _VALID))
        open_learn.append(block.take(stay))
        open_valid.append(block.take(out))
    kept, held, notes = _some(learn), _some(valid), []
    if not kept:  # where all go to the same few source cells, holding those out leaves nothing
        kept, held = _some(open_learn), []
    lost = matched - _count_rows(open_valid) - _count_rows(kept)
    if lost:
        notes.append(
            f"{lost:,} of {matched:,} matched cells of {matching.source} were not learned from: "
            "most of their mass is on cells that are held out to choose the epoch."
        )
    if not held:
        held = _some(open_valid)
        notes.append("the epoch was chosen on held-out target cells whose partners were learned from.")
    return Partners(tuple(kept)), Partners(tuple(held)), tuple(notes)


def _count_rows(blocks: Sequence[Block]) -> int:
    """Count the target cells in blocks that have a coupling."""
    return sum(len(b.rows) for b in blocks if b.matched)


def _some(blocks: Sequence[Block]) -> list[Block]:
    return [b for b in blocks if b.matched and len(b.rows)]


def _share_columns(block: Block, out: Array) -> tuple[Array, Array]:
    """Positions of the source cells to learn from and to hold out: those with most of the held-out cells' mass."""
    n = len(block.cols)
    everyone = np.arange(n)
    if n < 2 or not len(out):
        return everyone, everyone
    total = block.sums(0)
    share = block.take(out).sums(0) / np.where(total > 0, total, 1.0)
    held = np.argsort(-share, kind="stable")[: max(1, round(n / _VALID))]
    return np.setdiff1d(everyone, held), np.sort(held)


def _massive(block: Block, rows: Array, cols: Array, least: float) -> Block:
    """Return the part of a block, without the rows that keep less than ``least`` of their mass in it."""
    if not len(rows):
        return block.take(rows, cols)
    part = block.take(rows, cols)
    before = block.take(rows).sums(1) if len(cols) < len(block.cols) else part.sums(1)
    return part.take(np.flatnonzero(part.sums(1) >= least * before))
