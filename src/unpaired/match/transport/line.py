"""Points on a line: the plain distance adds up from point to point, so sums over all pairs take two sweeps.

The case that matters is that of two labels' centred logits. The search is that of the other ways, from a high
temperature down to eps by Newton's method on the dual in F; but on a line Newton's system is solved exactly, in two
sweeps more. Hot levels see little detail, so they are solved on points drawn together within a part of the
temperature, and few steps are left for all points.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from unpaired.data.types import Array
from unpaired.match.transport.anneal import heats, spread
from unpaired.match.transport.certify import Certificate
from unpaired.match.transport.limits import Found, Limits
from unpaired.match.transport.line_kernels import bend, eliminate, log_sums, marginals, right_sums, substitute
from unpaired.match.transport.problem import Problem
from unpaired.match.transport.workers import Workers

__all__ = ["LinePlan", "on_line", "solve_line"]

_CELL = 1 / 16  # of the temperature: points so close are drawn together before the last level
_LOOSE = 1e-2  # L1 error at which a level but the last is left, or the tolerance if that is less
_DAMPING = 1e-8  # of the error: what hangs by nothing moves by 1e8 at most, and eight digits are left for the rest
_RIDGE = 1e-14
_LEAST = 1e-100  # least excess of a row: a penalty may leave a point without any mass
_TRIALS = 8  # of the length of a step
_PROBES = 16  # rows
_PATIENCE = 30  # steps in which the error does not halve: rounding does not allow for less
_BENT = 1e-12  # distance of a point from the line, relative to the label's extent or eps, ...
_FLAT = 1e-8  # ... and in units of eps: so the certificate along the line holds for the points

Sides = tuple[Array, Array]


def on_line(problem: Problem) -> Sides | None:
    """Return the positions of x and of y along a line, or None if the points do not lie on one."""
    x, y = problem.x, problem.y
    if x.shape[1] == 1:
        return x[:, 0].copy(), y[:, 0].copy()
    if max(len(x), len(y)) > 100:  # nearly always a few points tell that all do not
        few = replace(problem, x=x[:100], y=y[:100])
        if on_line(few) is None:
            return None
    base = x[0]
    extents = [np.linalg.norm(points - base, axis=1) for points in (x, y)]
    extent = max(float(e.max()) for e in extents)
    if extent == 0.0:
        return np.zeros(len(x)), np.zeros(len(y))
    far = next(points[e.argmax()] for points, e in zip((x, y), extents, strict=True) if e.max() == extent)
    axis = (far - base) / extent
    out = []
    for points in (x, y):
        off = points - base
        out.append(off @ axis)
        off -= np.multiply.outer(out[-1], axis)
        if np.linalg.norm(off, axis=1).max() > min(_BENT * max(extent, 1.0), _FLAT):
            return None
    return out[0], out[1]


def solve_line(problem: Problem, line: Sides, limits: Limits, workers: Workers | None = None) -> Found:
    """Solve a label whose points lie on a line, for the plain distance, in time and memory linear in the points.

    Parameters
    ----------
    problem
        The problem.
    line
        What :func:`on_line` returned.
    limits
        When to end.
    workers
        Threads for the coupling, which is made if it fits. The search needs one.

    Returns
    -------
    Found
        Its certificate is computed from the potentials anew, over all pairs, none left out.
    """
    orders = [np.argsort(at, kind="stable") for at in line]
    at = line[0][orders[0]], line[1][orders[1]]
    ordered = _on(problem, at, (problem.a[orders[0]], problem.b[orders[1]]))
    plan = LinePlan(ordered, at)
    with np.errstate(over="ignore", invalid="ignore"):  # a step much too long is told by its slope, and shortened
        lift, passes = _anneal(ordered, at, limits)
        f, g, used = _climb(plan, lift + np.log(ordered.a), 1.0, 0.3 * limits.tol, limits, passes)
    if math.isinf(problem.penalty):  # a constant is free: the same mean potential on both sides
        shift = 0.5 * float(ordered.b @ (g - np.log(ordered.b)) - ordered.a @ (f - np.log(ordered.a)))
        f, g = f + shift, g - shift
    sure = _certify(plan, f, g)
    if _fits(ordered, f, g, limits):
        made = limits.certify(ordered, f, g, workers or Workers(1))
        sure = replace(sure, coupling=made.coupling, dropped=made.dropped)
    back = [np.argsort(order) for order in orders]
    return Found(f[back[0]], g[back[1]], sure.error, passes + used + 1, sure.reorder(orders[0], orders[1]))


class LinePlan:
    """The plan between points on a line, without its entries.

    Parameters
    ----------
    problem
        The problem, both sides in ascending order.
    at
        Positions of both sides.
    """

    def __init__(self, problem: Problem, at: Sides) -> None:
        self.problem = problem
        both = np.concatenate(at)
        order = np.argsort(both, kind="stable")
        self.at, self.first = both[order], order < len(at[0])
        self._values, self._log = np.empty(len(both)), np.empty(len(both))
        self.sums, self.col_sums = problem.a, problem.b

    def merge(self, x: Array | float, y: Array | float) -> Array:
        """Return what is said of the points of both sides, in the order of all."""
        out = np.empty(len(self.at))
        out[self.first], out[~self.first] = x, y
        return out

    def evaluate(self, f: Array, heat: float) -> Array:
        """Set the plan to F and its best G; return G. Row sums are in ``sums``, column sums in ``col_sums``."""
        first, log_b, power = self.first, np.log(self.problem.b), self.problem.power(heat)
        self._at = self.at / heat
        self._values[first] = f / heat
        log_sums(first, True, self._values, self._at, False, self._log)  # noqa: FBT003
        log = self._log[~first]
        g = log_b - power * log
        self.col_sums = np.exp(log_b + (1.0 - power) * log)
        self._values[~first] = g
        log_sums(first, False, self._values, self._at, True, self._log)  # noqa: FBT003
        self.sums = np.exp(self._values[first] + self._log[first])
        return heat * g

    def scale(self, heat: float) -> Array:
        """Return the best F for the G that :meth:`evaluate` found: a scaling (Sinkhorn) step."""
        return heat * (np.log(self.problem.a) - self.problem.power(heat) * self._log[self.first])

    def step(self, rest: Array, target: Array, ease: float) -> Array:
        """Return Newton's step in F, in temperatures, as far as the quadratic model can be trusted.

        Parameters
        ----------
        rest, target
            ``(n,)`` what the row sums lack, and what they should be.
        ease
            Temperature over penalty.
        """
        d, flow = self._solve(rest, target, ease)
        along = d.copy()
        bend(along, flow, True)  # noqa: FBT003
        along = along[self.first]
        if ease == 0.0:
            return along - float(target @ along)  # a constant changes nothing, and would only cost digits
        grip = ease * (target + self.sums / (1.0 + ease))
        along += (rest.sum() - grip @ along) / grip.sum()  # Newton's step in the one direction that is left
        bend(d, flow, False)  # noqa: FBT003
        apart = d[self.first]
        return apart if rest @ apart > rest @ along else along

    def _solve(self, rest: Array, target: Array, ease: float) -> Sides:
        """Solve for Newton's step at the points of both sides; return it and the flow over the gap after each.

        In F alone it is ``(diag(rows + ease target) - P diag(1 / ((1 + ease) cols)) P') d = rest``.
        """
        first, log, size = self.first, self._log, len(self.at)
        gap, rise = np.diff(self._at, prepend=self._at[0]), np.diff(log, prepend=log[0])
        # Weights are relative to the best F for this G wherever they are seen from: so they neither vanish nor
        # overflow, and no fading is above 1.
        fade_x, fade_y = np.exp(-gap - rise), np.exp(rise - gap)
        del gap, rise
        weights = np.where(first, self._values + log, self._values - log)
        np.exp(weights, out=weights)
        ridge = _RIDGE + _DAMPING * float(np.abs(rest).sum() / target.sum())
        excess = self.merge(ease * target + ridge * np.maximum(self.sums, target), (ease + ridge) * self.col_sums)
        np.maximum(excess, _LEAST, out=excess)
        link_x, link_y, flow, d = np.empty(size), np.empty(size), np.empty(size), self.merge(rest, 0.0)
        right_sums(first, weights, fade_x, fade_y, link_x, link_y)
        eliminate(first, weights, excess, fade_x, fade_y, link_x, link_y, d, flow)
        substitute(first, weights, fade_x, fade_y, link_x, link_y, d)
        return d, flow


def _on(problem: Problem, at: Sides, masses: Sides) -> Problem:
    return replace(problem, x=at[0][:, None], y=at[1][:, None], a=masses[0], b=masses[1])


def _anneal(problem: Problem, at: Sides, limits: Limits) -> tuple[Array, int]:
    """Return F less the logarithm of the mass, from levels of points drawn together; and the passes.

    It is a function on the line, and about linear in the temperature once that is low.
    """
    levels: list[tuple[float, Array, Array]] = []
    passes = 0
    for heat in heats(spread(problem)):
        cells, centres = _cells(problem, at, _CELL * heat)
        guess = [np.interp(centres[0], where, lift) for _, where, lift in levels]
        lift = guess[-1] if guess else np.zeros(len(centres[0]))
        if len(guess) > 1:
            (hottest, _, _), (hotter, _, _) = levels
            lift = lift + (guess[1] - guess[0]) * ((heat - hotter) / (hotter - hottest))
        log_a = heat * np.log(cells.a)
        f, _, used = _climb(LinePlan(cells, centres), lift + log_a, heat, min(_LOOSE, limits.tol), limits, passes)
        passes += used
        levels = [*levels[-1:], (heat, centres[0], f - log_a)]
    return np.interp(at[0], *levels[-1][1:]), passes


def _cells(problem: Problem, at: Sides, width: float) -> tuple[Problem, Sides]:
    """Draw the points of a side that lie in one cell of a grid together, to their mean."""
    centres, masses = [], []
    for points, mass in zip(at, (problem.a, problem.b), strict=True):
        starts = np.flatnonzero(np.diff(np.floor(points / width), prepend=-math.inf))
        masses.append(np.add.reduceat(mass, starts))
        centres.append(np.add.reduceat(mass * points, starts) / masses[-1])
    sides = centres[0], centres[1]
    return _on(problem, sides, (masses[0], masses[1])), sides


def _climb(plan: LinePlan, f: Array, heat: float, goal: float, limits: Limits, before: int) -> tuple[Array, Array, int]:
    """Go from F by Newton's method until the rows are off by less than the goal; return F, G and the passes."""
    problem = plan.problem
    ease = 0.0 if math.isinf(problem.penalty) else heat / problem.penalty
    passes, scalings, best, since = 1, 1, math.inf, 0
    g = plan.evaluate(f, heat)
    while True:
        target = problem.targets(f, 0, heat)
        rest = target - plan.sums
        error = float(np.abs(rest).sum())
        best, since = (error, 0) if error < 0.5 * best else (best, since + 1)
        if error <= goal or since > _PATIENCE or limits.over(before + passes):
            return f, g, passes
        if scalings > 0:
            scalings -= 1
            f = plan.scale(heat)
            g = plan.evaluate(f, heat)
            passes += 1
            continue
        d = plan.step(rest, target, ease)
        f, g, tried = _along(plan, f, d, float(rest @ d), heat)
        passes += 1 + tried
        scalings = 3 if tried > _TRIALS else 0


def _along(plan: LinePlan, f: Array, d: Array, slope: float, heat: float) -> tuple[Array, Array, int]:
    """Go along the step to where the dual has about stopped rising; return F, G and the evaluations.

    The slope is looked at and not the dual itself, whose last digits are lost long before the slope's.
    """
    length = 1.0
    for trial in range(_TRIALS if slope > 0 else 0):
        there = f + length * heat * d
        g = plan.evaluate(there, heat)
        after = float((plan.problem.targets(there, 0, heat) - plan.sums) @ d)
        if after >= -0.5 * slope:
            return there, g, trial + 1
        length *= max(0.1, min(0.6, slope / (slope - after)))
    return f, plan.evaluate(f, heat), _TRIALS + 1


def _certify(plan: LinePlan, f: Array, g: Array) -> Certificate:
    """Sum up the plan over all pairs, by sweeps that share nothing with the search."""
    problem, sums = plan.problem, np.empty(len(plan.at))
    rows, cols, error = np.full(len(f), np.nan), np.full(len(g), np.nan), math.inf
    finite = bool(np.isfinite(f).all() and np.isfinite(g).all())
    if finite and marginals(plan.first, plan.at, plan.merge(f, g), sums):
        rows, cols = sums[plan.first], sums[~plan.first]
        error = float(np.abs(rows - problem.targets(f, 0)).sum() + np.abs(cols - problem.targets(g, 1)).sum())
    return Certificate(rows, cols, 0.0, error if math.isfinite(error) else math.inf, None, np.zeros(len(f)))


def _fits(problem: Problem, f: Array, g: Array, limits: Limits) -> bool:
    """Say from a few rows whether there is room for the coupling: to find out by making it may take long."""
    if limits.keep is None or not (np.isfinite(f).all() and np.isfinite(g).all()):
        return False
    n, m = problem.shape
    probes = np.unique(np.linspace(0, n - 1, _PROBES).astype(int))
    count = 0
    for i in probes:
        row = np.exp(f[i] + g - np.abs(problem.x[i, 0] - problem.y[:, 0]))
        mass = row.sum()
        row = np.sort(row[row > 0.01 * (1.0 - limits.keep) * mass / m])[::-1]
        count += int(np.searchsorted(np.cumsum(row), limits.keep * mass)) + 1
    return count * n <= limits.most * len(probes)
