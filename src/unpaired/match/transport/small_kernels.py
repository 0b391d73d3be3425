"""The search for the plan of one small label, compiled; :mod:`unpaired.match.transport.small` packs and unpacks.

The costs of a label are kept, and the dual is maximised over the potential F of the rows alone, G(F) being the one
that makes the columns exact. The problem is solved hot first (entropy weighted by ``heat`` times what was asked) and
then cooler, because from a cold start Newton's method would be lost: at each temperature a few scaling (Sinkhorn)
steps, then Newton's.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from unpaired.data.types import Array
from unpaired.match.transport.kernels import INLINE, SAFE, exp_tile

__all__ = ["SUMS", "Label", "Work", "anneal", "finish"]

SUMS: dict[str, Any] = SAFE | {"fastmath": {"contract", "nsz", "arcp", "reassoc"}}
"""Sums may be split over the lanes of a register. Infinity and NaN stay what they are: an answer may not be either."""

_COOLING = 4.0  # between two temperatures; more costs line searches, less costs temperatures
_START = 0.25  # the hottest temperature, as a share of the spread of the costs
_WARM = 3  # scaling steps before Newton's at each temperature
_LOOSE = 0.1  # relative error of the worst row at which a temperature but the last is left
_REACH = 10.0  # how far a Newton step may move a potential at first, in units of the temperature
_RIDGE = 1e-16  # least ridge, relative to the mass of a row
_LOST = 1e3  # L1 error (of a plan of mass 1) beyond which a Newton step makes no sense
_NOTHING = 1e-200  # mass of a column, in a plan of mass about 1, whose inverse is not asked for
_TINY = 1e-300


class Label(NamedTuple):
    """One label. Its columns are filled up, with massless ones, to whole vector registers."""

    cost: Array
    a: Array
    log_a: Array
    b: Array
    log_b: Array
    penalty: float


class Work(NamedTuple):
    """What the steps on a label hand to each other. Plan and schur have spare rows of zeros below."""

    plan: Array
    rows: Array  # its marginals
    cols: Array
    want: Array  # what the rows should be
    log_want: Array
    top: Array  # of a column: the largest F - C; the sum s of exp((F - C - top) / heat); log s + top / heat; cols / s
    total: Array
    log_total: Array
    scale: Array
    lane: Array
    schur: Array  # right of the diagonal: its negative; column n: by how much a row's diagonal exceeds their sum
    weight: Array
    pivot: Array
    step: Array
    trial: Array
    gap: Array  # L1 error of the rows (of a plan of mass 1); relative error of the worst row; slope of the dual; norm
    left: Array  # passes over the pairs still allowed


@njit(**SUMS, **INLINE)
def _power(label: Label, heat: float) -> float:
    return 1.0 / (1.0 + heat / label.penalty)


# ------------------------------------------------------------------ the plan of a potential


@njit(**SUMS, **INLINE)
def _transform(cost: Array, f: Array, heat: float, work: Work) -> None:
    """Fill ``top``, ``total`` and ``plan = exp((F - C - top) / heat)``."""
    top, total, wide, inverse = work.top, work.total, work.top.size, 1.0 / heat
    for j in range(wide):
        top[j], total[j] = -1e300, 0.0
    for i in range(f.size):
        level, row = f[i], cost[i]
        for j in range(wide):
            v = level - row[j]
            top[j] = v if v > top[j] else top[j]
    for i in range(f.size):
        level, row, out = f[i], cost[i], work.plan[i]
        for j in range(wide):
            out[j] = (level - row[j] - top[j]) * inverse
        exp_tile(out, wide)
        for j in range(wide):
            total[j] += out[j]


@njit(**SUMS, **INLINE)
def _targets(label: Label, f: Array, heat: float, work: Work) -> float:
    """Fill what the marginals should be, over exp(norm), and return norm: it keeps the lightest plan within floats."""
    for j in range(label.b.size):
        work.cols[j] = label.b[j]
    for i in range(f.size):
        work.want[i], work.log_want[i] = label.a[i], label.log_a[i]
    if math.isinf(label.penalty):
        return 0.0
    norm, share = -1e300, heat / (label.penalty + heat)
    for j in range(label.b.size):
        if label.b[j] > 0.0:
            work.log_total[j] = work.top[j] / heat + math.log(work.total[j])
            norm = max(norm, share * work.log_total[j])
    for j in range(label.b.size):
        if label.b[j] > 0.0:
            work.cols[j] *= math.exp(share * work.log_total[j] - norm)
    for i in range(f.size):
        lean = (heat * label.log_a[i] - f[i]) / label.penalty - norm
        work.log_want[i] += lean
        work.want[i] *= math.exp(min(max(lean, -690.0), 690.0))
    return norm


@njit(**SUMS, **INLINE)
def _evaluate(label: Label, f: Array, heat: float, work: Work) -> None:
    """Fill in the plan of a potential (its columns exact), what its rows are and should be, and the gap between."""
    work.left[0] -= 1
    _transform(label.cost, f, heat, work)
    norm = _targets(label, f, heat, work)
    mass, gap, worst, slope, scale = 0.0, 0.0, 0.0, 0.0, work.scale
    for j in range(scale.size):
        scale[j] = work.cols[j] / work.total[j]
        mass += work.cols[j]
    for i in range(f.size):
        row, have = work.plan[i], 0.0
        for j in range(scale.size):
            row[j] *= scale[j]
            have += row[j]
        work.rows[i] = have
        lack = work.want[i] - have
        gap += abs(lack)
        worst = max(worst, abs(lack) / (work.want[i] + 1e-20))
        slope += lack * work.step[i]
    work.gap[0] = gap * max(1.0 / mass, math.exp(min(norm, 690.0)))
    work.gap[1], work.gap[2], work.gap[3] = worst, slope, norm


# ------------------------------------------------------------------ a Newton step


@njit(**SUMS, **INLINE)
def _assemble(label: Label, heat: float, ridge: float, work: Work) -> None:
    """Fill in the dual's second derivative: ``diag(rows) - plan diag(1 / cols) plan'`` where the marginals are fixed.

    It is kept as its off-diagonal and the excess of its diagonal over that, which is known without a difference: zero
    for fixed marginals. The ridge is added to the excess.
    """
    power, lane, plan, n = _power(label, heat), work.lane, work.plan, work.rows.size
    for j in range(lane.size):
        work.scale[j] = power / work.cols[j] if work.cols[j] > _NOTHING else 0.0
    for i in range(n):
        row, out = plan[i], work.schur[i]
        for j in range(lane.size):
            lane[j] = row[j] * work.scale[j]
        for k in range(i + 1, n, 4):  # four at a time, because reading takes longer than computing
            p0, p1, p2, p3 = plan[k], plan[k + 1], plan[k + 2], plan[k + 3]
            s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
            for j in range(lane.size):
                s0 += lane[j] * p0[j]
                s1 += lane[j] * p1[j]
                s2 += lane[j] * p2[j]
                s3 += lane[j] * p3[j]
            out[k], out[k + 1], out[k + 2], out[k + 3] = s0, s1, s2, s3
        out[n] = (1.0 - power) * work.rows[i] + work.want[i] * heat / label.penalty
        out[n] += ridge * max(work.rows[i], work.want[i])


@njit(**SUMS, **INLINE)
def _factorise(work: Work) -> None:
    """Factorise what :func:`_assemble` left, in place, into L D L' (D inverted), without a single difference.

    Off-diagonal and excess only grow while rows are eliminated, so they keep their relative accuracy however weakly
    two parts of a label are linked: 1e-30 is as good as 1.
    """
    schur, weight, n = work.schur, work.weight, work.pivot.size
    for k in range(n):
        start = (k + 1) // 8 * 8  # whole registers; what lies left of the diagonal is never used
        row = schur[k, start:]
        for p in range(k):
            weight[p] = schur[p, k] * work.pivot[p]
        for p in range(k, k + 4):
            weight[p] = 0.0
        for p in range(0, k, 4):
            r0, r1, r2, r3 = schur[p, start:], schur[p + 1, start:], schur[p + 2, start:], schur[p + 3, start:]
            w0, w1, w2, w3 = weight[p], weight[p + 1], weight[p + 2], weight[p + 3]
            for j in range(row.size):
                row[j] += w0 * r0[j] + w1 * r1[j] + w2 * r2[j] + w3 * r3[j]
        diagonal = 0.0
        for j in range(k + 1, n + 1):
            diagonal += schur[k, j]
        work.pivot[k] = 1.0 / max(diagonal, _TINY)


@njit(**SUMS, **INLINE)
def _direct(label: Label, heat: float, reach: float, work: Work) -> float:
    """Put Newton's step into ``step``, shortened to its reach, and return the share that is left of it."""
    step, schur, pivot, n = work.step, work.schur, work.pivot, work.step.size
    for i in range(n):
        step[i] = work.want[i] - work.rows[i]
    for k in range(n):
        row, known = schur[k], step[k] * pivot[k]
        for i in range(k + 1, n):
            step[i] += row[i] * known
    low, high = 1e300, -1e300
    for k in range(n - 1, -1, -1):
        row, known = schur[k], step[k]
        for i in range(k + 1, n):
            known += row[i] * step[i]
        step[k] = known * pivot[k]
        low, high = min(low, step[k]), max(high, step[k])
    middle = 0.5 * (low + high) if math.isinf(label.penalty) else 0.0  # a constant changes nothing there
    longest = max(high - middle, middle - low)
    share = reach / longest if longest > reach else 1.0
    work.gap[2] = 0.0
    for i in range(n):
        step[i] = (step[i] - middle) * (share * heat)
        work.gap[2] += (work.want[i] - work.rows[i]) * step[i]
    return share


@njit(**SUMS, **INLINE)
def _climb(label: Label, f: Array, heat: float, work: Work) -> int:
    """Move F along the step to where the dual has about stopped rising; return the trials, or 0 if F did not move.

    The slope is looked at and not the dual itself, whose last digits are lost long before the slope's.
    """
    before, norm, length = work.gap[2], work.gap[3], 1.0
    for trial in range(8 if before > 0.0 else 0):
        if work.left[0] <= 0:
            break
        for i in range(f.size):
            work.trial[i] = f[i] + length * work.step[i]
        _evaluate(label, work.trial, heat, work)
        after = work.gap[2] * math.exp(min(work.gap[3] - norm, 690.0))
        if after >= -0.5 * before:
            for i in range(f.size):
                f[i] = work.trial[i]
            return trial + 1
        length *= max(0.1, min(0.6, before / (before - after)))
    return 0


# ------------------------------------------------------------------ one label


@njit(**SUMS, **INLINE)
def _settle(label: Label, f: Array, heat: float, goal: float, worst: float, work: Work) -> None:
    """Solve at one temperature, until the gap is below both goals or no pass is left.

    Parts of a label that are hardly linked ask for steps far too long. The ridge holds these back without slowing
    the others; the reach, which shortens all of the step, grows while the long way turns out to be the right one.
    """
    ridge, reach, scalings, trials = _RIDGE, _REACH, _WARM, 0
    while work.left[0] > 0:
        if trials == 0:  # otherwise the line search has left the plan of F behind
            _evaluate(label, f, heat, work)
        if work.left[0] <= 0 or (work.gap[0] <= goal and work.gap[1] <= worst):
            return
        if scalings > 0 or not work.gap[0] <= _LOST:
            scalings, trials = scalings - 1, 0
            for i in range(f.size):  # to where the rows are exact, G being what it is
                f[i] += _power(label, heat) * heat * (work.log_want[i] - math.log(max(work.rows[i], _TINY)))
            continue
        work.left[0] -= 1  # as much work as a pass over the pairs
        _assemble(label, heat, ridge, work)
        _factorise(work)
        share = _direct(label, heat, reach, work)
        trials = _climb(label, f, heat, work)
        if trials == 0:  # rounding, or lost: do without Newton for a while
            scalings = 10
        elif trials > 1:
            reach = max(0.5 * reach, _REACH)
        elif share < 1.0:
            reach, scalings = 2.0 * reach, 1
        ridge = max(0.1 * ridge, _RIDGE) if share == 1.0 and trials > 0 else min(max(10.0 * ridge, 1e-6), 1.0 / reach)


@njit(**SUMS, **INLINE)
def finish(label: Label, f: Array, g: Array, work: Work) -> float:
    """Fill in G, and return the L1 distance of both marginals from what they should be, anew over all pairs."""
    _evaluate(label, f, 1.0, work)
    shift = 0.0
    for j in range(g.size):
        g[j] = label.log_b[j] - _power(label, 1.0) * (work.top[j] + math.log(work.total[j]))
        shift += 0.5 * label.b[j] * (g[j] - label.log_b[j])
    for i in range(f.size):
        shift -= 0.5 * label.a[i] * (f[i] - label.log_a[i])
    shift = shift if math.isinf(label.penalty) else 0.0  # a constant is free then: the same mean on both sides
    for j in range(g.size):
        g[j] -= shift
        work.cols[j] = 0.0
    error = 0.0
    for i in range(f.size):
        f[i] += shift
        row, have = work.plan[i], 0.0
        for j in range(g.size):
            row[j] = f[i] + g[j] - label.cost[i, j]
        exp_tile(row, g.size)
        for j in range(g.size):
            work.cols[j] += row[j]
            have += row[j]
        error += abs(have - _target(label.a[i], label.log_a[i] - f[i], label.penalty))
    for j in range(g.size):
        error += abs(work.cols[j] - _target(label.b[j], label.log_b[j] - g[j], label.penalty))
    return error


@njit(**SUMS, **INLINE)
def _target(mass: float, lean: float, penalty: float) -> float:
    return mass * math.exp(min(max(lean / penalty, -700.0), 700.0))


@njit(**SUMS, **INLINE)
def anneal(label: Label, f: Array, m: int, tol: float, work: Work) -> float:
    """Find F, hot first; return the gap that was aimed at: what rounding of the costs forbids is not waited for."""
    low, high = 1e300, 0.0
    for i in range(f.size):
        for j in range(m):
            low, high = min(low, label.cost[i, j]), max(high, label.cost[i, j])
    goal, heat = max(tol, 1e-15 + 1e-16 * high), max(1.0, _START * (high - low))
    levels = math.ceil(math.log(heat) / math.log(_COOLING))
    factor = heat ** (-1.0 / max(levels, 1))
    for i in range(f.size):
        f[i] = heat * label.log_a[i]
    for level in range(levels + 1):
        last = level == levels
        _settle(label, f, heat, goal if last else np.inf, np.inf if last else _LOOSE, work)
        cooler = 1.0 if level >= levels - 1 else heat * factor
        for i in range(f.size):
            f[i] += (cooler - heat) * label.log_a[i]
        heat = cooler
    return goal
