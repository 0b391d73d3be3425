"""What ``run.json`` says: versions, options, inputs, what was learned and how every label went."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from unpaired._version import __version__
from unpaired.data.split import HeldOut
from unpaired.data.types import Dataset
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.embed.propensity import Propensity
from unpaired.files import sha256
from unpaired.match.block import Block
from unpaired.match.matching import Matching
from unpaired.match.transport.solution import Plan
from unpaired.run.folder import FORMAT

__all__ = ["FORMAT_VERSION", "make_record", "modality_record", "plain", "record_head", "versions"]

FORMAT_VERSION = 4
_LIBRARIES = ("numpy", "scipy", "pandas", "anndata", "mudata", "scikit-learn", "numba", "torch", "lightning")


def make_record(
    data: Dataset,
    embedding: Embedding,
    matching: Matching,
    *,
    propensity: Propensity | None,
    held_out: HeldOut | None,
    options: Mapping[str, Any],
    inputs: Sequence[Path],
    timings: Mapping[str, float],
    kept: float,
) -> dict[str, Any]:
    """Return the contents of ``run.json`` (see docs/formats.md), without the hashes of the outputs."""
    return {
        **record_head(FORMAT, FORMAT_VERSION, options, inputs),
        "seconds": plain(timings),
        "notes": list(data.notes),
        "classes": list(data.classes),
        "modalities": {n: modality_record(data, n) | {"features": _features(data, n)} for n in data},
        "held_out": None if held_out is None else _held_out(held_out),
        "embedding": {"space": embedding.space, "dims": list(embedding.dims), **_provenance(embedding.made_by)},
        "classifiers": {} if propensity is None else {n: plain(asdict(q)) for n, q in propensity.validation_.items()},
        "matching": {
            "source": matching.source,
            "target": matching.target,
            **_provenance(matching.made_by),
            "coverage": plain(asdict(matching.coverage)),
            "row_mass_kept": kept,
            "blocks": [_block(b) for b in matching.blocks],
        },
    }


def record_head(form: str, version: int, options: Mapping[str, Any], inputs: Sequence[Path]) -> dict[str, Any]:
    """Return what every record begins with: its format, the versions that made it, what was asked of which files."""
    return {
        "format": form,
        "format_version": version,
        "unpaired": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(),
        "options": plain(options),
        "inputs": [{"path": str(p), "sha256": sha256(p)} for p in inputs],
    }


def versions() -> dict[str, str | None]:
    """Return the versions of the libraries that results can depend on; ``None`` for one that is not installed."""
    return {name: _version(name) for name in _LIBRARIES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _provenance(made_by: Provenance) -> dict[str, Any]:
    return {"method": made_by.method, "options": plain(made_by.options), "notes": list(made_by.notes)}


def modality_record(data: Dataset, name: str) -> dict[str, Any]:
    """Return what is said of a modality: its size, its recipe, and how many cells of each label it has."""
    modality = data[name]
    recipe = modality.recipe
    known = modality.labels[modality.labels >= 0]
    counts = np.bincount(known, minlength=len(data.classes))
    return {
        "cells": len(modality),
        "unlabelled": int(len(modality) - len(known)),
        "shape": [int(s) for s in modality.X.shape[1:]],
        "recipe": None
        if recipe is None
        else {"name": recipe.name, "reason": recipe.reason, "options": dict(recipe.options)},
        "cells_by_label": {c: int(k) for c, k in zip(data.classes, counts, strict=True) if k},
    }


def _features(data: Dataset, name: str) -> int:
    return int(np.prod(data[name].features.shape[1:]))


def _held_out(held_out: HeldOut) -> dict[str, Any]:
    return {
        "labels": list(held_out.labels),
        "fraction": held_out.fraction,
        "classes": list(held_out.data.classes),
        "cells": held_out.counts,
    }


def _block(block: Block) -> dict[str, Any]:
    return {
        "label": block.label,
        "source_cells": len(block.rows),
        "target_cells": len(block.cols),
        **plain(asdict(block.status)),
        "potentials": {"eps": w.eps, "cost": w.cost} if isinstance(w := block.weights, Plan) else None,
        "partners": float(block.effective_partners().mean()) if block.matched else None,
    }


def plain(value: Any) -> Any:
    """Return ``value`` in the types of JSON; a number that is not finite becomes ``None``."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
