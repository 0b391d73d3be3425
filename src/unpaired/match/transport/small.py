"""Many small labels: one compiled call solves a whole chunk of them, so that a label costs what its pairs cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit

from unpaired.data.types import Array
from unpaired.match.transport.kernels import INLINE
from unpaired.match.transport.problem import Problem
from unpaired.match.transport.small_kernels import SUMS, Label, Work, anneal, finish
from unpaired.match.transport.workers import Workers

__all__ = ["Answer", "solve_small"]

Answer = tuple[Array, Array, float, int, bool]
"""F, G, L1 error of both marginals, passes over the pairs, and whether the tolerance was met."""

_CHUNK = 2**17  # pairs of a compiled call: about 20 ms, so that threads share the work evenly


def solve_small(problems: Sequence[Problem], *, tol: float, max_iter: int, jobs: int) -> list[Answer]:
    """Solve labels that are small enough to keep all their pairs (:data:`unpaired.match.transport.paths.SMALL`).

    Parameters
    ----------
    problems
        The labels, of any sizes, costs and penalties.
    tol
        Largest L1 error of both marginals, and of a plan lighter than 1, relative to its mass.
    max_iter
        Most passes over the pairs of a label. A Newton step counts as one.
    jobs
        Threads. An answer depends on them no more than on the labels around it, to the last bit.

    Returns
    -------
    list of tuple
        Of every label the potentials F and G, float64; the L1 distance of the plan's marginals from their targets,
        computed from F and G over all pairs; the passes used; whether the tolerance was met.
    """
    # The compiled code works on a matrix of rows by rows, so the smaller side makes the rows.
    turned = [p.T if p.shape[0] > p.shape[1] else p for p in problems]
    with Workers(jobs) as workers:
        chunks = workers.each(lambda start, stop, _: _solve(turned[start:stop], tol, max_iter), _chunks(turned))
    answers = [answer for chunk in chunks for answer in chunk]
    return [
        (g, f, *numbers) if t is not p else (f, g, *numbers)
        for p, t, (f, g, *numbers) in zip(problems, turned, answers, strict=True)
    ]


def _chunks(problems: Sequence[Problem]) -> list[tuple[int, int]]:
    """Cut the labels, in order, into ranges of about as many pairs each."""
    pairs = np.cumsum([p.shape[0] * p.shape[1] for p in problems], dtype=np.int64)
    edges = np.flatnonzero(np.diff(pairs // _CHUNK)) + 1
    return [(int(i), int(j)) for i, j in zip([0, *edges], [*edges, len(problems)], strict=True) if j > i]


def _solve(problems: Sequence[Problem], tol: float, max_iter: int) -> list[Answer]:
    sizes = np.array([(*p.shape, p.x.shape[1]) for p in problems], dtype=np.int64)
    points = np.concatenate([side.ravel() for p in problems for side in (p.x, p.y)])
    masses = np.concatenate([side for p in problems for side in (p.a, p.b)])
    squared = np.array([p.squared for p in problems])
    penalty = np.array([p.penalty for p in problems], dtype=np.float64)
    potentials, numbers = np.empty(len(masses)), np.empty((len(problems), 3))
    _solve_chunk(sizes, squared, penalty, points, masses, tol, max_iter, potentials, numbers)
    sides = np.split(potentials, np.cumsum(sizes[:, :2].ravel())[:-1])
    reached = (numbers[:, 0] == 1.0) & (numbers[:, 1] <= tol)
    return [
        (sides[2 * k], sides[2 * k + 1], float(numbers[k, 1]), int(numbers[k, 2]), bool(reached[k]))
        for k in range(len(problems))
    ]


# ------------------------------------------------------------------ compiled


@njit(**SUMS, **INLINE)
def _squares(points: Array, n: int, m: int, cost: Array) -> None:
    """Fill in the squared distances between n points and m that follow them; the columns filled up come out finite."""
    d = points.size // (n + m)
    turned = np.zeros((d, cost.shape[1]))
    for j in range(m):
        for t in range(d):
            turned[t, j] = points[(n + j) * d + t]
    for i in range(n):
        out = cost[i]
        for t in range(d):
            here, there = points[i * d + t], turned[t]
            for j in range(out.size):
                out[j] += (here - there[j]) ** 2


@njit(**SUMS, **INLINE)
def _label(points: Array, masses: Array, m: int, squared: bool, penalty: float) -> Label:
    n = masses.size - m
    wide = (m + 7) // 8 * 8
    cost, log_a, b, log_b = np.zeros((n, wide)), np.zeros(n), np.zeros(wide), np.zeros(wide)
    _squares(points, n, m, cost)
    for i in range(n):
        log_a[i] = math.log(masses[i])
        for j in range(0 if squared else wide):
            cost[i, j] = math.sqrt(cost[i, j])
    for j in range(m):
        b[j], log_b[j] = masses[n + j], math.log(masses[n + j])
    return Label(cost, masses[:n], log_a, b, log_b, penalty)


@njit(**SUMS, **INLINE)
def _work(n: int, wide: int, max_iter: int) -> Work:
    r, c, left = np.zeros((6, n)), np.zeros((6, wide)), np.zeros(1, np.int64)
    left[0] = max_iter
    plan, schur = np.zeros((n + 3, wide)), np.zeros((n + 3, (n + 4 + 7) // 8 * 8))
    return Work(
        plan=plan, rows=r[0], cols=c[0], want=r[1], log_want=r[2], top=c[1], total=c[2], log_total=c[3], scale=c[4],
        lane=c[5], schur=schur, weight=np.zeros(n + 4), pivot=r[3], step=r[4], trial=r[5], gap=np.zeros(4), left=left,
    )  # fmt: skip


@njit(**SUMS)
def _solve_chunk(
    sizes: Array,
    squared: Array,
    penalty: Array,
    points: Array,
    masses: Array,
    tol: float,
    max_iter: int,
    potentials: Array,
    numbers: Array,
) -> None:
    """Solve labels that lie one after the other in flat arrays: of each x and y, a and b, F and G.

    ``sizes`` holds rows, columns and coordinates of each; ``numbers`` is filled with 1 where the search met its goal,
    the L1 error of both marginals over all pairs, and the passes used.
    """
    p, q = 0, 0
    for k in range(len(sizes)):
        n, m, d = sizes[k, 0], sizes[k, 1], sizes[k, 2]
        f, g = potentials[q : q + n], potentials[q + n : q + n + m]
        label = _label(points[p : p + (n + m) * d], masses[q : q + n + m], m, squared[k], penalty[k])
        work = _work(n, label.b.size, max_iter)
        goal = anneal(label, f, m, tol, work)
        numbers[k, 2] = max_iter - work.left[0]
        numbers[k, 1] = finish(label, f, g, work)
        numbers[k, 0] = 1.0 if work.gap[0] <= goal else 0.0
        p += (n + m) * d
        q += n + m
