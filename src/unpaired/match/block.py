"""One label's coupling and how it went: the unit that every way of matching makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array

__all__ = ["Block", "Product", "Status"]

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
        n, m = len(self.rows), len(self.cols)
        draw, w = rng.random(n), self.weights
        out = (draw * m).astype(np.int64)
        if isinstance(w, Product):
            cumulative = w.b.cumsum()
            drawn = np.searchsorted(cumulative, draw * cumulative[-1], side="right").clip(max=m - 1)
            return np.where(w.a > 0, drawn, out)
        if sp.issparse(w):
            cumulative = np.concatenate([[0.0], w.data.cumsum(dtype=np.float64)])
            first, last = w.indptr[:-1], w.indptr[1:]
            low, high = cumulative[first], cumulative[last]
            at = np.searchsorted(cumulative[1:], low + draw * (high - low), side="right")
            some = high > low
            out[some] = w.indices[at.clip(first, last - 1)[some]]
            return out
        for start, part in self.chunks():
            here = slice(start, start + len(part))
            cumulative = part.cumsum(axis=1)
            drawn = (cumulative <= draw[here, None] * cumulative[:, -1:]).sum(axis=1).clip(max=m - 1)
            out[here] = np.where(cumulative[:, -1] > 0, drawn, out[here])
        return out

    def project(self, values: Array) -> Array:
        """Return ``(len(rows), d)`` weighted means of ``(len(cols), d)`` values; zero for a row without any weight."""
        total = self.sums(1)
        return self.dot(values) / np.where(total > 0, total, 1.0)[:, None]

    def sparsify(self, keep: float) -> Block:
        """Return the block with CSR weights: of every row the largest entries that hold ``keep`` of its mass.

        The largest entry of every column stays too, so that no cell loses all its partners. What was kept is noted in
        ``status.used``; a block that was thinned as much before is returned as it is.
        """
        if sp.issparse(self.weights) and self.status.used.get("row_mass_kept", 1.0) <= keep:
            return self
        best = self._largest_of_columns()
        data, cols, ends = [], [], [0]
        step = max(1, _CHUNK // max(1, len(self.cols)))
        for start in range(0, len(self.rows), step):
            part = self.dense(start, start + step)
            if keep < 1:
                order = np.argsort(-part, axis=1, kind="stable")
                ordered = np.take_along_axis(part, order, axis=1)
                before = ordered.cumsum(axis=1) - ordered
                drop = np.zeros(part.shape, dtype=bool)
                np.put_along_axis(drop, order, before >= keep * ordered.sum(axis=1, keepdims=True), axis=1)
                here = np.flatnonzero((best >= start) & (best < start + len(part)))
                drop[best[here] - start, here] = False
                part = np.where(drop, 0.0, part)
            at = part != 0
            data.append(part[at])
            cols.append(np.nonzero(at)[1])
            ends.extend((ends[-1] + at.sum(axis=1).cumsum()).tolist())
        shape = (len(self.rows), len(self.cols))
        weights = sp.csr_matrix((np.concatenate(data), np.concatenate(cols), np.array(ends)), shape=shape)
        used = self.status.used if keep == 1 else {**self.status.used, "row_mass_kept": keep}
        return replace(self, weights=weights, status=replace(self.status, used=used))

    def _largest_of_columns(self) -> Array:
        """``(len(cols),)`` the row with the largest weight of every column."""
        best, value = np.zeros(len(self.cols), dtype=np.int64), np.full(len(self.cols), -1.0)
        step = max(1, _CHUNK // max(1, len(self.cols)))
        for start in range(0, len(self.rows), step):
            part = self.dense(start, start + step)
            row = part.argmax(axis=0)
            larger = part[row, np.arange(len(best))] > value
            best[larger] = start + row[larger]
            value[larger] = part[row, np.arange(len(best))][larger]
        return best
