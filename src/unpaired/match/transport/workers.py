"""Threads for compiled loops: work is cut into parts by its size alone, so that no result depends on the threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

__all__ = ["Workers", "parts_of"]

_PART = 2**20  # pairs a part: a fraction of a millisecond, well above the cost of handing it to a thread
_MOST = 16


def parts_of(rows: int, pairs: float) -> list[tuple[int, int]]:
    """Cut ``rows`` rows that cost ``pairs`` pairs in all into ranges."""
    count = int(max(1, min(_MOST, rows, pairs // _PART)))
    return [(rows * k // count, rows * (k + 1) // count) for k in range(count)]


class Workers:
    """Run compiled functions, which let go of the interpreter, over ranges of rows.

    Parameters
    ----------
    jobs
        Threads; 1 runs everything in the caller's.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._pool = ThreadPoolExecutor(jobs) if jobs > 1 else None

    def each(self, work: Callable[[int, int, int], Any], parts: list[tuple[int, int]]) -> list[Any]:
        """Call ``work(start, stop, index)`` for every part and return the results in order."""
        if self._pool is None or len(parts) == 1:
            return [work(start, stop, k) for k, (start, stop) in enumerate(parts)]
        futures = [self._pool.submit(work, start, stop, k) for k, (start, stop) in enumerate(parts)]
        return [f.result() for f in futures]

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)
