"""Files that appear whole or not at all, and their hashes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from unpaired.errors import OutputError

__all__ = ["mode", "sha256", "write_json", "write_text"]


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
