"""Files that appear whole or not at all, and their hashes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from unpaired.errors import OutputError

__all__ = ["mode", "part_of", "sha256", "write_arrays", "write_bytes", "write_json", "write_text"]


def mode(full: int) -> int:
    """Return the permissions that the user's umask leaves."""
    mask = os.umask(0)
    os.umask(mask)
    return full & ~mask


def write_text(path: Path, text: str) -> None:
    """Write a text file whole: to a temporary name, flushed to the disk, then renamed."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode(0o666))
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole; NaN is an error, since it is not JSON."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def part_of(path: Path) -> Path:
    """Return the name that :func:`write_bytes` writes to first, the only one that a kill can leave."""
    return path.with_name(f"{path.name}.part")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole: to the name of :func:`part_of`, which the next writing replaces, flushed, then renamed."""
    part = part_of(path)
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with suppress(OSError):  # the first error says what is wrong
            part.unlink(missing_ok=True)
        raise


def write_arrays(path: Path, arrays: Mapping[str, Any], info: Mapping[str, str] | None = None) -> None:
    """Write arrays of NumPy as safetensors, whole, with texts in the header."""
    import numpy as np
    from safetensors.numpy import save

    # Not by the library's own writer: it makes a file of a random name first, which a kill would leave for good. The
    # price is that all bytes are in memory once more: 100 MB for five networks that predict 20,000 genes, a quarter of
    # what their checkpoints take.
    whole = {k: np.ascontiguousarray(v) for k, v in arrays.items()}
    write_bytes(path, save(whole, metadata=None if info is None else dict(info)))


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
