"""CLUE on disk: what of it goes into the two files of a model's folder, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unpaired.data.types import Array
from unpaired.embed import model_folder
from unpaired.embed.clue_fit import Fitted, make_model
from unpaired.embed.clue_model import ClueConfig
from unpaired.embed.clue_reader import Reader
from unpaired.embed.model_folder import are_floats, are_texts

__all__ = ["OPTIONS", "load_clue", "save_clue"]

_KIND = model_folder.Kind({"format": "unpaired-clue", "format_version": 1}, "a CLUE model", "Learn the model again.")

OPTIONS = ("preset", "components", "epochs", "batch", "rate", "seed", "own_config", "stages")
"""What is kept of the options."""

_ARRAYS = ("center", "axes", "moments")  # of a reader


def save_clue(
    folder: Path,
    fitted: Fitted,
    options: Mapping[str, Any],
    history: Sequence[float],
    notes: Sequence[str],
    *,
    force: bool,
) -> None:
    """Write what was learned into a folder, with its options, history and notes; see :func:`model_folder.write`.

    Raises
    ------
    OutputError
        If there is a model already (and no ``force``), or no folder can be made there.
    """
    tensors = model_folder.net_tensors(fitted.model)
    for at, reader in enumerate(fitted.readers.values()):
        tensors |= {f"{at}/{name}": getattr(reader, name) for name in _ARRAYS}
        tensors |= model_folder.recipe_tensors(reader.recipe, f"{at}/")
    record = {
        "options": {k: v.item() if isinstance(v, np.generic) else v for k, v in options.items()},
        "config": asdict(fitted.config),
        "modalities": [_described(r) for r in fitted.readers.values()],
        "batches": list(fitted.batches),
        "seen": [list(s) for s in fitted.seen],
        "shared": _shared(fitted),
        "together": fitted.together.tolist(),
        "history": [float(h) for h in history],
        "notes": list(notes),
    }
    model_folder.write(folder, _KIND, tensors, record, force=force)


def load_clue(folder: Path, device: str) -> tuple[Fitted, dict[str, Any]]:
    """Read what :func:`save_clue` wrote: the model, and the whole record.

    Raises
    ------
    DataError
        If a file is missing, damaged or of a newer format.
    """
    return model_folder.read(folder, _KIND, lambda record, tensors: _fitted(record, tensors, device))


def _check(record: Mapping[str, Any]) -> None:
    """Raise ValueError unless what is kept beside a model is of the types that it must be."""
    history, notes, options = (record[k] for k in ("history", "notes", "options"))
    if not (are_floats(history) and are_texts(notes) and isinstance(options, dict) and set(options) == set(OPTIONS)):
        msg = "wrong history, notes or options"
        raise ValueError(msg)


def _fitted(record: Mapping[str, Any], tensors: Mapping[str, Array], device: str) -> Fitted:
    _check(record)
    readers = {told["name"]: _reader(told, at, tensors) for at, told in enumerate(record["modalities"])}
    config = ClueConfig(**record["config"])
    batches = tuple(str(b) for b in record["batches"])
    blank, shared = torch.Generator("cpu"), bool(record["shared"])
    net = model_folder.load_net(
        lambda: make_model(readers, config, batches=len(batches), shared=shared, generator=blank), tensors
    )
    return Fitted(
        readers=readers,
        model=net.to(device),
        config=config,
        batches=batches,
        seen=tuple(tuple(str(b) for b in s) for s in record["seen"]),
        together=np.array(record["together"], dtype=bool).reshape(len(readers), len(readers)),
        device=device,
    )


def _shared(fitted: Fitted) -> bool:
    """Whether the discriminator reads the batch."""
    return any("per_batch" in key.split(".") for key in fitted.model.discriminator.state_dict())


def _described(reader: Reader) -> dict[str, Any]:
    return {
        "name": reader.name,
        "width": reader.width,
        "likelihood": reader.likelihood,
        "sized": reader.sized,
        "reason": reader.reason,
        "scale": reader.scale,
        "size": None if math.isnan(reader.size) else reader.size,
        "recipe": model_folder.recipe_record(reader.recipe),
    }


def _reader(told: Mapping[str, Any], at: int, tensors: Mapping[str, Array]) -> Reader:
    return Reader(
        name=str(told["name"]),
        width=int(told["width"]),
        likelihood=told["likelihood"],
        sized=bool(told["sized"]),
        reason=str(told["reason"]),
        recipe=model_folder.read_recipe(told["recipe"], tensors, f"{at}/"),
        scale=float(told["scale"]),
        size=float("nan") if told["size"] is None else float(told["size"]),
        **{name: tensors[f"{at}/{name}"] for name in _ARRAYS},
    )
