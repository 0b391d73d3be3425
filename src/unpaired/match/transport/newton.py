"""Newton's method for the dual in F alone, G being the best for every F; each step by conjugate gradients.

With P the plan, r its row sums and c its column sums, the dual's gradient in F is ``target - r`` and a step solves
``(diag(r) - P diag(1 / c) P') d = heat * (target - r)`` (the Schur complement of the two-sided system; Brauer et al.
2017, Tang et al. 2024). Near the solution every step squares the error, however slowly Sinkhorn's iteration would go.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numba import njit

from unpaired.data.types import Array
from unpaired.match.transport.kernels import FAST
from unpaired.match.transport.problem import Problem

__all__ = ["Operator", "Search", "newton", "newton_step"]

_STEP = 15.0  # temperatures a potential may move in one step: further, the quadratic model says nothing
_SLOPE = 1e-4
_ROUNDING = 1e-13


def _never(_: int) -> bool:
    return False


class Operator(Protocol):
    """A plan that Newton's method can work on: sparse, dense, or on a line."""

    problem: Problem
    sums: Array
    col_sums: Array

    def evaluate(self, f: Array, heat: float) -> Array:
        """Set the plan to F and its best G; return G."""

    def diagonal(self, divide: Array) -> Array:
        """Return the diagonal of ``P diag(1 / divide) P'``."""

    def product(self, p: Array, divide: Array) -> Array:
        """Return ``P diag(1 / divide) P' p``."""


@dataclass(frozen=True, eq=False)
class Search:
    """Where Newton's method came to.

    Attributes
    ----------
    f, g
        Potentials.
    error
        L1 error of the row sums; the columns are exact.
    passes
        Evaluations and products, each a pass over the pairs.
    at_edge
        Points held back by the edge of the box.
    """

    f: Array
    g: Array
    error: float
    passes: int
    at_edge: int


def newton(
    plan: Operator,
    f: Array,
    *,
    heat: float,
    goal: float,
    box: float = math.inf,
    warm: int = 0,
    max_steps: int = 30,
    max_products: int = 300,
    over: Callable[[int], bool] = _never,
) -> Search:
    """Maximise the dual from ``f``, no potential moving further than ``box``.

    Parameters
    ----------
    plan
        The plan.
    f
        ``(n,)`` start.
    heat
        Temperature, in units of eps.
    goal
        L1 error of the row sums at which to stop.
    box
        Largest change of a potential: on a truncated support, as far as the support can be trusted.
    warm
        Sinkhorn steps, over-relaxed, before the first Newton step.
    max_steps, max_products
        Limits: steps, and products a step.
    over
        Asked with the passes so far whether to stop.
    """
    state = _State(plan, f, heat, box)
    state.sinkhorn(warm, goal)
    history: list[float] = []
    for _ in range(max_steps + 1):
        residual = state.residual()
        error = float(np.abs(residual).sum())
        history.append(error)
        stuck = len(history) > 8 and error > 0.8 * history[-5]
        if error < goal or len(history) > max_steps or stuck or over(state.passes):
            break
        # A step is worth solving only as well as the quadratic model holds, and no better than the goal needs.
        precision = min(0.1, max(math.sqrt(error), 0.3 * goal / error))
        damping = 1e-2 * error if error > 1e-3 else 0.0
        d = state.solve(residual, precision, damping, max_products)
        if not state.ascend(np.clip(d, -_STEP * heat, _STEP * heat), residual):
            state.sinkhorn(10, goal)
    return Search(state.f, state.g, float(np.abs(state.residual(inner=False)).sum()), state.passes, state.edge())


def newton_step(
    plan: Operator, f: Array, sums: Array, residual: Array, *, precision: float, limit: int = 300
) -> tuple[Array, int]:
    """Return the step for row sums and a residual known better than ``plan`` tells them, and the products it took.

    The plan may be a truncated one: it is only asked for its second derivative. A point that it has little of moves by
    itself, as in a scaling step.
    """
    state = _State(plan, f, 1.0, math.inf)
    plan.sums = np.where(plan.sums > 0.5 * sums, plan.sums, sums)
    d = state.solve(residual, precision, 0.0, limit)
    return np.clip(d, -_STEP, _STEP), state.passes


class _State:
    def __init__(self, plan: Operator, f: Array, heat: float, box: float) -> None:
        self.plan, self.problem, self.heat = plan, plan.problem, heat
        self.low, self.high = f - box, f + box
        self.ease = 0.0 if math.isinf(self.problem.penalty) else heat / self.problem.penalty
        self.passes = 0
        self.move(f.copy())

    def move(self, f: Array) -> None:
        self.f = f
        self.g = self.plan.evaluate(f, self.heat)
        self.target = self.problem.targets(f, 0, self.heat)
        self.dual = self.problem.dual(f, self.g, self.heat)
        self.passes += 1

    def held(self) -> Array:
        up, down = self.plan.sums < self.target, self.plan.sums > self.target
        return np.asarray(((self.f >= self.high) & up) | ((self.f <= self.low) & down))

    def edge(self) -> int:
        return int(self.held().sum()) if math.isfinite(self.low[0]) else 0

    def residual(self, *, inner: bool = True) -> Array:
        rest = self.target - self.plan.sums
        return np.where(self.held(), 0.0, rest) if inner and math.isfinite(self.low[0]) else rest

    def sinkhorn(self, steps: int, goal: float) -> None:
        """Take over-relaxed Sinkhorn steps while they pay: every plain one ascends."""
        last, relax = math.inf, 1.0
        power = self.problem.power(self.heat)
        for step in range(steps):
            error = float(np.abs(self.residual()).sum())
            if error < goal:
                return
            relax = 1.5 if step > 1 and error < last else 1.0
            last = error
            lean = np.log(self.target / np.maximum(self.plan.sums, 1e-300))
            move = np.clip(relax * power * self.heat * lean, -20 * self.heat, 20 * self.heat)
            self.move(np.clip(self.f + move, self.low, self.high))

    def solve(self, residual: Array, precision: float, damping: float, limit: int) -> Array:
        """Solve for the step by preconditioned conjugate gradients."""
        plan, a = self.plan, self.problem.a
        divide = np.where(plan.col_sums > 0, plan.col_sums, 1.0) * (1 + self.ease)  # zero: no pair of a truncated plan
        lead = plan.sums + self.ease * self.target + (damping + 1e-14) * a
        jacobi = 1 / np.maximum(lead - plan.diagonal(divide), 1e-10 * a)
        rest = self.heat * residual
        d = np.zeros(len(rest))
        p = jacobi * rest
        dot = float(p @ rest)
        enough = (precision * float(np.linalg.norm(rest))) ** 2
        self.passes += 1
        for _ in range(limit):
            product = plan.product(p, divide)
            self.passes += 1
            ok, dot, norm = _advance(d, rest, p, product, lead, jacobi, dot)
            if not ok or norm < enough:
                break
        return d

    def ascend(self, d: Array, residual: Array) -> bool:
        """Go along ``d`` as far as the dual rises; return whether it did."""
        start, value = self.f, self.dual
        slope = float(residual @ d)
        if not slope > 0:
            return False
        if math.isfinite(self.low[0]):
            d = np.where(self.held(), 0.0, d)
        length = 1.0
        while length > 1e-3:
            self.move(np.clip(start + length * d, self.low, self.high))
            if self.dual >= value + _SLOPE * length * slope - _ROUNDING * abs(value):
                return True
            length *= 0.3
        self.move(start)
        return False


@njit(**FAST)
def _advance(
    d: Array, rest: Array, p: Array, product: Array, lead: Array, jacobi: Array, dot: float
) -> tuple[bool, float, float]:
    """One conjugate-gradient update in place: whether the matrix was positive along p, the new dot, the rest's norm."""
    n = d.shape[0]
    curve = 0.0
    for i in range(n):
        product[i] = lead[i] * p[i] - product[i]
        curve += product[i] * p[i]
    if curve <= 0.0:
        return False, dot, 0.0
    length = dot / curve
    new, norm = 0.0, 0.0
    for i in range(n):
        d[i] += length * p[i]
        rest[i] -= length * product[i]
        norm += rest[i] * rest[i]
        new += jacobi[i] * rest[i] * rest[i]
    ratio = new / dot
    for i in range(n):
        p[i] = jacobi[i] * rest[i] + ratio * p[i]
    return True, new, norm
