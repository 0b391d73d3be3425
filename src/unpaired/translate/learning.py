"""What a translator learns: eq. 9 of Xi et al. 2024, by two draws (eq. 10), by one, or in full."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from unpaired.data.types import Array
from unpaired.embed.training import chunk_rows
from unpaired.errors import OptionError
from unpaired.seeds import named_rng
from unpaired.translate.heads import CountHead, GaussianHead
from unpaired.translate.partners import Partners

__all__ = ["Batch", "Network", "Targets", "Translation"]

_VALID_DRAWS = 8  # fixed partners of each held-out cell for the loss of one draw
_LARGEST = 2**26  # entries of the coupling that eq. 9 in full keeps as a dense matrix (256 MB)


class Network(nn.Module):
    """An ensemble and its head.

    Parameters
    ----------
    body
        Module of :mod:`unpaired.embed.networks`: ``(members, cells, ...)`` to ``(members, cells, p)``.
    head
        What its output means.
    """

    def __init__(self, body: nn.Module, head: GaussianHead | CountHead) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor, size: Tensor | None = None) -> Tensor:
        """Return ``(members, cells, p)`` expected readings."""
        return self.head.mean(self.body(x), size)


class Targets:
    """Readings to be predicted, fetched as dense rows: a sparse matrix of counts is never made dense as a whole.

    Parameters
    ----------
    values
        ``(n, p)`` dense, or CSR.
    center, scale
        Standardisation: ``(p,)`` and one number or ``(p,)``.
    device
        Where the rows are needed.
    """

    def __init__(self, values: Any, center: Array, scale: Array | float, device: str) -> None:
        self._device = device
        self._sparse = values if sp.issparse(values) else None
        self._center, self._scale = (np.asarray(v, dtype=np.float32) for v in (center, scale))
        if self._sparse is None:
            self._dense = torch.as_tensor(self._standardised(np.asarray(values)), device=device)

    def __getitem__(self, rows: Array | Tensor) -> Tensor:
        """Return ``(*rows.shape, p)`` standardised readings."""
        rows = torch.as_tensor(rows)
        if self._sparse is None:
            return self._dense[rows.to(self._device)]
        dense = self._standardised(self._sparse[rows.flatten().cpu().numpy()].toarray())
        return torch.as_tensor(dense, device=self._device).view(*rows.shape, -1)

    def _standardised(self, values: Array) -> Array:
        return (values.astype(np.float32) - self._center) / self._scale


class Batch(NamedTuple):
    """One step's cells: positions among the partners' rows, and the source cells drawn for them."""

    at: Tensor  # (members, cells)
    drawn: Tensor  # (draws, members, cells)


class Translation:
    """The task of a translator (see :class:`unpaired.embed.training.Task`).

    Parameters
    ----------
    net
        The ensemble.
    x
        ``(n_source, ...)`` inputs, standardised, on the device.
    targets
        What is predicted, by target cell.
    sizes
        ``(n_target,)`` totals of the target cells' counts, for a head of counts; otherwise ``None``.
    learn, valid
        Whom it learns from, and who chooses the epoch.
    loss
        One of :data:`unpaired.translate.store.LOSSES`.
    batch
        Target cells a step and member.
    seed
        Seed of order and partners.

    Raises
    ------
    OptionError
        If eq. 9 is asked for in full and there are too many pairs for it.
    """

    def __init__(
        self,
        net: Network,
        x: Tensor,
        targets: Targets,
        sizes: Tensor | None,
        *,
        learn: Partners,
        valid: Partners,
        loss: str,
        batch: int,
        seed: int,
    ) -> None:
        self.net = net
        self.players = (net,)
        self._x, self._targets, self._sizes = x, targets, sizes
        self._learn, self._valid, self._loss, self._seed = learn, valid, loss, seed
        self._members = len(next(net.parameters()))
        self._rows = torch.as_tensor(learn.rows)  # on the CPU, as the targets' rows are asked for
        self.steps = max(1, round(len(self._rows) / batch))
        self._size = max(1, len(self._rows) // self.steps)
        self._draws = {"unbiased": 2, "mse": 1, "barycentric": 0}[loss]
        self._drawn: tuple[int, Iterator[Array]] | None = None
        self._whole = self._dense_rows() if loss == "barycentric" else None
        self._judge = _Judge(self, valid)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Iterate over the batches of an epoch: every member in its own order, with partners of its own."""
        n = len(self._rows)
        rng = named_rng(self._seed, "order", str(epoch))
        order = torch.as_tensor(np.stack([rng.permutation(n) for _ in range(self._members)]))
        drawn = torch.as_tensor(self._draw(epoch).T.astype(np.int64)).view(self._draws, self._members, n)
        for step in range(self.steps):
            at = order[:, step * self._size : (step + 1) * self._size]
            yield Batch(at, drawn.gather(2, at.expand(self._draws, -1, -1)))

    def loss(self, batch: Batch, player: int = 0) -> Tensor:
        """Return the loss, mean over cells and features, summed over members."""
        rows = self._rows[batch.at.cpu()]
        y, size = self._targets[rows], self._sizes_of(rows)
        head = self.net.head
        if self._whole is not None:
            weights, inputs = self._whole
            entries = head.nll(self._expected(weights[batch.at.to(weights.device)], inputs, size), y)
        elif self._loss == "mse":
            entries = head.nll(self.net(self._x[batch.drawn[0]], size), y)
        else:
            one, other = (self.net(self._x[d], size) for d in batch.drawn)
            entries = head.two_draws(one, other, y)
        return entries.mean(dim=(1, 2)).sum()

    def validate(self) -> Tensor:
        """Return ``(members,)`` losses on the held-out cells: of eq. 9, or of one draw where that is learned."""
        return self._judge.one_draw() if self._loss == "mse" else self._judge.expected()

    def _draw(self, epoch: int) -> Array:
        """``(n, draws * members)`` partners of an epoch."""
        if self._draws == 0:
            return np.zeros((len(self._rows), 0), dtype=np.int32)
        if self._drawn is None or self._drawn[0] != epoch:
            columns = self._draws * self._members
            self._drawn = (epoch, self._learn.epochs(columns, seed=self._seed, first=epoch))
        self._drawn = (epoch + 1, self._drawn[1])
        return next(self._drawn[1])

    def _sizes_of(self, rows: Tensor) -> Tensor | None:
        return None if self._sizes is None else self._sizes[rows.to(self._sizes.device)]

    def _dense_rows(self) -> tuple[Tensor, Tensor]:
        """p(source cell | target cell) as one dense matrix, and the source cells of its columns."""
        inputs = self._learn.inputs
        if len(self._rows) * len(inputs) > _LARGEST:
            msg = (
                f"loss 'barycentric' goes through all pairs at every step and is for small data (up to {_LARGEST:,d} "
                f"pairs); there are {len(self._rows):,d} x {len(inputs):,d}. Use 'unbiased', its estimate."
            )
            raise OptionError(msg)
        weights = np.zeros((len(self._rows), len(inputs)), dtype=np.float32)
        row = col = 0
        for block in self._learn.blocks:
            for first, part in block.chunks():
                at = row + first
                weights[at : at + len(part), col : col + len(block.cols)] = part
            row, col = row + len(block.rows), col + len(block.cols)
        device = self._x.device
        return torch.as_tensor(weights, device=device), torch.as_tensor(inputs, device=device)

    def _expected(self, weights: Tensor, inputs: Tensor, size: Tensor | None) -> Tensor:
        """``(members, cells, p)`` E_M[f] of the cells with these rows of the coupling."""
        x = self._x[inputs]
        ones = None if size is None else torch.ones(self._members, len(inputs), device=x.device)
        mean = torch.bmm(weights, self.net(x.expand(self._members, *x.shape), ones))
        # Expected counts are proportional to the target cell's own total.
        return mean if size is None else mean * size[..., None]


class _Judge:
    """Losses on the held-out cells, label by label: predictions for all of them at once may not fit in the memory."""

    def __init__(self, task: Translation, valid: Partners) -> None:
        self._task = task
        self._blocks = valid.blocks
        self._cells = len(valid.rows)
        rng = (named_rng(task._seed, "valid draws", b.label) for b in valid.blocks)
        self._drawn = [torch.as_tensor(b.sample(r, _VALID_DRAWS)) for b, r in zip(valid.blocks, rng, strict=True)]

    def expected(self) -> Tensor:
        """Loss of the partners' mean prediction: eq. 9."""

        def means(at: int, values: Tensor) -> Iterator[Tensor]:
            found = [self._blocks[at].project(member.cpu().numpy()) for member in values]
            yield torch.as_tensor(np.stack(found).astype(np.float32), device=values.device)

        return self._mean_loss(means)

    def one_draw(self) -> Tensor:
        """Mean loss of fixed partners: what one draw learns."""

        def drawn(at: int, values: Tensor) -> Iterator[Tensor]:
            for column in self._drawn[at].T:
                yield values[:, column.to(values.device)]

        return self._mean_loss(drawn)

    def _mean_loss(self, guesses: Callable[[int, Tensor], Iterator[Tensor]]) -> Tensor:
        """``(members,)`` mean over the held-out cells, and over the guesses that are made for each."""
        task = self._task
        total = torch.zeros(task._members, device=task._x.device)
        for at, block in enumerate(self._blocks):
            rows = torch.as_tensor(block.rows)
            y, sizes = task._targets[rows], task._sizes_of(rows)
            losses = []
            for guess in guesses(at, self._predicted(block.cols)):
                # What is predicted for a size of one is a rate: expected counts are proportional to the cell's total.
                mean = guess if sizes is None else guess * sizes[:, None]
                losses.append(task.net.head.nll(mean, y).mean(dim=2).sum(dim=1))
            total += torch.stack(losses).mean(dim=0)
        return total / self._cells

    def _predicted(self, inputs: Array) -> Tensor:
        """``(members, inputs, p)`` predictions for source cells (rates, where counts are predicted)."""
        task = self._task
        step = chunk_rows(task._members, task._x)
        parts = []
        for start in range(0, len(inputs), step):
            x = task._x[torch.as_tensor(inputs[start : start + step], device=task._x.device)]
            ones = None if task._sizes is None else torch.ones(task._members, len(x), device=x.device)
            parts.append(task.net(x.expand(task._members, *x.shape), ones))
        return torch.cat(parts, dim=1)
