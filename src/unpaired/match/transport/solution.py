"""What the solver returns: a coupling kept as its potentials, whose rows are made on demand, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from scipy.spatial.distance import cdist

from unpaired.data.types import Array

__all__ = ["Plan", "Solution"]

_CHUNK = 2**22  # entries of the coupling in memory at a time (32 MB)


@dataclass(frozen=True, eq=False)
class Plan:
    """A coupling kept as potentials: ``P_ij = exp((f_i + g_j - C_ij) / eps)``, made where it is asked for.

    It takes the memory of its points, whatever it is asked: all passes go over a bounded number of rows at a time, in
    float64.

    Attributes
    ----------
    x, y
        ``(n, d)`` and ``(m, d)`` coordinates.
    f, g
        ``(n,)`` and ``(m,)`` potentials in units of the cost; minus infinity for a point without mass, whose row or
        column is zero.
    eps
        Weight of the entropy, in units of the cost.
    cost
        ``"euclidean"``: C is the distance; ``"sqeuclidean"``: its square.
    """

    x: Array
    y: Array
    f: Array
    g: Array
    eps: float
    cost: Literal["euclidean", "sqeuclidean"]

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        return len(self.x), len(self.y)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return int(self.x.nbytes + self.y.nbytes + self.f.nbytes + self.g.nbytes)

    @property
    def T(self) -> Plan:
        """The transposed coupling."""
        turned = Plan(self.y, self.x, self.g, self.f, self.eps, self.cost)
        if "_sums" in self.__dict__:  # a pass over all pairs is too dear to be made again
            turned.__dict__["_sums"] = self._sums[::-1]
        return turned

    def rows(self, start: int, stop: int) -> Array:
        """Return rows ``start`` to ``stop`` as a dense array."""
        part = cdist(self.x[start:stop], self.y, metric=self.cost)  # everything below is done in its place
        part -= self.f[start:stop, None]
        part -= self.g
        part *= -1 / self.eps
        return np.asarray(np.exp(part, out=part))

    def at(self, rows: Array, cols: Array) -> Array:
        """Return ``(k,)`` entries at the given positions ``(k,)`` of rows and columns."""
        rows, cols = np.asarray(rows), np.asarray(cols)
        out = np.empty(len(rows))
        step = max(1, _CHUNK // max(1, self.x.shape[1]))
        for start in range(0, len(rows), step):
            i, j = rows[start : start + step], cols[start : start + step]
            gap = np.asarray(self.x[i], dtype=np.float64) - self.y[j]
            cost = np.einsum("ij,ij->i", gap, gap)
            if self.cost == "euclidean":
                cost = np.sqrt(cost)
            out[start : start + step] = np.exp((self.f[i] + self.g[j] - cost) / self.eps)
        return out

    def take(self, rows: Array, cols: Array) -> Plan:
        """Return the coupling with only the given positions of rows and columns, in that order."""
        return Plan(self.x[rows], self.y[cols], self.f[rows], self.g[cols], self.eps, self.cost)

    def sum(self, axis: Literal[0, 1]) -> Array:
        """Return the row sums (``axis=1``) or column sums (``axis=0``); the first call makes both in one pass."""
        return self._sums[1 - axis].copy()

    def __matmul__(self, values: Array) -> Array:
        """Return ``P @ values`` for ``(m, d)`` values."""
        values = np.asarray(values, dtype=np.float64)
        out = np.zeros((len(self.x), *values.shape[1:]))
        for start, part in self._chunks():
            out[start : start + len(part)] = part @ values
        return out

    @cached_property
    def _sums(self) -> tuple[Array, Array]:
        """Sums of the rows and of the columns."""
        by_row, by_col = np.zeros(len(self.x)), np.zeros(len(self.y))
        for start, part in self._chunks():
            by_row[start : start + len(part)] = part.sum(axis=1)
            by_col += part.sum(axis=0)
        return by_row, by_col

    def _chunks(self) -> Iterator[tuple[int, Array]]:
        step = max(1, _CHUNK // max(1, len(self.y)))
        for start in range(0, len(self.x), step):
            yield start, self.rows(start, start + step)


@dataclass(frozen=True, eq=False)
class Solution:
    """The solution of one label's transport problem.

    Attributes
    ----------
    plan
        The coupling as potentials; always there, and exact.
    coupling
        ``(n, m)`` CSR: of every row the largest entries that hold ``keep`` of its mass, and the largest entry of every
        column. ``None`` where that would take more memory than is allowed.
    dropped
        ``(n,)`` mass left out of each row of ``coupling``, at most ``1 - keep`` of the row's mass.
    converged
        Whether ``marginal_error`` came below the tolerance.
    marginal_error
        Sum over both sides of the absolute differences between the marginals of ``plan`` and those asked for,
        certified: computed in float64, with a bound on what was left out of the sums. With a penalty in place of the
        constraints, the marginals asked for are those that the potentials imply at the minimum. Not finite where there
        is no plan to speak of; ``advice`` says why.
    iterations
        Passes over the pairs.
    seconds
        Wall time.
    memory
        Bytes that the solver needed at most, as estimated.
    advice
        What to do about it; empty when it converged.
    used
        What the solver really used: ``path`` (``"small"``, ``"dense"``, ``"multiscale"``, ``"line"`` or ``"torch"``),
        ``eps``, ``cost``, ...
    """

    plan: Plan
    coupling: sp.csr_matrix | None
    dropped: Array
    converged: bool
    marginal_error: float
    iterations: int
    seconds: float
    memory: int
    advice: str
    used: Mapping[str, Any]
