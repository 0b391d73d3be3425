"""What the jobs share: steps that say how long they took, and when to show progress."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["log", "progress", "step"]

log = logging.getLogger("unpaired")


@contextmanager
def step(clock: dict[str, float], name: str) -> Iterator[None]:
    """Say that a step begins and how long it took, and keep its seconds in ``clock``."""
    log.info("%s ...", name)
    start = time.perf_counter()
    yield
    clock[name] = round(time.perf_counter() - start, 3)
    log.info("%s took %.1f s", name, clock[name])


def progress() -> bool:
    """Return whether somebody is watching, and has not asked for silence."""
    return sys.stderr.isatty() and log.isEnabledFor(logging.INFO)
