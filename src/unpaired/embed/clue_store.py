"""CLUE on disk: ``model.safetensors`` and ``model.json``, nothing that can run code."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unpaired._version import __version__
from unpaired.data.preprocess import Recipe
from unpaired.data.types import Array
from unpaired.embed.clue_fit import Fitted, make_model
from unpaired.embed.clue_model import ClueConfig
from unpaired.embed.clue_reader import Reader
from unpaired.errors import DataError, OutputError, Problem, UnpairedError
from unpaired.files import sha256, write_json

__all__ = ["OPTIONS", "load_clue", "save_clue"]

_FORMAT = "unpaired-clue"
_FORMAT_VERSION = 1
_WEIGHTS, _CONFIG = "model.safetensors", "model.json"
_WRONG = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError, UnpairedError)
"""What a file raises that was not written by us."""

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
    """Write a model into a folder, which is made where there is none: the weights first, then what they belong to.

    Parameters
    ----------
    folder
        Where to.
    fitted
        What was learned.
    options, history, notes
        Kept beside it.
    force
        Replace a model that is there.

    Raises
    ------
    OutputError
        If there is a model already, or no folder can be made there.
    """
    from safetensors.numpy import save_file

    if (folder / _CONFIG).exists() and not force:
        msg = f"{folder} holds a model already; choose another folder, or replace it with force=True."
        raise OutputError(msg)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{folder} cannot be made ({error.strerror}); choose another place."
        raise OutputError(msg) from None
    tensors = {f"net/{k}": v.detach().cpu().numpy() for k, v in fitted.model.state_dict().items()}
    for at, reader in enumerate(fitted.readers.values()):
        tensors |= {f"{at}/{name}": getattr(reader, name) for name in _ARRAYS}
        arrays = {} if reader.recipe is None else reader.recipe.arrays
        tensors |= {f"{at}/recipe/{k}": np.asarray(v) for k, v in arrays.items()}
    part = folder / f".{_WEIGHTS}.part"
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, part)
    part.replace(folder / _WEIGHTS)
    record = {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "unpaired": __version__,
        "options": {k: v.item() if isinstance(v, np.generic) else v for k, v in options.items()},
        "config": asdict(fitted.config),
        "modalities": [_described(r) for r in fitted.readers.values()],
        "batches": list(fitted.batches),
        "seen": [list(s) for s in fitted.seen],
        "shared": _shared(fitted),
        "together": fitted.together.tolist(),
        "history": [float(h) for h in history],
        "notes": list(notes),
        "weights_sha256": sha256(folder / _WEIGHTS),
    }
    write_json(folder / _CONFIG, record)


def load_clue(folder: Path, device: str) -> tuple[Fitted, dict[str, Any]]:
    """Read what :func:`save_clue` wrote: the model, and the whole record.

    Raises
    ------
    DataError
        If a file is missing, damaged or of a newer format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    record = _read_record(folder / _CONFIG)
    weights = folder / _WEIGHTS
    if not weights.is_file():
        raise _damaged(weights, "is missing")
    if sha256(weights) != record.get("weights_sha256"):
        raise _damaged(weights, "is not the file that belongs to model.json")
    try:
        fitted = _fitted(record, load_file(weights), device)
        _check(record)
    except (*_WRONG, SafetensorError) as error:
        raise _damaged(folder / _CONFIG, f"does not describe a model ({type(error).__name__}: {error})") from None
    return fitted, record


def _check(record: Mapping[str, Any]) -> None:
    """Raise ValueError unless what is kept beside a model is of the types that it must be."""
    history, notes, options = (record[k] for k in ("history", "notes", "options"))
    right = (
        isinstance(history, list) and all(type(h) is float for h in history),
        isinstance(notes, list) and all(isinstance(n, str) for n in notes),
        isinstance(options, dict) and set(options) == set(OPTIONS),
    )
    if not all(right):
        msg = "wrong history, notes or options"
        raise ValueError(msg)


def _fitted(record: Mapping[str, Any], tensors: Mapping[str, Array], device: str) -> Fitted:
    readers = {told["name"]: _reader(told, at, tensors) for at, told in enumerate(record["modalities"])}
    config = ClueConfig(**record["config"])
    state = {k.removeprefix("net/"): torch.tensor(v) for k, v in tensors.items() if k.startswith("net/")}
    batches = tuple(str(b) for b in record["batches"])
    # No memory is taken for sizes that the state does not have.
    with torch.device("meta"):
        blank = torch.Generator("cpu")
        net = make_model(readers, config, batches=len(batches), shared=bool(record["shared"]), generator=blank)
    net.load_state_dict(state, assign=True)
    return Fitted(
        readers=readers,
        model=net.eval().to(device),
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
    recipe = reader.recipe
    return {
        "name": reader.name,
        "width": reader.width,
        "likelihood": reader.likelihood,
        "sized": reader.sized,
        "reason": reader.reason,
        "scale": reader.scale,
        "size": None if math.isnan(reader.size) else reader.size,
        "recipe": None
        if recipe is None
        else {"name": recipe.name, "reason": recipe.reason, "options": dict(recipe.options)},
    }


def _reader(told: Mapping[str, Any], at: int, tensors: Mapping[str, Array]) -> Reader:
    recipe = None
    if told["recipe"] is not None:
        prefix, info = f"{at}/recipe/", told["recipe"]
        arrays = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        recipe = Recipe(info["name"], str(info["reason"]), dict(info["options"]), arrays)
    return Reader(
        name=str(told["name"]),
        width=int(told["width"]),
        likelihood=told["likelihood"],
        sized=bool(told["sized"]),
        reason=str(told["reason"]),
        recipe=recipe,
        scale=float(told["scale"]),
        size=float("nan") if told["size"] is None else float(told["size"]),
        **{name: tensors[f"{at}/{name}"] for name in _ARRAYS},
    )


def _read_record(file: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise _damaged(file, f"cannot be read ({why})") from None
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise _damaged(file, "is not the record of a CLUE model")
    version = record.get("format_version")
    if type(version) is not int or not 0 < version <= _FORMAT_VERSION:
        what = f"has format version {version!r}."
        raise DataError([Problem("error", str(file), what, f"This version reads up to {_FORMAT_VERSION}.")])
    return record


def _damaged(file: Path, what: str) -> DataError:
    return DataError([Problem("error", str(file), f"{what}.", "Learn the model again.")])
