"""Show 7: what each ingredient of the engine contributes on one label, and the share of the processor's limit reached.

The engine's own parts are run in simpler orders, up to the whole. The limit is a roofline: every pass that the whole
search makes, counted, at the processor's measured peak of float32 arithmetic (a matrix product) or of reading (the sum
of an array as large as the kernel), whichever is slower.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import ours
from judge import potential_error
from machine import median, save, short, table, timed, warn_if_busy
from problems import EPS, STRENGTHS, Pair, trained
from threadpoolctl import threadpool_limits

from unpaired.match.transport.anneal import heats, solve_dense, spread
from unpaired.match.transport.dense import DenseCosts, DensePlan
from unpaired.match.transport.limits import Limits
from unpaired.match.transport.problem import Problem, prepare
from unpaired.match.transport.sparse import SparsePlan
from unpaired.match.transport.workers import Workers

MOST = 20_000  # passes of a variant that has no Newton's method
_FLOPS = {"distance": 3.0, "exponential": 16.0, "pass": 4.0, "product": 4.0}  # a pair; a distance, a coordinate


def show(*, tols: Sequence[float] = (1e-4, 1e-6), rounds: int = 5, name: str = "transport_ablation") -> str:
    """Run every variant, keep the numbers and return both tables."""
    busy, rows, limits = warn_if_busy(), [], []
    peaks = _peaks()
    for strength, factor in STRENGTHS.items():
        pair = trained(strength=factor)[0]
        for tol in tols:
            for variant, run in VARIANTS.items():
                run(pair, tol)
                runs = [timed(partial(run, pair, tol)) for _ in range(rounds)]
                seconds, outcomes = zip(*runs, strict=True)
                error = potential_error(*pair, *(EPS * p for p in outcomes[0][:2]))
                rows.append(
                    {"strength": strength, "tol": tol, "variant": variant, "seconds": median(seconds),
                     "passes": outcomes[0][2], "error": error}
                )  # fmt: skip
                print(rows[-1], flush=True)
            limits.append({"strength": strength, "tol": tol, **_share(pair, tol, rounds, peaks)})
            print(limits[-1], flush=True)
    save(
        name,
        {"show": "ablation", "threads": 1, "seed": 0, "busy": busy, "peaks": peaks, "rows": rows, "limits": limits},
    )
    return _tables(rows, limits)


def _problem(pair: Pair) -> Problem:
    x, y = pair
    a, b = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
    return prepare(x, y, a, b, eps=EPS, cost="euclidean", unbalanced=None)[0]


def _scaling(*, cool: bool, relax: float) -> Callable[[Pair, float], tuple[Any, Any, int]]:
    """Return a variant that only scales: from eps itself or cooling down to it, plain or over-relaxed."""

    def run(pair: Pair, tol: float) -> tuple[Any, Any, int]:
        problem = _problem(pair)
        with Workers(1) as workers:
            costs = DenseCosts(problem, workers)
            ladder = heats(spread(problem)) if cool else [1.0]
            f = ladder[0] * np.log(problem.a)
            g = costs.columns(f, ladder[0])
            passes = 1
            for k, heat in enumerate(ladder):
                if k:
                    f = f - (ladder[k - 1] - heat) * np.log(problem.a)
                last = heat == 1.0
                most, goal = (MOST, 0.5 * tol) if last else (10, 0.05)
                f, g, _, used = costs.scale(f, g, heat, passes=most, goal=goal, relax=relax)
                passes += used
        return f, g, passes

    return run


def _whole(pair: Pair, tol: float) -> tuple[Any, Any, int]:
    with Workers(1) as workers:
        found = solve_dense(_problem(pair), Limits(tol, 10_000, time.perf_counter() + 600), workers)
    return found.f, found.g, found.passes


VARIANTS = {
    "one-read scaling": _scaling(cool=False, relax=1.0),
    "+ over-relaxation": _scaling(cool=False, relax=1.6),
    "one-read scaling + cooling": _scaling(cool=True, relax=1.0),
    "+ cooling + over-relaxation": _scaling(cool=True, relax=1.6),
    "+ Newton on the support, certified (the engine)": _whole,
}


def _peaks() -> dict[str, float]:
    """Return one core's peak float32 operations and bytes read from an array of the kernel's size, a second."""
    a = np.ones((1024, 1024), np.float32)
    array = np.ones(1700 * 1792, np.float32)
    with threadpool_limits(1):
        product = min(timed(lambda: a @ a)[0] for _ in range(20))
    reading = min(timed(array.sum)[0] for _ in range(50))
    return {"flops": 2 * 1024**3 / product, "bytes": array.nbytes / reading}


def _share(pair: Pair, tol: float, rounds: int, peaks: dict[str, float]) -> dict[str, Any]:
    """Count the passes of one solution, and return the limit, the seconds, and their ratio."""
    counts = _count(pair, tol)
    pairs, dim = len(pair[0]) * len(pair[1]), pair[0].shape[1]

    def least(flops: float, size: float) -> float:
        return max(flops / peaks["flops"], size / peaks["bytes"])

    distance = _FLOPS["distance"] * dim
    limit = pairs * (
        counts["costs"] * least(distance, 4)
        + (counts["absorb"] + counts["columns"]) * least(_FLOPS["exponential"], 8)
        + counts["scan"] * least(2, 4)
        + counts["sweep"] * least(_FLOPS["pass"], 4)
        + counts["exact"] * least(2 * (distance + _FLOPS["exponential"]), 4)  # in double precision
        + counts["dense product"] * least(_FLOPS["product"], 8)
        + least(distance, 4)  # the certificate, where few pairs are above the floor
    )
    limit += counts["sparse entries"] * least(2 * _FLOPS["product"], 24) + counts["evaluated entries"] * least(64, 32)
    seconds = median([timed(lambda: ours.solve(*pair, tol=tol, jobs=1))[0] for _ in range(rounds)])
    return {"limit": limit, "seconds": seconds, "share": limit / seconds, "counts": dict(counts)}


def _count(pair: Pair, tol: float) -> Counter[str]:
    counts: Counter[str] = Counter()

    def wrap(kind: type, method: str, key: str, *, entries: bool = False) -> Any:
        original = getattr(kind, method)

        def counted(self: Any, *args: Any, **options: Any) -> Any:
            counts[key] += self.nnz if entries else 1
            return original(self, *args, **options)

        return patch.object(kind, method, counted)

    with (
        wrap(DenseCosts, "__init__", "costs"), wrap(DenseCosts, "_absorb", "absorb"),
        wrap(DenseCosts, "columns", "columns"),
        wrap(DenseCosts, "pattern", "scan"), wrap(DenseCosts, "_sweep", "sweep"), wrap(DensePlan, "evaluate", "exact"),
        wrap(DensePlan, "product", "dense product"), wrap(SparsePlan, "product", "sparse entries", entries=True),
        wrap(SparsePlan, "evaluate", "evaluated entries", entries=True),
    ):  # fmt: skip
        _whole(pair, tol)
    return counts


def _tables(rows: Sequence[dict[str, Any]], limits: Sequence[dict[str, Any]]) -> str:
    columns = sorted({(r["strength"], r["tol"]) for r in rows}, key=lambda c: (c[0] != "strong", -c[1]))
    cells = []
    for variant in VARIANTS:
        line = [variant]
        for strength, tol in columns:
            row = next(r for r in rows if (r["strength"], r["tol"], r["variant"]) == (strength, tol, variant))
            reached = "" if row["error"] <= tol else f" (L1 {row['error']:.0e})"
            line.append(f"{short(row['seconds'])}, {row['passes']:,} passes{reached}")
        cells.append(line)
    first = table(["one thread", *(f"{s} {t:.0e}" for s, t in columns)], cells)
    second = table(
        ["problem", "limit", "seconds", "share"],
        [
            [f"{r['strength']} {r['tol']:.0e}", short(r["limit"]), short(r["seconds"]), f"{r['share']:.0%}"]
            for r in limits
        ],
    )
    return f"{first}\n\n{second}"
