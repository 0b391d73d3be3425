"""What an ensemble of classifiers learns: every member its own cells' labels, judged on its own validation cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unpaired.data.types import Array
from unpaired.embed.feed import Feed
from unpaired.embed.inputs import Inputs
from unpaired.embed.training import TrainingSettings, Watch, chunk_rows, train_ensemble
from unpaired.seeds import named_seed

__all__ = ["predict_all", "predict_own", "train"]


class _Classification:
    """Cross-entropy; every member walks through its own training rows in its own order."""

    def __init__(
        self, net: nn.Module, x: Feed, y: Tensor, rows: Sequence[Array], valid: Sequence[Array], batch: int, seed: int
    ) -> None:
        self.net = net
        self.players = (net,)
        self._x, self._y, self._seed = x, y, seed
        self._rows = [torch.as_tensor(r) for r in rows]
        shortest = min(len(r) for r in rows)
        self.steps = max(1, round(shortest / batch))
        self._size = max(1, shortest // self.steps)
        self._valid, self._mask = (v.to(x.device) for v in _stacked(valid))

    def batches(self, epoch: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(named_seed(self._seed, "order", str(epoch)))
        order = [r[torch.randperm(len(r), generator=generator)] for r in self._rows]
        for step in range(self.steps):
            part = slice(step * self._size, (step + 1) * self._size)
            yield torch.stack([o[part] for o in order])

    def loss(self, batch: Tensor, player: int) -> Tensor:
        rows = batch.to(self._x.device)
        logits = self.net(self._x[rows]).float()
        # A sum over members: each member's gradient is what it would be alone.
        return functional.cross_entropy(logits.flatten(0, 1), self._y[rows].flatten(), reduction="sum") / rows.shape[1]

    def validate(self) -> Tensor:
        total = torch.zeros(self._valid.shape[0], device=self._x.device)
        step = chunk_rows(len(total), self._x.values)
        for rows, mask in zip(self._valid.split(step, 1), self._mask.split(step, 1), strict=True):
            logits = self.net(self._x[rows])
            loss = functional.cross_entropy(logits.flatten(0, 1), self._y[rows].flatten(), reduction="none")
            total += (loss.view_as(mask) * mask).sum(1)
        return total / self._mask.sum(1)


def _stacked(rows: Sequence[Array]) -> tuple[Tensor, Tensor]:
    """``(M, width)`` rows, the shorter ones filled up by repeating, and which of them count."""
    width = max(len(r) for r in rows)
    filled = np.stack([np.resize(r, width) for r in rows])
    return torch.as_tensor(filled), torch.as_tensor(np.stack([np.arange(width) < len(r) for r in rows]))


def train(
    net: nn.Module,
    x: Inputs,
    y: Array,
    *,
    rows: Sequence[Array],
    valid: Sequence[Array],
    settings: TrainingSettings,
    device: str,
    seed: int,
    progress: bool,
    watch: Watch | None = None,
) -> list[float]:
    """Train every member of an ensemble on its own rows, keep each at its best on its own validation rows.

    Parameters
    ----------
    net
        Ensemble of M members; every tensor of its state has the member as leading axis.
    x, y
        n cells and ``(n,)`` class codes, shared by all members.
    rows, valid
        M arrays of row indices: to learn from, and to choose the epoch by.
    settings
        See :class:`~unpaired.embed.training.TrainingSettings`.
    device
        A resolved device.
    seed
        Seed of the order of the cells and of dropout.
    progress
        Show a progress bar.
    watch
        As in :func:`~unpaired.embed.training.train_ensemble`.

    Returns
    -------
    list of float
        Validation cross-entropy (nats), mean over members, one value an epoch.

    Raises
    ------
    UnpairedError
        If the loss is not finite.
    """
    task = _Classification(net, Feed(x, device), torch.as_tensor(y, device=device), rows, valid, settings.batch, seed)
    return train_ensemble(task, settings, device=device, seed=seed, progress=progress, watch=watch)


@torch.no_grad()
def predict_all(net: nn.Module, x: Inputs, *, device: str) -> Array:
    """Return ``(M, n, T)`` float64 logits of every member for every cell."""
    net.eval().to(device)
    feed, members = Feed(x, device), len(next(net.parameters()))
    parts = []
    for cells in torch.arange(len(feed)).split(chunk_rows(members, feed.values)):
        part = feed[cells]
        parts.append(net(part.expand(members, *part.shape)).double().cpu())
    return torch.cat(parts, dim=1).numpy()


@torch.no_grad()
def predict_own(net: nn.Module, x: Inputs, rows: Sequence[Array], *, device: str) -> list[Array]:
    """Return for every member the ``(len(rows), T)`` float64 logits of its own cells."""
    net.eval().to(device)
    feed = Feed(x, device)
    cells, _ = _stacked(rows)
    parts = [net(feed[part]).double().cpu() for part in cells.split(chunk_rows(len(cells), feed.values), 1)]
    logits = torch.cat(parts, dim=1).numpy()
    return [member[: len(own)] for member, own in zip(logits, rows, strict=True)]
