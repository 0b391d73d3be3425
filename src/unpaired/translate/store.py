"""A translator on disk: what of it goes into the two files of a model's folder, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array
from unpaired.embed import model_folder
from unpaired.embed.model_folder import are_floats, are_texts
from unpaired.errors import OptionError
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

_MARKS = {"format": "unpaired-model", "format_version": 1, "class": "Translator"}
_KIND = model_folder.Kind(_MARKS, "a translator", "Train the translator again.")
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
    """Write what was learned into a folder, with its options, history and notes; see :func:`model_folder.write`.

    Raises
    ------
    OutputError
        If there is a model already (and no ``force``), or no folder can be made there.
    """
    source, target = model.source, model.target
    tensors = model_folder.net_tensors(model.net) | model_folder.recipe_tensors(source.recipe)
    tensors |= {"source/center": source.center, "target/center": target.center, "target/scale": target.scale}
    record = {
        "options": dict(options),
        "layout": dict(model.layout),
        "source": {
            "name": source.name,
            "shape": list(source.shape),
            "scale": source.scale,
            "feature_names": None if source.feature_names is None else [str(f) for f in source.feature_names],
            "recipe": model_folder.recipe_record(source.recipe),
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
    }
    model_folder.write(folder, _KIND, tensors, record, force=force)


def load_model(folder: Path, device: str) -> tuple[Model, dict[str, Any]]:
    """Read what :func:`save_model` wrote: the model, and the whole record.

    Raises
    ------
    DataError
        If a file is missing, damaged or of a newer format.
    """
    model, record = model_folder.read(folder, _KIND, _model)
    return replace(model, device=device), record


def _model(record: Mapping[str, Any], tensors: Mapping[str, Array]) -> Model:
    _check(record, tensors)
    layout, source, target = record["layout"], _source(record["source"], tensors), _target(record["target"], tensors)
    net = model_folder.load_net(lambda: make_network(layout, None, seed=0), tensors)
    model = Model(net, layout, source, target, "cpu", record["learned_from_sha256"])
    blank = np.zeros if len(source.shape) > 1 else sp.csr_matrix
    model.predict(blank((1, *source.shape), dtype=np.float32))  # so that what is wrong shows now, not at its use
    return model


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
            ("names", are_texts([source["name"], target["name"], record["learned_from_sha256"]])),
            ("shape", all(type(s) is int and s > 0 for s in shape) and 0 < math.prod(shape) <= _LARGEST),
            ("inputs", inputs == ((1,) if len(layout["shape"]) > 1 else tuple(layout["shape"]))),
            ("outputs", tensors["target/center"].shape == tensors["target/scale"].shape == (n_out,)),
            ("features", are_texts(target["feature_names"]) and len(target["feature_names"]) == n_out),
            ("readings", source["feature_names"] is None or are_texts(source["feature_names"])),
            ("history", are_floats(record["history"])),
            ("notes", are_texts(record["notes"])),
        )
        if not right
    ]
    if wrong:
        msg = f"wrong: {', '.join(wrong)}"
        raise ValueError(msg)


def _source(info: Mapping[str, Any], tensors: Mapping[str, Array]) -> Input:
    names = info["feature_names"]
    return Input(
        name=info["name"],
        recipe=model_folder.read_recipe(info["recipe"], tensors),
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
