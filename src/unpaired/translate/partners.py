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

_VALID = 10  # every tenth matched target cell chooses the epoch,
_MOST_VALID = 2000  # or so many: more would not choose better
_AHEAD = 8  # epochs drawn for in one pass over a coupling: for one that is made on demand the pass is the price
_LEFT = 0.5  # a training cell that loses more than this of its mass to the held-out partners is not learned from
_LOST = 0.05  # of a label's cells may be lost so


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

    Every tenth target cell (2,000 at most) is held out, and with them up to a tenth of each label's source cells, those
    that hold most of their mass: under true pairs these are just their partners, under a uniform coupling any tenth.
    So the epoch is chosen on inputs and outputs that nothing was learned from. Where partners are shared so unevenly
    that this would take them from too many others (shared neighbours have hubs), fewer source cells are held out, or
    none.

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
    whole = [b.take(np.flatnonzero(b.sums(1) > 0), np.flatnonzero(b.sums(0) > 0)) for b in matching.matched]
    whole = [b for b in whole if b.matched]
    matched = sum(len(b.rows) for b in whole)
    if matched < 2:
        what = f"the matching gives {matched} cells of {matching.source} a partner; two are the least to learn from."
        raise DataError([Problem("error", "memory", what, "Match more cells.")])
    learn, valid = [], []
    shared = dealt = held_out = 0
    every = max(_VALID, -(-matched // _MOST_VALID))
    for block in whole:
        order = named_rng(seed, "valid", block.label).permutation(len(block.rows))
        # The deck goes on from label to label, so that labels of fewer than ten cells give their share too.
        out = np.sort(order[(dealt + np.arange(len(order))) % every == every - 1])
        if matched < _VALID and block is whole[-1]:
            out = order[:1]
        dealt, held_out = dealt + len(order), held_out + len(out)
        own, judged, alone = _cut(block, out, every)
        learn.append(own)
        valid.append(judged)
        shared += 0 if alone else len(out)
    kept = Partners(tuple(b for b in learn if b.matched and len(b.rows)))
    held = Partners(tuple(b for b in valid if b.matched and len(b.rows)))
    notes = [*_unmatched(matching, matched), *_unsure(whole)]
    if lost := matched - held_out - len(kept.rows):
        notes.append(
            f"{lost:,} of {matched:,} matched cells of {matching.source} were not learned from: "
            "most of their mass is on cells that are held out to choose the epoch."
        )
    if shared:
        notes.append(
            f"{shared:,} of the {held_out:,} cells of {matching.source} that choose the epoch share their partners "
            "with cells that are learned from."
        )
    return kept, held, tuple(notes)


def _cut(block: Block, out: Array, every: int) -> tuple[Block, Block, bool]:
    """Return the part to learn from, the part to judge by, and whether they have no source cell in common."""
    everyone = np.arange(len(block.cols))
    stay = np.setdiff1d(np.arange(len(block.rows)), out)
    own, judged = block.take(stay), block.take(out)
    if not len(stay) or not len(out):
        return own, judged, True
    before, mass, total = own.sums(1), judged.sums(1), block.sums(0)
    order = np.argsort(-judged.sums(0) / np.where(total > 0, total, 1.0), kind="stable")
    columns = round(len(everyone) / every)
    while columns:
        held = np.sort(order[:columns])
        inner, outer = own.take(cols=np.setdiff1d(everyone, held)), judged.take(cols=held)
        enough = np.flatnonzero(inner.sums(1) >= _LEFT * before)
        seen = np.flatnonzero(outer.sums(1) >= _LEFT / every * mass)
        if len(enough) >= (1 - _LOST) * len(stay) and 2 * len(seen) >= len(out):
            return inner.take(enough), outer.take(seen), True
        columns //= 2
    return own, judged, not (own.sums(0) * judged.sums(0)).any()  # pairs have none either way


def _unmatched(matching: Matching, matched: int) -> list[str]:
    """Say how many target cells have no partner, and which labels have none at all."""
    total = matching.shape[0]
    if matched == total:
        return []
    without = [b.label for b in matching.blocks if not b.matched]
    labels = f" (no partner at all: {', '.join(without[:10])}{' and others' if len(without) > 10 else ''})"
    return [
        f"{total - matched:,} of {total:,} cells of {matching.source} have no partner and were not learned from"
        f"{labels if without else ''}."
    ]


def _unsure(blocks: Sequence[Block]) -> list[str]:
    """Say which labels were learned from though their matching did not converge."""
    names = [b.label for b in blocks if b.status.state == "not_converged"]
    if not names:
        return []
    return [f"learned from labels whose matching did not converge: {', '.join(names)}."]
