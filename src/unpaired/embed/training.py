"""Training of ensembles: the only file that knows the training framework (Lightning)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from unpaired.data.types import Array
from unpaired.errors import OptionError, UnpairedError

__all__ = ["TrainingSettings", "predict", "resolve_device", "train"]

_CHUNK = 4096  # cells a forward pass when predicting


@dataclass(frozen=True)
class TrainingSettings:
    """How an ensemble is trained.

    Attributes
    ----------
    epochs
        Most passes over the training cells.
    batch
        Cells a step and member.
    rate
        Largest learning rate of the one-cycle schedule.
    decay
        Weight decay.
    optimizer
        ``"adam"`` (decay as a penalty, as published) or ``"adamw"`` (decoupled).
    patience
        Stop when no member has improved for so many epochs.
    """

    epochs: int
    batch: int
    rate: float
    decay: float
    optimizer: Literal["adam", "adamw"]
    patience: int


def resolve_device(device: str) -> str:
    """Turn ``"auto"`` into the best device there is, and check a named one.

    Raises
    ------
    OptionError
        If the device is unknown or not there; lists those that are.
    """
    there = ["cpu"]
    if torch.cuda.is_available():
        there.insert(0, "cuda")
    elif torch.backends.mps.is_available():
        there.insert(0, "mps")
    if device == "auto":
        return there[0]
    if device not in there:
        msg = f"device must be auto or one that this machine has ({', '.join(there)}); got {device!r}."
        raise OptionError(msg)
    return device


class _Batches:
    """Index batches ``(members, batch)``: every member walks through its own training rows in its own order."""

    def __init__(self, rows: Sequence[Array], batch: int, generator: torch.Generator) -> None:
        self._rows = [torch.as_tensor(r) for r in rows]
        self._generator = generator
        shortest = min(len(r) for r in rows)
        self._steps = max(1, round(shortest / batch))
        self._size = max(1, shortest // self._steps)

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[Tensor]:
        order = [r[torch.randperm(len(r), generator=self._generator)] for r in self._rows]
        for step in range(self._steps):
            part = slice(step * self._size, (step + 1) * self._size)
            yield torch.stack([o[part] for o in order])


class _Classifier(lightning.LightningModule):
    def __init__(self, net: nn.Module, x: Tensor, y: Tensor, settings: TrainingSettings, steps: int) -> None:
        super().__init__()
        self.net = net
        self._x, self._y, self._settings, self._steps = x, y, settings, steps

    def training_step(self, rows: Tensor, _: int) -> Tensor:
        rows = rows.to(self._x.device)
        logits = self.net(self._x[rows])
        # A sum over members: each member's gradient is what it would be alone.
        return functional.cross_entropy(logits.flatten(0, 1), self._y[rows].flatten(), reduction="sum") / rows.shape[1]

    def configure_optimizers(self) -> Any:
        s = self._settings
        kind = torch.optim.AdamW if s.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind(self.net.parameters(), lr=s.rate, weight_decay=s.decay)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=s.rate, total_steps=s.epochs * self._steps + 1, pct_start=0.1
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


class _KeepBest(Callback):
    """Keep every member at its lowest validation cross-entropy; stop when none improves any more."""

    def __init__(self, valid: Sequence[Array], patience: int, device: str, bar: tqdm) -> None:
        width = max(len(v) for v in valid)
        self._rows = torch.as_tensor(np.stack([np.resize(v, width) for v in valid]), device=device)
        self._mask = torch.as_tensor(np.stack([np.arange(width) < len(v) for v in valid]), device=device)
        self._patience = patience
        self._stale = 0
        self._bar = bar
        self.best = torch.full((len(valid),), torch.inf, device=device)
        self.history: list[float] = []
        self._state: dict[str, Tensor] = {}

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        net = pl_module.net.eval()
        losses = self._losses(net, pl_module._x, pl_module._y)
        net.train()
        if not bool(torch.isfinite(losses).all()):
            msg = "training a classifier gave values that are not finite; check the features or use recipe 'scale'."
            raise UnpairedError(msg)
        self.history.append(float(losses.mean()))
        self._bar.set_postfix(loss=f"{self.history[-1]:.3f}")
        self._bar.update()
        better = losses < self.best
        self.best = torch.where(better, losses, self.best)
        state = net.state_dict()
        if not self._state:
            self._state = {k: v.clone() for k, v in state.items()}
        for key, value in state.items():
            self._state[key][better] = value[better]
        self._stale = 0 if bool(better.any()) else self._stale + 1
        trainer.should_stop = self._stale >= self._patience

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        pl_module.net.load_state_dict(self._state)

    def _losses(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros(self._rows.shape[0], device=x.device)
        step = _chunk(len(total), x)
        for rows, mask in zip(self._rows.split(step, 1), self._mask.split(step, 1), strict=True):
            logits = net(x[rows])
            loss = functional.cross_entropy(logits.flatten(0, 1), y[rows].flatten(), reduction="none")
            total += (loss.view_as(mask) * mask).sum(1)
        return total / self._mask.sum(1)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a library's tips to itself, and leave its logger as it was."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def train(
    net: nn.Module,
    x: Array,
    y: Array,
    *,
    rows: Sequence[Array],
    valid: Sequence[Array],
    settings: TrainingSettings,
    device: str,
    seed: int,
    progress: bool,
) -> list[float]:
    """Train every member of an ensemble on its own rows, keep each at its best on its own validation rows.

    Parameters
    ----------
    net
        Ensemble of M members; every tensor of its state has the member as leading axis.
    x, y
        ``(n, ...)`` features and ``(n,)`` class codes, shared by all members.
    rows, valid
        M arrays of row indices: to learn from, and to choose the epoch by.
    settings
        See :class:`TrainingSettings`.
    device
        A resolved device.
    seed
        Seed of the order of the cells and of dropout.
    progress
        Show a progress bar.

    Returns
    -------
    list of float
        Validation cross-entropy (nats), mean over members, one value an epoch.

    Raises
    ------
    UnpairedError
        If the loss is not finite.
    """
    batches = _Batches(rows, settings.batch, torch.Generator().manual_seed(seed))
    xt, yt = torch.as_tensor(x, device=device), torch.as_tensor(y, device=device)
    bar = tqdm(total=settings.epochs, desc="training", unit="epoch", disable=not progress, leave=False)
    keep = _KeepBest(valid, settings.patience, device, bar)
    with warnings.catch_warnings(), torch.random.fork_rng(), _quiet("lightning.pytorch"):
        torch.manual_seed(seed)
        warnings.filterwarnings("ignore", module=r"lightning.*")
        trainer = lightning.Trainer(
            max_epochs=settings.epochs,
            accelerator={"cpu": "cpu", "cuda": "gpu", "mps": "mps"}[device],
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,  # Lightning's writes to stdout, which is for data
            callbacks=[keep],
        )
        with bar:
            trainer.fit(_Classifier(net, xt, yt, settings, len(batches)), batches)
    net.to(device)
    return keep.history


def _chunk(members: int, x: Array | Tensor) -> int:
    """Rows a forward pass without gradients: images are large, so all members together get so many."""
    return max(1, _CHUNK // members) if x.ndim > 2 else _CHUNK


@torch.no_grad()
def predict(net: nn.Module, x: Array, *, device: str) -> Array:
    """Return ``(members, n, T)`` float64 logits of every member for every row of ``x``."""
    net.eval().to(device)
    members = next(net.parameters()).shape[0]
    chunk = _chunk(members, x)
    parts = []
    for start in range(0, len(x), chunk):
        part = torch.as_tensor(np.asarray(x[start : start + chunk], dtype=np.float32), device=device)
        parts.append(net(part.expand(members, *part.shape)).double().cpu())
    return torch.cat(parts, dim=1).numpy()
