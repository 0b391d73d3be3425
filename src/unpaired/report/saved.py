"""What the page reads of a run: small elements of files that may be large."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unpaired.data.types import Array
from unpaired.errors import DataError, Problem

__all__ = ["read_confidence", "read_diagnosis", "read_plane", "read_scores"]


def read_scores(run: Path) -> dict[str, Any] | None:
    """Return the contents of ``scores.json``; ``None`` where the truth was not known."""
    return _read_json(run / "scores.json")


def read_diagnosis(run: Path) -> dict[str, Any] | None:
    """Return the contents of ``diagnosis.json``; ``None`` for a run that was written without one."""
    return _read_json(run / "diagnosis.json")


def read_plane(run: Path) -> tuple[Array, Array, Array]:
    """Return coordinates, modality and label of every cell."""
    import h5py
    from anndata.io import read_elem

    file = run / "aligned.h5mu"
    try:
        with h5py.File(file, "r") as store:
            xy = np.asarray(read_elem(store["obsm/X_unpaired_2d"]))
            modality, label = (np.asarray(read_elem(store[f"obs/{k}"]), dtype=object) for k in ("modality", "label"))
    except (OSError, KeyError) as error:
        raise _unreadable(file, error) from None
    return xy, modality, label


def read_confidence(run: Path, names: Sequence[str]) -> dict[str, Array]:
    """Return the confidence of the cells of these modalities; empty for a run that was written without it."""
    import h5py
    from anndata.io import read_elem

    file = run / "aligned.h5mu"
    try:
        with h5py.File(file, "r") as store:
            places = {n: f"mod/{n}/obs/unpaired_confidence" for n in names}
            return {n: np.asarray(read_elem(store[at]), dtype=float) for n, at in places.items() if at in store}
    except OSError as error:
        raise _unreadable(file, error) from None


def _read_json(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from None
    return found


def _unreadable(file: Path, error: Exception) -> DataError:
    why = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
    return DataError([Problem("error", str(file), f"cannot be read ({why}).", "Run unpaired align again.")])
