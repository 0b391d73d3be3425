"""Which way a label is solved: the one place where that is decided, with the memory that each way takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

__all__ = ["SMALL", "Way", "choose", "free_memory", "memory_of"]

Way = Literal["line", "small", "dense", "multiscale"]

SMALL = 16_384
"""Pairs up to which a label is one of many in a batch: compiled throughout, no call from Python within it."""
_DENSE = 2.5e7
"""Pairs up to which all of them are kept. Above, finding the ones that matter is faster, and takes little memory."""


def choose(n: int, m: int, *, on_line: bool, memory: int) -> Way:
    """Return the way to solve a label of n and m points, within ``memory`` bytes.

    ========== ======================================= ==================
    path       when                                    memory
    ========== ======================================= ==================
    line       points on a line, distance not squared  O(n + m)
    small      up to 128 x 128 pairs                   O(n m)
    dense      up to 5,000 x 5,000 pairs               8 bytes a pair
    multiscale more, or more than the memory           O(n + m + support)
    ========== ======================================= ==================

    Measured, to 1e-4 on two cores, dense against multiscale: 3,000 x 3,000 points 0.23 against 0.41 s with confident
    classifiers and 0.26 against 0.48 s with unsure ones; 5,000: 0.81 against 0.75, and 0.91 against 1.51; 10,000: 5.5
    against 2.8, and 4.3 against 3.6.
    """
    if n * m <= SMALL:
        return "small"
    if on_line:
        return "line"
    return "dense" if n * m <= _DENSE and memory_of("dense", n, m) <= memory else "multiscale"


def memory_of(path: Way, n: int, m: int, dim: int = 1) -> int:
    """Return the bytes that a path takes at most, the points and the coupling not counted."""
    if path == "small":
        return 40 * n * m
    if path == "dense":  # costs and kernel, and a support of a tenth of the pairs
        return 12 * n * (m + 256) + 200 * (n + m)
    if path == "line":
        return 150 * (n + m)
    return (n + m) * (8_000 + 24 * dim)  # the support: about 100 entries a row, of 40 bytes


def free_memory() -> int:
    """Return the bytes of memory that are free now, or a careful guess."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max")  # of a container
        held = Path("/sys/fs/cgroup/memory.current")
        given = [limit.read_text().strip(), held.read_text().strip()] if limit.exists() and held.exists() else []
        bound = int(given[0]) - int(given[1]) if given and given[0].isdigit() else 2**63
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
        return max(2**20, min(free, bound))
    except (OSError, StopIteration, ValueError):
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2) if hasattr(os, "sysconf") else 2**32
