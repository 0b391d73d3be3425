"""The search on one label: from a high temperature down to eps, then Newton's method on the pairs that matter."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np

from unpaired.data.types import Array
from unpaired.match.transport.dense import DenseCosts, DensePlan
from unpaired.match.transport.limits import Found, Limits
from unpaired.match.transport.newton import newton
from unpaired.match.transport.problem import Problem
from unpaired.match.transport.sparse import SparsePlan
from unpaired.match.transport.workers import Workers

__all__ = ["heats", "solve_dense", "spread"]


_ROUGH = 0.05  # L1 error at which a temperature is left, or the next method takes over
_FLOOR = 2e-5  # L1 error below which single precision does not get, ...
_EXACT_FLOOR = 2e-7  # ... and where only the kernel's values are in single precision
_STALE = 3  # certificates in a row that do not halve the error: rounding allows no more
_DENSE_ROUGH = 0.2  # the same where the plan is not sparse, so that scaling will do
_ROUNDS = 8
_RATIO = 4.0  # between two temperatures
_START = 40.0  # the spread over the first temperature; below, scaling converges from the start
_SPARSE = 0.10  # share of the pairs above which a dense product is faster than a sparse one
_SLACK = 30.0  # temperatures below the top within which a pair is on the support


def spread(problem: Problem) -> float:
    """Return the typical cost: the root mean square distance, or its square."""
    x, y = problem.x, problem.y
    with np.errstate(over="ignore"):  # infinity is the answer then
        value = float(x.var(axis=0).sum() + y.var(axis=0).sum() + ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum())
    return value if problem.squared else math.sqrt(value)


def heats(typical: float) -> list[float]:
    """Return the temperatures from high to 1."""
    levels = max(0, math.ceil(math.log(max(typical / _START, 1.0)) / math.log(_RATIO)))
    return [_RATIO**k for k in range(levels, -1, -1)]


def solve_dense(problem: Problem, limits: Limits, workers: Workers) -> Found:
    """Solve a label whose pairs fit in memory."""
    costs = DenseCosts(problem, workers)
    n, m = problem.shape
    ladder = heats(spread(problem))
    f = ladder[0] * np.log(problem.a)
    g = costs.columns(f, ladder[0])
    passes = 2
    for k, heat in enumerate(ladder):
        if k > 0:  # matched pairs keep their weight: log P is about log a, whatever the temperature
            f = f - (ladder[k - 1] - heat) * np.log(problem.a)
        f, g, used = _cool(costs, f, g, heat, limits, passes)
        passes += used
        if limits.over(passes):
            break
    most = int(_SPARSE * n * m)
    found = _on_support(costs, f, g, passes, limits, most)
    return found if found.error <= limits.tol else _on_all(costs, found, limits)


def _cool(costs: DenseCosts, f: Array, g: Array, heat: float, limits: Limits, before: int) -> tuple[Array, Array, int]:
    """Find the potentials of one temperature, roughly; the next one starts from them."""
    last = heat == 1.0
    passes = 0
    for _ in range(_ROUNDS):
        f, g, error, used = costs.scale(f, g, heat, passes=15 if last else 10, goal=_ROUGH, relax=1.3)
        passes += used
        if last or error < 1e-2 or limits.over(before + passes):
            break
        f, g, done = _sharpen(costs, f, g, heat, error)
        passes += 1
        # What is not moved at a high temperature, between far clusters say, takes ever more steps at a lower one.
        if done:
            break
    return f, g, passes


def _sharpen(costs: DenseCosts, f: Array, g: Array, heat: float, error: float) -> tuple[Array, Array, bool]:
    """Newton's method on few pairs; return whether the potentials will do, or there are too many pairs for it."""
    problem = costs.problem
    n, m = problem.shape
    slack = heat * (math.log(1e5) - problem.log_mass)
    pattern = costs.pattern(f, g, slack, int(_SPARSE * n * m))
    if pattern is None:
        return f, g, error < _DENSE_ROUGH
    plan = SparsePlan(problem, *pattern, costs.workers)
    if not plan.full:
        return f, g, False
    search = newton(plan, f, heat=heat, goal=1e-2, max_steps=8)
    if np.abs(search.f - f).max() > 0.45 * slack:  # further than the pairs can be trusted: do all pairs agree?
        before, after = costs.columns(f, heat), costs.columns(search.f, heat)
        if not problem.dual(search.f, after, heat) > problem.dual(f, before, heat):
            return f, before, False
        return search.f, after, search.error < _ROUGH
    return search.f, search.g, search.error < _ROUGH


def _over(limits: Limits, before: int, used: int) -> bool:
    return limits.over(before + used)


def _on_support(costs: DenseCosts, f: Array, g: Array, passes: int, limits: Limits, most: int) -> Found:
    """Newton's method on the pairs with a small slack, in boxes that the support can be trusted in, until certified."""
    problem, workers = costs.problem, costs.workers
    slack, best, stale = _SLACK - problem.log_mass, Found(f, g, math.inf, passes), 0
    while not limits.over(passes) and stale < _STALE:
        pattern = costs.pattern(f, g, slack, most)
        if pattern is None:
            break
        plan = SparsePlan(problem, *pattern, workers)
        if not plan.full:
            f, g, _, used = costs.scale(f, g, 1.0, passes=5, goal=0.0, relax=1.0)
            passes += used
            continue
        search = newton(plan, f, heat=1.0, goal=0.4 * limits.tol, box=0.45 * slack, over=limits.over)
        f, g = search.f, search.g
        passes += 2
        if search.error <= 0.4 * limits.tol or search.at_edge == 0:
            done = limits.certify(problem, f, g, workers)
            passes += 1
            stale = 0 if done.error < 0.5 * best.error else stale + 1
            best = Found(f, g, done.error, passes, done) if done.error < best.error else best
            if done.error <= limits.tol:
                return best
        g = costs.columns(f, 1.0)
    return best if math.isfinite(best.error) else Found(f, g, math.inf, passes)


def _on_all(costs: DenseCosts, found: Found, limits: Limits) -> Found:
    """Scaling passes, then Newton's method, over all pairs."""
    problem, workers, passes = costs.problem, costs.workers, found.passes
    f, g, best, stale, goal = found.f, found.g, found, 0, 0.3 * limits.tol
    # In single precision as far as that goes, then with exponents in double precision.
    for exact, enough in ((False, max(goal, _FLOOR)), (True, max(goal, _EXACT_FLOOR))):
        if exact and goal >= _FLOOR:
            break
        room = max(1, min(100, limits.max_iter - passes))
        f, g, _, used = costs.scale(f, g, 1.0, passes=room, goal=enough, relax=1.6, exact=exact)
        passes += used
    done = limits.certify(problem, f, g, workers)
    best, passes = Found(f, g, done.error, passes + 1, done), passes + 1
    if done.error <= limits.tol:
        return best
    plan = DensePlan(costs, g, exact=limits.tol < 2e-7)
    while True:
        search = newton(
            plan, f, heat=1.0, goal=0.5 * limits.tol, max_steps=20, max_products=100,
            over=partial(_over, limits, passes),
        )  # fmt: skip
        f, g = search.f, search.g
        passes += search.passes
        done = limits.certify(problem, f, g, workers)
        stale = 0 if done.error < 0.5 * best.error else stale + 1
        if done.error < best.error:
            best = Found(f, g, done.error, passes, done)
        if best.error <= limits.tol or limits.over(passes) or search.passes <= 1 or stale >= _STALE:
            return replace(best, passes=passes)
