"""What the page reads of a run: small elements of files that may be large."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired.data.types import Array
from unpaired.errors import DataError, Problem
from unpaired.run.clue import LATENTS, PER_FEATURE

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "DrawnCells",
    "read_cells",
    "read_confidence",
    "read_diagnosis",
    "read_features",
    "read_plane",
    "read_scores",
]


@dataclass(frozen=True, eq=False)
class DrawnCells:
    """Cells of a picture, one entry each.

    Attributes
    ----------
    xy
        ``(n, 2)`` coordinates.
    modality, label, batch
        ``(n,)`` names; ``None`` where cells are not told apart by their label, or their batch.
    """

    xy: Array
    modality: Array
    label: Array | None
    batch: Array | None


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


def read_cells(run: Path, names: Sequence[str]) -> DrawnCells:
    """Return the cells of these modalities that are drawn in the picture of a run of ``unpaired clue``."""
    import h5py
    from anndata.io import read_elem

    file, found = run / LATENTS, dict[str, list[Array]]()
    try:
        with h5py.File(file, "r") as store:
            for name in names:
                own = store[f"mod/{name}"]
                xy = np.asarray(read_elem(own["obsm/X_unpaired_2d"]))
                drawn = np.isfinite(xy[:, 0])
                found.setdefault("xy", []).append(xy[drawn])
                found.setdefault("modality", []).append(np.repeat(np.array(name, dtype=object), drawn.sum()))
                for key in (k for k in ("label", "batch") if f"obs/{k}" in own):
                    found.setdefault(key, []).append(np.asarray(read_elem(own[f"obs/{key}"]), dtype=object)[drawn])
    except (OSError, KeyError) as error:
        raise _unreadable(file, error) from None
    whole = {key: np.concatenate(parts) for key, parts in found.items()}
    return DrawnCells(whole["xy"], whole["modality"], whole.get("label"), whole.get("batch"))


def read_features(run: Path) -> pd.DataFrame:
    """Return the scores of imputed readings, a row a feature and direction."""
    import pandas as pd

    file = run / PER_FEATURE
    try:
        # A feature may be called NA: only numbers can be missing.
        missing = {k: [""] for k in ("pearson", "r2", "coverage")}
        text = dict.fromkeys(("source", "target", "feature"), str)
        return pd.read_csv(file, dtype=text, keep_default_na=False, na_values=missing)
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from None


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
    return DataError([Problem("error", str(file), f"cannot be read ({why}).", "Make the run again.")])
