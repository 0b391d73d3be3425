"""What every result is judged by: float64, all pairs, in blocks of rows, and none of the engine's own code."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numba import get_num_threads, njit, prange
from problems import CACHE, EPS, Array

_FAST = {"cache": True, "nogil": True, "error_model": "numpy"}
_LEAST = -60.0  # entries below e^-60 add less than 1e-15 in all, were there 1e11 of them: their exp is spared


def plan_error(plan: Array) -> float:
    """Return the L1 error of both marginals of a dense plan that should be uniform on both sides."""
    n, m = plan.shape
    rows, cols = np.zeros(n), np.zeros(m)
    for start in range(0, n, 1000):
        block = np.asarray(plan[start : start + 1000], dtype=np.float64)
        rows[start : start + 1000] = block.sum(axis=1)
        cols += block.sum(axis=0)
    return _l1(rows, cols)


def potential_error(x: Array, y: Array, f: Array, g: Array, eps: float = EPS) -> float:
    """Return the same for the plan ``exp((f_i + g_j - |x_i - y_j|) / eps)``."""
    x, y, f, g = (np.asarray(v, dtype=np.float64) for v in (x, y, f, g))
    if x.shape[1] == 1:
        return _line_error(x[:, 0], y[:, 0], f, g, eps)
    return _l1(*_marginals(x / eps, np.ascontiguousarray(y.T) / eps, f / eps, g / eps, get_num_threads()))


def row_error(x: Array, y: Array, f: Array, g: Array, eps: float = EPS, rows: int = 200) -> float:
    """Return the mean relative error of a few rows' sums, every pair of these rows counted (for sizes beyond all)."""
    chosen = np.random.default_rng(0).choice(len(x), min(rows, len(x)), replace=False)
    sums, _ = _marginals(x[chosen] / eps, np.ascontiguousarray(y.T) / eps, f[chosen] / eps, g / eps, get_num_threads())
    return float(np.abs(sums * len(x) - 1).mean())


def _l1(rows: Array, cols: Array) -> float:
    return float(np.abs(rows - 1 / len(rows)).sum() + np.abs(cols - 1 / len(cols)).sum())


@njit(parallel=True, **_FAST)
def _marginals(x: Array, yt: Array, f: Array, g: Array, blocks: int) -> tuple[Array, Array]:
    n, (dim, m) = len(x), yt.shape
    rows, cols = np.zeros(n), np.zeros((blocks, m))
    for block in prange(blocks):
        square, mine = np.empty(m), cols[block]
        for i in range(block, n, blocks):
            square[:] = 0.0
            for k in range(dim):
                at, other = x[i, k], yt[k]
                for j in range(m):
                    square[j] += (at - other[j]) ** 2
            for j in range(m):
                square[j] = f[i] + g[j] - np.sqrt(square[j])
            total = 0.0
            for j in range(m):
                if square[j] > _LEAST:
                    entry = np.exp(square[j])
                    total += entry
                    mine[j] += entry
            rows[i] = total
    return rows, cols.sum(axis=0)


def _line_error(x: Array, y: Array, f: Array, g: Array, eps: float) -> float:
    """Return the error for points on a line, where sums over all pairs are running sums over the sorted points."""
    return _l1(np.exp(_line_sums(x, f, y, g, eps)), np.exp(_line_sums(y, g, x, f, eps)))


def _line_sums(x: Array, f: Array, y: Array, g: Array, eps: float) -> Array:
    order = np.argsort(y)
    at, weight = y[order] / eps, g[order] / eps
    below = np.append(-np.inf, np.logaddexp.accumulate(weight + at))
    above = np.append(np.logaddexp.accumulate((weight - at)[::-1])[::-1], -np.inf)
    place = np.searchsorted(at, x / eps, side="right")
    return f / eps + np.logaddexp(below[place] - x / eps, above[place] + x / eps)


def count_iterations(
    x: Array, y: Array, tols: Sequence[float], *, eps: float = EPS, most: int = 40_000, seconds: float = 240.0
) -> dict[float, int | None]:
    """Return how many plain Sinkhorn iterations lead to each tolerance; None where ``most`` are not enough.

    All plain implementations walk through the same iterates, so they are counted once, by a quick loop in float64 that
    sees the error of both marginals after every iteration. Counts are kept in ``cache/``.
    """
    digest = hashlib.sha256(np.ascontiguousarray(x).tobytes() + np.ascontiguousarray(y).tobytes()).hexdigest()[:24]
    kept = _read(CACHE / "iterations.json")
    known = kept.get(digest, {})
    if not all(f"{tol:g}" in known for tol in tols):
        known |= {f"{tol:g}": k for tol, k in _count(x / eps, y / eps, sorted(tols)[::-1], most, seconds).items()}
        CACHE.mkdir(exist_ok=True)
        (CACHE / "iterations.json").write_text(json.dumps(kept | {digest: known}, indent=1))
    return {tol: known[f"{tol:g}"] for tol in tols}


def _read(path: Path) -> dict[str, dict[str, int | None]]:
    return json.loads(path.read_text()) if path.exists() else {}


def _count(x: Array, y: Array, tols: list[float], most: int, seconds: float) -> dict[float, int | None]:
    """Iterate as POT does, columns first then rows; potentials take in the scalings before these grow large."""
    from scipy.spatial.distance import cdist

    start, out = time.perf_counter(), dict.fromkeys(tols)
    n, m = len(x), len(y)
    cost = cdist(x, y)
    f = np.zeros(n)
    g = -np.log(m) - _logsumexp(f[:, None] - cost, 0)
    f = -np.log(n) - _logsumexp(g - cost, 1)
    u, v, total, kernel = np.ones(n), np.ones(m), np.empty(m), np.exp(f[:, None] + g - cost)
    left, k = list(tols), 0
    while left and k < most and time.perf_counter() - start < seconds:
        _sweep(kernel, v, u, total, get_num_threads())
        k += 1
        error = np.abs(v * total - 1 / m).sum()
        while left and error <= left[0]:
            out[left.pop(0)] = k
        v = 1 / m / total
        if max(np.abs(np.log(u)).max(), np.abs(np.log(v)).max()) > 100:
            f, g = f + np.log(u), g + np.log(v)
            u[:], v[:] = 1, 1
            kernel = np.exp(f[:, None] + g - cost)
    return out


def _logsumexp(values: Array, axis: int) -> Array:
    top = values.max(axis=axis, keepdims=True)
    return np.log(np.exp(values - top).sum(axis=axis)) + top.squeeze(axis)


@njit(parallel=True, fastmath={"reassoc", "contract"}, **_FAST)
def _sweep(kernel: Array, v: Array, u: Array, total: Array, blocks: int) -> None:
    """Set u to what makes the rows right, and ``total`` to the columns' sums under it: one reading of the kernel."""
    n, m = kernel.shape
    parts = np.zeros((blocks, m))
    for block in prange(blocks):
        mine = parts[block]
        for i in range(n * block // blocks, n * (block + 1) // blocks):
            row, dot = kernel[i], 0.0
            for j in range(m):
                dot += row[j] * v[j]
            scale = 1 / (n * dot)
            u[i] = scale
            for j in range(m):
                mine[j] += scale * row[j]
    total[:] = parts.sum(axis=0)
