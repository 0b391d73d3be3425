"""Imputed readings on disk: written part by part, so that they need never be in memory as a whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unpaired._version import __version__
from unpaired.data.labels import ONE_LABEL
from unpaired.data.types import Array, Dataset
from unpaired.evaluate.prediction_scores import unique_names
from unpaired.run.folder import PREDICTIONS
from unpaired.run.record import plain
from unpaired.run.write import label_names

__all__ = ["write_imputed"]

_FORMAT_VERSION = 1
_BLOCK = 2**18  # values that are compressed together


def write_imputed(
    path: Path,
    data: Dataset,
    parts: Iterable[tuple[Array, Array]],
    *,
    source: str,
    target: str,
    names: Array,
    options: Mapping[str, Any],
    batch: Array | None = None,
) -> None:
    """Write one modality's imputed readings of the cells of another as h5ad.

    Parameters
    ----------
    path
        The file to make; its folder must exist.
    data
        The cells of the source, and their labels.
    parts
        ``(mean, spread)`` of the next cells each, ``(k, p)``, in the order of the rows.
    source, target
        Names of the modality that was measured, and of the one that was imputed.
    names
        ``(p,)`` names of its features.
    options
        Of the model that imputed.
    batch
        ``(n,)`` batches that the cells were read in.
    """
    import anndata
    import h5py
    import pandas as pd

    cells = data[source]
    obs = pd.DataFrame(index=pd.Index(cells.ids.astype(str), dtype=object))
    if data.classes != (ONE_LABEL,):
        obs["label"] = label_names(data, cells)
    if batch is not None:
        obs["batch"] = batch.astype(object)
    adata = anndata.AnnData(obs=obs, var=pd.DataFrame(index=pd.Index(unique_names(names), dtype=object)))
    adata.uns["unpaired"] = {
        "format": PREDICTIONS,
        "format_version": _FORMAT_VERSION,
        "unpaired": __version__,
        "source": source,
        "target": target,
        "space": "raw",
        "method": "Clue",
        "options": json.dumps(plain(options)),
    }
    adata.write_h5ad(path)
    shape = (len(cells), len(names))
    block = (max(1, min(len(cells), _BLOCK // len(names))), len(names))
    with h5py.File(path, "r+") as file:
        if "X" in file:
            del file["X"]
        kinds = ("X", "layers/spread")
        both = [
            file.create_dataset(k, shape, "float32", chunks=block, compression="gzip", compression_opts=1, shuffle=True)
            for k in kinds
        ]
        for values in both:
            values.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        start = 0
        for part in parts:
            for values, given in zip(both, part, strict=True):
                values[start : start + len(given)] = given
            start += len(part[0])
