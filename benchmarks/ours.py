"""The engine under test, and the check of its results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from judge import potential_error
from problems import EPS, Array, Pair


def solve(x: Array, y: Array, *, tol: float, jobs: int, max_seconds: float = 3600.0, **options: Any) -> Any:
    """Return the engine's solution of one problem with uniform marginals."""
    from unpaired.match.transport.solve import solve_ot as engine

    return engine(x, y, eps=EPS, cost="euclidean", tol=tol, jobs=jobs, max_seconds=max_seconds, **options)


def solve_many(pairs: Sequence[Pair], *, tol: float, jobs: int, max_seconds: float = 3600.0) -> list[Any]:
    """Return the engine's solutions of many problems."""
    from unpaired.match.transport.solve import solve_many as engine

    problems = [(x, y, np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))) for x, y in pairs]
    return list(engine(problems, eps=EPS, cost="euclidean", tol=tol, jobs=jobs, max_seconds=max_seconds))


def error(x: Array, y: Array, solution: Any) -> float:
    """Return the solution's L1 error of both marginals by our own count, not its certificate."""
    return potential_error(x, y, solution.plan.f, solution.plan.g)


def facts(solution: Any) -> dict[str, Any]:
    """Return what the solution says of itself."""
    coupling = solution.coupling
    return {
        "converged": bool(solution.converged),
        "certified": float(solution.marginal_error),
        "iterations": int(solution.iterations),
        "path": solution.used.get("path"),
        "entries_per_row": None if coupling is None else coupling.nnz / coupling.shape[0],
        "memory_estimated": int(solution.memory),
    }
