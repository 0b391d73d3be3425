"""The data sets of the translator's benchmarks, and work that is kept part by part, so that it can be stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import unpaired as up

CACHE = Path(__file__).resolve().parent / "cache" / "translation"

CASES: dict[str, tuple[str, str, str]] = {  # name -> data set, source, target
    "digits": ("digits", "left", "right"),
    "mfeat pix -> fac": ("uci_mfeat", "pix", "fac"),
    "mfeat fou -> kar": ("uci_mfeat", "fou", "kar"),
    "pbmc10k rna -> adt": ("pbmc10k_cite", "rna", "adt"),
    "pbmc10k adt -> rna": ("pbmc10k_cite", "adt", "rna"),
    "bmmc rna -> adt": ("bmmc_cite_starter", "rna", "adt"),
    "bmmc adt -> rna": ("bmmc_cite_starter", "adt", "rna"),
    "scicar rna -> atac": ("scicar_a549_dex", "rna", "atac"),
}


def load(case: tuple[str, str, str], folder: Path, *, pairing: str = "hide") -> tuple[Any, Any]:
    """Return a data set of two modalities and its truth."""
    name, source, target = case
    if name == "digits":
        return up.examples.digits(pairing=pairing)
    if name == "uci_mfeat":
        return up.read_npz(folder / name / "uci_mfeat.npz", modalities=[source, target], pairing=pairing)
    if name.startswith("p100"):
        files = [f"{m}={folder / name / f'p100_{m}.h5ad'}" for m in (source, target)]
    else:
        files = [f"{m}={folder / name / f'{m}.h5ad'}" for m in (source, target)]
    return up.read_h5ad(*files, label="label", pairing=pairing)


def kept(name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result of ``work``, or what it gave the last time."""
    file = CACHE / f"{name.replace(' ', '_').replace('>', '')}.json"
    if file.exists():
        found: dict[str, Any] = json.loads(file.read_text())
        return found
    CACHE.mkdir(parents=True, exist_ok=True)
    result = work()
    part = file.with_suffix(".part")
    part.write_text(json.dumps(result, indent=1))
    part.replace(file)
    print(name, flush=True)
    return result


def spread(work: Callable[..., dict[str, Any]], tasks: Sequence[tuple[Any, ...]], jobs: int) -> list[dict[str, Any]]:
    """Run ``work`` on all tasks, each on one thread."""
    from joblib import Parallel, delayed

    return list(Parallel(n_jobs=jobs)(delayed(_one_thread)(work, task) for task in tasks))


def _one_thread(work: Callable[..., dict[str, Any]], task: tuple[Any, ...]) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    return work(*task)


def quartiles(values: Sequence[float], digits: int = 3) -> str:
    """Return ``median (Q1, Q3)``."""
    import numpy as np

    low, mid, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{mid:.{digits}f} ({low:.{digits}f}, {high:.{digits}f})"
