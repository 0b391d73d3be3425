"""What an ensemble of classifiers learns: every member its own cells' labels, judged on its own validation cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unpaired.data.types import Array
from unpaired.embed.training import TrainingSettings, Watch, chunk_rows, train_ensemble
from unpaired.seeds import named_seed

__all__ = ["train"]


class _Classification:
    """Cross-entropy; every member walks through its own training rows in its own order."""

    def __init__(
        self, net: nn.Module, x: Tensor, y: Tensor, rows: Sequence[Array], valid: Sequence[Array], batch: int, seed: int
    ) -> None:
        self.net = net
        self.players = (net,)
        self._x, self._y, self._seed = x, y, seed
        self._rows = [torch.as_tensor(r) for r in rows]
        shortest = min(len(r) for r in rows)
        self.steps = max(1, round(shortest / batch))
        self._size = max(1, shortest // self.steps)
        width = max(len(v) for v in valid)
        self._valid = torch.as_tensor(np.stack([np.resize(v, width) for v in valid]), device=x.device)
        self._mask = torch.as_tensor(np.stack([np.arange(width) < len(v) for v in valid]), device=x.device)

    def batches(self, epoch: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(named_seed(self._seed, "order", str(epoch)))
        order = [r[torch.randperm(len(r), generator=generator)] for r in self._rows]
        for step in range(self.steps):
            part = slice(step * self._size, (step + 1) * self._size)
            yield torch.stack([o[part] for o in order])

    def loss(self, batch: Tensor, player: int) -> Tensor:
        rows = batch.to(self._x.device)
        logits = self.net(self._x[rows])
        # A sum over members: each member's gradient is what it would be alone.
        return functional.cross_entropy(logits.flatten(0, 1), self._y[rows].flatten(), reduction="sum") / rows.shape[1]

    def validate(self) -> Tensor:
        total = torch.zeros(self._valid.shape[0], device=self._x.device)
        step = chunk_rows(len(total), self._x)
        for rows, mask in zip(self._valid.split(step, 1), self._mask.split(step, 1), strict=True):
            logits = self.net(self._x[rows])
            loss = functional.cross_entropy(logits.flatten(0, 1), self._y[rows].flatten(), reduction="none")
            total += (loss.view_as(mask) * mask).sum(1)
        return total / self._mask.sum(1)


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
    watch: Watch | None = None,
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
    xt, yt = torch.as_tensor(x, device=device), torch.as_tensor(y, device=device)
    task = _Classification(net, xt, yt, rows, valid, settings.batch, seed)
    return train_ensemble(task, settings, device=device, seed=seed, progress=progress, watch=watch)
