"""The transport engine on a GPU against POT's torch backend on the same GPU; without a GPU it says so and ends.

12 labels of 1,700 cells, 2,000 labels of 50, one label of 20,000 and one of 100,000, strong and weak. Every error is
the L1 error of both marginals, computed here in float64 over all pairs. POT's own test (L2, one side) is switched off:
its solvers run in slices of iterations until the L1 error is right, from where the last slice ended. Looking at the
error is not counted against it. What it has not finished within the budget is multiplied up and marked ``~``, and ``>``
stands where not even one label was done.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from machine import median, save, short, table, timed
from problems import EPS, STRENGTHS, Array, Pair, screen

CASES = {"12 x 1,700": [1700] * 12, "2,000 x 50": [50] * 2000, "1 x 20,000": [20_000], "1 x 100,000": [100_000]}
POT = ("sinkhorn_log", "sinkhorn")
_SLICE = 100  # iterations of POT between two looks at its error
_ROWS = 2**25  # pairs of a block of rows in which errors are computed
_HUGE = 10**9  # pairs from which one run is enough


@dataclass
class Clock:
    """Seconds of one solver, and what may be spent on it."""

    budget: float
    spent: float = 0.0

    def run(self, work: Callable[[], Any]) -> Any:
        """Return what ``work`` returns, and count its seconds."""
        seconds, out = timed(work)
        self.spent += seconds
        return out

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        return self.spent > self.budget


def main() -> None:
    """Run all cases, print the table and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--rounds", type=int, default=5, help="runs of which the median is taken; large cases run once")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds that POT may take for a case and tolerance")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA device here, so nothing was timed.")
        return
    rows = []
    for case in options.cases:
        for strength, factor in STRENGTHS.items():
            pairs = list(screen(CASES[case], strength=factor))
            for row in compare(pairs, rounds=options.rounds, budget=options.budget, device="cuda"):
                rows.append({"case": case, "strength": strength, **row})
                print(rows[-1], flush=True)
    how = {"rounds": options.rounds, "budget": options.budget, "gpu": torch.cuda.get_device_name(), "eps": EPS}
    save("transport_gpu", {"show": "gpu", **how, "rows": rows})
    print(as_table(rows))


def compare(
    pairs: Sequence[Pair], *, rounds: int, budget: float, device: str, tols: Sequence[float] = (1e-4, 1e-6)
) -> Iterator[dict[str, Any]]:
    """Yield a row for each tolerance and solver."""
    once = sum(len(x) * len(y) for x, y in pairs) > _HUGE
    ours(pairs[:1], 1e-2, device)  # the device's libraries are loaded on first use
    for tol in tols:
        seconds, worst, passes, peak = [], 0.0, 0, 0
        for _ in range(1 if once else rounds):
            _reset(device)
            second, answers = timed(lambda tol=tol: ours(pairs, tol, device))
            seconds.append(second)
            peak = _peak(device)
        for pair, (f, g, _, taken, _) in zip(pairs, answers, strict=True):
            worst, passes = max(worst, error(pair, f, g, device)), max(passes, taken)
        yield {
            "tol": tol, "solver": "unpaired", "seconds": median(seconds), "all_seconds": seconds, "labels": len(pairs),
            "error": worst, "passes": passes, "gpu_bytes": peak,
        }  # fmt: skip
        for solver in POT:
            _reset(device)
            yield {"tol": tol, "solver": f"POT {solver}", **theirs(pairs, solver, tol, budget, device)}


def ours(pairs: Sequence[Pair], tol: float, device: str) -> list[Any]:
    """Return potentials, error, passes and success of each label."""
    from unpaired.match.transport.gpu import solve_batch
    from unpaired.match.transport.problem import prepare

    problems = [
        prepare(x, y, np.ones(len(x)), np.ones(len(y)), eps=EPS, cost="euclidean", unbalanced=None)[0] for x, y in pairs
    ]
    return list(solve_batch(problems, tol=tol, max_iter=100_000, max_seconds=600.0, device=device))


def theirs(pairs: Sequence[Pair], solver: str, tol: float, budget: float, device: str) -> dict[str, Any]:
    """Return POT's seconds for all labels, one after the other: measured, or from those that were done in time."""
    clock, worst, iterations, done, seconds = Clock(budget), 0.0, 0, 0, None
    for pair in pairs:
        try:
            reached, taken = _pot_label(pair, solver, tol, clock, device)
        except torch.cuda.OutOfMemoryError:
            return {"seconds": None, "why": "out of memory", "labels": done}
        right = reached <= tol
        if right or not done:
            worst, iterations = max(worst, reached), max(iterations, taken)
        if right:
            done += 1
            seconds = clock.spent * len(pairs) / done
        if not right or clock.over:
            break
    why = "" if done == len(pairs) else "~" if done else ">"
    return {
        "seconds": seconds, "spent": clock.spent, "labels": done, "why": why, "error": worst, "iterations": iterations,
        "gpu_bytes": _peak(device),
    }  # fmt: skip


def _pot_label(pair: Pair, solver: str, tol: float, clock: Clock, device: str) -> tuple[float, int]:
    import ot

    (n, m), iterations, reached = map(len, pair), 0, math.inf
    a, b = (torch.full((k,), 1 / k, dtype=torch.float64, device=device) for k in (n, m))
    cost = clock.run(lambda: _finished(torch.cdist(*_tensors(pair, device), compute_mode=_EXACT), device))
    start: Any = None if solver == "sinkhorn_log" else tuple(torch.full_like(p, -math.log(len(p))) for p in (a, b))

    def iterate() -> dict[str, Any]:
        _, log = getattr(ot.bregman, "sinkhorn_log" if solver == "sinkhorn_log" else "sinkhorn_knopp")(
            a, b, cost, EPS, numItermax=_SLICE, stopThr=0, log=True, warn=False, warmstart=start
        )
        return _finished(log, device)

    while reached > tol and not clock.over:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where the kernel underflows; the error shows it
            log = clock.run(iterate)
        start = (log["u"].log(), log["v"].log()) if solver == "sinkhorn" else (log["log_u"], log["log_v"])
        iterations += _SLICE
        before, reached = reached, error(pair, *(p.cpu().numpy() for p in start), device)
        if not math.isfinite(reached) or reached == before:  # the kernel has underflowed
            break
    return reached, iterations


_EXACT = "donot_use_mm_for_euclid_dist"


def error(pair: Pair, f: Array, g: Array, device: str) -> float:
    """Return the L1 error of both marginals of ``exp(f_i + g_j - |x_i - y_j| / EPS)``."""
    x, y = _tensors(pair, device)
    row, col = (torch.from_numpy(np.asarray(p)).to(device) for p in (f, g))
    wrong, sums = 0.0, torch.zeros_like(col)
    step = max(1, _ROWS // len(y))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        plan = (row[part, None] + col - torch.cdist(x[part], y, compute_mode=_EXACT) / EPS).exp_()
        wrong += float((plan.sum(dim=1) - 1 / len(x)).abs().sum())
        sums += plan.sum(dim=0)
    return wrong + float((sums - 1 / len(y)).abs().sum())


def _tensors(pair: Pair, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = (torch.from_numpy(np.ascontiguousarray(p, dtype=np.float64)).to(device) for p in pair)
    return x, y


def _finished(value: Any, device: str) -> Any:
    if device == "cuda":
        torch.cuda.synchronize()
    return value


def _reset(device: str) -> None:
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else 0


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table in markdown."""
    header = ("case", "tolerance", "solver", "seconds", "error", "GPU memory")
    return table(header, (_cells(row) for row in rows))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    mark = row.get("why", "")
    if row["seconds"] is None:
        seconds = f"> {short(row['spent'])}" if mark == ">" else mark
    else:
        seconds = f"{mark}{short(row['seconds'])}"
    memory = f"{row['gpu_bytes'] / 1e9:.2g} GB" if "gpu_bytes" in row else ""
    wrong = f"{row['error']:.1e}" if "error" in row else ""
    return f"{row['case']}, {row['strength']}", f"{row['tol']:g}", row["solver"], seconds, wrong, memory


if __name__ == "__main__":
    main()
