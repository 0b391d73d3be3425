"""One label's coupling and how it went: the unit that every way of matching makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array

__all__ = ["Block", "OnDemand", "Product", "Status"]

_CHUNK = 2**22  # entries of a dense chunk of a coupling (32 MB)


@runtime_checkable
class OnDemand(Protocol):
    """A coupling that is kept as something smaller than its entries, and makes them where they are asked for."""

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        ...

    @property
    def T(self) -> Self:
        """The transposed coupling."""
        ...

    def sum(self, axis: Literal[0, 1]) -> Array:
        """Return the row sums (``axis=1``) or column sums (``axis=0``)."""
        ...

    def __matmul__(self, values: Array) -> Array: ...

    def rows(self, start: int, stop: int) -> Array:
        """Return rows ``start`` to ``stop`` as a dense array."""
        ...

    def at(self, rows: Array, cols: Array) -> Array:
        """Return ``(k,)`` entries at the given positions ``(k,)`` of rows and columns."""
        ...

    def take(self, rows: Array, cols: Array) -> Self:
        """Return the coupling with only the given positions of rows and columns, in that order."""
        ...


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

    def sum(self, axis: Literal[0, 1]) -> Array:
        """Return the row sums (``axis=1``) or column sums (``axis=0``)."""
        return np.asarray(self.a * self.b.sum() if axis == 1 else self.b * self.a.sum())

    def __matmul__(self, values: Array) -> Array:
        return np.asarray(np.multiply.outer(self.a, self.b @ values))

    def rows(self, start: int, stop: int) -> Array:
        """Return rows ``start`` to ``stop`` as a dense array."""
        return np.outer(self.a[start:stop], self.b)

    def at(self, rows: Array, cols: Array) -> Array:
        """Return ``(k,)`` entries at the given positions ``(k,)`` of rows and columns."""
        return np.asarray(self.a[rows] * self.b[cols])

    def take(self, rows: Array, cols: Array) -> Product:
        """Return the coupling with only the given positions of rows and columns, in that order."""
        return Product(self.a[rows], self.b[cols])


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
        ``(len(rows), len(cols))`` non-negative weights: dense, CSR, or made on demand from something smaller (a
        :class:`Product`, or the potentials of optimal transport); ``None`` where there is no coupling. Rows divided by
        their sums are p(target cell | source cell).
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

    def take(self, rows: Array | None = None, cols: Array | None = None) -> Block:
        """Return the block of some of its cells only.

        Parameters
        ----------
        rows, cols
            ``(k,)`` and ``(l,)`` positions within the block (not rows of the data), in the order wanted; ``None``: all.

        Returns
        -------
        The block with the weights between them, as they are and of the same kind. Where a side is empty it has none,
        and the state ``"absent"``.
        """
        i = np.arange(len(self.rows)) if rows is None else np.asarray(rows, dtype=np.int64)
        j = np.arange(len(self.cols)) if cols is None else np.asarray(cols, dtype=np.int64)
        cut = replace(self, rows=self.rows[i], cols=self.cols[j], weights=None)
        w = self.weights
        if w is None:
            return cut
        if not len(i) or not len(j):
            return replace(cut, status=replace(self.status, state="absent", advice="no cell is left on a side."))
        if isinstance(w, OnDemand):
            return replace(cut, weights=w.take(i, j))
        if sp.issparse(w):
            return replace(cut, weights=w[i] if cols is None else w[i][:, j])
        return replace(cut, weights=w[np.ix_(i, j)])

    def sums(self, axis: Literal[0, 1]) -> Array:
        """Return the row sums (``axis=1``) or column sums (``axis=0``) of the weights."""
        return np.asarray(self.weights.sum(axis=axis), dtype=np.float64).ravel()

    def dot(self, values: Array) -> Array:
        """Return ``weights @ values`` for ``(len(cols), d)`` values."""
        return np.asarray(self.weights @ values)

    def dense(self, start: int = 0, stop: int | None = None) -> Array:
        """Return rows ``start`` to ``stop`` of the weights as a dense array."""
        stop = len(self.rows) if stop is None else stop
        if isinstance(self.weights, OnDemand):
            return self.weights.rows(start, stop)
        part = self.weights[start:stop]
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
        values = w.at(rows, cols) if isinstance(w, OnDemand) else np.asarray(w[rows, cols]).ravel()
        total = self.sums(1)[rows]
        return np.asarray(values / np.where(total > 0, total, 1.0))

    def sample(self, rng: np.random.Generator, draws: int | None = None) -> Array:
        """Return column positions drawn for every row from its conditional weights.

        Parameters
        ----------
        rng
            Where the randomness comes from.
        draws
            Number of independent draws a row; they are made in one pass over the rows, which for a coupling that makes
            its entries on demand is most of the work.

        Returns
        -------
        ``(len(rows), draws)``, or ``(len(rows),)`` for ``None``: one draw. A row without any weight draws uniformly.
        """
        drawn = self._drawn(rng.random((len(self.rows), 1 if draws is None else draws)))
        return drawn[:, 0] if draws is None else drawn

    def _drawn(self, u: Array) -> Array:
        """Turn ``(len(rows), k)`` uniform numbers into column positions."""
        m, w = len(self.cols), self.weights
        out = (u * m).astype(np.int64)
        if isinstance(w, Product):
            cumulative = w.b.cumsum()
            drawn = np.searchsorted(cumulative, u * cumulative[-1], side="right").clip(max=m - 1)
            return np.where(w.a[:, None] > 0, drawn, out)
        if sp.issparse(w):
            cumulative = np.concatenate([[0.0], w.data.cumsum(dtype=np.float64)])
            first, last = w.indptr[:-1, None], w.indptr[1:, None]
            low, high = cumulative[first], cumulative[last]
            at = np.searchsorted(cumulative[1:], low + u * (high - low), side="right")
            some = (high > low)[:, 0]
            out[some] = w.indices[at.clip(first, last - 1)[some]]
            return out
        for start, part in self.chunks():
            for row, cumulative in enumerate(part.cumsum(axis=1), start):
                if cumulative[-1] > 0:
                    out[row] = cumulative.searchsorted(u[row] * cumulative[-1], side="right").clip(max=m - 1)
        return out

    def project(self, values: Array) -> Array:
        """Return ``(len(rows), d)`` weighted means of ``(len(cols), d)`` values; zero for a row without any weight."""
        total = self.sums(1)
        return self.dot(values) / np.where(total > 0, total, 1.0)[:, None]

    def effective_partners(self) -> Array:
        """Return ``(len(rows),)`` exp(entropy) of the conditional weights: between how many cells each is undecided."""
        if sp.issparse(self.weights):  # from its entries alone: a large label has no room, and no time, for the others
            w = sp.csr_matrix(self.weights)
            row = np.repeat(np.arange(w.shape[0]), np.diff(w.indptr))
            p = w.data / self.sums(1)[row].clip(min=np.finfo(float).tiny)
            return np.exp(-np.bincount(row, weights=_p_log_p(p), minlength=w.shape[0]))
        out = [np.exp(-_p_log_p(part).sum(axis=1)) for _, part in self.chunks()]
        return np.concatenate(out) if out else np.empty(0)

    def sparsify(self, keep: float) -> Block:
        """Return the block with CSR weights: of every row the largest entries that hold ``keep`` of its mass.

        The largest entry of every column stays too, so that no cell loses all its partners. What was kept is noted in
        ``status.used``; a block that was thinned as much before is returned as it is.
        """
        if sp.issparse(self.weights) and self.status.used.get("row_mass_kept", 1.0) <= keep:
            return self
        weights = _thinned(sp.csr_matrix(self.weights), keep) if sp.issparse(self.weights) else self._thinned(keep)
        used = self.status.used if keep == 1 else {**self.status.used, "row_mass_kept": keep}
        return replace(self, weights=weights, status=replace(self.status, used=used))

    def _thinned(self, keep: float) -> sp.csr_matrix:
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
        return sp.csr_matrix((np.concatenate(data), np.concatenate(cols), np.array(ends)), shape=shape)

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


def _thinned(w: sp.csr_matrix, keep: float) -> sp.csr_matrix:
    """Thin a sparse matrix by its entries alone: a large label has no room, and no time, for the others."""
    row = np.repeat(np.arange(w.shape[0]), np.diff(w.indptr))
    mass = np.bincount(row, weights=w.data, minlength=w.shape[0])[row]
    share = w.data / np.where(mass > 0, mass, 1.0)
    order = np.lexsort((w.indices, -w.data, row))  # rows stay together
    before = np.concatenate([[0.0], share[order].cumsum()])[:-1]
    before -= before[w.indptr[row]]
    stays = np.empty(len(row), dtype=bool)
    stays[order] = before < keep
    by_col = np.lexsort((row, -w.data, w.indices))
    stays[by_col[np.unique(w.indices[by_col], return_index=True)[1]]] = True
    stays &= w.data != 0
    ends = np.concatenate([[0], np.cumsum(np.bincount(row[stays], minlength=w.shape[0]))])
    return sp.csr_matrix((w.data[stays], w.indices[stays], ends), shape=w.shape)


def _p_log_p(p: Array) -> Array:
    safe = np.where(p > 0, p, 1.0)
    return np.asarray(safe * np.log(safe))
