"""A folder that appears whole or not at all, and never in place of something of the user's."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unpaired.errors import OutputError

__all__ = ["FORMAT", "RECORD", "check_target", "new_folder", "sha256", "write_json", "write_text"]

FORMAT = "unpaired-run"
RECORD = "run.json"
"""The file that makes a folder a run."""


def check_target(out: Path, *, force: bool) -> None:
    """Raise :class:`OutputError` unless a run can be written at ``out``; called before any long work."""
    parent = out.absolute().parent
    if not parent.is_dir():
        msg = f"{out}: the folder {parent} does not exist; make it first."
        raise OutputError(msg)
    if not os.access(parent, os.W_OK):
        msg = f"{out}: no permission to write in {parent}."
        raise OutputError(msg)
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        msg = f"{out} exists and is not a folder; choose another name."
        raise OutputError(msg)
    if not any(out.iterdir()):
        return
    written = _written(out)
    if not written:
        msg = f"{out} is not empty and not a run of unpaired; choose another name (--force replaces runs only)."
        raise OutputError(msg)
    foreign = sorted(p.name for p in out.iterdir() if p.name not in written)
    if foreign:
        msg = f"{out} holds {foreign[0]!r}, which is not of the run; move it away, or choose another name."
        raise OutputError(msg)
    if not force:
        msg = f"{out} holds a run already; choose another name, or replace it with --force."
        raise OutputError(msg)


def _written(out: Path) -> set[str]:
    """Names of the files that a run in this folder consists of; empty if it is not a run."""
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
        return {RECORD, "report.html", *record["outputs"]} if record["format"] == FORMAT else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _mode(full: int) -> int:
    """Return the permissions that the user's umask leaves."""
    mask = os.umask(0)
    os.umask(mask)
    return full & ~mask


@contextmanager
def new_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """Give a temporary folder beside ``out``; on success it takes the name ``out``, on any error it is removed.

    Parameters
    ----------
    out
        The folder to make.
    force
        Replace a run that is there.

    Raises
    ------
    OutputError
        As :func:`check_target`.
    """
    check_target(out, force=force)
    out = out.absolute()
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield work
        for path in work.rglob("*"):
            path.chmod(_mode(0o777 if path.is_dir() else 0o666))
        work.chmod(_mode(0o777))
        check_target(out, force=force)  # a long time has passed
        if out.exists():
            old = work.with_name(work.name + ".old")
            out.rename(old)
            try:
                work.rename(out)
            except OSError:
                old.rename(out)
                raise
            shutil.rmtree(old)
        else:
            work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole: to a temporary name, flushed to the disk, then renamed."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(_mode(0o666))
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole; NaN is an error, since it is not JSON."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files under a folder with their names."""
    if not path.exists():
        msg = f"{path} does not exist, so it has no hash."
        raise OutputError(msg)
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        if file != path:
            digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as handle:
            while chunk := handle.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()
