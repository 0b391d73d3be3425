"""Entropic optimal transport of one label through POT, in slices of iterations so that time and error are watched."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from unpaired.data.types import Array
from unpaired.match.block import Status

__all__ = ["solve_label"]

_MOST = 2 * 10**8  # entries of a plan: the solver holds five such matrices, 8 GB
_SLICE = 50  # iterations between two looks at the clock and the marginals, fewer where one takes long:
_SLICE_ENTRIES = 10**8  # so many entries of the plan, about two seconds


def solve_label(
    x: Array,
    y: Array,
    a: Array,
    b: Array,
    seed: int,
    *,
    eps: float,
    cost: str,
    max_iter: int,
    max_seconds: float,
    tol: float,
    unbalanced: float | None,
) -> tuple[Array | None, Status]:
    """Return the coupling of one label and how it went (see :func:`unpaired.match_ot`)."""
    used: dict[str, Any] = {"cost": cost, "eps": eps, "solver": "pot.sinkhorn_log"}
    if len(x) * len(y) > _MOST:
        advice = f"a plan of {len(x)} x {len(y)} cells does not fit in memory; keep fewer cells (max_cells_per_label)."
        return None, Status("failed", advice, used=used)
    c = cdist(x, y, metric=cost)
    if unbalanced is not None:
        used |= {"solver": "unpaired.log_scaling", "unbalanced": unbalanced}
        plan, iterations, done = _unbalanced(a, b, c, eps, unbalanced, max_iter, max_seconds, tol)
    else:
        plan, iterations, done = _balanced(a, b, c, eps, max_iter, max_seconds, tol)
    if not np.isfinite(plan).all() or not plan.sum() > 0:
        advice = f"eps = {eps:.3g} is too small for costs up to {c.max():.3g}; use a larger eps."
        return None, Status("failed", advice, iterations=iterations, used=used)
    error = _marginal_error(plan, a, b)
    if done:
        return plan, Status("ok", "", error, iterations, used=used)
    if unbalanced is not None:
        advice = f"still moving after {iterations} iterations; raise eps, max_iter or max_seconds."
        return plan, Status("not_converged", advice, error, iterations, used=used)
    advice = f"the marginals are off by {error:.1e} after {iterations} iterations; raise eps, max_iter or max_seconds."
    return plan, Status("not_converged", advice, error, iterations, used=used)


def _marginal_error(plan: Array, a: Array, b: Array) -> float:
    return float(np.abs(plan.sum(axis=1) - a).sum() + np.abs(plan.sum(axis=0) - b).sum())


def _balanced(
    a: Array, b: Array, c: Array, eps: float, max_iter: int, max_seconds: float, tol: float
) -> tuple[Array, int, bool]:
    from ot.bregman import sinkhorn_log

    start, iterations, warm = time.perf_counter(), 0, None
    most = max(1, min(_SLICE, _SLICE_ENTRIES // c.size))
    while True:
        size = min(most, max_iter - iterations)
        # stopThr=0: POT's own test looks at one side in the L2 norm; ours, below, at both sides in L1.
        with np.errstate(over="ignore"):  # POT also returns exp(dual), which we do not use
            plan, log = sinkhorn_log(a, b, c, eps, numItermax=size, stopThr=0, log=True, warn=False, warmstart=warm)
        iterations += size
        warm = (log["log_u"], log["log_v"])
        if not np.isfinite(plan).all():
            return plan, iterations, False
        if _marginal_error(plan, a, b) <= tol:
            return plan, iterations, True
        if iterations >= max_iter or time.perf_counter() - start > max_seconds:
            return plan, iterations, False


def _unbalanced(
    a: Array, b: Array, c: Array, eps: float, penalty: float, max_iter: int, max_seconds: float, tol: float
) -> tuple[Array, int, bool]:
    """Scaling iterations in the logarithm (Chizat et al. 2018): min <c, p> + eps KL(p | ab) + penalty (KL + KL).

    Not POT's: its stabilised solver stops far from the minimum when eps is small, without saying so.
    """
    from scipy.special import logsumexp

    start, power = time.perf_counter(), penalty / (penalty + eps)
    kernel = -c / eps + np.log(a)[:, None] + np.log(b)
    f, g, iterations, done = np.zeros(len(a)), np.zeros(len(b)), 0, False
    while not done and iterations < max_iter and time.perf_counter() - start <= max_seconds:
        old = f
        f = -power * (logsumexp(kernel + g, axis=1) - np.log(a))
        g = -power * (logsumexp(kernel + f[:, None], axis=0) - np.log(b))
        iterations += 1
        if not np.isfinite(f).all():
            break
        # The map contracts by power squared, so this bounds how far f still is from where it goes.
        done = bool(np.max(np.abs(f - old)) * power**2 <= tol * (1 - power**2))
    return np.exp(kernel + f[:, None] + g), iterations, done
