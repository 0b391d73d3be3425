"""What a file is, told by its content; its name only serves to notice a mix-up."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile, ZipFile

from unpaired.errors import DataError, Problem

__all__ = ["Kind", "detect_kind", "family"]

Kind = Literal["h5ad", "h5mu", "zarr", "npz", "csv", "parquet"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HDF5_OFFSETS = (0, 512, 1024, 2048)  # a user block may come first; h5mu files have one of 512 bytes
_HEAD = 4096
_BINARY_SUFFIXES = (".h5ad", ".h5mu", ".h5", ".hdf5", ".zarr", ".npz", ".npy", ".parquet", ".zip", ".gz")
_AGAIN = "Copy or download it again."


def detect_kind(path: Path | str) -> Kind:
    """Return what a file (or zarr directory) is, by its content.

    Raises
    ------
    DataError
        If it does not exist, cannot be opened, is damaged, or is of no known kind.
    """
    path = Path(path)
    try:
        return _detect(path)
    except (PermissionError, FileNotFoundError) as error:
        what = "does not exist." if isinstance(error, FileNotFoundError) else "may not be read by this user."
        raise _error(path, what, _neighbours(path) or "Check the path and its permissions.") from error


def family(attributes: Any, members: Any) -> Literal["anndata", "mudata"] | None:
    """Return what an HDF5 file or zarr store holds, by its root's attributes and, in old files, its members."""
    encoding = str(attributes.get("encoding-type", "")).lower()
    if encoding in {"anndata", "mudata"}:
        return "mudata" if encoding == "mudata" else "anndata"
    if "mod" in members:
        return "mudata"
    return "anndata" if "obs" in members and "var" in members else None


def _detect(path: Path) -> Kind:
    if path.is_dir():
        return _detect_directory(path)
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise _error(path, "is empty (0 bytes).", _AGAIN)
    if any(head[at : at + len(_HDF5)] == _HDF5 for at in _HDF5_OFFSETS):
        return _detect_hdf5(path)
    if head.startswith(b"PK\x03\x04"):
        return _detect_zip(path)
    if head.startswith(b"PAR1"):
        return _detect_parquet(path)
    return _detect_text(path, head)


def _detect_directory(path: Path) -> Kind:
    if (path / "zarr.json").exists() or (path / ".zgroup").exists():
        return "zarr"
    raise _error(
        path,
        "is a directory, but not a zarr store (it has no zarr.json or .zgroup).",
        "Name the files in it one by one.",
    )


def _detect_hdf5(path: Path) -> Kind:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            found, members = family(file.attrs, file), list(file)
    except BlockingIOError as error:
        raise _error(path, "is open for writing in another process.", "Wait until that is done.") from error
    except OSError as error:
        truncated = "truncated" in str(error)
        what = "is a truncated HDF5 file: its end is missing." if truncated else "is a damaged HDF5 file."
        raise _error(path, what, _AGAIN) from error
    if found is None:
        fix = "Read it with the library that wrote it (10x: scanpy.read_10x_h5) and write an h5ad file."
        what = (
            f"is an HDF5 file, but neither AnnData nor MuData (its root holds {', '.join(members[:5]) or 'nothing'})."
        )
        raise _error(path, what, fix)
    return "h5mu" if found == "mudata" else "h5ad"


def _detect_zip(path: Path) -> Kind:
    try:
        with ZipFile(path) as archive:
            members = archive.namelist()
    except BadZipFile as error:
        raise _error(path, "is a damaged zip archive: its end is missing.", _AGAIN) from error
    if members and all(m.endswith(".npy") for m in members):
        return "npz"
    raise _error(path, "is a zip archive, but not an npz file of arrays.", "Unzip it and name the files in it.")


def _detect_parquet(path: Path) -> Kind:
    with path.open("rb") as file:
        file.seek(-4, 2)
        if file.read() != b"PAR1":
            raise _error(path, "is a truncated parquet file: its end is missing.", _AGAIN)
    return "parquet"


def _detect_text(path: Path, head: bytes) -> Kind:
    if b"\x00" in head or not _is_text(head):
        known = {b"\x93NUMPY": "is a single numpy array (.npy).", b"\x1f\x8b": "is compressed by gzip."}
        what = next((w for magic, w in known.items() if head.startswith(magic)), "is of no known kind.")
        fix = {
            "is compressed by gzip.": "Unpack it first (gunzip).",
            "is a single numpy array (.npy).": "Write the arrays of all modalities and the labels by numpy.savez.",
        }.get(what, "Known are h5ad, h5mu, zarr, npz, csv (UTF-8) and parquet.")
        raise _error(path, what, fix)
    if path.suffix.lower() in _BINARY_SUFFIXES:
        start = head.decode("utf-8", errors="replace").splitlines()[0][:40]
        what = f"is a text file (it starts with {start!r}), not what its name's ending {path.suffix} says."
        raise _error(path, what, "Rename it to .csv if it is a table, or copy or download it again.")
    return "csv"


def _is_text(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The head may have been cut within a character.
        return error.start > len(head) - 4 and len(head) == _HEAD
    return True


def _neighbours(path: Path) -> str:
    """Return the near matches of a file's name in its directory."""
    from difflib import get_close_matches

    try:
        names = [p.name for p in path.parent.iterdir()]
    except OSError:
        return ""
    near = get_close_matches(path.name, names, n=3)
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else ""


def _error(path: Path, what: str, fix: str) -> DataError:
    return DataError([Problem("error", str(path), what, fix)])
