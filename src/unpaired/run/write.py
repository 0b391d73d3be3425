"""Write a run directory: atomically, and never over something of the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from unpaired.data.split import HeldOut
from unpaired.data.types import Array, Dataset, Modality, Truth
from unpaired.embed.embedding import Embedding
from unpaired.embed.propensity import Propensity
from unpaired.evaluate.confidence import Confidence, SelectiveRisk
from unpaired.evaluate.diagnosis import Diagnosis
from unpaired.evaluate.scores import Scores
from unpaired.files import sha256, write_arrays, write_json
from unpaired.match.matching import Matching
from unpaired.match.transport.solution import Plan
from unpaired.run.folder import RECORD, new_folder
from unpaired.run.plane import principal_plane
from unpaired.run.record import make_record, plain

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["KEEP", "as_written", "fill_run", "label_names", "write_run"]

KEEP = 0.999
"""Of every row of the coupling, the largest entries that hold this much of its mass are written."""


def write_run(
    out: str | Path,
    data: Dataset,
    embedding: Embedding,
    matching: Matching,
    *,
    truth: Truth | None = None,
    scores: Scores | None = None,
    selective_risk: SelectiveRisk | None = None,
    diagnosis: Diagnosis | None = None,
    confidence: Confidence | None = None,
    propensity: Propensity | None = None,
    held_out: HeldOut | None = None,
    options: Mapping[str, Any] | None = None,
    inputs: Sequence[str | Path] = (),
    timings: Mapping[str, float] | None = None,
    force: bool = False,
) -> Path:
    """Write a run directory; nothing is left of it when writing fails.

    Parameters
    ----------
    out
        The folder to make. Its parent must exist.
    data, embedding, matching
        What was matched, in which space, and the result.
    truth
        The hidden pairing, kept so that the run can be scored again.
    scores
        Scores of the matching.
    selective_risk
        How the risk falls when only the surest cells are kept; written with the scores.
    diagnosis
        Whether the matching can be believed: what the report begins with.
    confidence
        How sure the matching is of every cell.
    propensity
        The fitted classifiers, for their quality.
    held_out
        Cells that were kept out of all of this, to judge a translation by.
    options
        What the user asked for, kept as a record.
    inputs
        Files whose hashes are recorded.
    timings
        Step -> seconds.
    force
        Replace a run that is there (never anything else).

    Returns
    -------
    The path of the folder: ``run.json``, ``aligned.h5mu``, ``recipes.safetensors``, and where there are any
    ``diagnosis.json``, ``scores.json``, ``truth.csv`` and ``latents.safetensors``; of cells that were held out
    ``held_out.h5mu``, ``truth_held_out.csv`` and ``latents_held_out.safetensors``. See docs/formats.md.

    Raises
    ------
    OutputError
        If the folder cannot be made there.
    """
    out = Path(out)
    with new_folder(out, force=force) as work:
        fill_run(
            work,
            data,
            embedding,
            matching,
            truth=truth,
            scores=scores,
            selective_risk=selective_risk,
            diagnosis=diagnosis,
            confidence=confidence,
            propensity=propensity,
            held_out=held_out,
            options=options,
            inputs=inputs,
            timings=timings,
        )
    return out


def as_written(matching: Matching) -> Matching:
    """Return the matching as a run keeps it: couplings thinned, but for labels kept as potentials, which stay whole."""
    blocks = (b.sparsify(KEEP) if b.matched and not isinstance(b.weights, Plan) else b for b in matching.blocks)
    return replace(matching, blocks=tuple(blocks))


def fill_run(
    work: Path,
    data: Dataset,
    embedding: Embedding,
    matching: Matching,
    *,
    truth: Truth | None,
    scores: Scores | None,
    propensity: Propensity | None,
    options: Mapping[str, Any] | None,
    inputs: Sequence[str | Path],
    timings: Mapping[str, float] | None,
    held_out: HeldOut | None = None,
    selective_risk: SelectiveRisk | None = None,
    diagnosis: Diagnosis | None = None,
    confidence: Confidence | None = None,
    refined: Embedding | None = None,
) -> None:
    """Write all the files of a run into the folder ``work`` (as :func:`write_run`).

    ``refined`` is the space of :func:`unpaired.refine` where the matching was made in it, and ``embedding`` then the
    one that the refinement began with.
    """
    record = make_record(
        data,
        embedding,
        matching,
        propensity=propensity,
        held_out=held_out,
        options=options or {},
        inputs=[Path(p) for p in inputs],
        timings=timings or {},
        kept=KEEP,
    )
    _write_h5mu(work / "aligned.h5mu", data, embedding, as_written(matching), confidence, refined)
    recipes = {f"{n}.{k}": v for n, m in data.modalities.items() for k, v in _arrays(m).items()}
    write_arrays(work / "recipes.safetensors", recipes)
    if scores is not None:
        curve = {} if selective_risk is None else {"selective_risk": plain(selective_risk.to_dict())}
        write_json(work / "scores.json", scores.to_dict() | curve)
    if diagnosis is not None:
        write_json(work / "diagnosis.json", plain(diagnosis.to_dict()))
    if truth is not None:
        _write_truth(work, data, truth, "")
    if held_out is not None:
        _write_held_out(work / "held_out.h5mu", held_out)
        if held_out.truth is not None:
            _write_truth(work, held_out.data, held_out.truth, "_held_out")
    files = sorted(p for p in work.iterdir() if p.is_file())
    write_json(work / RECORD, record | {"outputs": {p.name: sha256(p) for p in files}})


def _write_truth(work: Path, data: Dataset, truth: Truth, suffix: str) -> None:
    _truth_table(data, truth).to_csv(work / f"truth{suffix}.csv", index=False)
    if truth.latents is not None:
        write_arrays(work / f"latents{suffix}.safetensors", truth.latents)


def _arrays(modality: Modality) -> Mapping[str, Array]:
    return {} if modality.recipe is None else modality.recipe.arrays


def _write_h5mu(
    path: Path,
    data: Dataset,
    embedding: Embedding,
    matching: Matching,
    confidence: Confidence | None,
    refined: Embedding | None,
) -> None:
    import mudata

    plans = _plans(matching)
    cells = {n: _anndata(data, n, embedding, plans.get(n)) for n in data}
    for name, values in ({} if confidence is None else confidence.values).items():
        cells[name].obs["unpaired_confidence"] = values
    for name, values in ({} if refined is None else refined.arrays).items():
        cells[name].obsm["X_unpaired_refined"] = values
    with mudata.set_options(pull_on_update=False):
        mdata = mudata.MuData(cells)
        mdata.obs["label"] = np.concatenate([label_names(data, m) for m in data.modalities.values()])
        mdata.obs["modality"] = np.concatenate([np.repeat(n, len(m)) for n, m in data.modalities.items()])
        mdata.obsm["X_unpaired"] = np.concatenate([embedding[n] for n in data])
        mdata.obsm["X_unpaired_2d"] = principal_plane(mdata.obsm["X_unpaired"])
        mdata.obsp["unpaired_coupling"] = _whole_coupling(data, matching)
        mdata.uns["unpaired"] = {
            "source": matching.source,
            "target": matching.target,
            "classes": np.array(data.classes, dtype=str),
            "dims": np.array(embedding.dims, dtype=str),
            "space": embedding.space,
        }
        mdata.write_h5mu(path, compression="gzip")


def _write_held_out(path: Path, held_out: HeldOut) -> None:
    import mudata

    cells = {n: _readings(held_out.data, n) for n in held_out.data}
    for name, adata in cells.items():
        adata.obs["part"] = held_out.part[name].astype(object)
    with mudata.set_options(pull_on_update=False):
        mudata.MuData(cells).write_h5mu(path, compression="gzip")


def _anndata(data: Dataset, name: str, embedding: Embedding, plan: tuple[Array, Array] | None) -> AnnData:
    adata = _readings(data, name)
    adata.obsm["X_features"] = data[name].flat_features
    adata.obsm["X_unpaired"] = embedding[name]
    if embedding.space == "logit":
        adata.obsm["unpaired_propensity"] = _softmax(embedding[name])
    if embedding.noise is not None:
        adata.obs["unpaired_noise"] = embedding.noise[name]
    if embedding.noise_covariance is not None:
        adata.uns["unpaired"]["noise_covariance"] = np.asarray(embedding.noise_covariance[name])
    if plan is not None:
        adata.obsm["unpaired_plan"], adata.obs["unpaired_potential"] = plan
    return adata


def _readings(data: Dataset, name: str) -> AnnData:
    """One modality's readings as they came, with the labels and batches."""
    import anndata
    import pandas as pd

    modality = data[name]
    obs = pd.DataFrame({"label": label_names(data, modality)}, index=modality.ids.astype(str))
    if modality.batch is not None:
        obs["batch"] = modality.batch.astype(str)
    X = modality.X
    adata = anndata.AnnData(X=X.reshape(len(X), int(np.prod(X.shape[1:]))) if X.ndim > 2 else X, obs=obs)
    plain_names = modality.feature_names if modality.feature_names is not None else np.arange(adata.n_vars)
    adata.var_names = [f"{name}:{f}" for f in plain_names]
    adata.uns["unpaired"] = {"shape": np.array(modality.X.shape[1:])}
    return adata


def _softmax(x: Array) -> Array:
    from scipy.special import softmax

    return np.asarray(softmax(x, axis=1))


def label_names(data: Dataset, modality: Modality) -> Array:
    """Names of the labels; an unknown one is the empty string, which no label can be."""
    return np.array([*data.classes, ""], dtype=object)[modality.labels]


def _plans(matching: Matching) -> dict[str, tuple[Array, Array]]:
    """Return what makes the labels kept as potentials: by modality the coordinates of all cells, and their potentials.

    NaN for cells of other labels; empty without such labels. The coordinates are those that were matched, which need
    not be the embedding's: its directions may have been weighted.
    """
    found = [(b, b.weights) for b in matching.blocks if isinstance(b.weights, Plan)]
    out: dict[str, tuple[Array, Array]] = {}
    if found:
        width = found[0][1].x.shape[1]
        for name, n in zip((matching.source, matching.target), matching.shape, strict=True):
            out[name] = np.full((n, width), np.nan), np.full(n, np.nan)
    for block, plan in found:
        sides = ((block.rows, plan.x, plan.f), (block.cols, plan.y, plan.g))
        for (coordinates, potential), (cells, own, value) in zip(out.values(), sides, strict=True):
            coordinates[cells], potential[cells] = own, value
    return out


def _whole_coupling(data: Dataset, matching: Matching) -> sp.csr_matrix:
    """[[0, P], [P^T, 0]] over all cells of all modalities: the convention that survives subsetting.

    Labels kept as potentials are left out of P, and of its sum.
    """
    start = dict(zip(data, np.cumsum([0, *(len(data[n]) for n in data)]).tolist(), strict=False))
    stored = replace(matching, blocks=tuple(b for b in matching.blocks if not isinstance(b.weights, Plan)))
    joint = stored.to_sparse("joint").tocoo()
    share = stored.coverage.source / max(1, matching.coverage.source)
    rows, cols = joint.row + start[matching.source], joint.col + start[matching.target]
    total = sum(len(data[n]) for n in data)
    values = (np.concatenate([joint.data, joint.data]) * share).astype(np.float32)
    return sp.csr_matrix((values, (np.concatenate([rows, cols]), np.concatenate([cols, rows]))), shape=(total, total))


def _truth_table(data: Dataset, truth: Truth) -> pd.DataFrame:
    """One line a physical cell, one column a modality: the cell's name there, empty where it was not measured."""
    import pandas as pd

    sides = {
        n: pd.Series(data[n].ids[truth.units[n] >= 0], index=truth.units[n][truth.units[n] >= 0]) for n in truth.units
    }
    return pd.DataFrame(sides).sort_index().fillna("")
