"""A training that can be taken up again: one safetensors file, replaced whole, without anything pickled."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unpaired.errors import OutputError
from unpaired.files import part_of, write_bytes

__all__ = ["Checkpoint", "Progress", "remove_checkpoint"]


@dataclass
class Progress:
    """How far a training is.

    Attributes
    ----------
    epochs
        Epochs done.
    stale
        Epochs since any member improved.
    history
        Validation loss, mean over members, of every epoch.
    best
        ``(members,)`` lowest validation losses.
    kept
        The state of the network with every member at its best epoch.
    optimizer
        Name of a parameter -> its state in its optimizer, where the training was read back.
    """

    epochs: int
    stale: int
    history: list[float]
    best: Tensor
    kept: dict[str, Tensor]
    optimizer: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def restore_optimizers(self, optimizers: Sequence[torch.optim.Optimizer], net: nn.Module) -> None:
        """Give the optimizers the state that they had."""
        for name, parameter, optimizer in _owned(net, optimizers):
            # The count of steps stays where the optimizer keeps it, on the CPU.
            optimizer.state[parameter] = {
                k: v if k == "step" else v.to(parameter.device) for k, v in self.optimizer[name].items()
            }


class Checkpoint:
    """The file of a training under way.

    Parameters
    ----------
    path
        The file. A folder for it must exist.
    made_of
        Everything that the training depends on (options, hashes of the data); a file that was made of anything else
        is not taken up.
    every
        Seconds between two writings: an epoch may take less time than they do.

    Raises
    ------
    OutputError
        If there is no such folder, or there is one of the file's name.

    Attributes
    ----------
    found
        Whether :meth:`load` found a training to go on with.
    """

    def __init__(self, path: Path, made_of: Mapping[str, Any], *, every: float = 5.0) -> None:
        if not path.parent.is_dir() or path.is_dir():  # to be told now, not when there is something to lose
            msg = f"{path} cannot be written; name a file in a folder that exists."
            raise OutputError(msg)
        self._path, self._every = path, every
        self._made_of = json.dumps(made_of, sort_keys=True)
        self._last = time.monotonic()
        self.found = False

    def load(self, net: nn.Module) -> Progress | None:
        """Put the network where the file left it and return the rest; ``None`` if there is no file that fits."""
        found = self._read()
        if found is None:
            return None
        tensors, progress = found
        device = next(net.parameters()).device
        parts: dict[str, dict[str, Tensor]] = {"net": {}, "kept": {}, "optimizer": {}}
        for key, value in tensors.items():
            part, _, name = key.partition("/")
            if part in parts:
                parts[part][name] = value
        net.load_state_dict(parts["net"])
        optimizer: dict[str, dict[str, Tensor]] = {}
        for key, value in parts["optimizer"].items():
            name, _, slot = key.rpartition("/")
            optimizer.setdefault(name, {})[slot] = value
        self.found = True
        kept = {k: v.to(device) for k, v in parts["kept"].items()}
        done = json.loads(progress)
        return Progress(done["epochs"], done["stale"], done["history"], tensors["best"].to(device), kept, optimizer)

    def _read(self) -> tuple[dict[str, Tensor], str] | None:
        """Return the tensors and the progress as text; ``None`` if they are not there, not whole or not for us."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._path, framework="pt") as file:
                info = file.metadata() or {}
                if info.get("made_of") != self._made_of:
                    return None
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  it is no mapping
        except (OSError, SafetensorError):
            return None
        progress = info.get("progress", "")
        return (tensors, progress) if info.get("sha256") == _digest(tensors, progress) else None

    def save(
        self, progress: Progress, net: nn.Module, optimizers: Sequence[torch.optim.Optimizer], *, last: bool
    ) -> None:
        """Write the file, if it is time to, or this was the last epoch."""
        if not last and time.monotonic() - self._last < self._every:
            return
        from safetensors import SafetensorError
        from safetensors.torch import save

        tensors = {f"net/{k}": v for k, v in net.state_dict().items()}
        tensors |= {f"kept/{k}": v for k, v in progress.kept.items()}
        for name, parameter, optimizer in _owned(net, optimizers):
            state = optimizer.state[parameter]
            tensors |= {f"optimizer/{name}/{slot}": torch.as_tensor(v) for slot, v in state.items()}
        tensors["best"] = progress.best
        done = {"epochs": progress.epochs, "stale": progress.stale, "history": progress.history}
        whole = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        told = json.dumps(done)
        info = {"made_of": self._made_of, "progress": told, "sha256": _digest(whole, told)}
        try:
            # Not by the library's own writer: a training that is killed would leave a file of a name that nobody knows.
            write_bytes(self._path, save(whole, metadata=info))
        except (OSError, SafetensorError) as error:
            msg = f"{self._path} cannot be written ({error}); make room on the disk and start again: it is taken up."
            raise OutputError(msg) from None
        self._last = time.monotonic()


def remove_checkpoint(path: Path) -> None:
    """Take the file of a training away: what it was for is done."""
    for file in (path, part_of(path)):
        file.unlink(missing_ok=True)


def _owned(
    net: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> Iterator[tuple[str, nn.Parameter, torch.optim.Optimizer]]:
    """Iterate over the parameters of a network, each with its name and the optimizer that it learns by."""
    by = {p: o for o in optimizers for group in o.param_groups for p in group["params"]}
    for name, parameter in net.named_parameters():
        if parameter in by:
            yield name, parameter, by[parameter]


def _digest(tensors: Mapping[str, Tensor], progress: str) -> str:
    """Tell a damaged file: weights with one bit turned are weights."""
    digest = hashlib.sha256(progress.encode())
    for key in sorted(tensors):
        value = tensors[key].numpy()
        digest.update(f"{key} {value.dtype} {value.shape}".encode() + value.tobytes())
    return digest.hexdigest()
