"""What a set of labels will take, told from their sizes before any work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from unpaired.match.transport.certify import ENTRY_BYTES
from unpaired.match.transport.paths import Way, choose, free_memory, memory_of

__all__ = ["Estimate", "estimate"]

_SECONDS: dict[Way, tuple[float, float]] = {
    "small": (3e-8, 4e-7),
    "dense": (1.5e-8, 8e-8),
    "multiscale": (1e-8, 6e-8),
    "line": (6e-7, 2e-5),
}
"""Least and most seconds a pair on one core (a point, on a line), as measured in benchmarks/: wide, since what a label
takes depends on how confident the classifiers are, which nobody knows yet."""
_COMPILE = 0.5  # seconds for the compiled code to load from its cache
_ROW = 100  # entries of a coupling a point, usually fewer
_DIM = 64.0  # dimensions that double the cost of a pair


@dataclass(frozen=True)
class Estimate:
    """What a set of labels will take.

    Attributes
    ----------
    seconds
        Least and most, with compiled code that is in the cache.
    memory
        Bytes at most, besides the data.
    paths
        The way each label will be solved.
    """

    seconds: tuple[float, float]
    memory: int
    paths: tuple[Way, ...]


def estimate(
    sizes: Sequence[tuple[int, int]], dim: int, *, memory: int | None = None, jobs: int = 1, on_line: bool = False
) -> Estimate:
    """Estimate time and memory of :func:`~unpaired.match.transport.solve.solve_many` on a CPU.

    Parameters
    ----------
    sizes
        Points on both sides of every label.
    dim
        Dimension of the space.
    memory
        Bytes that it may take; half of what is free by default.
    jobs
        Threads.
    on_line
        Whether the points lie on a line and the cost is the plain distance.
    """
    room = free_memory() // 2 if memory is None else memory
    paths = tuple(choose(n, m, on_line=on_line, memory=room) for n, m in sizes)
    low = high = 0.0
    for (n, m), path in zip(sizes, paths, strict=True):
        amount = n + m if path == "line" else n * m * (1 + dim / _DIM)
        low += amount * _SECONDS[path][0]
        high += amount * _SECONDS[path][1]
    threads = max(1, min(jobs, os.cpu_count() or 1))
    most = sorted((memory_of(p, *s, dim) for s, p in zip(sizes, paths, strict=True)), reverse=True)
    couplings = sum(ENTRY_BYTES * min(n * m, _ROW * max(n, m)) for n, m in sizes)
    return Estimate((_COMPILE + low / threads, _COMPILE + high / threads), sum(most[:threads]) + couplings, paths)
