"""Other people's libraries without their noise and without their marks: on the log, on the seeds, on the disk."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import random
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

__all__ = ["first_line", "import_quietly", "quiet", "why_missing"]

_MARKS = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")  # Lightning leaves its seed in the environment


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return (str(error).strip().splitlines() or ["no message"])[0]


def import_quietly(name: str) -> ModuleType:
    """Import a library whose import logs, warns and sets up the root logger."""
    with _silenced():
        return importlib.import_module(name)


def why_missing(name: str, package: str) -> str | None:
    """Say in a sentence why a library cannot be used here; ``None`` where it can.

    Parameters
    ----------
    name
        The module to import.
    package
        Its name on the package index.
    """
    try:
        import_quietly(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            return f"{package} is not installed; pip install unpaired[baselines]."
        return f"{package} is installed but lacks a dependency ({error}); pip install unpaired[baselines]."
    except Exception as error:  # whatever a broken installation raises, it is one that cannot be used
        return f"{package} is installed but cannot be imported ({type(error).__name__}: {error})."
    return None


@contextmanager
def quiet(seed: int) -> Iterator[Path]:
    """Seed all generators, silence logs and warnings, and lend a folder; afterwards all is as before.

    Parameters
    ----------
    seed
        For Python's, numpy's and torch's global generators.
    """
    import torch

    python, numpy, environment = random.getstate(), np.random.get_state(), {m: os.environ.get(m) for m in _MARKS}  # noqa: NPY002
    with (
        _silenced(),
        _plain_processes(),
        tempfile.TemporaryDirectory(prefix="unpaired-") as folder,
        torch.random.fork_rng(),
    ):
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002  the libraries draw from the global generator
            torch.manual_seed(seed)
            yield Path(folder)
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
            for mark, value in environment.items():
                os.environ.pop(mark, None)
                if value is not None:
                    os.environ[mark] = value


@contextmanager
def _plain_processes() -> Iterator[None]:
    """Let a library start processes as outside a worker of joblib's, where only joblib's own can be started."""
    before = multiprocessing.get_start_method(allow_none=True)
    if before is None or not before.startswith("loky"):
        yield
        return
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(before, force=True)


@contextmanager
def _silenced() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.manager.disable, root.level, root.handlers[:])
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before[0])
        root.setLevel(before[1])
        root.handlers[:] = before[2]
