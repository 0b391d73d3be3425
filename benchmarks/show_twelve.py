"""Show 1, the short form for 12 labels of 1,700 cells: ours, POT's Sinkhorns by counted iterations, exact transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import ours
from judge import count_iterations
from machine import CORES, interleave, median, save, short, table, times, warn_if_busy
from problems import EPS, STRENGTHS, Pair, trained
from scipy.spatial.distance import cdist

TOLS = (1e-4, 1e-6)
_COUNTS = {"sinkhorn_log": (2, 8), "sinkhorn": (20, 120)}  # iterations of a shorter and a longer run


def show(*, rounds: int = 5, name: str = "transport_twelve") -> str:
    """Run both strengths, keep the numbers and return the table."""
    busy, rows = warn_if_busy(), []
    for strength, factor in STRENGTHS.items():
        pairs = trained(strength=factor)
        counted = [count_iterations(x, y, list(TOLS)) for x, y in pairs]
        wall, _ = interleave(_runs(pairs), rounds)
        seconds = {key: np.array(value) for key, value in wall.items()}
        for tol in TOLS:
            mine = seconds[f"ours {tol}"]
            row: dict[str, Any] = {"strength": strength, "tol": tol, "ours": median(mine)}
            for method, (few, many) in _COUNTS.items():  # their difference leaves out what comes once
                each = (seconds[f"{method} {many}"] - seconds[f"{method} {few}"]) / (many - few)
                whole = each * sum(c[tol] for c in counted)
                row |= {method: median(whole), f"{method} ratio": median(whole / mine)}
            row |= {"emd": median(seconds["emd"]), "emd ratio": median(seconds["emd"] / mine)}
            solved = ours.solve_many(pairs, tol=tol, jobs=CORES)
            row["worst_error"] = max(ours.error(x, y, s) for (x, y), s in zip(pairs, solved, strict=True))
            rows.append(row)
            print(row, flush=True)
    save(name, {"show": "12 labels of 1,700", "jobs": CORES, "rounds": rounds, "seed": 0, "busy": busy, "rows": rows})
    header = ["12 x 1,700", "ours", "POT sinkhorn_log", "POT sinkhorn", "POT emd (exact)", "worst L1 counted"]
    return table(header, [_cells(row) for row in rows])


def _runs(pairs: list[Pair]) -> dict[str, Callable[[], Any]]:
    import ot

    costs = [cdist(x, y) for x, y in pairs]
    mass = np.full(len(costs[0]), 1 / len(costs[0]))

    def scale(method: str, count: int) -> Callable[[], Any]:
        return lambda: ot.sinkhorn(
            mass, mass, costs[0], EPS, method=method, numItermax=count, stopThr=0, warn=False
        )  # fmt: skip

    runs: dict[str, Callable[[], Any]] = {
        f"ours {tol}": lambda tol=tol: ours.solve_many(pairs, tol=tol, jobs=CORES)  # type: ignore[misc]
        for tol in TOLS
    }
    for method, counts in _COUNTS.items():
        runs |= {f"{method} {count}": scale(method, count) for count in counts}
    runs["emd"] = lambda: [ot.emd(mass, mass, cdist(x, y), numItermax=10**8) for x, y in pairs]
    for run in runs.values():
        run()
    return runs


def _cells(row: dict[str, Any]) -> list[str]:
    peers = [f"~{short(row[m])} ({times(row[f'{m} ratio'])})" for m in _COUNTS]
    exact = f"{short(row['emd'])} ({times(row['emd ratio'])})"
    return [f"{row['strength']} {row['tol']:.0e}", short(row["ours"]), *peers, exact, f"{row['worst_error']:.1e}"]
