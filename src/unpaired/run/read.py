"""Read a run directory back: the data, the space, the matching and the record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from unpaired.data.pair_table import read_units
from unpaired.data.preprocess import Recipe
from unpaired.data.split import HeldOut
from unpaired.data.types import UNKNOWN, Array, Dataset, Modality, Truth
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import DataError, Problem
from unpaired.files import sha256
from unpaired.match.block import Block, Status
from unpaired.match.blocks import cells_by_label
from unpaired.match.matching import Matching
from unpaired.match.transport.solution import Plan
from unpaired.run.folder import CLUE_FORMAT, FORMAT, RECORD
from unpaired.run.record import FORMAT_VERSION

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

__all__ = ["Run", "check_outputs", "read_record", "read_run", "read_truth"]


@dataclass(frozen=True, eq=False)
class Run:
    """A run that was read back.

    Attributes
    ----------
    path
        Its folder.
    record
        The contents of ``run.json``.
    data, embedding, matching
        As they were written, but for known pairs, which are not kept.
    truth
        The hidden pairing, or ``None``.
    scores
        The contents of ``scores.json``, or ``None``.
    held_out
        Cells that were kept out of all of this, or ``None``.
    diagnosis
        The contents of ``diagnosis.json``, or ``None``.
    confidence
        Modality -> how sure the matching is of every cell (NaN without partner), or ``None``.
    refined
        The space that the matching was made in after :func:`unpaired.refine`, with the record of its rounds, or
        ``None``; ``embedding`` is then the one that the refinement began with.
    """

    path: Path
    record: Mapping[str, Any]
    data: Dataset
    embedding: Embedding
    matching: Matching
    truth: Truth | None
    scores: Mapping[str, Any] | None
    held_out: HeldOut | None = None
    diagnosis: Mapping[str, Any] | None = None
    confidence: Mapping[str, Array] | None = None
    refined: Embedding | None = None


def read_record(path: str | Path) -> dict[str, Any]:
    """Return the contents of a run's ``run.json``.

    Raises
    ------
    DataError
        If the folder is not a run, or one of a newer format.
    """
    file = Path(path) / RECORD
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise DataError([_problem(file, f"cannot be read ({why}).", "Name a folder made by unpaired align.")]) from None
    if not isinstance(record, dict):
        raise DataError([_problem(file, "is not a record.", "Name a folder made by unpaired align.")])
    if record.get("format") == CLUE_FORMAT:
        raise DataError([_problem(file, "is the record of a run of unpaired clue.", "Name one of unpaired align.")])
    if record.get("format") != FORMAT or record.get("format_version", 0) > FORMAT_VERSION:
        what = f"has format {record.get('format')!r}, version {record.get('format_version')!r}."
        raise DataError([_problem(file, what, f"This version reads {FORMAT!r} up to {FORMAT_VERSION}.")])
    return record


def read_run(path: str | Path) -> Run:
    """Read a run directory.

    Parameters
    ----------
    path
        The folder.

    Raises
    ------
    DataError
        If it is not a run, or a file of it is missing or was changed since it was written.
    """
    import mudata

    path = Path(path)
    record = read_record(path)
    check_outputs(path, record)
    with mudata.set_options(pull_on_update=False):
        mdata = mudata.read_h5mu(path / "aligned.h5mu")
    data = _dataset(path, record, mdata)
    names = list(data)
    info = record["embedding"]
    embedding = Embedding(
        arrays={n: np.asarray(mdata[n].obsm["X_unpaired"]) for n in names},
        space=info["space"],
        noise=_noise(mdata, names),
        dims=tuple(info["dims"]),
        made_by=_provenance(info),
        noise_covariance=_noise_covariance(mdata, names),
    )
    matching = _matching(record, data, mdata)
    return Run(
        path=path,
        record=record,
        data=data,
        embedding=embedding,
        matching=matching,
        truth=_truth(path, data, ""),
        scores=_json(path / "scores.json"),
        held_out=_held_out(path, record, data),
        diagnosis=_json(path / "diagnosis.json"),
        confidence=_confidence(mdata, (matching.source, matching.target)),
        refined=_refined(mdata, matching),
    )


def _refined(mdata: MuData, matching: Matching) -> Embedding | None:
    names, key = (matching.source, matching.target), "X_unpaired_refined"
    if any(key not in mdata[n].obsm for n in names):
        return None
    arrays = {n: np.asarray(mdata[n].obsm[key]) for n in names}
    dims = tuple(f"direction {i + 1}" for i in range(arrays[names[0]].shape[1]))
    return Embedding(arrays, "latent", None, dims, Provenance("refine", matching.made_by.options["refine"]))


def _json(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def read_truth(path: str | Path, data: Dataset) -> Truth:
    """Read true pairs from a CSV file: one line a cell, one column a modality with the cell's name, empty if unknown.

    Names may be written with or without the modality's prefix.

    Raises
    ------
    DataError
        If a column is missing, or a name is unknown or appears twice.
    """
    units, _, problems = read_units(path, data)
    if problems:
        raise DataError(problems)
    return Truth(units)


def _problem(file: Path, what: str, fix: str) -> Problem:
    return Problem("error", str(file), what, fix)


def check_outputs(path: Path, record: Mapping[str, Any], fix: str = "Run unpaired align again.") -> None:
    """Raise :class:`DataError` unless the files of a folder are those that its record was written with."""
    problems = []
    for name, expected in record["outputs"].items():
        file = path / name
        if not file.is_file():
            problems.append(_problem(file, "is missing.", fix))
        elif sha256(file) != expected:
            problems.append(_problem(file, "was changed since the run wrote it.", fix))
    if problems:
        raise DataError(problems)


def _provenance(info: Mapping[str, Any]) -> Provenance:
    return Provenance(info["method"], info["options"], tuple(info["notes"]))


def _dataset(path: Path, record: Mapping[str, Any], mdata: MuData) -> Dataset:
    from safetensors.numpy import load_file

    arrays = load_file(path / "recipes.safetensors")
    classes = tuple(record["classes"])
    modalities = {
        n: _modality(n, mdata[n], classes, info, {k: v for k, v in arrays.items() if k.startswith(f"{n}.")})
        for n, info in record["modalities"].items()
    }
    return Dataset(modalities, classes, None, tuple(record["notes"]))


def _modality(
    name: str, adata: AnnData, classes: tuple[str, ...], info: Mapping[str, Any], arrays: Mapping[str, Array]
) -> Modality:
    recipe = info["recipe"]
    return Modality(
        name=name,
        **_cells(adata, classes, info["shape"]),
        feature_names=np.array([v.removeprefix(f"{name}:") for v in adata.var_names], dtype=object),
        recipe=None
        if recipe is None
        else Recipe(arrays={k.removeprefix(f"{name}."): v for k, v in arrays.items()}, **recipe),
    )


def _cells(adata: AnnData, classes: tuple[str, ...], shape: Sequence[int]) -> dict[str, Any]:
    """Return a modality's readings, labels, names and batches, by the names of its fields."""
    code = {c: i for i, c in enumerate(classes)}
    x = adata.X.tocsr() if sp.issparse(adata.X) else np.asarray(adata.X, dtype=np.float32)
    return {
        "X": x.reshape(len(x), *shape) if len(shape) > 1 else x,
        "labels": np.array([code.get(str(v), UNKNOWN) for v in adata.obs["label"]], dtype=np.int64),
        "ids": np.asarray(adata.obs_names, dtype=object),
        "batch": np.asarray(adata.obs["batch"]) if "batch" in adata.obs else None,
    }


def _held_out(path: Path, record: Mapping[str, Any], data: Dataset) -> HeldOut | None:
    """Return the cells that were held out, with the recipes of those that were not."""
    import mudata

    info = record.get("held_out")
    if info is None:
        return None
    with mudata.set_options(pull_on_update=False):
        mdata = mudata.read_h5mu(path / "held_out.h5mu")
    classes = tuple(info["classes"])
    modalities = {
        n: replace(m, **_cells(mdata[n], classes, record["modalities"][n]["shape"])) for n, m in data.modalities.items()
    }
    held = replace(data, modalities=modalities, classes=classes)
    part = {n: np.asarray(mdata[n].obs["part"], dtype=str) for n in held}
    return HeldOut(held, _truth(path, held, "_held_out"), part, tuple(info["labels"]), info["fraction"])


def _noise(mdata: MuData, names: list[str]) -> dict[str, Array] | None:
    if any("unpaired_noise" not in mdata[n].obs for n in names):
        return None
    return {n: np.asarray(mdata[n].obs["unpaired_noise"]) for n in names}


def _noise_covariance(mdata: MuData, names: list[str]) -> dict[str, Array] | None:
    if any("noise_covariance" not in mdata[n].uns["unpaired"] for n in names):
        return None
    return {n: np.asarray(mdata[n].uns["unpaired"]["noise_covariance"]) for n in names}


def _confidence(mdata: MuData, names: tuple[str, str]) -> dict[str, Array] | None:
    if any("unpaired_confidence" not in mdata[n].obs for n in names):
        return None
    return {n: np.asarray(mdata[n].obs["unpaired_confidence"], dtype=np.float64) for n in names}


def _matching(record: Mapping[str, Any], data: Dataset, mdata: MuData) -> Matching:
    info = record["matching"]
    names = (info["source"], info["target"])
    start = dict(zip(data, np.cumsum([0, *(len(data[n]) for n in data)]).tolist(), strict=False))
    own, other = (slice(start[n], start[n] + len(data[n])) for n in names)
    joint = mdata.obsp["unpaired_coupling"].tocsr()[own][:, other]
    potentials = [np.asarray(mdata[n].obs.get("unpaired_potential", ()), dtype=np.float64) for n in names]
    # Up to the third version all labels were matched in the embedding itself.
    place = "unpaired_plan" if record["format_version"] > 3 else "X_unpaired"
    cells = [cells_by_label(data[n], len(data.classes)) for n in names]
    code = {name: i for i, name in enumerate(data.classes)}
    blocks = []
    for entry in info["blocks"]:
        rows, cols = (of[code[entry["label"]]] for of in cells)
        status = {k: entry[k] for k in ("state", "advice", "iterations", "seconds", "used")}
        error = entry["marginal_error"]
        status["marginal_error"] = float("nan") if error is None else error
        weights: Any = None
        if kept := entry.get("potentials"):
            x, y = (np.asarray(mdata[n].obsm[place][at]) for n, at in zip(names, (rows, cols), strict=True))
            weights = Plan(x, y, potentials[0][rows], potentials[1][cols], kept["eps"], kept["cost"])
        elif entry["partners"] is not None:
            weights = joint[rows][:, cols]
        blocks.append(Block(entry["label"], rows, cols, weights, Status(**status)))
    shape = (len(data[names[0]]), len(data[names[1]]))
    return Matching(*names, shape, tuple(blocks), _provenance(info))


def _truth(path: Path, data: Dataset, suffix: str) -> Truth | None:
    from safetensors.numpy import load_file

    table, latents = path / f"truth{suffix}.csv", path / f"latents{suffix}.safetensors"
    if not table.exists():
        return None
    truth = read_truth(table, data)
    return Truth(truth.units, load_file(latents)) if latents.exists() else truth
