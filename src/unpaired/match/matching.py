"""The one result that every way of matching returns: a soft matching, label by label, never a dense n x n by force."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array
from unpaired.embed.embedding import Provenance
from unpaired.options import check_choice, check_integer, check_number

__all__ = ["Block", "Coverage", "Matching", "Product", "Status"]

_CHUNK = 2**24  # entries of a dense chunk of a coupling (128 MB)


@dataclass(frozen=True, eq=False)
class Product:
    """The independent coupling ``a b^T``, kept as its two factors.

    Attributes
    ----------
    a, b
        ``(n1,)`` and ``(n2,)`` marginals.
    """

    a: Array
    b: Array

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        return len(self.a), len(self.b)

    @property
    def T(self) -> Product:
        """The transposed coupling."""
        return Product(self.b, self.a)


@dataclass(frozen=True)
class Status:
    """How the matching of one label went.

    Attributes
    ----------
    state
        ``"ok"``; ``"not_converged"`` (there is a coupling, its marginals are off by ``marginal_error``);
        ``"too_small"`` (one cell on a side: the coupling is forced and says nothing); ``"absent"`` (no cell on a
        side, no coupling); ``"failed"`` (no coupling, ``advice`` says why).
    advice
        What to do about it; empty when all is well.
    marginal_error
        Sum over both sides of the absolute differences between the coupling's marginals and those asked for; NaN
        where there is no coupling or none were asked for.
    iterations
        Iterations of the solver.
    seconds
        Wall time.
    used
        What the solver really used (cost, eps, ...).
    """

    state: Literal["ok", "not_converged", "too_small", "absent", "failed"]
    advice: str = ""
    marginal_error: float = float("nan")
    iterations: int = 0
    seconds: float = 0.0
    used: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Block:
    """One label's coupling.

    Attributes
    ----------
    label
        Name of the label.
    rows, cols
        Row indices of its cells in the source and in the target.
    weights
        ``(len(rows), len(cols))`` non-negative weights, dense, CSR or a :class:`Product`; ``None`` where there is no
        coupling. Rows divided by their sums are p(target cell | source cell).
    status
        How it went.
    """

    label: str
    rows: Array
    cols: Array
    weights: Any
    status: Status

    @property
    def matched(self) -> bool:
        """Whether there is a coupling."""
        return self.weights is not None

    @property
    def transpose(self) -> Block:
        """The block with source and target exchanged."""
        turned: Any = None if self.weights is None else self.weights.T
        if sp.issparse(turned):
            turned = turned.tocsr()
        return replace(self, rows=self.cols, cols=self.rows, weights=turned)

    def sums(self, axis: Literal[0, 1]) -> Array:
        """Return the row sums (``axis=1``) or column sums (``axis=0``) of the weights."""
        w = self.weights
        if isinstance(w, Product):
            return np.asarray(w.a * w.b.sum() if axis == 1 else w.b * w.a.sum())
        return np.asarray(w.sum(axis=axis), dtype=np.float64).ravel()

    def dot(self, values: Array) -> Array:
        """Return ``weights @ values`` for ``(len(cols), d)`` values."""
        w = self.weights
        if isinstance(w, Product):
            return np.outer(w.a, w.b @ values)
        return np.asarray(w @ values)

    def dense(self, start: int = 0, stop: int | None = None) -> Array:
        """Return rows ``start`` to ``stop`` of the weights as a dense array."""
        w = self.weights
        if isinstance(w, Product):
            return np.outer(w.a[start:stop], w.b)
        part = w[start:stop]
        return part.toarray() if sp.issparse(part) else np.asarray(part)

    def chunks(self) -> Iterator[tuple[int, Array]]:
        """Iterate over ``(start, conditional rows)``: dense rows divided by their sums, a bounded number at a time."""
        step = max(1, _CHUNK // max(1, len(self.cols)))
        for start in range(0, len(self.rows), step):
            part = self.dense(start, start + step)
            total = part.sum(axis=1, keepdims=True)
            yield start, part / np.where(total > 0, total, 1.0)

    def at(self, rows: Array, cols: Array) -> Array:
        """Return p(target cell | source cell) at the given positions ``(k,)`` of rows and columns."""
        w = self.weights
        values = w.a[rows] * w.b[cols] if isinstance(w, Product) else np.asarray(w[rows, cols]).ravel()
        total = self.sums(1)[rows]
        return np.asarray(values / np.where(total > 0, total, 1.0))

    def sample(self, rng: np.random.Generator) -> Array:
        """Return ``(len(rows),)`` one column position drawn for every row from its conditional weights.

        A row without any weight draws uniformly.
        """
        out = np.empty(len(self.rows), dtype=np.int64)
        for start, part in self.chunks():
            part[part.sum(axis=1) == 0] = 1.0
            cumulative = part.cumsum(axis=1)
            draw = rng.random(len(part)) * cumulative[:, -1]
            out[start : start + len(part)] = (cumulative <= draw[:, None]).sum(axis=1).clip(max=part.shape[1] - 1)
        return out

    def project(self, values: Array) -> Array:
        """Return ``(len(rows), d)`` weighted means of ``(len(cols), d)`` values; zero for a row without any weight."""
        total = self.sums(1)
        return self.dot(values) / np.where(total > 0, total, 1.0)[:, None]


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
        out = np.full((self.shape[0], values.shape[1]), fill)
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
                top = np.argsort(-part, axis=1, kind="stable")[:, :width]
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
        blocks = (b if b.weights is None or sp.issparse(b.weights) else _truncate(b, keep) for b in self.blocks)
        return replace(self, blocks=tuple(blocks))

    def to_sparse(self, normalise: Literal["joint", "rows"] = "joint") -> sp.csr_matrix:
        """Return the whole coupling as ``(n_source, n_target)`` CSR.

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


def _truncate(block: Block, keep: float) -> Block:
    data, cols, ends = [], [], [0]
    step = max(1, _CHUNK // max(1, len(block.cols)))
    for start in range(0, len(block.rows), step):
        part = block.dense(start, start + step)
        if keep < 1:
            order = np.argsort(-part, axis=1, kind="stable")
            cumulative = np.take_along_axis(part, order, axis=1).cumsum(axis=1)
            enough = cumulative - np.take_along_axis(part, order, axis=1) >= keep * cumulative[:, -1:]
            drop = np.zeros(part.shape, dtype=bool)
            np.put_along_axis(drop, order, enough, axis=1)
            part = np.where(drop, 0.0, part)
        at = part != 0
        data.append(part[at])
        cols.append(np.nonzero(at)[1])
        ends.extend((ends[-1] + at.sum(axis=1).cumsum()).tolist())
    shape = (len(block.rows), len(block.cols))
    weights = sp.csr_matrix((np.concatenate(data), np.concatenate(cols), np.array(ends)), shape=shape)
    return replace(block, weights=weights)
