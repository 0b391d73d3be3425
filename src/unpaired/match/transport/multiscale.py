"""Large labels: solve a sample, carry its potentials to all points, and sharpen them on the pairs that matter."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from unpaired.data.types import Array
from unpaired.match.transport.anneal import solve_dense, spread
from unpaired.match.transport.limits import Found, Limits, Relaxation
from unpaired.match.transport.newton import newton, newton_step
from unpaired.match.transport.problem import Problem
from unpaired.match.transport.sparse import SparsePlan
from unpaired.match.transport.tree import Side, TreeCosts, tree_order
from unpaired.match.transport.workers import Workers

__all__ = ["solve_multiscale"]

_SAMPLE = 4_000  # points a side of the first sample
_LEAST = 100
_FACTOR = 6  # between the sizes of two samples
_START = 25.0  # the spread over the first temperature
_SUPPORT = 48  # bytes of an entry of the support, with all that the search keeps of it
_ROW = 300  # entries a row of the support at most: more, and passes over all pairs are faster
_FIRST = 8.0  # temperatures below a row's mass within which a pair is on the support, to begin with
_LAST = 16.0  # and in the end
_SELECTIONS = 3  # times that the truncated plan is made anew where it helps little
_HELD = 0.5  # share of the mass below which a truncated plan misleads
_SLOW = 10  # iterations in a row without gain; over-relaxation begins with a few
_BOXES = 20  # supports tried at one temperature


@dataclass(frozen=True, eq=False)
class _Level:
    """A sample and its potentials at a temperature."""

    problem: Problem
    f: Array
    g: Array
    heat: float


def solve_multiscale(problem: Problem, limits: Limits, workers: Workers, memory: int) -> Found:
    """Solve a label of any size in memory linear in its points, and in the pairs that matter where they are few."""
    turned = _turn(problem)
    order = tree_order(turned.x), tree_order(turned.y)
    sorted_ = replace(turned, x=turned.x[order[0]], y=turned.y[order[1]], a=turned.a[order[0]], b=turned.b[order[1]])
    found = _solve_sorted(sorted_, limits, workers, memory)
    f, g = np.empty(len(order[0])), np.empty(len(order[1]))
    f[order[0]], g[order[1]] = found.f, found.g
    sure = None if found.certificate is None else found.certificate.reorder(*order)
    return replace(found, f=f, g=g, certificate=sure)


def _turn(problem: Problem) -> Problem:
    """Turn the axes so that the first hold most of the variance: a distance to a box is known to be large early."""
    both = np.concatenate([problem.x, problem.y])
    axes = np.linalg.eigh(both.T @ both)[1][:, ::-1]
    return replace(problem, x=np.ascontiguousarray(problem.x @ axes), y=np.ascontiguousarray(problem.y @ axes))


def _solve_sorted(problem: Problem, limits: Limits, workers: Workers, memory: int) -> Found:
    first = max(1.0, spread(problem) / _START)
    sizes = [max(problem.shape)]
    sample = min(_SAMPLE, max(_LEAST, math.isqrt(memory // 16)))  # a sample is solved with all its pairs
    while sizes[-1] > sample:
        sizes.append(max(sizes[-1] // _FACTOR, 3 * sample // 4))
    level, passes = _coarsest(_sample(problem, sizes[-1]), first, limits, workers)
    for size in sizes[-2:0:-1]:
        level, used = _refine(level, _sample(problem, size), max(1.0, first / 4), workers, limits, memory)
        passes += used
    level, used = _refine(level, problem, 1.0, workers, limits, memory, last=True)
    return _finish(level, passes + used, limits, workers, memory)


def _sample(problem: Problem, size: int) -> Problem:
    """Take points evenly along the tree's order, each with the mass of those it stands for."""
    sides = []
    for points, mass in ((problem.x, problem.a), (problem.y, problem.b)):
        step = max(1, round(len(points) / size))
        starts = np.arange(0, len(points), step)
        sides.append((points[np.minimum(starts + step // 2, len(points) - 1)], np.add.reduceat(mass, starts)))
    (x, a), (y, b) = sides
    return replace(problem, x=np.ascontiguousarray(x), y=np.ascontiguousarray(y), a=a, b=b)


def _coarsest(problem: Problem, heat: float, limits: Limits, workers: Workers) -> tuple[_Level, int]:
    """Solve the smallest sample at the first temperature, as a problem of its own whose eps is that temperature."""
    scale = 1 / math.sqrt(heat) if problem.squared else 1 / heat
    warm = replace(problem, x=problem.x * scale, y=problem.y * scale, penalty=problem.penalty / heat)
    found = solve_dense(warm, replace(limits, tol=1e-2, keep=None), workers)
    return _Level(problem, found.f * heat, found.g * heat, heat), found.passes


def _refine(
    level: _Level, problem: Problem, target: float, workers: Workers, limits: Limits, memory: int, *, last: bool = False
) -> tuple[_Level, int]:
    """Carry a sample's potentials to a larger one and cool it down to ``target``."""
    costs = TreeCosts(problem, workers)
    heat, passes = level.heat, 1
    # The soft c-transform: the best F for the sample's G, at every point of the larger sample; and the other way.
    f, g = costs.extend(Side(level.problem.x), Side(level.problem.y), level.f, level.g, heat)
    most = _most(problem, memory)
    while not limits.over(passes) and not (heat <= target and last):
        f, g, used = _sharpen(costs, f, g, heat, 1e-2 if heat <= target else 5e-2, limits, most)
        passes += used
        if heat <= target:
            break
        cooler = max(target, heat / 2)
        # As in anneal.py; a row's mass is spread over some e^2 partners, so its largest entries are that much below it.
        f = f - (heat - cooler) * (np.log(problem.a) - 2.0)
        heat = cooler
    return _Level(problem, f, g, heat), passes


def _sharpen(
    costs: TreeCosts, f: Array, g: Array, heat: float, goal: float, limits: Limits, most: int
) -> tuple[Array, Array, int]:
    """Newton's method on a support, roughly, at a temperature that is not the last."""
    passes = 0
    slack = heat * (_FIRST - costs.problem.log_mass)
    for _ in range(3):
        f, g, plan, used = _support(costs, f, g, heat, slack, most, whole=heat == 1.0)
        passes += used
        if limits.over(passes):
            break
        if plan is None:
            if heat == 1.0:
                f, g, used = _relax(costs, f, g, goal, limits, passes)
                passes += used
            break
        search = newton(plan, f, heat=heat, goal=goal, box=0.45 * slack, warm=20, max_steps=8, over=limits.over)
        f, g = search.f, search.g
        if search.error < max(goal, 5e-2):
            break
    return f, g, passes


def _support(
    costs: TreeCosts, f: Array, g: Array, heat: float, slack: float, most: int, *, whole: bool = False
) -> tuple[Array, Array, SparsePlan | None, int]:
    """Return the plan on the pairs within ``slack``, and potentials moved where a point had no such pair.

    Where there are too many, the slack is tightened, unless ``whole``; then the plan may be None.
    """
    passes = 0
    for _ in range(6):
        tight = costs.affordable(f, g, slack, most)
        if tight < slack and whole:
            break
        pattern = costs.pattern(f, g, tight, most)
        passes += 1
        if pattern is None:
            break
        plan = SparsePlan(costs.problem, *pattern, costs.workers)
        if plan.full:
            return f, g, plan, passes
        f, g = costs.mend(f, g, heat, *plan.bare())
        passes += 1
    return f, g, None, passes


def _most(problem: Problem, memory: int) -> int:
    """Return how many entries a support may have; it may turn out half as large again, and is indexed by 32 bits."""
    return min(_ROW * max(problem.shape), memory // (2 * _SUPPORT), 2**31)


def _finish(level: _Level, passes: int, limits: Limits, workers: Workers, memory: int) -> Found:
    """Reach the tolerance at the last temperature: on supports where the plan is sparse, else over all pairs."""
    problem, f, g = level.problem, level.f, level.g
    costs = TreeCosts(problem, workers)
    most = _most(problem, memory)
    best, depth = Found(f, g, math.inf, passes), _FIRST
    enough = _LAST - problem.log_mass
    for _ in range(_BOXES if costs.affordable(f, g, enough, most) == enough else 0):
        slack = depth - problem.log_mass
        f, g, plan, used = _support(costs, f, g, 1.0, slack, most, whole=True)
        passes += used
        if plan is None or limits.over(passes):
            break
        goal = 0.4 * limits.tol if depth > _FIRST else max(0.4 * limits.tol, 1e-3)
        search = newton(plan, f, heat=1.0, goal=goal, box=0.45 * slack, warm=20, max_steps=20, over=limits.over)
        f, g = search.f, search.g
        del plan  # before the next one is made: it is what takes the memory
        if search.error > goal or search.at_edge > 0:
            continue
        if depth == _FIRST:
            depth = _LAST
            continue
        done = limits.certify(problem, f, g, workers)
        passes += 1
        best = Found(f, g, done.error, passes, done) if done.error < best.error else best
        if best.error <= limits.tol:
            return best
        depth += 4.0  # what was left out is too much
    return _stream(costs, replace(best, f=f, g=g) if math.isinf(best.error) else best, passes, limits, most)


def _stream(costs: TreeCosts, start: Found, passes: int, limits: Limits, most: int) -> Found:
    """Iterate over all pairs, in single precision as long as that helps, then in double."""
    g, best = start.g, start
    f = costs.rows(g)
    for exact in (False, True):
        goal = 0.5 * limits.tol
        f, g, error, used = _correct(costs, f, g, goal, limits, passes, most, exact=exact)
        passes += used
        if error > goal:
            f, g, used = _relax(costs, f, g, goal, limits, passes, exact=exact)
            passes += used
        done = limits.certify(costs.problem, f, g, costs.workers)
        passes += 1
        if done.error < best.error:
            best = Found(f, g, done.error, passes, done)
        if best.error <= limits.tol or limits.over(passes):
            break
    return replace(best, passes=passes)


def _correct(
    costs: TreeCosts, f: Array, g: Array, goal: float, limits: Limits, before: int, most: int, *, exact: bool
) -> tuple[Array, Array, float, int]:
    """Newton's method in G with the residual of all pairs, but the second derivative of a truncated plan.

    A pass over all pairs makes the rows exact and yields the columns' residual; what the step lacks is only what the
    truncated plan leaves out, so an error falls by far more than a scaling iteration's share.
    """
    problem, last, passes = costs.problem, math.inf, 0
    turned = TreeCosts(problem.T, costs.workers)
    plan: SparsePlan | None = None
    selected = 0
    while not limits.over(before + passes):
        step, have = costs.pass_rows(f, g, problem.power(1.0), exact=exact)
        passes += 1
        f = f + np.log(step)
        want = problem.targets(g, 1)
        error = float(np.abs(want - have).sum())
        if error < goal or (selected > _SELECTIONS and error > 0.6 * last):
            return f, g, error, passes
        if plan is None or (error > 0.3 * last and selected <= _SELECTIONS):
            plan = None
            pattern = turned.pattern(g, f, turned.affordable(g, f, _LAST - problem.log_mass, most), most)
            if pattern is None:
                return f, g, error, passes
            plan, selected, passes = SparsePlan(problem.T, *pattern, costs.workers), selected + 1, passes + 1
            # What the truncated plan gives a row, against what all pairs do: the share of its mass that it holds.
            own = plan.evaluate(g, 1.0)
            held = float(problem.a @ np.where(plan.col_sums > 0, np.exp(np.minimum(f - own, 0.0)), 0.0))
            if held < _HELD:
                return f, g, error, passes
        g = g + newton_step(plan, g, have, _lean(want, have, problem.penalty), precision=0.03)[0]
        last = error
    return f, g, last, passes


def _lean(want: Array, have: Array, penalty: float) -> Array:
    """Return the residual to first order, in the logarithm: a column that has next to nothing must not leap."""
    have = np.maximum(have, 1e-300)
    lean = have * np.clip(np.log(want / have), -10.0, 10.0)
    if math.isinf(penalty):  # a common shift is free, and would be all of the step
        lean -= have * (lean.sum() / have.sum())
    return np.asarray(lean)


def _relax(
    costs: TreeCosts, f: Array, g: Array, goal: float, limits: Limits, before: int, *, exact: bool = False
) -> tuple[Array, Array, int]:
    """Iterate until the error of both marginals is below the goal, or falls no more."""
    relaxation, last, slow, passes = Relaxation(1.5), math.inf, 0, 0
    while slow < _SLOW and not limits.over(before + passes):
        f, g, error = costs.stream(f, g, relaxation.now, exact=exact)
        passes += 1
        if error < goal:
            break
        slow = 0 if error < 0.97 * last else slow + 1
        relaxation.look(error)
        last = min(error, last)
    return f, g, passes
