"""A model on disk: a folder with ``model.safetensors`` and ``model.json``, nothing that can run code."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unpaired._version import __version__
from unpaired.data.preprocess import Recipe
from unpaired.data.types import Array
from unpaired.errors import DataError, OutputError, Problem, UnpairedError
from unpaired.files import sha256, write_arrays, write_json

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Kind",
    "are_floats",
    "are_texts",
    "load_net",
    "net_tensors",
    "read",
    "read_recipe",
    "recipe_record",
    "recipe_tensors",
    "write",
]

_WEIGHTS, _CONFIG = "model.safetensors", "model.json"
_WRONG = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError, UnpairedError)
"""What a file raises that was not written by us; a broken module of a library is no fault of the file."""

_Model = TypeVar("_Model")
_Net = TypeVar("_Net", bound="nn.Module")


@dataclass(frozen=True)
class Kind:
    """A kind of model, as its folders tell it.

    Attributes
    ----------
    marks
        What a record begins with: its ``format``, the newest ``format_version``, and what else tells the kind.
    noun
        What the record is of, as in ``"a translator"``.
    fix
        What to do where a file is damaged.
    """

    marks: Mapping[str, Any]
    noun: str
    fix: str

    def damaged(self, file: Path, what: str) -> DataError:
        """Return the error of a file that cannot be read."""
        return DataError([Problem("error", str(file), f"{what}.", self.fix)])


def write(folder: Path, kind: Kind, tensors: Mapping[str, Array], record: Mapping[str, Any], *, force: bool) -> None:
    """Write a model into a folder, which is made where there is none: the weights first, then what they belong to.

    Parameters
    ----------
    folder
        Where to.
    kind
        What kind of model.
    tensors
        What goes into ``model.safetensors``.
    record
        What goes into ``model.json``, after the kind's marks and before the hash of the weights.
    force
        Replace a model that is there.

    Raises
    ------
    OutputError
        If there is a model already, or no folder can be made there.
    """
    if (folder / _CONFIG).exists() and not force:
        msg = f"{folder} holds a model already; choose another folder, or replace it with force=True."
        raise OutputError(msg)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{folder} cannot be made ({error.strerror}); choose another place."
        raise OutputError(msg) from None
    write_arrays(folder / _WEIGHTS, tensors)
    digest = sha256(folder / _WEIGHTS)
    write_json(folder / _CONFIG, {**kind.marks, "unpaired": __version__, **record, "weights_sha256": digest})


def read(
    folder: Path, kind: Kind, make: Callable[[dict[str, Any], dict[str, Array]], _Model]
) -> tuple[_Model, dict[str, Any]]:
    """Read what :func:`write` wrote: the model, and the whole record.

    Parameters
    ----------
    folder
        Where from.
    kind
        What kind of model.
    make
        Makes the model of the record and the tensors, and raises what it may where they are not as they were written.

    Raises
    ------
    DataError
        If a file is missing, damaged or of a newer format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    record = _read_record(folder / _CONFIG, kind)
    weights = folder / _WEIGHTS
    if not weights.is_file():
        raise kind.damaged(weights, "is missing")
    if sha256(weights) != record.get("weights_sha256"):
        raise kind.damaged(weights, "is not the file that belongs to model.json")
    try:
        return make(record, load_file(weights)), record
    except (*_WRONG, SafetensorError) as error:
        what = f"does not describe a model ({type(error).__name__}: {error})"
        raise kind.damaged(folder / _CONFIG, what) from None


def _read_record(file: Path, kind: Kind) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise kind.damaged(file, f"cannot be read ({why})") from None
    told = {k: v for k, v in kind.marks.items() if k != "format_version"}
    if not isinstance(record, dict) or any(record.get(k) != v for k, v in told.items()):
        raise kind.damaged(file, f"is not the record of {kind.noun}")
    version, newest = record.get("format_version"), kind.marks["format_version"]
    if type(version) is not int or not 0 < version <= newest:
        what = f"has format version {version!r}."
        raise DataError([Problem("error", str(file), what, f"This version reads up to {newest}.")])
    return record


def _refuse(word: str) -> None:
    msg = f"{word} is no number of JSON"
    raise ValueError(msg)


def net_tensors(net: nn.Module) -> dict[str, Array]:
    """Return the state of a network as tensors of a model."""
    return {f"net/{k}": v.detach().cpu().numpy() for k, v in net.state_dict().items()}


def load_net(make: Callable[[], _Net], tensors: Mapping[str, Array]) -> _Net:
    """Make a network of its saved state. No memory is taken for sizes that the state does not have."""
    import torch

    with torch.device("meta"):
        net = make()
    net.load_state_dict({k: torch.tensor(v) for k, v in _under("net/", tensors).items()}, assign=True)
    return net.eval()


def recipe_tensors(recipe: Recipe | None, prefix: str = "") -> dict[str, Array]:
    """Return what a recipe has learned as tensors of a model; the prefix tells it from others in the same file."""
    return {} if recipe is None else {f"{prefix}recipe/{k}": v for k, v in recipe.arrays.items()}


def recipe_record(recipe: Recipe | None) -> dict[str, Any] | None:
    """Return the rest of a recipe in the types of JSON."""
    return None if recipe is None else {"name": recipe.name, "reason": recipe.reason, "options": dict(recipe.options)}


def read_recipe(told: Mapping[str, Any] | None, tensors: Mapping[str, Array], prefix: str = "") -> Recipe | None:
    """Return the recipe of :func:`recipe_record` and :func:`recipe_tensors`."""
    if told is None:
        return None
    return Recipe(told["name"], str(told["reason"]), dict(told["options"]), _under(f"{prefix}recipe/", tensors))


def _under(prefix: str, tensors: Mapping[str, Array]) -> dict[str, Array]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def are_texts(value: Any) -> bool:
    """Whether a value of a record is a list of texts."""
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def are_floats(value: Any) -> bool:
    """Whether a value of a record is a list of real numbers, as they are written."""
    return isinstance(value, list) and all(type(v) is float for v in value)
