"""Many transport problems on a device: labels of alike size in one padded batch, in double precision.

The temperature is lowered from a twentieth of the spread of the costs by factors of four to 1. At each level scaling
iterations come first and, where they are slow, a few steps of Newton's method; at the last one Newton's method goes on
until both marginals are right. Errors are certified in double precision over all pairs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from unpaired.data.types import Array
from unpaired.errors import OptionError
from unpaired.match.transport.gpu_kernel import BYTES, Batch, Kernel, choose_keep, tile_size
from unpaired.match.transport.gpu_steps import Level, Limits
from unpaired.match.transport.problem import Problem

__all__ = ["solve_batch"]

Answer = tuple[Array, Array, float, int, bool]

_CPU_BYTES = 2**31  # what counts as the free memory of a device that is the CPU
_BATCH = 2**26  # pairs that keep a device busy; larger batches only make labels wait for each other
_SMALL = 2**20  # pairs for which padding costs nothing worth saving
_PADDING = 1.5  # most that padding may add to larger batches
_COLD = 20.0  # spread of the costs over the first temperature
_RATIO = 4.0  # of two temperatures
_ITERATIONS, _GOAL = 15, 5e-2  # scaling at a temperature above 1: the next one starts from it anyway
_STEPS, _NEWTON_GOAL = 4, 1e-2  # Newton's method there, where scaling has left more than this
_LAST_ITERATIONS, _LAST_STEPS = 15, 5  # at the last temperature, a round
_MARGIN = 0.8  # of the tolerance is aimed at: the certificate adds rounding


def solve_batch(
    problems: Sequence[Problem], *, tol: float, max_iter: int, max_seconds: float, device: str, fraction: float = 0.5
) -> Iterator[Answer]:
    """Yield ``(F, G, marginal_error, iterations, converged)`` of each problem, in order.

    Parameters
    ----------
    problems
        Any number, of any sizes.
    tol
        Largest sum of absolute differences of both marginals.
    max_iter
        Passes over the pairs after which a label is given up (looked at every few passes).
    max_seconds
        The same in time, from the start of the batch that a label is in.
    device
        ``"cuda"``, ``"cuda:1"`` or ``"cpu"``.
    fraction
        Most of the device's free memory to hold.

    Yields
    ------
    tuple
        The potentials as float64 arrays, with the logarithms of the marginals (see
        :class:`~unpaired.match.transport.problem.Problem`); the error, computed from them in float64 over all pairs;
        passes over the pairs; whether the error is within ``tol``.

    Raises
    ------
    OptionError
        If the device cannot be used.
    """
    where = _device(device)
    budget = fraction * _free(where)
    buckets = _buckets([(len(p.x), len(p.y), (p.x.shape[1], p.squared, p.penalty)) for p in problems], budget)
    bucket_of = {k: bucket for bucket in buckets for k in bucket}
    answers: dict[int, Answer] = {}
    for k in range(len(problems)):
        if k not in answers:
            bucket = bucket_of[k]
            limits = Limits(max_iter, time.perf_counter() + max_seconds)
            solved = _solve([problems[j] for j in bucket], where, tol, limits, fraction * _free(where))
            answers.update(zip(bucket, solved, strict=True))
        yield answers.pop(k)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        msg = f"device must be 'cpu' or 'cuda' (or 'cuda:1' for the second GPU); got {name!r}."
        raise OptionError(msg) from error
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        msg = f"device={name!r} needs a GPU that PyTorch can use, and it finds {count}; use device='cpu'."
        raise OptionError(msg)
    if device.type not in {"cpu", "cuda"}:
        msg = f"device must be 'cpu' or 'cuda' (double precision is needed); got {name!r}."
        raise OptionError(msg)
    return device


def _free(device: torch.device) -> float:
    if device.type != "cuda":
        return _CPU_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    # What PyTorch holds and does not use is free for us, though not for the driver.
    return float(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def _buckets(kinds: Sequence[tuple[int, int, tuple[int, bool, float]]], budget: float) -> list[list[int]]:
    """Gather labels of one kind and alike size, so that padding wastes little and a bucket fits in the memory."""
    buckets: list[list[int]] = []
    room = min(_BATCH, budget / 2 / BYTES["costs"])
    high = wide = own = 0  # of the bucket that is being filled: its size with the padding, its pairs without
    for k in sorted(range(len(kinds)), key=lambda k: (kinds[k][2], kinds[k][0], kinds[k][1])):
        n, m, kind = kinds[k]
        if buckets and kinds[buckets[-1][0]][2] == kind:
            padded = (len(buckets[-1]) + 1) * max(high, n) * max(wide, m)
            if padded <= min(room, max(_SMALL, _PADDING * (own + n * m))):
                buckets[-1].append(k)
                high, wide, own = max(high, n), max(wide, m), own + n * m
                continue
        buckets.append([k])
        high, wide, own = n, m, n * m
    return buckets


def _solve(
    problems: Sequence[Problem], device: torch.device, tol: float, limits: Limits, budget: float
) -> list[Answer]:
    batch = Batch.of(problems, device)
    kernel = Kernel(batch, choose_keep(batch.pairs, budget, tol), tile_size(budget))
    rungs = torch.tensor([_rungs(p) for p in problems], device=device)
    return _polish(_anneal(kernel, rungs, tol, limits), problems, tol, limits)


def _rungs(problem: Problem) -> int:
    """Return how often the first temperature is divided before it is 1."""
    (x, u), (y, v) = (problem.x, problem.a), (problem.y, problem.b)
    gap = float(np.sum((u @ x - v @ y) ** 2))
    square = float(u @ np.sum((x - u @ x) ** 2, axis=1) + v @ np.sum((y - v @ y) ** 2, axis=1)) + gap
    spread = square if problem.squared else math.sqrt(square)  # the mean square of the distance, or its root
    return max(0, math.ceil(math.log(max(spread / _COLD, 1.0), _RATIO)))


def _anneal(kernel: Kernel, rungs: Tensor, tol: float, limits: Limits) -> Level:
    """Return the labels at temperature 1, on a warm start; each has come down its own ladder."""
    batch = kernel.batch
    f, g, passes = torch.zeros_like(batch.a), torch.zeros_like(batch.b), torch.zeros_like(rungs)
    for rung in range(int(rungs.max()), 0, -1):
        if limits.late:
            break
        heat = _RATIO**rung
        level = Level(kernel, heat, f / heat, g / heat, passes)
        level.live = on = (rungs >= rung) & (passes < limits.passes)
        level.start()
        level.scale(_ITERATIONS, _as_goal(_GOAL, rungs), limits)
        level.live = on & (level.error > _NEWTON_GOAL)
        level.newton(_STEPS, _as_goal(_NEWTON_GOAL, rungs), limits)
        f, g, passes = level.p * heat, level.q * heat, level.passes
    level = Level(kernel, 1.0, f, g, passes)
    level.start()
    level.scale(_LAST_ITERATIONS, _as_goal(_MARGIN * tol, rungs), limits)
    return level


def _as_goal(value: float, like: Tensor) -> Tensor:
    return torch.full(like.shape, value, dtype=torch.float64, device=like.device)


def _polish(level: Level, problems: Sequence[Problem], tol: float, limits: Limits) -> list[Answer]:
    """Go on at temperature 1 until each label is certified or at a limit."""
    answers: dict[int, Answer] = {}
    goal = _as_goal(_MARGIN * tol, level.error)
    which = torch.arange(len(problems), device=goal.device)
    while True:
        level.live = torch.ones_like(level.live)
        level.newton(_LAST_STEPS, goal, limits)
        stuck = ~level.live & (level.error > goal)
        claimed = level.error <= goal
        level.live = torch.ones_like(level.live)
        error = level.certify()
        over = (error <= tol) | (level.passes >= limits.passes) | limits.late
        _write(answers, level, which, error, tol, over, problems)
        if over.all():
            return [answers[k] for k in range(len(problems))]
        goal = torch.where(claimed, goal / 2, goal)  # done by its own reckoning, and is not
        if over.any():
            rest = torch.nonzero(~over)[:, 0]
            level, which, goal, stuck = level.take(rest), which[rest], goal[rest], stuck[rest]
        if stuck.any():
            level.live = stuck
            level.scale(_LAST_ITERATIONS, goal, limits)


def _write(
    answers: dict[int, Answer],
    level: Level,
    which: Tensor,
    error: Tensor,
    tol: float,
    over: Tensor,
    problems: Sequence[Problem],
) -> None:
    """Note the answers of the labels that are over, as they are without the padding."""
    place = torch.nonzero(over)[:, 0]
    parts = (which, level.p, level.q, error, level.passes)
    for k, p, q, wrong, passes in zip(*(part[place].cpu().numpy() for part in parts), strict=True):
        problem = problems[int(k)]
        n, m = problem.shape
        answers[int(k)] = (
            p[:n] + np.log(problem.a),
            q[:m] + np.log(problem.b),
            float(wrong),
            int(passes),
            bool(wrong <= tol),
        )
