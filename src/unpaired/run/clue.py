"""The run directory of ``unpaired clue``: what was learned, the places of all cells, and how good both are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired.data.labels import ONE_LABEL
from unpaired.data.split import HeldOut
from unpaired.data.types import Array, Dataset, Pairs
from unpaired.embed.embedding import Embedding
from unpaired.errors import DataError, Problem
from unpaired.files import sha256, write_json
from unpaired.run.folder import CLUE_FORMAT, RECORD
from unpaired.run.plane import in_plane
from unpaired.run.record import modality_record, plain, record_head
from unpaired.run.write import label_names

if TYPE_CHECKING:
    from anndata import AnnData

    from unpaired.embed.clue import Clue
    from unpaired.evaluate.imputation import ImputationScores
    from unpaired.evaluate.latent import LatentScores

__all__ = ["FORMAT_VERSION", "LATENTS", "PER_FEATURE", "ClueFound", "fill_clue_run", "is_clue_run", "read_clue_record"]

FORMAT_VERSION = 1
LATENTS = "latents.h5mu"
PER_FEATURE = "imputation.csv"
_KINDS = {
    **dict.fromkeys(("modalities", "pairs", "model", "training", "plane", "imputed", "outputs", "options"), dict),
    **dict.fromkeys(("notes", "classes", "soft_pairs"), list),
}
_AGAIN = "Run unpaired clue again."


@dataclass(frozen=True, eq=False)
class ClueFound:
    """What was learned of a data set, and how good it is.

    Attributes
    ----------
    data
        All cells, with the pairs that are known.
    learned
        Those that were learned from.
    held_out
        Those that were not, or ``None``.
    model
        What was learned.
    alone, together
        The places of all cells: every reading by itself; and of cells with pairs the one of all their readings, or
        ``None`` where no pair is known.
    soft
        What the record says of each matching that partners were drawn from.
    latent, imputation
        Scores on the cells that were held out.
    notes
        What is worth knowing, as sentences.
    """

    data: Dataset
    learned: Dataset
    held_out: HeldOut | None
    model: Clue
    alone: Embedding
    together: Embedding | None
    soft: Sequence[Mapping[str, Any]]
    latent: Sequence[LatentScores]
    imputation: Sequence[ImputationScores]
    notes: Sequence[str]


def fill_clue_run(
    work: Path,
    found: ClueFound,
    *,
    imputed: Mapping[str, Mapping[str, Any]],
    options: Mapping[str, Any],
    inputs: Sequence[Path],
    timings: Mapping[str, float],
    seed: int,
) -> None:
    """Write all the files of a run into the folder ``work``, beside the imputed readings that are there.

    Parameters
    ----------
    work
        The folder.
    found
        What was learned.
    imputed
        File of imputed readings -> what the record says of it.
    options, inputs, timings
        Kept as a record.
    seed
        Seed of the picture of the space.
    """
    found.model.save(work / "model")
    planes, method = _planes(found, seed)
    _write_latents(work / LATENTS, found, planes)
    if found.latent or found.imputation:
        scores = {"latent": [s.to_dict() for s in found.latent], "imputation": [s.to_dict() for s in found.imputation]}
        write_json(work / "scores.json", plain(scores))
    if found.imputation:
        _write_per_feature(work / PER_FEATURE, found.imputation)
    drawn = sum(int(np.isfinite(xy[:, 0]).sum()) for xy in planes.values())
    record = {
        **record_head(CLUE_FORMAT, FORMAT_VERSION, options, inputs),
        "seconds": plain(timings),
        "notes": list(found.notes),
        "classes": list(found.data.classes),
        "modalities": {n: _modality(found, n) for n in found.data},
        "pairs": {"cells": _combinations(found)},
        "soft_pairs": plain(list(found.soft)),
        "model": plain(found.model.used()),
        "training": _training(found.model),
        "plane": {"method": method, "cells": drawn, "cells_total": sum(len(m) for m in found.data.modalities.values())},
        "imputed": plain(imputed),
    }
    files = sorted(p for p in work.rglob("*") if p.is_file())
    write_json(work / RECORD, record | {"outputs": {p.relative_to(work).as_posix(): sha256(p) for p in files}})


def is_clue_run(path: str | Path) -> bool:
    """Whether a folder holds a run of ``unpaired clue``; ``False`` also where that cannot be told."""
    try:
        return bool(json.loads((Path(path) / RECORD).read_text(encoding="utf-8"))["format"] == CLUE_FORMAT)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def read_clue_record(path: str | Path) -> dict[str, Any]:
    """Return the contents of the ``run.json`` of a run of ``unpaired clue``.

    Raises
    ------
    DataError
        If the folder is no such run, or one of a newer format.
    """
    file = Path(path) / RECORD
    if not is_clue_run(path):
        raise DataError([Problem("error", str(file), "is not the record of a run of unpaired clue.", _AGAIN)])
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    version = record.get("format_version")
    if type(version) is not int or version > FORMAT_VERSION:
        what = f"has format version {version!r}; this version of unpaired reads up to {FORMAT_VERSION}."
        raise DataError([Problem("error", str(file), what, "Use a newer version of unpaired.")])
    wrong = [k for k, kind in _KINDS.items() if not isinstance(record.get(k), kind)]
    if wrong:
        raise DataError([Problem("error", str(file), f"lacks {', '.join(wrong)}.", _AGAIN)])
    return record


def _planes(found: ClueFound, seed: int) -> tuple[dict[str, Array], str]:
    """Lay out the cells in their canonical order: which are drawn, and where, does not depend on that of the rows."""
    orders = {n: m.order for n, m in found.data.modalities.items()}
    planes, method = in_plane({n: found.alone[n][order] for n, order in orders.items()}, seed=seed)
    return {n: planes[n][np.argsort(order)] for n, order in orders.items()}, method


def _modality(found: ClueFound, name: str) -> dict[str, Any]:
    """Return what is said of a modality's cells that were learned from, and how many there are besides."""
    learned, held = found.learned[name], found.held_out
    units = None if found.learned.pairs is None else found.learned.pairs.units
    several = np.zeros(0) if units is None else _of_several(units)
    return {
        **modality_record(found.learned, name),
        "paired": 0 if units is None else int(np.isin(units[name], several).sum()),
        "held_out": 0 if held is None else len(held.data[name]),
        "batches": 0 if learned.batch is None else len(np.unique(learned.batch.astype(str))),
        "likelihood": found.model.used()["likelihoods"][name],
    }


def _of_several(units: Mapping[str, Array]) -> Array:
    """Return the codes of the cells that are known in several modalities."""
    codes, times = np.unique(np.concatenate([u[u >= 0] for u in units.values()]), return_counts=True)
    return np.asarray(codes[times > 1])


def _combinations(found: ClueFound) -> list[dict[str, Any]]:
    """Return for every combination of modalities that cells were measured in how many there are."""
    from unpaired.embed.clue_inputs import slots_of

    held = found.held_out
    parts = {"learned_from": found.learned}
    if held is not None and held.truth is not None:
        parts["held_out"] = Dataset(held.data.modalities, held.data.classes, Pairs(held.truth.units))
    names, counts = list(found.data), dict[tuple[str, ...], dict[str, int]]()
    for part, data in parts.items():
        patterns, times = np.unique(slots_of(data, names) >= 0, axis=0, return_counts=True)
        for pattern, k in zip(patterns.tolist(), times.tolist(), strict=True):
            there = tuple(n for n, seen in zip(names, pattern, strict=True) if seen)
            counts.setdefault(there, {"learned_from": 0, "held_out": 0})[part] = k
    ordered = sorted(counts.items(), key=lambda item: (-len(item[0]), [names.index(n) for n in item[0]]))
    return [{"modalities": list(there), **k} for there, k in ordered]


def _training(model: Clue) -> dict[str, Any]:
    """Return the validation losses, how many of the first could not be chosen, and which epoch was, numbered from 1."""
    history, burn_in = model.history_, model.burn_in_
    best = int(np.argmin(history[burn_in:])) + burn_in + 1
    return {"history": plain(history), "burn_in": burn_in, "epoch": best}


def _write_latents(path: Path, found: ClueFound, planes: Mapping[str, Array]) -> None:
    import mudata

    cells = {n: _anndata(found, n, planes[n]) for n in found.data}
    with mudata.set_options(pull_on_update=False):
        mdata = mudata.MuData(cells)
        mdata.uns["unpaired"] = {
            "dims": np.array(found.alone.dims, dtype=str),
            "classes": np.array(found.data.classes, dtype=str),
        }
        mdata.write_h5mu(path, compression="gzip")


def _anndata(found: ClueFound, name: str, plane: Array) -> AnnData:
    import anndata
    import pandas as pd

    modality, held, pairs = found.data[name], found.held_out, found.data.pairs
    obs = pd.DataFrame(index=pd.Index(modality.ids.astype(str), dtype=object))
    if found.data.classes != (ONE_LABEL,):
        obs["label"] = label_names(found.data, modality)
    if modality.batch is not None:
        obs["batch"] = modality.batch.astype(str).astype(object)
    out = np.zeros(len(modality), bool) if held is None else np.isin(modality.ids, held.data[name].ids)
    obs["part"] = np.where(out, "test", "train").astype(object)
    if pairs is not None:
        unit = pairs.units[name]
        obs["unpaired_cell"] = np.where(np.isin(unit, _of_several(pairs.units)), unit, -1)
    adata = anndata.AnnData(obs=obs)
    adata.obsm["X_unpaired_clue"] = found.alone[name].astype(np.float32)
    if found.together is not None:
        adata.obsm["X_unpaired_clue_together"] = found.together[name].astype(np.float32)
    adata.obsm["X_unpaired_2d"] = plane
    return adata


def _write_per_feature(path: Path, imputation: Sequence[ImputationScores]) -> None:
    import pandas as pd

    pd.concat([s.table() for s in imputation]).to_csv(path, index=False, float_format="%.6g")
