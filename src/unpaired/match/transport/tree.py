"""A label whose pairs do not fit in memory: points in the order of a tree, costs made where they are needed.

Points near each other share a tile, and a tile whose bounding box is too far from a point to matter is never opened.
"""

from __future__ import annotations

import math

import numpy as np

from unpaired.data.types import Array
from unpaired.match.transport import tree_kernels as loops
from unpaired.match.transport.kernels import TILE, padded, tiled
from unpaired.match.transport.problem import Problem
from unpaired.match.transport.search import boxes, pad
from unpaired.match.transport.workers import Workers, parts_of

__all__ = ["Side", "TreeCosts", "tree_order"]


_PROBE = 256  # rows of a sample
_MOST = 20.0  # temperatures that a potential moves in an iteration: more would leave single precision's range


def tree_order(points: Array) -> Array:
    """Return an order in which every run of ``TILE`` points is a leaf of a k-d tree, cut along the widest side."""
    order = np.arange(len(points))
    stack = [(0, len(points))]
    while stack:
        start, stop = stack.pop()
        if stop - start <= TILE:
            continue
        part = points[order[start:stop]]
        middle = TILE * ((-(-(stop - start) // TILE)) // 2)
        along = part[:, int(np.argmax(part.max(axis=0) - part.min(axis=0)))]
        order[start:stop] = order[start:stop][np.argpartition(along, middle)]
        stack += [(start, start + middle), (start + middle, stop)]
    return order


class Side:
    """One side's points, as rows and as tiles with their boxes."""

    def __init__(self, points: Array) -> None:
        self.points, self.single = points, padded(points, np.float32)
        self.tiles = tiled(points, np.float32)
        self.low, self.high = boxes(points)

    def __len__(self) -> int:
        return len(self.points)


class TreeCosts:
    """Passes over the pairs of two sides, of which only near ones are looked at."""

    def __init__(self, problem: Problem, workers: Workers) -> None:
        self.problem, self.workers = problem, workers
        self.sides = Side(problem.x), Side(problem.y)
        self.parts = parts_of(len(problem.x), 4 * math.prod(problem.shape))

    def log_sums(self, own: Side, other: Side, potential: Array, heat: float) -> Array:
        """Return ``log sum_j exp((G_j - C_ij) / heat)`` for the points of ``own``, over all pairs."""
        out = np.empty(len(own))
        g = pad(potential, len(other.tiles)).astype(np.float32)
        self.workers.each(
            lambda i, j, _: loops.log_sums(own.single, other.tiles, g, self.problem.squared, heat, i, j, out),
            parts_of(len(own), 4 * len(own) * len(other)),
        )
        return out

    def extend(self, x: Side, y: Side, f: Array, g: Array, heat: float) -> tuple[Array, Array]:
        """Return the best F for the G of points ``y``, and the best G for the F of points ``x``."""
        rows = self.log_sums(self.sides[0], y, g, heat)
        cols = self.log_sums(self.sides[1], x, f, heat)
        power = self.problem.power(heat)
        return heat * (np.log(self.problem.a) - power * rows), heat * (np.log(self.problem.b) - power * cols)

    def rows(self, g: Array) -> Array:
        """Return the best F for G at the last temperature, in the logarithm: whatever G is, no range is left."""
        log = self.log_sums(self.sides[0], self.sides[1], g, 1.0)
        return np.asarray(np.log(self.problem.a) - self.problem.power(1.0) * log)

    def mend(self, f: Array, g: Array, heat: float, rows: Array, cols: Array) -> tuple[Array, Array]:
        """Return potentials that are the best for the other side's at the given rows, then at the given columns."""
        f, g, power = f.copy(), g.copy(), self.problem.power(heat)
        for own, other, ids, mine, theirs, mass in (
            (self.sides[0], self.sides[1], rows, f, g, self.problem.a),
            (self.sides[1], self.sides[0], cols, g, f, self.problem.b),
        ):
            if len(ids):
                log = self.log_sums(Side(own.points[ids]), other, theirs, heat)
                mine[ids] = heat * (np.log(mass[ids]) - power * log)
        return f, g

    def affordable(self, f: Array, g: Array, slack: float, most: int) -> float:
        """Return the largest slack, up to ``slack``, whose support has ``most`` pairs, told from some of the rows."""
        ids = np.linspace(0, len(f) - 1, min(len(f), _PROBE)).astype(np.int64)
        own = Side(self.sides[0].points[ids])
        room = int(most * len(ids) / len(f))

        def fits(tried: float) -> bool:
            counts = np.empty(len(ids), np.int64)
            return self._select(own, f[ids], g, tried, 0, len(ids), np.empty(room, np.uint32), counts) >= 0

        if fits(slack):
            return slack
        low, high = 0.0, slack
        for _ in range(7):
            middle = (low + high) / 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def pattern(self, f: Array, g: Array, slack: float, most: int) -> tuple[Array, Array] | None:
        """Return the pairs within ``slack`` as CSR without values; None if there are many more than ``most``."""
        own = self.sides[0]
        counts = np.zeros(len(own), np.int64)
        found: list[Array | None] = [None] * len(self.parts)

        def one(i: int, j: int, k: int) -> None:
            cols = np.empty(4 * most // len(self.parts) + len(g), np.uint32)  # what is not touched costs nothing
            used = self._select(own, f, g, slack, i, j, cols, counts)
            found[k] = cols[:used].copy() if used >= 0 else None

        self.workers.each(one, self.parts)
        done = [c for c in found if c is not None]
        if len(done) < len(found) or counts.sum() > 1.5 * most:
            return None
        return np.concatenate([[0], np.cumsum(counts)]), np.concatenate(done)

    def _select(self, own: Side, f: Array, g: Array, slack: float, i: int, j: int, cols: Array, counts: Array) -> int:
        other = self.sides[1]
        wide = pad(g, len(other.tiles))
        return int(
            loops.select(
                own.points, own.single, other.tiles, other.low, other.high, wide.astype(np.float32), wide.max(axis=1),
                self.problem.squared, f, f.astype(np.float32), slack, i, j, cols, counts,
            )
        )  # fmt: skip

    def stream(self, f: Array, g: Array, relax: float, *, exact: bool) -> tuple[Array, Array, float]:
        """Run one over-relaxed iteration over all pairs; return F, G and the error of both marginals before it.

        Rows are updated one by one, and the same pass adds up the columns with the updated rows. ``exact`` works in
        double precision.
        """
        problem, power = self.problem, relax * self.problem.power(1.0)
        step, have = self.pass_rows(f, g, power, exact=exact)
        want = problem.targets(g, 1)
        # step = (target / sum)^power: how far the rows were off before they moved
        off = problem.targets(f, 0) * np.abs(1 - step ** (-1 / power))
        error = float(off.sum() + np.abs(have - want).sum())
        move = np.clip(power * np.log(want / np.maximum(have, 1e-300)), -_MOST, _MOST)
        return f + np.log(step), g + move, error

    def pass_rows(self, f: Array, g: Array, power: float, *, exact: bool) -> tuple[Array, Array]:
        """Return ``(target / row sum)^power`` of every row, and the columns' sums when the rows are scaled by it.

        Rows must be within single precision's range of their targets: see :meth:`rows`.
        """
        problem, own, other = self.problem, self.sides[0], self.sides[1]
        kind = np.float64 if exact else np.float32
        tiles = tiled(other.points, np.float64) if exact else other.tiles
        x = padded(own.points, np.float64) if exact else own.single
        potential = pad(g, len(tiles)).astype(kind)
        sums = np.zeros((len(self.parts), *potential.shape))
        step, target = np.empty(len(f)), problem.targets(f, 0)
        loop = loops.stream_exact if exact else loops.stream
        self.workers.each(
            lambda i, j, k: loop(
                x, tiles, potential, f.astype(kind), problem.squared, target, power, i, j, step, sums[k]
            ),
            self.parts,
        )
        return step, sums.sum(axis=0).ravel()[: len(g)]
