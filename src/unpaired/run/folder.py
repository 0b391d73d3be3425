"""A folder that appears whole or not at all, and never in place of something of the user's."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unpaired.errors import OutputError
from unpaired.files import mode

__all__ = [
    "CLUE_FORMAT",
    "FORMAT",
    "PREDICTIONS",
    "RECORD",
    "TRANSLATION",
    "TRANSLATIONS",
    "TRANSLATION_FORMAT",
    "TUNING",
    "check_file",
    "check_target",
    "new_file",
    "new_folder",
]

FORMAT = "unpaired-run"
CLUE_FORMAT = "unpaired-clue-run"
RECORD = "run.json"
"""The file that makes a folder a run."""

TRANSLATIONS = "translations"
"""The folder of a run that holds its translations."""

TRANSLATION_FORMAT = "unpaired-translation"
TRANSLATION = "translation.json"
"""The file that makes a folder a translation."""

PREDICTIONS = "unpaired-predictions"
"""What a file of predictions says of itself."""

TUNING = "unpaired-tuning"
"""What a file of what ``tune`` found says of itself."""

_FORMATS = {RECORD: (FORMAT, CLUE_FORMAT), TRANSLATION: (TRANSLATION_FORMAT,)}
_NOUNS = {RECORD: "run", TRANSLATION: "translation"}


def check_target(out: Path, *, force: bool, record: str = RECORD) -> None:
    """Raise :class:`OutputError` unless a run, or with another ``record`` a translation, can be written at ``out``.

    Called before any long work.
    """
    _check_parent(out)
    if not out.exists() and not out.is_symlink():
        return
    noun = _NOUNS[record]
    if not out.is_dir() or out.is_symlink():
        msg = f"{out} exists and is not a folder; choose another name."
        raise OutputError(msg)
    if not any(out.iterdir()):
        return
    written = _written(out, record)
    if not written:
        msg = f"{out} is not empty and not a {noun} of unpaired; choose another name (--force replaces {noun}s only)."
        raise OutputError(msg)
    foreign = _foreign(out, written)
    if foreign is not None:
        msg = f"{out} holds {str(foreign)!r}, which is not of the {noun}; move it away, or choose another name."
        raise OutputError(msg)
    if not force:
        other = "choose another name, or " if record == RECORD else ""  # a translation is called after its direction
        msg = f"{out} holds a {noun} already; {other}replace it with --force."
        raise OutputError(msg)


def _check_parent(out: Path) -> None:
    parent = out.absolute().parent
    if not parent.is_dir():
        msg = f"{out}: the folder {parent} does not exist; make it first."
        raise OutputError(msg)
    if not os.access(parent, os.W_OK):
        msg = f"{out}: no permission to write in {parent}."
        raise OutputError(msg)


def _written(out: Path, record: str) -> set[str]:
    """Names of the files that a run (a translation) in this folder consists of, ``model/model.json``; empty if none."""
    try:
        found = json.loads((out / record).read_text(encoding="utf-8"))
        return {record, "report.html", *found["outputs"]} if found["format"] in _FORMATS[record] else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _foreign(out: Path, written: set[str]) -> Path | None:
    """Return the first thing in a folder that we have not written, predictions and a run's translations included."""
    for path in sorted(out.iterdir()):
        if path.name == TRANSLATIONS and RECORD in written:
            if (foreign := _foreign_translation(path)) is not None:
                return Path(path.name) / foreign
        elif inside := {w.removeprefix(f"{path.name}/") for w in written if w.startswith(f"{path.name}/")}:
            if not path.is_dir() or path.is_symlink():
                return Path(path.name)
            if (foreign := _foreign(path, inside)) is not None:
                return Path(path.name) / foreign
        elif path.name not in written and not (TRANSLATION in written and _is_predictions(path)):
            return Path(path.name)
    return None


def _foreign_translation(folder: Path) -> Path | None:
    """Return the first thing in a run's folder of translations that is not of one; checkpoints have hidden names."""
    if not folder.is_dir() or folder.is_symlink():
        return Path()
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        written = _written(path, TRANSLATION) if path.is_dir() else set()
        if not written:
            return Path(path.name)
        if (foreign := _foreign(path, written)) is not None:
            return Path(path.name) / foreign
    return None


def _is_predictions(path: Path) -> bool:
    """Whether a file holds predictions that we have written."""
    import h5py

    try:
        with h5py.File(path) as file:
            return bool(file["uns/unpaired/format"].asstr()[()] == PREDICTIONS)
    except (OSError, KeyError, AttributeError, TypeError):
        return False


@contextmanager
def new_folder(out: Path, *, force: bool, record: str = RECORD) -> Iterator[Path]:
    """Give a temporary folder beside ``out``; on success it takes the name ``out``, on any error it is removed.

    Parameters
    ----------
    out
        The folder to make.
    force
        Replace what is there, if it is of the same kind.
    record
        The file that makes it a run or a translation.

    Raises
    ------
    OutputError
        As :func:`check_target`.
    """
    check_target(out, force=force, record=record)
    out = out.absolute()
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield work
        for path in work.rglob("*"):
            path.chmod(mode(0o777 if path.is_dir() else 0o666))
        work.chmod(mode(0o777))
        check_target(out, force=force, record=record)  # a long time has passed
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


def _is_tuning(path: Path) -> bool:
    """Whether a file says what ``tune`` found, as we have written it."""
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["format"] == TUNING)
    except (OSError, ValueError, KeyError, TypeError):
        return False


_FILES = {PREDICTIONS: ("a file of predictions", "predictions"), TUNING: ("a file of tune's", "files of tune's")}


def check_file(path: Path, *, force: bool, kind: str = PREDICTIONS) -> None:
    """Raise :class:`OutputError` unless a file of a kind can be written as ``path``; called before any long work."""
    noun, nouns = _FILES[kind]
    _check_parent(path)
    if path.is_dir() or path.is_symlink():
        msg = f"{path} exists and is not a file; choose another name."
        raise OutputError(msg)
    if path.exists() and not (_is_tuning(path) if kind == TUNING else _is_predictions(path)):
        msg = f"{path} exists and is not {noun}; choose another name (--force replaces {nouns} only)."
        raise OutputError(msg)
    if path.exists() and not force:
        msg = f"{path} exists; choose another name, or replace it with --force."
        raise OutputError(msg)


@contextmanager
def new_file(path: Path, *, force: bool) -> Iterator[Path]:
    """Give a temporary file name beside ``path``; on success the file takes this name, on any error it is removed.

    Raises
    ------
    OutputError
        As :func:`check_file`.
    """
    check_file(path, force=force)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    work = Path(name)
    try:
        yield work
        with work.open("rb") as file:
            os.fsync(file.fileno())
        work.chmod(mode(0o666))
        check_file(path, force=force)
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)
