"""One label or many: check, choose the way, search, certify, and return the coupling with how it went."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array
from unpaired.match.transport.certify import ENTRY_BYTES
from unpaired.match.transport.limits import Found, Limits
from unpaired.match.transport.paths import SMALL, choose, free_memory, memory_of
from unpaired.match.transport.problem import COSTS, Cost, Problem, prepare
from unpaired.match.transport.solution import Plan, Solution
from unpaired.match.transport.workers import Workers
from unpaired.options import check_choice, check_integer, check_number, to_bytes

__all__ = ["solve_many", "solve_ot"]

_MARGIN = 0.8  # of the tolerance is aimed at where the certificate adds what it leaves out
_ENTRIES = 25_000_000  # of a coupling: 300 MB, ...
_ROW = 250  # ... or so many a point, if that is more; else the potentials alone are returned
_REACH = 1e30  # typical cost in units of eps above which squares leave single precision's range
_LIGHTER = 3  # times that a penalty's plan may turn out lighter than was thought
_LARGE = 2**24  # pairs from which a label has the threads for itself


def solve_ot(
    x: Array,
    y: Array,
    a: Array | None = None,
    b: Array | None = None,
    *,
    eps: float,
    cost: Cost = "sqeuclidean",
    unbalanced: float | None = None,
    tol: float = 1e-4,
    max_iter: int = 10_000,
    max_seconds: float = 600.0,
    keep: float = 0.999,
    memory: int | str | None = None,
    device: str = "cpu",
    jobs: int = 1,
) -> Solution:
    """Solve one entropic optimal-transport problem: minimise ``<C, P> + eps KL(P | a b)`` with marginals a and b.

    Parameters
    ----------
    x, y
        ``(n, d)`` and ``(m, d)`` coordinates.
    a, b
        ``(n,)`` and ``(m,)`` masses, not negative, made to sum to one; uniform by default.
    eps
        Weight of the entropy, in units of the cost.
    cost
        ``C``: the squared Euclidean distance, or the plain one.
    unbalanced
        Weight of a Kullback-Leibler penalty that replaces the constraint on both marginals, in units of the cost.
    tol
        Largest sum of absolute differences of both marginals, certified in float64.
    max_iter, max_seconds
        Limits: passes over the pairs, and wall time. When one is reached, the solution says so.
    keep
        Fraction of each row's mass that the sparse coupling keeps.
    memory
        Most memory that it may take: bytes, or text such as ``"8GB"``; half of what is free by default. It decides the
        way of a large problem, and whether the coupling is made.
    device
        ``"cpu"``, or a torch device such as ``"cuda"``.
    jobs
        Threads; the result does not depend on it.

    Returns
    -------
    Solution
        Converged or not; nothing is raised for that.

    Raises
    ------
    OptionError
        If an option, a coordinate or a mass cannot be used, or the device is not there.

    Notes
    -----
    See docs/transport.md for the algorithm and its sources.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    a = np.full(len(x), 1.0) if a is None else a
    b = np.full(len(y), 1.0) if b is None else b
    return next(
        solve_many(
            [(x, y, a, b)], eps=eps, cost=cost, unbalanced=unbalanced, tol=tol, max_iter=max_iter,
            max_seconds=max_seconds, keep=keep, memory=memory, device=device, jobs=jobs,
        )
    )  # fmt: skip


@dataclass(frozen=True)
class _Job:
    """The options of :func:`solve_ot`, checked."""

    eps: float
    cost: Cost
    unbalanced: float | None
    tol: float
    max_iter: int
    max_seconds: float
    keep: float
    memory: int
    points: int
    jobs: int
    halt: threading.Event

    def limits(self, problem: Problem) -> Limits:
        # Couplings stay: all together take a quarter of the memory, each in proportion to its points. A large one must
        # be linear in its points besides.
        share = self.memory / (4 * ENTRY_BYTES) * sum(problem.shape) / self.points
        most = max(min(int(share), max(_ENTRIES, _ROW * max(problem.shape))), 2 * sum(problem.shape))
        return Limits(self.tol, self.max_iter, time.perf_counter() + self.max_seconds, self.halt, self.keep, most)


def solve_many(
    problems: Sequence[tuple[Array, Array, Array, Array]],
    *,
    eps: float,
    cost: Cost = "sqeuclidean",
    unbalanced: float | None = None,
    tol: float = 1e-4,
    max_iter: int = 10_000,
    max_seconds: float = 600.0,
    keep: float = 0.999,
    memory: int | str | None = None,
    device: str = "cpu",
    jobs: int = 1,
) -> Iterator[Solution]:
    """Solve many problems ``(x, y, a, b)`` as :func:`solve_ot` does; the solutions come in order.

    Small problems are solved in batches. The others share the threads: each takes one when there are many of them, all
    when there are few or they are large.
    """
    check_choice("cost", cost, COSTS)
    for name, number in (("eps", eps), ("tol", tol), ("max_seconds", max_seconds)):
        check_number(name, number, above=0)
    check_number("keep", keep, above=0, high=1)
    check_integer("max_iter", max_iter, low=1)
    check_integer("jobs", jobs, low=1)
    if unbalanced is not None:
        check_number("unbalanced", unbalanced, above=0)
    room = free_memory() // 2 if memory is None else to_bytes("memory", memory)
    ready = [prepare(*p, eps=eps, cost=cost, unbalanced=unbalanced) for p in problems]
    points = sum(sum(r[0].shape) for r in ready)
    job = _Job(eps, cost, unbalanced, tol, max_iter, max_seconds, keep, room, points, jobs, threading.Event())
    if device != "cpu":
        from unpaired.match.transport.gpu import solve_batch

        found = solve_batch([r[0] for r in ready], tol=tol, max_iter=max_iter, max_seconds=max_seconds, device=device)
        return _on_device(problems, ready, found, job)
    return _on_cpu(problems, ready, job)


_Ready = tuple[Problem, Array, Array]


def _on_device(
    problems: Sequence[tuple[Array, ...]], ready: list[_Ready], found: Iterator[tuple[Any, ...]], job: _Job
) -> Iterator[Solution]:
    with Workers(job.jobs) as workers:
        for given, one in zip(problems, ready, strict=True):
            start = time.perf_counter()
            yield _finish(given, one, Found(*next(found)[:4]), job, "torch", start, workers)


def _on_cpu(problems: Sequence[tuple[Array, ...]], ready: list[_Ready], job: _Job) -> Iterator[Solution]:
    from unpaired.match.transport.small import solve_small

    start = time.perf_counter()
    small = [k for k, r in enumerate(ready) if r[0].shape[0] * r[0].shape[1] <= SMALL]
    batch = (
        solve_small([ready[k][0] for k in small], tol=_MARGIN * job.tol, max_iter=job.max_iter, jobs=job.jobs)
        if small
        else []
    )
    each = (time.perf_counter() - start) / max(1, len(small))
    done = {k: Found(*b[:4]) for k, b in zip(small, batch, strict=True)}
    rest = [k for k in range(len(ready)) if k not in done]

    def one(k: int, workers: Workers) -> Solution:
        begun = time.perf_counter() - (each if k in done else 0.0)
        return _solve_one(problems[k], ready[k], job, workers, done.get(k), begun)

    size = {k: ready[k][0].shape[0] * ready[k][0].shape[1] for k in rest}
    shared = [k for k in rest if size[k] <= _LARGE] if job.jobs > 1 else []
    held = job.jobs * max((memory_of("dense", *ready[k][0].shape) for k in shared), default=0)
    shared = shared if len(shared) >= 2 * job.jobs and held <= job.memory else []
    pool = ThreadPoolExecutor(job.jobs) if shared else None
    try:
        with Workers(1) as alone, Workers(job.jobs) as together:
            futures: dict[int, Future[Solution]] = (
                {} if pool is None else {k: pool.submit(one, k, alone) for k in shared}
            )
            for k in range(len(ready)):
                yield futures.pop(k).result() if k in futures else one(k, alone if k in done else together)
    finally:  # also when the caller stops listening, or is interrupted: the threads see the halt and end
        job.halt.set()
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


def _solve_one(
    given: tuple[Array, ...], ready: _Ready, job: _Job, workers: Workers, found: Found | None, start: float
) -> Solution:
    from unpaired.match.transport.anneal import solve_dense, spread
    from unpaired.match.transport.line import on_line, solve_line
    from unpaired.match.transport.multiscale import solve_multiscale

    problem = ready[0]
    if found is not None:
        return _finish(given, ready, found, job, "small", start, workers)
    if not spread(problem) < _REACH:
        return _finish(given, ready, _nothing(problem), job, "none", start, workers)
    line = None if problem.squared else on_line(problem)
    path = choose(*problem.shape, on_line=line is not None, memory=job.memory)
    limits = job.limits(problem)
    found = _nothing(problem)
    for _ in range(_LIGHTER):
        try:
            if path == "line" and line is not None:
                found = solve_line(problem, line, limits, workers)
            elif path == "dense":
                found = solve_dense(problem, limits, workers)
            else:
                found = solve_multiscale(problem, limits, workers, job.memory)
        except MemoryError:
            break
        needed = job.tol * _mass(found)
        if math.isinf(problem.penalty) or not 0 < needed < found.error or limits.over(found.passes):
            break
        limits = replace(limits, tol=0.8 * needed)  # a penalty left little mass: the error must be small beside that
    return _finish(given, ready, found, job, path, start, workers)


def _nothing(problem: Problem) -> Found:
    """Return what is found where costs leave single precision's range, or the memory does not suffice."""
    return Found(np.full(len(problem.x), np.nan), np.full(len(problem.y), np.nan), math.inf, 0)


def _mass(found: Found) -> float:
    """Return the plan's mass, 1 at most."""
    return 1.0 if found.certificate is None else min(1.0, float(found.certificate.rows.sum()))


def _finish(
    given: tuple[Array, ...],
    ready: _Ready,
    found: Found,
    job: _Job,
    path: str,
    start: float,
    workers: Workers,
) -> Solution:
    """Make the solution: potentials in the user's units and order, and the coupling if it fits."""
    problem, rows, cols = ready
    f, g = np.full(len(given[0]), -np.inf), np.full(len(given[1]), -np.inf)
    if math.isfinite(found.error):  # else there is no plan: all potentials are minus infinity
        f[rows], g[cols] = found.f * job.eps, found.g * job.eps
    plan = Plan(given[0], given[1], f, g, job.eps, job.cost)
    sure = found.certificate or job.limits(problem).certify(problem, found.f, found.g, workers)
    dropped = np.zeros(len(f))
    coupling = None
    if sure.coupling is not None:
        coupling = _spread_out(sure.coupling, rows, cols, (len(f), len(g)))
        dropped[rows] = sure.dropped
    converged = sure.error <= job.tol * min(1.0, float(sure.rows.sum()))
    used: dict[str, Any] = {"path": path, "eps": job.eps, "cost": job.cost, "tol": job.tol, "keep": job.keep}
    if job.unbalanced is not None:
        used["unbalanced"] = job.unbalanced
    known = path if path in {"line", "small", "dense"} else "multiscale"
    memory = memory_of(known, *problem.shape, problem.x.shape[1])  # type: ignore[arg-type]
    memory += 0 if coupling is None else ENTRY_BYTES * coupling.nnz
    return Solution(
        plan, coupling, dropped, converged, sure.error, found.passes, time.perf_counter() - start, memory,
        "" if converged else _advice(found, sure.error, job, start), used,
    )  # fmt: skip


def _spread_out(matrix: sp.csr_matrix, rows: Array, cols: Array, shape: tuple[int, int]) -> sp.csr_matrix:
    """Put back the rows and columns without mass."""
    if matrix.shape == shape:
        return matrix
    starts = np.zeros(shape[0] + 1, matrix.indptr.dtype)
    starts[rows + 1] = np.diff(matrix.indptr)
    return sp.csr_matrix((matrix.data, cols[matrix.indices], np.cumsum(starts)), shape=shape)


def _advice(found: Found, error: float, job: _Job, start: float) -> str:
    """Say why the tolerance was not reached and what to do."""
    if not math.isfinite(error):
        return f"nothing was found: eps = {job.eps:.3g} is too small for costs of this size, or memory did not suffice."
    off = f"the marginals are off by {error:.1e} after {found.passes} passes"
    if time.perf_counter() - start >= job.max_seconds:
        return f"{off} and {job.max_seconds:g} s; raise max_seconds, eps or tol."
    if found.passes >= job.max_iter:
        return f"{off}; raise max_iter, eps or tol."
    return f"{off}, and further passes do not help; raise eps or tol."
