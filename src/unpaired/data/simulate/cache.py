"""Simulated arrays on disk: taken up if they are whole and what was asked for, made anew if not."""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from unpaired.data.types import Array
from unpaired.errors import OutputError
from unpaired.files import mode

__all__ = ["cached"]

Arrays = dict[str, Array]
Shapes = Mapping[str, tuple[tuple[int, ...], str]]

_MADE_OF = "made_of"
# What numpy and zipfile raise for files that are damaged somewhere (found by changing every byte of one).
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, BadZipFile, zlib.error)


def cached(folder: Path | str | None, made_of: Mapping[str, Any], shapes: Shapes, make: Callable[[], Arrays]) -> Arrays:
    """Return what ``make`` returns; from a file in ``folder``, if there is one.

    Parameters
    ----------
    folder
        Where the file is, or will be; made if it does not exist. ``None``: nothing is read or written.
    made_of
        Everything that the arrays depend on, with the first entry for a reader of the file's name.
    shapes
        Name -> shape and type of each array: a file with others is not taken up.
    make
        Makes the arrays.

    Raises
    ------
    OutputError
        If the folder cannot be made or written to.
    """
    if folder is None:
        return make()
    made = json.dumps(made_of, sort_keys=True)
    path = Path(folder) / f"{next(iter(made_of.values()))}-{blake2b(made.encode(), digest_size=8).hexdigest()}.npz"
    _check_folder(path.parent)
    found = _read(path, made, shapes)
    if found is None:
        found = make()
        _write(path, {**found, _MADE_OF: np.array(made)})
    return found


def _check_folder(folder: Path) -> None:
    """To be told now, not when there is something to lose."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cache must be a folder that can be made and written to; {folder} cannot ({error.strerror})."
        raise OutputError(msg) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        msg = f"cache must be a folder that can be written to; {folder} cannot."
        raise OutputError(msg)


def _read(path: Path, made: str, shapes: Shapes) -> Arrays | None:
    """Return the arrays; ``None`` if the file is not there, not whole (it holds checksums) or not for us."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file[_MADE_OF]) != made:
                return None
            found = {name: file[name] for name in shapes}
    except _UNREADABLE:
        return None
    fits = all((found[n].shape, found[n].dtype.name) == expected for n, expected in shapes.items())
    return found if fits else None


def _write(path: Path, arrays: Arrays) -> None:
    """Write the file whole: under a temporary name, flushed to the disk, then renamed."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # a name could be that of an option
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode(0o666))
        Path(name).replace(path)
    except OSError as error:
        msg = f"{path} cannot be written ({error.strerror}); choose another cache or none."
        raise OutputError(msg) from error
    finally:
        Path(name).unlink(missing_ok=True)
