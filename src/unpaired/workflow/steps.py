"""What the jobs share: steps that say how long they took, and when to show progress."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unpaired.errors import OutputError

__all__ = ["beside", "log", "progress", "step"]

log = logging.getLogger("unpaired")


@contextmanager
def step(clock: dict[str, float], name: str) -> Iterator[None]:
    """Say that a step begins and how long it took, and keep its seconds in ``clock``."""
    log.info("%s ...", name)
    start = time.perf_counter()
    yield
    clock[name] = round(time.perf_counter() - start, 3)
    log.info("%s took %.1f s", name, clock[name])


def beside(out: Path, ending: str) -> Path:
    """Return the folder where work waits until the run is written: beside it, for it appears whole or not at all.

    Raises
    ------
    OutputError
        If something else has its name.
    """
    out = out.absolute()  # of "." alone there is no name
    folder = out.with_name(f"{out.name}.{ending}")
    if folder.exists() and not folder.is_dir():
        msg = f"{folder} is where finished work would be kept, and is no folder; choose another name for the run."
        raise OutputError(msg)
    return folder


def progress() -> bool:
    """Return whether somebody is watching, and has not asked for silence."""
    return sys.stderr.isatty() and log.isEnabledFor(logging.INFO)
