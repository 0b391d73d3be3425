"""A translator on disk: ``model.safetensors`` and ``model.json``, nothing that can run code."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from unpaired._version import __version__
from unpaired.data.preprocess import Recipe
from unpaired.data.types import Array
from unpaired.errors import DataError, OptionError, OutputError, Problem, UnpairedError
from unpaired.files import sha256, write_json
from unpaired.options import check_choice, check_integer, check_number, check_seed
from unpaired.translate.model import Input, Model, Output
from unpaired.translate.prediction import SPACES

if TYPE_CHECKING:
    from unpaired.translate.learning import Network

__all__ = ["HEADS", "LOSSES", "NETWORKS", "describe", "load_model", "make_network", "save_model"]

LOSSES = ("unbiased", "mse", "barycentric")
"""Two draws (eq. 10), one draw, or the whole row (eq. 9)."""

HEADS = ("gaussian", "nb")
NETWORKS = ("default", "published")

_FORMAT = "unpaired-model"
_FORMAT_VERSION = 1
_WEIGHTS, _CONFIG = "model.safetensors", "model.json"
_WRONG = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError, UnpairedError)
"""What a file raises that was not written by us; a broken module of a library is no fault of the file."""

_LARGEST = 2**27  # readings of a cell that a file may speak of


def describe(network: str, shape: tuple[int, ...], n_out: int, *, head: str, members: int) -> dict[str, Any]:
    """Return what an ensemble is made of, in the types of JSON.

    Parameters
    ----------
    network
        One of :data:`NETWORKS`.
    shape
        Shape of one cell's inputs.
    n_out
        Number of values to predict.
    head
        One of :data:`HEADS`.
    members
        Number of networks.

    Raises
    ------
    OptionError
        If the network does not fit the inputs.
    """
    common = {"shape": [int(s) for s in shape], "n_out": n_out, "head": head, "members": int(members)}
    if len(shape) > 1:
        if network == "published":
            msg = "network 'published' reads tables; for images leave it out."
            raise OptionError(msg)
        return {**common, "body": "conv"}
    if network == "published":
        return {**common, "body": "mlp", "hidden": 2 * shape[0], "layout": "LBR", "dropout": 0.0, "linear": False}
    return {**common, "body": "mlp", "hidden": 256, "layout": "LRD LRD", "dropout": 0.2, "linear": True}


def make_network(layout: Mapping[str, Any], rates: Array | None, *, seed: int) -> Network:
    """Return a new ensemble.

    Parameters
    ----------
    layout
        See :func:`describe`.
    rates
        ``(p,)`` mean shares of the counts, for a head of counts.
    seed
        Seed of the initial weights.
    """
    import torch

    from unpaired.embed.networks import MLP, ConvNet
    from unpaired.translate.heads import CountHead, GaussianHead
    from unpaired.translate.learning import Network

    generator = torch.Generator().manual_seed(seed)
    shape, members, n_out = tuple(layout["shape"]), layout["members"], layout["n_out"]
    body: torch.nn.Module
    if layout["body"] == "conv":
        body = ConvNet(members=members, shape=shape, n_out=n_out, generator=generator)
    else:
        chosen = {k: layout[k] for k in ("hidden", "layout", "dropout", "linear")}
        body = MLP(members=members, n_in=shape[0], n_out=n_out, generator=generator, **chosen)
    if layout["head"] == "gaussian":
        return Network(body, GaussianHead())
    start = np.full(n_out, 1 / n_out) if rates is None else rates
    return Network(body, CountHead(torch.as_tensor(start, dtype=torch.float32), members))


def save_model(
    folder: Path,
    model: Model,
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
    model
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
    source, target = model.source, model.target
    recipe = source.recipe
    tensors = {f"net/{k}": v.detach().cpu().numpy() for k, v in model.net.state_dict().items()}
    tensors |= {f"recipe/{k}": np.asarray(v) for k, v in ({} if recipe is None else recipe.arrays).items()}
    tensors |= {"source/center": source.center, "target/center": target.center, "target/scale": target.scale}
    part = folder / f".{_WEIGHTS}.part"
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, part)
    part.replace(folder / _WEIGHTS)
    record = {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "class": "Translator",
        "unpaired": __version__,
        "options": dict(options),
        "layout": dict(model.layout),
        "source": {
            "name": source.name,
            "shape": list(source.shape),
            "scale": source.scale,
            "feature_names": None if source.feature_names is None else [str(f) for f in source.feature_names],
            "recipe": None
            if recipe is None
            else {"name": recipe.name, "reason": recipe.reason, "options": dict(recipe.options)},
        },
        "target": {
            "name": target.name,
            "space": target.space,
            "size": target.size,
            "feature_names": [str(f) for f in target.feature_names],
        },
        "history": [float(h) for h in history],
        "notes": list(notes),
        "learned_from_sha256": model.digest,
        "weights_sha256": sha256(folder / _WEIGHTS),
    }
    write_json(folder / _CONFIG, record)


def load_model(folder: Path, device: str) -> tuple[Model, dict[str, Any]]:
    """Read what :func:`save_model` wrote: the model, and the whole record.

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
        tensors = load_file(weights)
        _check(record, tensors)
        source, target = _source(record["source"], tensors), _target(record["target"], tensors)
        model = Model(
            _network(record["layout"], tensors), record["layout"], source, target, "cpu", record["learned_from_sha256"]
        )
        blank = np.zeros if len(source.shape) > 1 else sp.csr_matrix
        model.predict(blank((1, *source.shape), dtype=np.float32))  # so that what is wrong shows now, not at its use
    except (*_WRONG, SafetensorError) as error:
        raise _damaged(folder / _CONFIG, f"does not describe a model ({type(error).__name__}: {error})") from None
    return replace(model, device=device), record


def _network(layout: Mapping[str, Any], tensors: Mapping[str, Array]) -> Network:
    """Make a network of its saved state. No memory is taken for sizes that the state does not have."""
    import torch

    state = {k.removeprefix("net/"): torch.tensor(v) for k, v in tensors.items() if k.startswith("net/")}
    with torch.device("meta"):
        net = make_network(layout, None, seed=0)
    net.load_state_dict(state, assign=True)
    return net.eval()


def _check(record: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
    """Raise ValueError (or another error) unless the parts of a record are of the types and sizes that they must be."""
    layout, source, target, chosen = (record[k] for k in ("layout", "source", "target", "options"))
    for name, value, allowed in (
        ("loss", chosen["loss"], LOSSES),
        ("network", chosen["network"], NETWORKS),
        ("head", layout["head"], HEADS),
        ("body", layout["body"], ("mlp", "conv")),
        ("space", target["space"], SPACES),
    ):
        check_choice(name, value, allowed)
    check_seed(chosen["seed"])
    check_integer("members", layout["members"], low=1, high=100)
    check_number("scale", source["scale"], above=0)
    if chosen["epochs"] is not None:
        check_integer("epochs", chosen["epochs"], low=1)
    if layout["head"] == "nb":
        check_number("size", target["size"], above=0)
    shape, n_out, inputs = source["shape"], layout["n_out"], tensors["source/center"].shape
    wrong = [
        what
        for what, right in (
            ("options", set(chosen) == {"loss", "network", "epochs", "seed"}),
            ("head", (layout["head"] == "nb") <= (target["space"] == "raw")),
            ("size", (target["size"] is not None) == (layout["head"] == "nb")),
            ("names", _are_texts([source["name"], target["name"], record["learned_from_sha256"]])),
            ("shape", all(type(s) is int and s > 0 for s in shape) and 0 < math.prod(shape) <= _LARGEST),
            ("inputs", inputs == ((1,) if len(layout["shape"]) > 1 else tuple(layout["shape"]))),
            ("outputs", tensors["target/center"].shape == tensors["target/scale"].shape == (n_out,)),
            ("features", _are_texts(target["feature_names"]) and len(target["feature_names"]) == n_out),
            ("readings", source["feature_names"] is None or _are_texts(source["feature_names"])),
            ("history", isinstance(record["history"], list) and all(type(h) is float for h in record["history"])),
            ("notes", _are_texts(record["notes"])),
        )
        if not right
    ]
    if wrong:
        msg = f"wrong: {', '.join(wrong)}"
        raise ValueError(msg)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _read_record(file: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise _damaged(file, f"cannot be read ({why})") from None
    if not isinstance(record, dict) or record.get("format") != _FORMAT or record.get("class") != "Translator":
        raise _damaged(file, "is not the record of a translator")
    version = record.get("format_version")
    if type(version) is not int or not 0 < version <= _FORMAT_VERSION:
        what = f"has format version {version!r}."
        raise DataError([Problem("error", str(file), what, f"This version reads up to {_FORMAT_VERSION}.")])
    return record


def _refuse(word: str) -> None:
    msg = f"{word} is no number of JSON"
    raise ValueError(msg)


def _source(info: Mapping[str, Any], tensors: Mapping[str, Array]) -> Input:
    recipe = None
    if info["recipe"] is not None:
        arrays = {k.removeprefix("recipe/"): v for k, v in tensors.items() if k.startswith("recipe/")}
        told = info["recipe"]
        recipe = Recipe(told["name"], str(told["reason"]), dict(told["options"]), arrays)
    names = info["feature_names"]
    return Input(
        name=info["name"],
        recipe=recipe,
        shape=tuple(info["shape"]),
        feature_names=None if names is None else np.array(names, dtype=str),
        center=tensors["source/center"],
        scale=info["scale"],
    )


def _target(info: Mapping[str, Any], tensors: Mapping[str, Array]) -> Output:
    return Output(
        name=info["name"],
        space=info["space"],
        feature_names=np.array(info["feature_names"], dtype=str),
        center=tensors["target/center"],
        scale=tensors["target/scale"],
        size=info["size"],
    )


def _damaged(file: Path, what: str) -> DataError:
    return DataError([Problem("error", str(file), f"{what}.", "Train the translator again.")])
