"""How CLUE learns: which cells are seen, what fills the slots that they lack, and when it ends.

Source: Tu et al. 2022; what the paper leaves open is done as by the authors' code.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from unpaired.data.types import Array
from unpaired.embed.clue_inputs import Cells
from unpaired.embed.clue_losses import Minibatch, discriminator_loss, losses
from unpaired.embed.clue_model import ClueConfig, ClueModel, Posterior
from unpaired.embed.clue_partners import Soft
from unpaired.seeds import named_rng, named_seed

__all__ = ["ClueTask", "Filled", "Schedule", "grown", "schedule", "split_cells"]

_VALID = 0.1  # of the cells choose the epoch
_CHUNK = 1024  # cells that are judged at once
_UNITS = (12, 72, 9, 3)  # burn-in, most epochs, patience and plateau, in steps at a learning rate of one
_CYCLE = 6  # most epochs over burn-in


class Schedule(NamedTuple):
    """Epochs: of the burn-in, at most, without improvement before the end, and before the rate falls."""

    burn_in: int
    epochs: int
    patience: int
    plateau: int


def schedule(steps: int, rate: float, most: int | None = None) -> Schedule:
    """Return as many epochs as a learning rate needs, however many steps an epoch has.

    Each is ``max(ceil(c / rate / steps), ceil(c))`` with c = 12, 72, 9 and 3, as by the authors' code.

    Parameters
    ----------
    steps
        Batches an epoch.
    rate
        The learning rate.
    most
        Most epochs, if they are not to be chosen here; the burn-in is a sixth of them, if that is fewer.
    """
    found = Schedule(*(max(math.ceil(c / (rate * steps) - 1e-9), c) for c in _UNITS))
    return found if most is None else found._replace(epochs=most, burn_in=min(found.burn_in, most // _CYCLE))


class Filled(NamedTuple):
    """What lies in the slots of cells: ``(cells, K)`` rows, whether each is observed, and ``(cells,)`` trust."""

    rows: Array
    observed: Array
    trust: Array


def split_cells(slots: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the cells to learn from and those that choose the epoch: a tenth of every pattern of modalities.

    At least one cell chooses, of the commonest pattern.
    """
    patterns, which, counts = np.unique(slots >= 0, axis=0, return_inverse=True, return_counts=True)
    which, order = which.ravel(), rng.permutation(len(slots))
    aside = np.floor(_VALID * counts).astype(int)
    if not aside.any():
        aside[counts.argmax()] = 1
    valid = [order[which[order] == p][: aside[p]] for p in range(len(patterns))]
    chosen = np.sort(np.concatenate(valid))
    return np.setdiff1d(np.arange(len(slots)), chosen), chosen


class _Rows:
    """Readings, fetched as float32 on a device when a batch asks for them; sparse ones stay sparse until then."""

    def __init__(self, values: Any, device: str) -> None:
        self._sparse, self._device = sp.issparse(values), device
        self._values: Any = values if self._sparse else torch.as_tensor(values, device=device)

    def __getitem__(self, rows: Array) -> Tensor:
        if self._sparse:
            return torch.as_tensor(self._values[rows].toarray(), device=self._device)
        out: Tensor = self._values[torch.as_tensor(rows, device=self._device)]
        return out


class ClueTask:
    """The task (see :class:`unpaired.embed.training.Task`).

    Parameters
    ----------
    model
        The net, on its device.
    cells
        The cells, all with batches that are known.
    known
        Names of the batches, in the model's order.
    config
        What the terms weigh.
    soft
        Matchings from which partners are drawn, anew every epoch, for cells known in one modality.
    batch
        Cells a step.
    burn_in
        Epochs in which the noise of the discriminator's inputs falls from 1 to 0.
    device
        A resolved device.
    seed
        Seed of split, order, fillers, partners and codes.
    """

    def __init__(
        self,
        model: ClueModel,
        cells: Cells,
        known: Sequence[str],
        config: ClueConfig,
        *,
        soft: Sequence[Soft] = (),
        batch: int,
        burn_in: int,
        device: str,
        seed: int,
    ) -> None:
        self.net, self.burn_in = model, burn_in
        self._cells, self._config, self._soft, self._seed, self._device = cells, config, tuple(soft), seed, device
        self._inputs = [torch.as_tensor(x, device=device) for x in cells.inputs]
        self._readings = [_Rows(x, device) for x in cells.readings]
        code = {name: at for at, name in enumerate(known)}
        self._codes = [np.array([code[b] for b in names.tolist()], dtype=np.int64) for names in cells.batches]
        self.train, self.valid = split_cells(cells.slots, named_rng(seed, "clue split"))
        self.steps = max(1, round(len(self.train) / batch))
        self._posterior: Posterior | None = None
        self._noise = 0.0
        self._judged = self.filled(self.valid, None)

    @property
    def players(self) -> tuple[nn.Module, ...]:
        """Encoders and decoders, then the discriminator, if it has a say."""
        if self._config.lam_align:
            return self.net.generator, self.net.discriminator
        return (self.net.generator,)

    def batches(self, epoch: int) -> Iterator[tuple[Minibatch, torch.Generator]]:
        """Iterate over the cells to learn from in a random order, each with the generator of the codes."""
        filled = self.filled(self.train, epoch)
        order = named_rng(self._seed, "order", str(epoch)).permutation(len(self.train))
        self._noise = max(0.0, 1 - epoch / self.burn_in) if self.burn_in else 0.0
        generator = torch.Generator().manual_seed(named_seed(self._seed, "codes", str(epoch)))
        for part in np.array_split(order, self.steps):
            yield self._minibatch(filled, part), generator

    def loss(self, batch: tuple[Minibatch, torch.Generator], player: int) -> Tensor:
        """Return the loss of encoders and decoders (eq. 15), or of the discriminator (eq. 12)."""
        cells, generator = batch
        if player == 1:
            # On the codes that the encoders have just been judged on, so that they are made once.
            return discriminator_loss(self.net, cells, self._noise, generator, posterior=self._posterior)
        posterior = self.net(cells.inputs)
        self._posterior = Posterior(posterior.mean.detach(), posterior.std.detach())
        return losses(self.net, cells, self._config, self._noise, generator, posterior=posterior).generator

    def validate(self) -> Tensor:
        """Return ``(1,)`` loss of the encoders and decoders, with the same draws every time and without noise."""
        generator = torch.Generator().manual_seed(named_seed(self._seed, "codes", "judged"))
        cells = len(self.valid)
        total = torch.zeros(1, device=self._device)
        for part in np.array_split(np.arange(cells), -(-cells // _CHUNK)):
            told = losses(self.net, self._minibatch(self._judged, part), self._config, 0.0, generator)
            total += told.generator * len(part) / cells
        return total

    def filled(self, cells: Array, epoch: int | None) -> Filled:
        """Give cells something in every slot, for an epoch, or once to choose the epoch by.

        Parameters
        ----------
        cells
            Either those to learn from or those that choose the epoch.
        epoch
            Number of the epoch; ``None`` for those that choose.

        Returns
        -------
        Filled
            A slot has the cell's own row, or that of a partner drawn from a matching, which counts as observed, or that
            of a random cell among those to learn from (or to choose by), which does not. While learning no partner is a
            row of a cell that chooses the epoch. A cell counts by how likely all that is observed of it is its own, so
            that a few true pairs are heard among many drawn ones; one without any partner counts as drawn ones do.
        """
        slots, name = self._cells.slots, "judged" if epoch is None else str(epoch)
        rows, trust = slots[cells].copy(), np.ones(len(cells))
        alone = (rows >= 0).sum(axis=1) == 1  # what is known of others would count no more than what is drawn
        drawn = (p for s in self._soft for p in s.draw(self._seed, *self._ends(s), name))
        for source, target, partners, likely in drawn:
            if epoch is not None:
                partners = np.where(np.isin(partners, self._rows(self.valid, target)), -1, partners)  # noqa: PLW2901
            own = slots[cells, source]  # never a partner's partner
            known = alone & (own >= 0) & (own < len(partners))  # cells that came later were not matched
            known &= rows[:, target] < 0
            rows[known, target] = partners[own[known]]
            trust[known] *= np.where(rows[known, target] >= 0, likely[own[known]], 1.0)
        observed = rows >= 0
        for at, missing in enumerate(~observed.T):
            pool = self._rows(cells, at)
            if not len(pool):
                pool = np.arange(len(self._cells.inputs[at]))
            rng = named_rng(self._seed, "fill", str(at), name)
            rows[missing, at] = pool[rng.integers(len(pool), size=missing.sum())]
        if (trust < 1).any():
            trust[observed.sum(axis=1) == 1] = trust[trust < 1].mean()
        return Filled(rows, observed, trust / trust.mean())

    def seen_together(self) -> Array:
        """``(K, K)`` whether some cell is observed in both modalities while learning."""
        observed = self.filled(self.train, 0).observed.astype(np.int64)
        return np.asarray(observed.T @ observed > 0)

    def digest(self) -> str:
        """Return a hash of the cells, and of partners to choose the epoch by and to learn from: they tell matchings."""
        drawn = np.concatenate([*self._judged[:2], *self.filled(self.train, 0)[:2]], axis=None).astype(np.int64)
        return hashlib.sha256(self._cells.digest().encode() + drawn.tobytes()).hexdigest()

    @staticmethod
    def _ends(soft: Soft) -> tuple[str, str]:
        return str(soft.at[0]), str(soft.at[1])

    def _rows(self, cells: Array, at: int) -> Array:
        """Rows of a modality that are cells' own, sorted: which cells they are says nothing of their order."""
        own = self._cells.slots[cells, at]
        return np.sort(own[own >= 0])

    def _minibatch(self, filled: Filled, cells: Array) -> Minibatch:
        rows, device = filled.rows[cells], self._device
        slots = range(rows.shape[1])
        batches = np.stack([self._codes[k][rows[:, k]] for k in slots], axis=1)
        return Minibatch(
            inputs=[self._inputs[k][torch.as_tensor(rows[:, k], device=device)] for k in slots],
            readings=[self._readings[k][rows[:, k]] for k in slots],
            batches=torch.as_tensor(batches, device=device),
            observed=torch.as_tensor(filled.observed[cells], device=device),
            trust=torch.as_tensor(filled.trust[cells].astype(np.float32), device=device),
        )


def grown(model: ClueModel, old: Sequence[str], new: ClueModel, names: Sequence[str]) -> ClueModel:
    """Give a net the weights of another that knew fewer batches: what belongs to a batch goes by its name.

    Parameters
    ----------
    model, old
        The other net, and the names of its batches.
    new, names
        The net, and the names of its batches. What belongs to a batch that is new keeps its first values.
    """
    theirs, state = model.state_dict(), new.state_dict()
    pairs = [(names.index(name), at) for at, name in enumerate(old) if name in names]
    for key, value in state.items():
        if "per_batch" not in key.split("."):
            state[key] = theirs[key]
        elif key in theirs:
            for here, there in pairs:
                value[:, here] = theirs[key][:, there]
    new.load_state_dict(state)
    return new
