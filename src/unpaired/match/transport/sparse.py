"""The plan on a sparse support, in float64: values, marginals and the products that Newton's method needs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from unpaired.data.types import Array
from unpaired.match.transport.kernels import FAST, INLINE, SAFE, exp_tile
from unpaired.match.transport.problem import Problem
from unpaired.match.transport.workers import Workers, parts_of

__all__ = ["SparsePlan"]

_WEIGHT = 8  # an entry of the support costs as much as so many pairs of a dense pass


class SparsePlan:
    """The plan restricted to given pairs, as an operator for :func:`~unpaired.match.transport.newton.newton`.

    Parameters
    ----------
    problem
        The problem.
    starts, cols
        ``(n + 1,)`` int64 and ``(nnz,)`` uint32: the pairs as CSR without values.
    workers
        Threads.
    """

    def __init__(self, problem: Problem, starts: Array, cols: Array, workers: Workers) -> None:
        self.problem, self.workers = problem, workers
        n, m = problem.shape
        self.nnz = len(cols)
        self.starts, self.cols = starts, cols
        self.col_starts, self.rows, self.place = _columns(starts, cols, m)
        self._row_parts, self._col_parts = parts_of(n, self.nnz * _WEIGHT), parts_of(m, self.nnz * _WEIGHT)
        self.costs = np.empty(self.nnz)  # in column order, as all that the column update reads
        x, y = problem.x, problem.y
        workers.each(
            lambda i, j, _: _pair_costs(y, x, self.col_starts, self.rows, problem.squared, i, j, self.costs),
            self._col_parts,
        )
        self.full = all(len(ids) == 0 for ids in self.bare())
        self._widest = int(np.diff(self.col_starts).max(initial=1))
        self._by_col, self._by_row = np.empty(self.nnz), np.empty(self.nnz)
        self.sums, self.col_sums = np.empty(n), np.empty(m)

    def bare(self) -> tuple[Array, Array]:
        """Return the rows and the columns without any pair."""
        return np.flatnonzero(np.diff(self.starts) == 0), np.flatnonzero(np.diff(self.col_starts) == 0)

    def evaluate(self, f: Array, heat: float) -> Array:
        """Set the plan to F and its best G; return G. Row sums are in ``sums``, column sums in ``col_sums``."""
        g = np.empty(self.problem.shape[1])
        log_b, power = np.log(self.problem.b), self.problem.power(heat)
        self.workers.each(
            lambda i, j, _: _best_columns(
                self.col_starts, self.rows, self.costs, f, log_b, power, heat, self._widest, i, j,
                g, self._by_col, self.col_sums,
            ),
            self._col_parts,
        )  # fmt: skip
        self.workers.each(
            lambda i, j, _: _rows_of(self.starts, self.place, self._by_col, i, j, self._by_row, self.sums),
            self._row_parts,
        )
        return g

    def diagonal(self, divide: Array) -> Array:
        """Return the diagonal of ``P diag(1 / divide) P'``."""
        out = np.empty(self.problem.shape[0])
        self.workers.each(
            lambda i, j, _: _diagonal(self.starts, self.cols, self._by_row, divide, i, j, out), self._row_parts
        )
        return out

    def product(self, p: Array, divide: Array) -> Array:
        """Return ``P diag(1 / divide) P' p``."""
        t, out = np.empty(self.problem.shape[1]), np.empty(self.problem.shape[0])
        self.workers.each(
            lambda i, j, _: _multiply(self.col_starts, self.rows, self._by_col, p, divide, i, j, t), self._col_parts
        )
        self.workers.each(
            lambda i, j, _: _multiply(self.starts, self.cols, self._by_row, t, _NONE, i, j, out), self._row_parts
        )
        return out


_NONE = np.empty(0)


@njit(**SAFE)
def _columns(starts: Array, cols: Array, m: int) -> tuple[Array, Array, Array]:
    """Return the pattern by columns, and the place there of every entry of the pattern by rows."""
    nnz = cols.shape[0]
    col_starts = np.zeros(m + 1, np.int64)
    for p in range(nnz):
        col_starts[cols[p] + 1] += 1
    for j in range(m):
        col_starts[j + 1] += col_starts[j]
    at = col_starts.copy()
    rows, place = np.empty(nnz, np.uint32), np.empty(nnz, np.uint32)
    for i in range(starts.shape[0] - 1):
        for p in range(starts[i], starts[i + 1]):
            j = cols[p]
            q = at[j]
            at[j] = q + 1
            rows[q] = i
            place[p] = q
    return col_starts, rows, place


@njit(**SAFE)
def _pair_costs(
    own: Array, other: Array, starts: Array, ids: Array, squared: bool, i0: int, i1: int, out: Array
) -> None:
    d = own.shape[1]
    for i in range(i0, i1):
        for p in range(starts[i], starts[i + 1]):
            s = 0.0
            for t in range(d):
                e = own[i, t] - other[ids[p], t]
                s += e * e
            out[p] = s if squared else math.sqrt(s)


@njit(**SAFE, **INLINE)
def _exponents(f: Array, rows: Array, costs: Array, start: int, width: int, cold: float, z: Array) -> None:
    for k in range(width):
        z[k] = (f[rows[start + k]] - costs[start + k]) * cold


@njit(**FAST, **INLINE)
def _lower_by_max(z: Array, width: int) -> Any:
    top = z[0]
    for k in range(1, width):
        top = max(top, z[k])
    for k in range(width):
        z[k] -= top
    return top


@njit(**FAST, **INLINE)
def _total(z: Array, width: int) -> float:
    s = 0.0
    for k in range(width):
        s += z[k]
    return s


@njit(**SAFE)
def _best_columns(
    starts: Array, rows: Array, costs: Array, f: Array, log_b: Array, power: float, heat: float, widest: int,
    j0: int, j1: int, g: Array, plan: Array, sums: Array,
) -> None:  # fmt: skip
    """Best G for the given F, column by column; the plan's values and column sums."""
    z = np.empty(widest)
    for j in range(j0, j1):
        start = starts[j]
        width = starts[j + 1] - start
        if width == 0:
            g[j] = -1e300
            sums[j] = 0.0
            continue
        _exponents(f, rows, costs, start, width, 1 / heat, z)
        top = _lower_by_max(z, width)
        exp_tile(z, width)
        total = _total(z, width)
        log_total = top + math.log(total)
        g[j] = heat * (log_b[j] - power * log_total)
        sums[j] = math.exp(log_b[j] + (1.0 - power) * log_total)
        scale = sums[j] / total
        for k in range(width):
            plan[start + k] = z[k] * scale


@njit(**SAFE)
def _rows_of(starts: Array, place: Array, by_col: Array, i0: int, i1: int, by_row: Array, sums: Array) -> None:
    for i in range(i0, i1):
        s = 0.0
        for p in range(starts[i], starts[i + 1]):
            v = by_col[place[p]]
            by_row[p] = v
            s += v
        sums[i] = s


@njit(**SAFE)
def _diagonal(starts: Array, cols: Array, plan: Array, divide: Array, i0: int, i1: int, out: Array) -> None:
    for i in range(i0, i1):
        s = 0.0
        for p in range(starts[i], starts[i + 1]):
            s += plan[p] * plan[p] / divide[cols[p]]
        out[i] = s


@njit(**SAFE)
def _multiply(starts: Array, ids: Array, plan: Array, p: Array, divide: Array, i0: int, i1: int, out: Array) -> None:
    """Row sums of ``plan * p``, divided by ``divide`` where it is given; two sums at a time hide the gathers' wait."""
    one = np.uint32(1)
    for i in range(i0, i1):
        s0, s1 = 0.0, 0.0
        k, end = np.uint32(starts[i]), np.uint32(starts[i + 1])
        while k + one < end:
            s0 += plan[k] * p[ids[k]]
            s1 += plan[k + one] * p[ids[k + one]]
            k = k + one + one
        if k < end:
            s0 += plan[k] * p[ids[k]]
        out[i] = (s0 + s1) / divide[i] if divide.shape[0] > 0 else s0 + s1
