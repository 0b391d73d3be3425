"""A label whose pairs fit in memory: cached costs, fused scaling passes, and the plan as a dense operator."""

from __future__ import annotations

from typing import Any

import numpy as np

from unpaired.data.types import Array
from unpaired.match.transport import dense_kernels as loops
from unpaired.match.transport.kernels import TILE, padded, tiled
from unpaired.match.transport.limits import Relaxation
from unpaired.match.transport.problem import Problem
from unpaired.match.transport.search import pad
from unpaired.match.transport.workers import Workers, parts_of

__all__ = ["DenseCosts", "DensePlan"]

_NOTHING = -1e30  # potential of the points that fill up a tile
_LARGEST = 1e37
_RANGE = 1e12  # scalings further from 1 are moved into the potentials


class DenseCosts:
    """Costs of all pairs in single precision, and what the first, rough part of the search does with them.

    Parameters
    ----------
    problem
        The problem.
    workers
        Threads.
    """

    def __init__(self, problem: Problem, workers: Workers) -> None:
        self.problem, self.workers = problem, workers
        n, m = problem.shape
        self.parts = parts_of(n, n * m)
        tiles = tiled(problem.y, np.float32)
        self.tiles = len(tiles)
        self._tile_parts = parts_of(self.tiles, n * m)
        self.costs = np.empty((n, self.tiles, TILE), np.float32)
        self.kernel = np.empty_like(self.costs)
        x = padded(problem.x, np.float32)
        workers.each(lambda i, j, _: loops.fill_costs(x, tiles, problem.squared, i, j, self.costs), self.parts)

    def columns(self, f: Array, heat: float) -> Array:
        """Return the best G for F over all pairs, in single precision."""
        out, single = np.empty((self.tiles, TILE)), f.astype(np.float32)
        self.workers.each(lambda i, j, _: loops.best_columns(self.costs, single, heat, i, j, out), self._tile_parts)
        log = out.ravel()[: self.problem.shape[1]]
        return np.asarray(heat * (np.log(self.problem.b) - self.problem.power(heat) * log))

    def rows(self, g: Array, heat: float) -> Array:
        """Return the best F for G over all pairs, in single precision."""
        out, single = np.empty(self.problem.shape[0]), self._fill(g, _NOTHING)
        self.workers.each(lambda i, j, _: loops.best_rows(self.costs, single, heat, i, j, out), self.parts)
        return np.asarray(heat * (np.log(self.problem.a) - self.problem.power(heat) * out))

    def scale(
        self, f: Array, g: Array, heat: float, *, passes: int, goal: float, relax: float, exact: bool = False
    ) -> tuple[Array, Array, float, int]:
        """Run over-relaxed scaling passes; return F, G, the columns' L1 error before the last pass, and passes done.

        ``exact`` takes the exponents in double precision, so that only the rounding of the kernel's values is left.
        """
        problem, done, error, lost = self.problem, 0, np.inf, 0
        ease = 0.0 if problem.power(heat) == 1.0 else heat / problem.penalty
        while done < passes:
            (self._absorb_exact if exact else self._absorb)(f, g, heat)
            u, v = np.ones(len(f), np.float32), self._fill(np.ones(len(g)), 0.0).ravel()
            rows, cols = problem.targets(f, 0, heat), problem.targets(g, 1, heat)
            used, error, ok = self._loop(u, v, rows, cols, heat, ease, passes - done, goal, relax if lost == 0 else 1.0)
            done += used
            new_f, new_g = f + heat * np.log(u), g + heat * np.log(v[: len(g)])
            if np.isfinite(new_f).all() and np.isfinite(new_g).all():
                f, g = new_f, new_g
            else:  # out of single precision's range: exact steps in the logarithm find the way back
                lost += 1
                g = self.columns(f, heat)
                f = self.rows(g, heat)
            if ok or lost > 3:
                break
        return f, g, error, done

    def pattern(self, f: Array, g: Array, slack: float, most: int) -> tuple[Array, Array] | None:
        """Return the pairs with a slack below ``slack`` as CSR without values; None if there are more than ``most``."""
        counts = np.empty(self.problem.shape[0], np.int64)
        single, other = f.astype(np.float32), self._fill(g, _NOTHING)
        self.workers.each(lambda i, j, _: loops.count_above(self.costs, single, other, slack, i, j, counts), self.parts)
        starts = np.concatenate([[0], np.cumsum(counts)])
        if starts[-1] > most:
            return None
        cols = np.empty(starts[-1], np.uint32)
        self.workers.each(
            lambda i, j, _: loops.select(self.costs, single, other, slack, i, j, cols[starts[i] : starts[j]]),
            self.parts,
        )
        return starts, cols

    def _absorb(self, f: Array, g: Array, heat: float) -> None:
        single, other = f.astype(np.float32), self._fill(g, _NOTHING)
        self.workers.each(lambda i, j, _: loops.absorb(self.costs, single, other, heat, i, j, self.kernel), self.parts)

    def _absorb_exact(self, f: Array, g: Array, heat: float) -> None:
        x, tiles = padded(self.problem.x, np.float64), tiled(self.problem.y, np.float64)
        other = self._fill(g, _NOTHING, np.float64)
        sums = np.zeros((len(self.parts), *other.shape))
        self.workers.each(
            lambda i, j, k: loops.absorb_exact(
                x, tiles, self.problem.squared, f, other, heat, i, j, self.kernel, sums[k]
            ),
            self.parts,
        )

    def _loop(
        self,
        u: Array,
        v: Array,
        rows: Array,
        cols: Array,
        heat: float,
        ease: float,
        passes: int,
        goal: float,
        relax: float,
    ) -> tuple[int, float, bool]:
        """Iterate on the absorbed kernel; whether it ended by itself, not because a scaling left its range."""
        n, m = self.problem.shape
        power = self.problem.power(heat)
        flat = self.kernel.reshape(n, -1)
        sums = np.empty((len(self.parts), flat.shape[1]))
        relaxation = Relaxation(relax)
        for done in range(1, passes + 1):
            now = relaxation.now
            self._sweep(flat, v, rows, power, now, u, sums)
            total = sums.sum(axis=0)[:m] if len(sums) > 1 else sums[0, :m]
            old = v[:m].astype(np.float64)
            want = cols if ease == 0 else cols * old**-ease
            have = old * total
            error = float(np.abs(have - want).sum())
            step = (want / have) if power == 1.0 else (cols / total) ** power / old
            v[:m] = old * step if now == 1.0 else old * step**now
            low, high = min(u.min(), v[:m].min()), max(u.max(), v[:m].max())
            if not (high < _RANGE and low > 1 / _RANGE):
                return done, error, False
            if error < goal:
                return done, error, True
            relaxation.look(error)
        return passes, error, True

    def _sweep(self, flat: Array, v: Array, rows: Array, power: float, relax: float, u: Array, sums: Array) -> None:
        self.workers.each(lambda i, j, k: loops.sweep(flat, v, rows, power, relax, i, j, u, sums[k]), self.parts)

    def _fill(self, values: Array, rest: float, kind: Any = np.float32) -> Array:
        return pad(values, self.tiles, rest, kind)


class DensePlan:
    """The plan over all pairs as an operator for :func:`~unpaired.match.transport.newton.newton`.

    Exponents are taken in double precision whenever potentials move; only the values are stored in single precision
    (memory, and the speed of the products), unless ``exact``.

    Parameters
    ----------
    costs
        Its kernel's memory is used.
    g
        ``(m,)`` a guess of G, near enough that ``exp`` does not overflow.
    exact
        Keep the values in double precision.
    """

    def __init__(self, costs: DenseCosts, g: Array, *, exact: bool) -> None:
        self.problem, self.workers, self._costs = costs.problem, costs.workers, costs
        self._kernel = np.empty(costs.kernel.shape) if exact else costs.kernel
        self._x, self._tiles = padded(self.problem.x, np.float64), tiled(self.problem.y, np.float64)
        self._g = g
        self.sums, self.col_sums = np.empty(len(self.problem.x)), np.empty(len(self.problem.y))

    def evaluate(self, f: Array, heat: float) -> Array:
        """Set the plan to F and its best G; return G."""
        problem, parts = self.problem, self._costs.parts
        m = problem.shape[1]
        g = self._pad(self._g, _NOTHING)
        sums = np.zeros((len(parts), *g.shape))
        self.workers.each(
            lambda i, j, k: loops.absorb_exact(
                self._x, self._tiles, problem.squared, f, g, heat, i, j, self._kernel, sums[k]
            ),
            parts,
        )
        total = sums.sum(axis=0).ravel()[:m]
        best = heat * (np.log(problem.b) - problem.power(heat) * (np.log(total) - self._g / heat))
        self._v = np.exp((best - self._g) / heat)
        self.col_sums = total * self._v
        self._g = best
        self._forth(self._v, self.sums)
        return np.asarray(best)

    def diagonal(self, divide: Array) -> Array:
        """Return the diagonal of ``P diag(1 / divide) P'``."""
        out, v = np.empty(self.problem.shape[0]), self._pad(self._v**2 / divide, 0.0).astype(self._kernel.dtype)
        self.workers.each(lambda i, j, _: loops.square(self._kernel, v, i, j, out), self._costs.parts)
        return out

    def product(self, p: Array, divide: Array) -> Array:
        """Return ``P diag(1 / divide) P' p``."""
        parts = self._costs.parts
        n, m = self.problem.shape
        flat, single = self._kernel.reshape(n, -1), p.astype(self._kernel.dtype)
        sums = np.empty((len(parts), flat.shape[1]))
        self.workers.each(lambda i, j, k: loops.back(flat, single, i, j, sums[k]), parts)
        out = np.empty(n)
        self._forth(sums.sum(axis=0)[:m] * self._v**2 / divide, out)
        return out

    def _forth(self, values: Array, out: Array) -> None:
        # A search that is cut short may hold values that single precision does not: the certificate will tell.
        v = self._pad(np.clip(values, -_LARGEST, _LARGEST), 0.0).astype(self._kernel.dtype)
        self.workers.each(lambda i, j, _: loops.forth(self._kernel, v, i, j, out), self._costs.parts)

    def _pad(self, values: Array, rest: float) -> Array:
        return pad(values, self._costs.tiles, rest)
