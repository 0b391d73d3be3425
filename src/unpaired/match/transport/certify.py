"""The certificate: both marginals of the plan in float64, from the potentials and the points alone.

It trusts nothing that the search left behind and is run on what is returned; what it shares with the search are the
routines for distances and exponentials. Pairs below a floor may be left out; what they can add up to is part of the
error that is reported. The same pass yields the sparse coupling: of every row the entries that hold nearly all of its
mass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array
from unpaired.match.transport import certify_kernels as loops
from unpaired.match.transport.kernels import padded, tiled
from unpaired.match.transport.problem import Problem
from unpaired.match.transport.search import boxes, pad, rounding
from unpaired.match.transport.workers import Workers, parts_of

__all__ = ["ENTRY_BYTES", "Certificate", "certify"]

ENTRY_BYTES = 12
"""Bytes of an entry of the coupling: a value and a column."""
_PROBES, _PROBE_ROWS = 64, 4  # runs of rows that tell how many entries the coupling will hold
_SHARE = 0.1  # of the tolerance, for all the pairs left out together


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is known of a plan.

    Attributes
    ----------
    rows, cols
        ``(n,)`` and ``(m,)`` sums.
    omitted
        What the pairs left out can add to the error at most.
    error
        L1 distance of both marginals to what is asked for, and ``omitted``.
    coupling
        ``(n, m)`` CSR of the largest entries of every row; ``None`` if it was not asked for, or would not fit.
    dropped
        ``(n,)`` mass that the coupling leaves out of each row, with a bound on what was not looked at.
    """

    rows: Array
    cols: Array
    omitted: float
    error: float
    coupling: sp.csr_matrix | None
    dropped: Array

    def reorder(self, rows: Array, cols: Array) -> Certificate:
        """Return the certificate of the plan whose row ``rows[i]`` is row i here, and likewise its columns."""
        back = np.argsort(rows)
        coupling = self.coupling
        if coupling is not None:
            moved = sp.csr_matrix(
                (coupling.data, cols[coupling.indices].astype(np.int32), coupling.indptr), coupling.shape
            )
            coupling = moved[back]
        return replace(
            self, rows=self.rows[back], cols=self.cols[np.argsort(cols)], dropped=self.dropped[back], coupling=coupling
        )


def certify(
    problem: Problem, f: Array, g: Array, tol: float, workers: Workers, *, keep: float | None = None, most: int = 0
) -> Certificate:
    """Return the marginals of ``exp(F + G - C)``, and what is worth keeping of it.

    Parameters
    ----------
    problem
        The problem; a side whose points lie in the order of a tree is faster.
    f, g
        Potentials.
    tol
        All omitted pairs together stay below a tenth of it.
    workers
        Threads.
    keep
        Fraction of each row's mass that the coupling keeps, none by default; a column that would lose every entry keeps
        its largest.
    most
        Entries of the coupling that fit in memory.
    """
    n, m = problem.shape
    nothing = np.empty(0)
    if not (np.isfinite(f).all() and np.isfinite(g).all()):
        return Certificate(np.full(n, np.nan), np.full(m, np.nan), 0.0, math.inf, None, nothing)
    wanted = problem.targets(f, 0)
    share = min(_SHARE * tol / 2, 1 if keep is None else (1 - keep) / 2)
    # In relation to what a row should hold, so that the sum of a row with little mass is right as well.
    floor = np.log(max(share, 1e-290) / m) + np.log(np.maximum(wanted, 1e-300))
    least = (0.0 if keep is None else (1 - keep) / 2) * wanted / m  # all below it together are half of what may go
    sides = _Sides(problem, f, g, floor)
    parts = parts_of(n, n * m * 4)
    rows, left, cols = np.empty(n), np.zeros(n, np.int64), np.zeros((len(parts), *sides.g.shape))
    kept_share = -1.0 if keep is None or not _fits(sides, problem, keep, least, most) else keep
    bunch = _Bunch(n, m, len(parts), most if kept_share >= 0 else 0)

    def one(i: int, j: int, k: int) -> None:
        bunch.fill(
            k, j - i, lambda ids, values: loops.marginals(
                *sides.arrays, least, problem.squared, kept_share, i, j, rows, cols[k], left,
                ids, values, bunch.counts, bunch.kept,
            ),
        )  # fmt: skip

    workers.each(one, parts)
    total = cols.sum(axis=0).ravel()[:m]
    unseen = left * np.exp(floor)
    omitted = 2.0 * float(unseen.sum())
    error = float(np.abs(rows - wanted).sum() + np.abs(total - problem.targets(g, 1)).sum())
    coupling = bunch.matrix() if kept_share >= 0 else None
    if coupling is not None:
        coupling = _fill_columns(coupling, bunch.kept, problem, f, g)
    dropped = np.maximum(rows - bunch.kept, 0.0) + unseen
    return Certificate(rows, total, omitted, error + omitted, coupling, dropped)


class _Sides:
    """The arrays of both sides that the loops read; single precision finds the pairs above the floor."""

    def __init__(self, problem: Problem, f: Array, g: Array, floor: Array) -> None:
        x, y = problem.x, problem.y
        tiles = tiled(y, np.float32)
        self.g = pad(g, len(tiles))
        low, high = boxes(y)
        cut = floor - 0.01 - rounding(problem, f, g)  # its own error is allowed for
        self.arrays = (
            x, padded(x, np.float32), padded(x, np.float64), y, tiles, tiled(y, np.float64), f, self.g,
            self.g.astype(np.float32), self.g.max(axis=1), low, high, cut,
        )  # fmt: skip


def _fits(sides: _Sides, problem: Problem, keep: float, least: Array, most: int) -> bool:
    """Whether the coupling will hold about ``most`` entries or fewer, told from some of the rows."""
    n, m = problem.shape
    if n * m <= most:
        return True
    ranges = [(n * k // _PROBES, min(n * k // _PROBES + _PROBE_ROWS, n)) for k in range(_PROBES)]
    found, rows = 0, 0
    sums, counts, kept, cols = np.empty(n), np.empty(n, np.int64), np.empty(n), np.empty(sides.g.shape)
    for i, j in ranges:
        size = (j - i) * m
        found += loops.marginals(
            *sides.arrays, least, problem.squared, keep, i, j, sums, cols, counts, np.empty(size, np.int32),
            np.empty(size), counts, kept,
        )  # fmt: skip
        rows += j - i
    return found * n / rows <= 1.3 * most


class _Bunch:
    """Rows of a sparse matrix from several threads, within a limit on its entries."""

    def __init__(self, n: int, m: int, parts: int, most: int) -> None:
        self.counts, self.kept = np.zeros(n, np.int64), np.zeros(n)
        self._shape, self._most, self._room = (n, m), most, -(-most // parts)
        self._found: list[tuple[Array, Array] | None] = [None] * parts

    def fill(self, part: int, rows: int, work: Callable[[Array, Array], int]) -> None:
        """Call ``work(cols, values)``, which returns how many it wrote, or -1 where there was no room."""
        size = min(self._room, rows * self._shape[1])
        ids, values = np.empty(size, np.int32), np.empty(size)  # memory that is not touched costs nothing
        used = work(ids, values)
        if used >= 0:
            self._found[part] = ids[:used].copy(), values[:used].copy()

    def matrix(self) -> sp.csr_matrix | None:
        """Return the rows, or ``None`` if they did not fit."""
        done = [part for part in self._found if part is not None]
        if len(done) < len(self._found) or self.counts.sum() > self._most:
            return None
        starts = np.concatenate([[0], np.cumsum(self.counts)])
        ids, values = (np.concatenate([part[k] for part in done]) for k in (0, 1))
        return sp.csr_matrix((values, ids, starts), shape=self._shape)


def _fill_columns(matrix: sp.csr_matrix, kept: Array, problem: Problem, f: Array, g: Array) -> sp.csr_matrix:
    """Give every column without an entry its largest one, and add it to what its row keeps."""
    from scipy.spatial.distance import cdist

    bare = np.flatnonzero(np.bincount(matrix.indices, minlength=matrix.shape[1]) == 0)
    if len(bare) == 0:
        return matrix
    rows, values = np.empty(len(bare), np.int64), np.empty(len(bare))
    step = max(1, 2**22 // matrix.shape[0])
    for start in range(0, len(bare), step):
        at = bare[start : start + step]
        logs = f[:, None] - cdist(problem.x, problem.y[at], "sqeuclidean" if problem.squared else "euclidean")
        rows[start : start + step] = logs.argmax(axis=0)
        values[start : start + step] = np.exp(logs.max(axis=0) + g[at])
    np.add.at(kept, rows, values)
    return (matrix + sp.csr_matrix((values, (rows, bare)), shape=matrix.shape)).tocsr()
