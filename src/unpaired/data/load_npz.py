"""Tables of an npz file: every array of two (or four) dimensions is a modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from unpaired.data.tables import Table, choose_names
from unpaired.data.types import Array
from unpaired.data.wording import listed
from unpaired.errors import DataError, Problem

__all__ = ["array_names", "load_npz"]

_IDS = ("sample_id", "ids")
_DIMENSIONS = (2, 4)


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays that are modalities, without reading them."""
    return [k for k, h in _headers(path).items() if len(h.shape) in _DIMENSIONS]


def load_npz(path: Path, *, modalities: Sequence[str] | None, columns: Sequence[str]) -> list[Table]:
    """Return the tables of an npz file; only the arrays that are needed are read.

    An array of two dimensions (four: images) is a modality. Arrays of one dimension tell of its rows: ``label`` of the
    rows of every modality of that length, ``NAME_label`` of those of ``NAME``; ``sample_id`` (or ``ids``, ``NAME_ids``)
    holds their ids, and without ids the rows are numbered. ``NAME_features`` holds the names of its features.

    Parameters
    ----------
    path
        The file.
    modalities
        Names to take; all by default.
    columns
        The arrays that are asked for (the label, the batch): of these a wrong length is an error.
    """
    headers = _headers(path)
    found = [k for k, h in headers.items() if len(h.shape) in _DIMENSIONS]
    problems = _odd(path, headers, modalities)
    if not found and not problems:
        sparse = {"indices", "indptr", "data"} <= set(headers)
        what = "is one sparse matrix written by scipy.sparse.save_npz" if sparse else "holds no array of 2 dimensions"
        fix = "Write one array of cells x features for each modality, and an array of labels."
        problems.append(Problem("error", str(path), f"{what} (its arrays: {listed(headers)}).", fix))
    if problems:
        raise DataError(problems)
    wanted = choose_names(modalities, found)
    roles = {*columns, *_IDS, *(f"{n}_{r}" for n in wanted for r in (*columns, *_IDS, "features"))}
    _refuse_objects(path, headers, {*wanted, *roles})
    flat = {k for k, h in headers.items() if len(h.shape) == 1 and h.dtype != object}
    with np.load(path, allow_pickle=False) as file:
        arrays = {k: file[k] for k in headers if k in flat or k in wanted}
    columns_of = {k: a for k, a in arrays.items() if k in flat}
    tables = [_table(n, arrays[n], columns_of, path=path, columns=columns, problems=problems) for n in wanted]
    if problems:
        raise DataError(problems)
    return tables


def _headers(path: Path) -> dict[str, _Header]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    headers = {}
    with ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                shape, _, dtype = readers[version](file)
            headers[member.removesuffix(".npy")] = _Header(shape, dtype)
    return headers


def _odd(path: Path, headers: Mapping[str, _Header], modalities: Sequence[str] | None) -> list[Problem]:
    """Return the arrays that look like modalities but are not: a stack of images without channels, say."""
    return [
        Problem(
            "error",
            str(path),
            f"array {key!r} has {len(h.shape)} dimensions; a table has 2, and images have 4 (n, channels, h, w).",
            "Reshape it, or leave it out.",
        )
        for key, h in headers.items()
        if len(h.shape) > 1 and len(h.shape) not in _DIMENSIONS and (modalities is None or key in modalities)
    ]


def _refuse_objects(path: Path, headers: Mapping[str, _Header], needed: set[str]) -> None:
    problems = [
        Problem(
            "error",
            str(path),
            f"array {key!r} holds Python objects, which could run code when read.",
            f"Write it as text or numbers: {key}.astype(str) or .astype(float).",
        )
        for key, h in headers.items()
        if key in needed and h.dtype == object
    ]
    if problems:
        raise DataError(problems)


def _table(
    name: str,
    X: Array,
    flat: Mapping[str, Array],
    *,
    path: Path,
    columns: Sequence[str],
    problems: list[Problem],
) -> Table:
    import pandas as pd

    n, where = len(X), f"{path}:{name}"
    own = {k.removeprefix(f"{name}_"): a for k, a in flat.items() if k.startswith(f"{name}_")}
    asked = {c: own.get(c, flat.get(c)) for c in columns} | {k: own.get(k) for k in _IDS}
    for column, array in asked.items():
        if array is not None and len(array) != n:
            given = f"{name}_{column}" if column in own else column
            what = f"array {given!r} has {len(array)} entries, but {name!r} has {n} rows."
            problems.append(Problem("error", where, what, f"Write '{name}_{column}' with one entry for each row."))
    features = own.pop("features", None)
    if features is not None and (X.ndim != 2 or len(features) != X.shape[1]):
        what = f"array '{name}_features' has {len(features)} entries, but {name!r} has {X.shape[1]} columns."
        problems.append(Problem("error", where, what, "Write one name for each column."))
        features = None
    own = {k: a for k, a in own.items() if len(a) == n}
    known = {k: a for k, a in flat.items() if len(a) == n} | own
    key = next((k for k in (*own, *known) if k in _IDS), None)  # the modality's own ids before the common ones
    ids = np.arange(n).astype(str) if key is None else _text(known[key])
    return Table(
        name=name,
        X=X,
        obs=pd.DataFrame({k: a for k, a in known.items() if k != key}, index=pd.Index(ids, dtype=object)),
        feature_names=None if features is None else _text(features),
        feature_types=None,
        where=where,
        numbered=key is None,
    )


def _text(values: Array) -> Array:
    return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values.astype(str)
