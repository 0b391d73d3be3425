"""Files that are downloaded once: checked, unpacked, kept in the user's cache folder."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
import zlib
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

from unpaired.errors import DataError, OutputError, Problem
from unpaired.files import mode, sha256, write_json

__all__ = ["cache_folder", "downloaded"]

_BLOCK = 2**20
_TIMEOUT = 60  # seconds without an answer


class _Counted:
    """Reads a stream and keeps the hash of what was read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self.stream.read(size)
        self.digest.update(block)
        return block


def cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/unpaired``, or ``~/.cache/unpaired``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "unpaired"


def downloaded(url: str, name: str, *, checksum: str | None = None, folder: Path | None = None) -> Path:
    """Return the path of an unpacked file, downloaded now or before.

    It is written under a temporary name and renamed when it is whole. Beside it is kept which file it was made of, and
    the SHA-256 of both: a file that was changed later is not taken up.

    Parameters
    ----------
    url
        Where the gzipped file is.
    name
        Name of the unpacked file.
    checksum
        SHA-256 of the gzipped file; ``None`` takes what comes, and only records its hash.
    folder
        Where to; :func:`cache_folder` by default.

    Raises
    ------
    DataError
        If it cannot be downloaded, is damaged, or is another file.
    OutputError
        If the folder cannot be written to.
    """
    folder = cache_folder() if folder is None else folder
    file, record = folder / name, folder / f"{name}.json"
    if file.exists() and record.exists():
        _check_kept(file, record, checksum)
        return file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    except OSError as error:
        msg = f"the cache folder {folder} cannot be written to ({error.strerror}); set XDG_CACHE_HOME to another place."
        raise OutputError(msg) from error
    try:
        with os.fdopen(handle, "wb") as out:
            packed, unpacked = _fetch(url, out)
            out.flush()
            os.fsync(out.fileno())
        if checksum is not None and packed != checksum:
            what = f"is not the file that is expected: its SHA-256 is {packed}, not {checksum}."
            fix = f"Try again; if it has been replaced by its authors, and you trust it, give sha256={packed!r}."
            raise DataError([Problem("error", url, what, fix)])
        Path(part).chmod(mode(0o666))
        Path(part).replace(file)
    finally:
        Path(part).unlink(missing_ok=True)
    write_json(record, {"url": url, "sha256_gz": packed, "sha256": unpacked})
    return file


def _check_kept(file: Path, record: Path, checksum: str | None) -> None:
    again = f"Delete {file} to download it again."
    try:
        kept: Any = json.loads(record.read_text(encoding="utf-8"))
        packed, unpacked = kept["sha256_gz"], kept["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError([Problem("error", str(record), "is damaged.", again)]) from None
    if checksum is not None and packed != checksum:
        what = f"was made of a file with the SHA-256 {packed}, not {checksum}."
        raise DataError([Problem("error", str(file), what, again)])
    if sha256(file) != unpacked:
        raise DataError([Problem("error", str(file), "has changed since it was downloaded.", again)])


def _fetch(url: str, out: IO[bytes]) -> tuple[str, str]:
    """Write the unpacked file and return the hashes of what came and of what was written."""
    from urllib.request import urlopen

    unpacked = hashlib.sha256()
    by_hand = "Download it in another way, unpack it (gunzip) and give path=."
    try:
        with urlopen(url, timeout=_TIMEOUT) as answer:
            packed = _Counted(answer)
            with gzip.GzipFile(fileobj=packed) as stream:  # type: ignore[call-overload]  # it only reads
                while block := stream.read(_BLOCK):
                    unpacked.update(block)
                    _write(out, block)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        what = f"did not arrive whole, or is no gzipped file ({error})."
        raise DataError([Problem("error", url, what, f"Try again. {by_hand}")]) from error
    except OutputError:
        raise
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError([Problem("error", url, f"cannot be downloaded ({reason}).", by_hand)]) from error
    return packed.digest.hexdigest(), unpacked.hexdigest()


def _write(out: IO[bytes], block: bytes) -> None:
    try:
        out.write(block)
    except OSError as error:
        msg = f"the download cannot be written ({error.strerror}); set XDG_CACHE_HOME to a place with room."
        raise OutputError(msg) from error
