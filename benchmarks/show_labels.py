"""Show 3: many small labels, and labels of very unequal size, against a loop over POT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import ours
from judge import count_iterations
from machine import CORES, interleave, median, save, short, table, timed, times, warn_if_busy
from peers import BY_NAME
from problems import STRENGTHS, Pair, screen

CASES = {
    "2,000 x 50": [50] * 2000,
    "45 labels, 12 to 10,000": [round(v) for v in np.geomspace(12, 10_000, 45)],
}
PLAIN = ("POT sinkhorn_log", "POT sinkhorn")
EXACT = "POT emd (exact)"
_MOST = 20_000  # iterations that are counted at most; a label that needs more counts as this many
_COUNTED = 3000  # cells up to which iterations are counted; larger labels take the median of those above a thousand
_PROBED = 5000  # cells up to which an iteration is timed; beyond, its seconds grow with the pairs
_SAMPLE = 100  # labels counted when many are of one size
_EXACT_CELLS = 5000  # labels up to which the exact solver is run in every round; the larger once


def show(
    *,
    cases: Sequence[str] = tuple(CASES),
    strengths: Sequence[str] = tuple(STRENGTHS),
    tols: Sequence[float] = (1e-4,),
    rounds: int = 5,
    dimensions: int = 12,
    name: str = "transport_labels",
) -> str:
    """Run all cases, keep the rows and return the table."""
    busy, rows = warn_if_busy(), []
    for case in cases:
        for strength in strengths:
            pairs = list(screen(CASES[case], labels=dimensions, strength=STRENGTHS[strength]))
            for row in _run(pairs, tols, rounds):
                rows.append({"case": case, "strength": strength, **row})
                print(rows[-1], flush=True)
    how = {"rounds": rounds, "dimensions": dimensions, "seed": 0, "busy": busy}
    save(name, {"show": "labels", **how, "rows": rows})
    return _table(rows)


def _run(pairs: list[Pair], tols: Sequence[float], rounds: int) -> list[dict[str, Any]]:
    sizes = np.array([len(x) for x, _ in pairs])
    probed = _probed(sizes)
    runs: dict[str, Callable[[], Any]] = {f"ours {tol:g}": _us(pairs, tol) for tol in tols}
    for solver in PLAIN:
        for k in probed:
            few, many = _probe_iterations(int(sizes[k]))
            runs[f"{solver} {k} few"] = BY_NAME[solver].make(*pairs[k], few, 0.0)
            runs[f"{solver} {k} many"] = BY_NAME[solver].make(*pairs[k], many, 0.0)
    exact = [BY_NAME[EXACT].make(*pair, 0, 0.0) for pair in pairs]
    quick = [run for run, n in zip(exact, sizes, strict=True) if n <= _EXACT_CELLS]
    runs[EXACT] = lambda: _all(quick)
    solutions = {tol: runs[f"ours {tol:g}"]() for tol in tols}
    print(f"  timing {len(runs)} runs, {rounds} rounds", flush=True)
    seconds, _ = interleave(runs, rounds)
    large = sum(timed(run)[0] for run, n in zip(exact, sizes, strict=True) if n > _EXACT_CELLS)
    out = []
    for tol in tols:
        us = seconds[f"ours {tol:g}"]
        errors = [ours.error(*pair, s) for pair, s in zip(pairs, solutions[tol], strict=True)]
        bad = sum(e > tol for e in errors)
        row = {"tol": tol, "labels": len(pairs), "cells": int(sizes.sum())}
        out.append(
            row | {"solver": "unpaired", "how": "run", "seconds": median(us), "error": max(errors), "missed": bad}
        )
        needed, capped = _iterations(pairs, sizes, tol)
        for solver in PLAIN:
            each = [_loop(solver, sizes, probed, needed, seconds, k) for k in range(rounds)]
            note = f"{capped} labels need more than {_MOST} iterations" if capped else ""
            out.append(row | {"solver": solver, "how": "estimated", "note": note} | _against(each, us))
        out.append(row | {"solver": EXACT, "how": "run"} | _against([s + large for s in seconds[EXACT]], us))
    return out


def _all(runs: Sequence[Callable[[], Any]]) -> None:
    for run in runs:
        run()  # the plan is let go: all of them would not fit


def _us(pairs: list[Pair], tol: float) -> Callable[[], list[Any]]:
    return lambda: ours.solve_many(pairs, tol=tol, jobs=CORES)


def _against(each: list[float], us: list[float]) -> dict[str, float]:
    return {"seconds": median(each), "ratio": median(t / u for t, u in zip(each, us, strict=True))}


def _probed(sizes: np.ndarray) -> list[int]:
    """Return the labels on which an iteration is timed."""
    if len(set(sizes)) == 1:
        return list(range(10))
    allowed = np.flatnonzero(sizes <= _PROBED)
    return [int(k) for k in allowed[np.unique(np.linspace(0, len(allowed) - 1, 8).round().astype(int))]]


def _probe_iterations(size: int) -> tuple[int, int]:
    many = int(np.clip(4e7 / size**2, 10, 1000))
    return max(2, many // 5), many


def _loop(
    solver: str, sizes: np.ndarray, probed: list[int], needed: np.ndarray, seconds: dict[str, list[float]], k: int
) -> float:
    """Return the seconds of a loop over all labels from what the probes took in round ``k``."""
    fixed, slope = [], []
    for label in probed:
        few, many = _probe_iterations(int(sizes[label]))
        short_one, long_one = (seconds[f"{solver} {label} {which}"][k] for which in ("few", "many"))
        slope.append(max((long_one - short_one) / (many - few), 1e-7))
        fixed.append(max(short_one - few * slope[-1], 0.0))
    if len(set(sizes)) == 1:
        return float(len(sizes) * np.mean(fixed) + needed.sum() * np.mean(slope))
    at = sizes[probed]
    inside = np.exp(np.interp(np.log(sizes), np.log(at), np.log(slope)))
    grown = np.where(sizes > at[-1], slope[-1] * (sizes / at[-1]) ** 2, inside)
    return float((np.interp(sizes, at, fixed) + needed * grown).sum())


def _iterations(pairs: list[Pair], sizes: np.ndarray, tol: float) -> tuple[np.ndarray, int]:
    """Return how many iterations each label needs, and how many labels were stopped in counting."""
    same = len(set(sizes)) == 1
    counted = range(min(_SAMPLE, len(pairs))) if same else [k for k, n in enumerate(sizes) if n <= _COUNTED]
    found = {k: count_iterations(*pairs[k], [tol], most=_MOST, seconds=60.0)[tol] for k in counted}
    values = {k: v or _MOST for k, v in found.items()}
    if same:  # a sample stands for all
        out = np.full(len(pairs), np.mean(list(values.values())))
    else:
        usual = np.median([v for k, v in values.items() if sizes[k] > 1000])
        out = np.array([values.get(k, usual) for k in range(len(pairs))], dtype=float)
    return out, sum(v is None for v in found.values())


def _table(rows: Sequence[dict[str, Any]]) -> str:
    body = []
    for row in rows:
        text = ("~" if row["how"] == "estimated" else "") + short(row["seconds"])
        error = f"{row['error']:.1e}" if "error" in row else ""
        ratio = times(row["ratio"]) if "ratio" in row else ""
        body.append([f"{row['case']}, {row['strength']}, {row['tol']:.0e}", row["solver"], text, ratio, error])
    return table(["labels", "solver", "seconds", "against ours", "worst L1 counted"], body)
