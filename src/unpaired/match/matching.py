"""The one result that every way of matching returns: a soft matching, label by label, never a dense n x n by force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array
from unpaired.embed.embedding import Provenance
from unpaired.errors import OptionError
from unpaired.match.block import Block
from unpaired.options import check_choice, check_integer, check_number

__all__ = ["Coverage", "Matching"]


@dataclass(frozen=True)
class Coverage:
    """How much of the data a matching, or an average over it, speaks of.

    Attributes
    ----------
    labels, labels_total
        Labels covered, and labels in either modality.
    source, source_total, target, target_total
        Cells covered and cells in all, unlabelled ones included.
    left_out
        Label -> why it is not covered.
    """

    labels: int
    labels_total: int
    source: int
    source_total: int
    target: int
    target_total: int
    left_out: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Matching:
    """A soft matching of the cells of two modalities.

    Attributes
    ----------
    source, target
        Names of the modalities.
    shape
        Numbers of their cells.
    blocks
        One :class:`Block` a label.
    made_by
        How it was made.
    """

    source: str
    target: str
    shape: tuple[int, int]
    blocks: tuple[Block, ...]
    made_by: Provenance

    def __repr__(self) -> str:
        states = [b.status.state for b in self.blocks]
        counts = ", ".join(f"{states.count(s)} {s}" for s in sorted(set(states)))
        return f"Matching({self.source} {self.shape[0]} -> {self.target} {self.shape[1]}; labels: {counts})"

    @property
    def matched(self) -> tuple[Block, ...]:
        """The blocks that have a coupling."""
        return tuple(b for b in self.blocks if b.matched)

    @property
    def transpose(self) -> Matching:
        """The matching with source and target exchanged."""
        blocks = tuple(b.transpose for b in self.blocks)
        return Matching(self.target, self.source, self.shape[::-1], blocks, self.made_by)

    @property
    def coverage(self) -> Coverage:
        """How many labels and cells have a coupling, and why the others have none."""
        on = self.matched
        return Coverage(
            labels=len(on),
            labels_total=len(self.blocks),
            source=sum(len(b.rows) for b in on),
            source_total=self.shape[0],
            target=sum(len(b.cols) for b in on),
            target_total=self.shape[1],
            left_out={b.label: b.status.advice or b.status.state for b in self.blocks if not b.matched},
        )

    def direction(self, source: str | None = None, target: str | None = None) -> tuple[str, str]:
        """Return source and target for a use of the matching in either direction; its own where neither is named.

        Raises
        ------
        OptionError
            If a name is not one of its modalities, or both are the same.
        """
        both = (self.source, self.target)
        for option, name in (("source", source), ("target", target)):
            if name is not None:
                check_choice(option, name, both)
        if source is None:
            source = both[0] if target is None else both[both.index(target) - 1]
        if target is None:
            target = both[both.index(source) - 1]
        if source == target:
            msg = f"source and target must differ; both are {source!r}."
            raise OptionError(msg)
        return source, target

    def pull(self, values: Array, *, fill: float = np.nan) -> Array:
        """Bring values of target cells to the source cells: the barycentric projection E[value | source cell].

        Parameters
        ----------
        values
            ``(n_target, d)``.
        fill
            Value of the source cells that have no partner.

        Returns
        -------
        ``(n_source, d)``. Source: Xi et al. 2024, section 5.
        """
        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 2 or len(values) != self.shape[1]:
            msg = f"values must be {self.shape[1]} rows, one a cell of the other side; got shape {values.shape}."
            raise OptionError(msg)
        out = np.full((self.shape[0], values.shape[1]), fill, dtype=np.float64)
        for block in self.matched:
            some = block.sums(1) > 0
            out[block.rows[some]] = block.project(values[block.cols])[some]
        return out

    def push(self, values: Array, *, fill: float = np.nan) -> Array:
        """Bring values of source cells to the target cells; as :meth:`pull` in the other direction."""
        return self.transpose.pull(values, fill=fill)

    def partners(self, k: int = 1) -> tuple[Array, Array]:
        """Return the ``k`` likeliest partners of every source cell.

        Returns
        -------
        rows, probabilities
            Both ``(n_source, k)``: target rows, -1 where there are fewer; and p(target cell | source cell).
        """
        check_integer("k", k, low=1)
        rows = np.full((self.shape[0], k), -1)
        weight = np.zeros((self.shape[0], k))
        for block in self.matched:
            width = min(k, len(block.cols))
            for start, part in block.chunks():
                top = np.argsort(-part, axis=1, kind="stable")[:, :width] if k > 1 else part.argmax(axis=1)[:, None]
                at = block.rows[start : start + len(part)]
                chosen = np.take_along_axis(part, top, axis=1)
                rows[at, :width] = np.where(chosen > 0, block.cols[top], -1)
                weight[at, :width] = chosen
        return rows, weight

    def sample(self, rng: np.random.Generator) -> Array:
        """Return ``(n_source,)`` one target row drawn for every source cell from p(target | source), -1 without any."""
        out = np.full(self.shape[0], -1)
        for block in self.matched:
            picked = block.cols[block.sample(rng)]
            out[block.rows] = np.where(block.sums(1) > 0, picked, -1)
        return out

    def sparsify(self, keep: float = 0.999) -> Matching:
        """Return the matching with CSR weights: of every row the largest entries that hold ``keep`` of its mass.

        Parameters
        ----------
        keep
            Fraction of each row's mass that stays; 1 keeps all that is not zero.
        """
        check_number("keep", keep, above=0.0, high=1.0)
        blocks = (b.sparsify(keep) if b.matched else b for b in self.blocks)
        return replace(self, blocks=tuple(blocks))

    def to_sparse(self, normalise: Literal["joint", "rows"] = "joint") -> sp.csr_matrix:
        """Return the whole coupling as ``(n_source, n_target)`` CSR.

        Every entry that is not zero is in it. Of a block that makes its entries on demand that may be all pairs of a
        large label: there, :meth:`sparsify` first.

        Parameters
        ----------
        normalise
            ``"joint"``: all entries sum to 1, a label weighs as its number of source cells. ``"rows"``: every row
            that has a partner sums to 1.
        """
        check_choice("normalise", normalise, ("joint", "rows"))
        covered = sum(len(b.rows) for b in self.matched)
        parts = []
        for block in self.sparsify(1.0).matched:
            w = sp.coo_matrix(block.weights, dtype=np.float64)
            total = block.sums(1)
            scale = np.where(total > 0, 1 / np.where(total > 0, total, 1), 0)
            by = scale[w.row] if normalise == "rows" else len(block.rows) / covered / max(total.sum(), 1e-300)
            parts.append((w.data * by, block.rows[w.row], block.cols[w.col]))
        if not parts:
            return sp.csr_matrix(self.shape)
        data, rows, cols = (np.concatenate(p) for p in zip(*parts, strict=True))
        return sp.csr_matrix((data, (rows, cols)), shape=self.shape)
