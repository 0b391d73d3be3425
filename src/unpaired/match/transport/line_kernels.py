"""Compiled sweeps along a line: sums over all pairs, and Newton's step, in time linear in the points.

The points of both sides lie merged in order. A point p sees those to its left only through two numbers, the sums of
``exp(F_i - |p - x_i|)`` and of ``exp(G_j - |p - y_j|)``, which fade by ``exp(-gap)`` from one point to the next; and
likewise those to its right.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from unpaired.data.types import Array
from unpaired.match.transport.kernels import SAFE

__all__ = ["bend", "eliminate", "log_sums", "marginals", "right_sums", "substitute"]

_NONE = -1e300  # the logarithm of nothing; minus infinity less itself would not be a number
_NOTHING = 1e-20  # a flow that no tolerance asks for


@njit(**SAFE)
def log_sums(first: Array, source: bool, values: Array, at: Array, everywhere: bool, out: Array) -> None:
    """Write ``log sum_q exp(values_q - |p - q|)`` over the points q of one side.

    Seen from the right of it, a point q counts ``exp(values_q + q)``, wherever from: so the sums need no fading on
    their way, and nothing is rounded twice.

    Parameters
    ----------
    first
        ``(N,)`` whether a point belongs to the first side.
    source
        Which side is summed over.
    values, at
        ``(N,)``, in units of the temperature; in ascending order.
    everywhere
        Whether the sums are wanted at every point, or at those of the other side alone.
    out
        ``(N,)``; where no sum is wanted it is left in disorder.
    """
    size = len(at)
    tops = np.empty(size)
    top, total = _NONE, 0.0  # the sum so far is total * exp(top)
    for p in range(size):
        if first[p] == source:
            v = values[p] + at[p]
            if v > top:
                total = 1.0 + total * math.exp(top - v)
                top = v
            else:
                total += math.exp(v - top)
        tops[p], out[p] = top, total
    top, total = _NONE, 0.0
    for p in range(size - 1, -1, -1):
        here = first[p] == source
        if everywhere or not here:
            left, right = tops[p] - at[p], top + at[p]
            if right > left:
                out[p] = right + math.log(total + out[p] * math.exp(left - right))
            else:
                out[p] = left + math.log(out[p] + total * math.exp(right - left))
        if here:
            v = values[p] - at[p]
            if v > top:
                total = 1.0 + total * math.exp(top - v)
                top = v
            else:
                total += math.exp(v - top)


@njit(**SAFE)
def right_sums(first: Array, weights: Array, fade_x: Array, fade_y: Array, right_x: Array, right_y: Array) -> None:
    """Write the sums of both sides' weights to the right of every point, as far as they have not faded."""
    sum_x, sum_y = 0.0, 0.0
    for p in range(len(weights) - 1, -1, -1):
        right_x[p], right_y[p] = sum_x, sum_y
        if first[p]:
            sum_x += weights[p]
        else:
            sum_y += weights[p]
        sum_x *= fade_x[p]
        sum_y *= fade_y[p]


@njit(**SAFE)
def eliminate(
    first: Array, weights: Array, excess: Array, fade_x: Array, fade_y: Array, link_x: Array, link_y: Array,
    known: Array, flow: Array,
) -> None:  # fmt: skip
    """Eliminate the points of Newton's system from left to right.

    The system ``[diag(rows) + E, -P; -P', diag(cols) + E]`` is the Laplacian of a weighted graph, and an excess. What
    an elimination leaves is one again: the eliminated points have put weights between those that remain, products of
    the remaining points' own weights and of three numbers, which fade on the way. A pivot is the sum of a point's
    weights and its excess, so nothing is ever subtracted (Grassmann et al. 1985), and parts of a label that are hardly
    linked keep their relative accuracy.

    Parameters
    ----------
    first
        ``(N,)`` whether a point belongs to the first side.
    weights
        ``(N,)``: the plan between two points of different sides is the product of their weights, faded.
    excess
        ``(N,)`` the diagonal of E.
    fade_x, fade_y
        ``(N,)`` what is left of a weight of either side beyond the gap before each point.
    link_x, link_y
        ``(N,)`` the sums to the right of each point; changed into its weights to what remains, over its pivot.
    known
        ``(N,)`` right-hand side; changed: it too is over the pivot.
    flow
        Filled in: the mass of the plan over the gap after each point.
    """
    xx, xy, yy = 0.0, 0.0, 0.0
    rest_x, rest_y, excess_x, excess_y = 0.0, 0.0, 0.0, 0.0
    left_x, left_y = 0.0, 0.0
    for p in range(len(weights)):
        fx, fy, w, right_x, right_y = fade_x[p], fade_y[p], weights[p], link_x[p], link_y[p]
        xx *= fx * fx
        xy *= fx * fy
        yy *= fy * fy
        rest_x *= fx
        rest_y *= fy
        excess_x *= fx
        excess_y *= fy
        left_x *= fy
        left_y *= fx
        if first[p]:
            to_x, to_y = w * xx, w + w * xy
            e, b = excess[p] + w * excess_x, known[p] + w * rest_x
            left_x += w
        else:
            to_x, to_y = w + w * xy, w * yy
            e, b = excess[p] + w * excess_y, known[p] + w * rest_y
            left_y += w
        inverse = 1.0 / (to_x * right_x + to_y * right_y + e)
        lx, ly, b = to_x * inverse, to_y * inverse, b * inverse
        link_x[p], link_y[p], known[p] = lx, ly, b
        flow[p] = left_x * right_y + left_y * right_x
        xx += to_x * lx
        xy += to_x * ly
        yy += to_y * ly
        rest_x += to_x * b
        rest_y += to_y * b
        excess_x += lx * e
        excess_y += ly * e


@njit(**SAFE)
def substitute(
    first: Array, weights: Array, fade_x: Array, fade_y: Array, link_x: Array, link_y: Array, known: Array
) -> None:
    """Turn ``known`` into the solution, from right to left."""
    sum_x, sum_y = 0.0, 0.0
    for p in range(len(weights) - 1, -1, -1):
        d = known[p] + link_x[p] * sum_x + link_y[p] * sum_y
        known[p] = d
        if first[p]:
            sum_x += weights[p] * d
        else:
            sum_y += weights[p] * d
        sum_x *= fade_x[p]
        sum_y *= fade_y[p]


@njit(**SAFE)
def bend(steps: Array, flow: Array, one: bool) -> None:
    """Shorten the difference of the step over each gap, in place, to what the quadratic model can be trusted for.

    A difference s takes the flow over the gap from q to about ``q exp(s)``, where Newton's model says ``q (1 + s)``. So
    s is shortened until the flow comes to what was meant, ``q sinh(t) = q s``, and what lies beyond goes along; or, not
    as ``one``, only up to the next gap that has next to no flow.

    Parameters
    ----------
    steps
        ``(N,)`` Newton's step; changed.
    flow
        ``(N,)`` see :func:`eliminate`.
    one
        Whether all of it goes along.
    """
    still = 0
    for p in range(len(steps)):
        if abs(steps[p]) < abs(steps[still]):
            still = p
    for way in (1, -1):
        old, new = steps[still], steps[still]
        p = still + way
        while 0 <= p < len(steps):
            s = steps[p] - old
            old = steps[p]
            if one and abs(s) > 0.1:
                s = math.asinh(s)
            elif not one and (abs(s) > 0.1 or abs(new - old) > 0.1):
                room = math.log(_NOTHING / max(flow[p - 1 if way > 0 else p], 1e-300))
                most = max(math.asinh(abs(s)), room)
                s = min(max(old - new, -most), most)
            new += s
            steps[p] = new
            p += way


@njit(**SAFE)
def marginals(first: Array, at: Array, values: Array, out: Array) -> bool:
    """Write the sum of ``exp(F + G - distance)`` over the other side of every point; return whether they were in order.

    For the certificate: it takes the positions and the potentials alone. The sums so far are kept relative to their
    largest term.
    """
    size = len(at)
    tops, totals = np.empty(2), np.empty(2)
    for turn in range(2):
        tops[:], totals[:] = _NONE, 0.0
        sign = 1.0 if turn == 0 else -1.0
        before = -math.inf
        for k in range(size):
            p = k if turn == 0 else size - 1 - k
            here = sign * at[p]
            if not here >= before:
                return False
            before = here
            own = 0 if first[p] else 1
            seen = totals[1 - own] * math.exp(values[p] - here + tops[1 - own])
            out[p] = seen if turn == 0 else out[p] + seen
            v = values[p] + here
            if v > tops[own]:
                totals[own] = 1.0 + totals[own] * math.exp(tops[own] - v)
                tops[own] = v
            else:
                totals[own] += math.exp(v - tops[own])
    return True
