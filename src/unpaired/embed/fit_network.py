"""An ensemble of networks on the folds of one modality: which network, and how it is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from unpaired.data.types import Array
from unpaired.embed.classifiers import Network, Watch
from unpaired.embed.folds import Split
from unpaired.embed.inputs import Inputs
from unpaired.embed.learning import train
from unpaired.embed.networks import MLP, PUBLISHED, ConvNet
from unpaired.embed.training import TrainingSettings
from unpaired.seeds import named_seed

__all__ = ["default_epochs", "fit_network", "native_bfloat16"]

_DROPOUT = 0.2
_LAYOUTS: Mapping[str, tuple[int, str]] = {
    "mlp": (256, "LBRD LBRD"),
    "published": PUBLISHED,
}


def default_epochs(kind: str, *, images: bool, cells: int) -> int:
    """Return how many epochs a network of a kind is trained for that has so many cells to learn from."""
    if kind == "published":
        return 100 if images else 250
    # The cycle is short, and is gone through to its end: higher rates and more epochs learn the cells by heart, and
    # networks that stop at a high rate are the worse for it. benchmarks/README.md has the numbers.
    if images:
        return _enough(200 * 128 / cells, low=8, high=100)
    return _enough(380 * 256 / cells, low=20, high=60)


def _settings(kind: str, epochs: int | None, *, images: bool, cells: int, device: str) -> TrainingSettings:
    """How a network is trained that has so many cells to learn from."""
    most = epochs or default_epochs(kind, images=images, cells=cells)
    precision: Literal["float32", "bfloat16"] = "bfloat16" if images and native_bfloat16(device) else "float32"
    if kind == "published":
        return TrainingSettings(most, 256, 1e-4, 1e-4, "adam", 10**6, cycle="epoch", precision=precision)
    if images:
        return TrainingSettings(most, 128, 3e-4, 1e-2, "adamw", most, precision=precision)
    return TrainingSettings(most, 256, 3e-3, 1e-2, "adamw", most)


def _enough(epochs: float, *, low: int, high: int) -> int:
    """Epochs that make enough steps of the optimizer, in bounds."""
    return min(high, max(low, math.ceil(epochs)))


def native_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 in hardware: then convolutions take half the time."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    if device != "cpu":
        return False
    ask = getattr(torch.cpu, "get_capabilities", None)  # older versions of torch do not tell, and get float32
    known: Mapping[str, object] = {} if ask is None else ask()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def fit_network(
    x: Inputs,
    y: Array,
    splits: Sequence[Split],
    *,
    kind: str,
    classes: int,
    epochs: int | None,
    device: str,
    seed: int,
    progress: bool,
    watch: Watch | None = None,
) -> Network:
    """Fit one network a split, all in one pass.

    Parameters
    ----------
    x, y
        n cells and ``(n,)`` codes, -1 for cells that are not trained on.
    splits
        The models' cells.
    kind
        ``"mlp"``, ``"conv"`` or ``"published"``.
    classes
        Number of labels T.
    epochs
        Most epochs, and the length of the learning rate's cycle; ``None``: see :func:`default_epochs`.
    device
        A resolved device.
    seed
        Seed of weights, order and dropout.
    progress
        Show a progress bar.
    watch
        Called after every epoch.
    """
    generator = torch.Generator().manual_seed(named_seed(seed, "weights"))
    net: nn.Module
    images = len(x.shape) == 4
    if images:
        net = ConvNet(members=len(splits), shape=x.values.shape[1:], n_out=classes, generator=generator)
    else:
        hidden, layout = _LAYOUTS[kind]
        net = MLP(
            members=len(splits),
            n_in=x.shape[1],
            n_out=classes,
            hidden=hidden,
            layout=layout,
            dropout=_DROPOUT,
            generator=generator,
        )
    cells = min(len(s.train) for s in splits)
    settings = _settings(kind, epochs, images=images, cells=cells, device=device)
    seen: list[float] = []

    def show(epoch: int, losses: Tensor) -> None:
        seen.append(float(losses.mean()))
        if watch is not None:
            watch(epoch, Network(net, device, settings.precision, list(seen)))

    history = train(
        net,
        x,
        y,
        rows=[s.train for s in splits],
        valid=[s.valid for s in splits],
        settings=settings,
        device=device,
        seed=named_seed(seed, "order"),
        progress=progress,
        watch=None if watch is None else show,
    )
    return Network(net=net, device=device, precision=settings.precision, history=history)
