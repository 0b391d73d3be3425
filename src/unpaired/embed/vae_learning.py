"""What the multimodal autoencoder learns: readings, labels, and codes that do not tell the modality.

Source: Yang et al., Nature Communications 12:31 (2021); the weights are those of Xi et al. 2024, appendix D.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from unpaired.data.types import UNKNOWN, Array
from unpaired.embed.feed import Feed
from unpaired.embed.training import TrainingSettings, train_ensemble
from unpaired.embed.vae_networks import Autoencoders
from unpaired.seeds import named_seed

__all__ = ["Adversary", "AutoencoderLosses", "Cells", "Weights", "train_autoencoders"]

Adversary = Literal["adversarial", "published", "none"]

_LABEL = 2  # which of a modality's losses is that of the labels


@dataclass(frozen=True)
class Weights:
    """What the parts of the loss count.

    Attributes
    ----------
    alpha, beta
        Of the cross-entropies of the labels and of the modalities.
    kl
        Of the divergence of the codes from a standard normal distribution.
    """

    alpha: float
    beta: float
    kl: float


@dataclass(frozen=True)
class AutoencoderLosses:
    """The losses on the validation cells after an epoch.

    Attributes
    ----------
    total
        What the epoch is chosen by: the generator's weighted losses, summed over modalities. Against an adversary
        without what that says: it learns all the while, and a code that it has just lost track of is no better.
    reconstruction
        Squared error, mean over features and cells; this and the others are means over modalities.
    kl
        Divergence of a cell's code from the standard normal distribution, in nats.
    label
        Cross-entropy of the labels, in nats, over the modalities that have a label among these cells; NaN if none has.
    modality
        Cross-entropy of the modality classifier, in nats: log K where the codes of K modalities tell it nothing.
        ``None`` without that classifier.
    flipped
        Its cross-entropy with the other modalities, evenly: what the encoders bring down against an adversary.
    """

    total: float
    reconstruction: float
    kl: float
    label: float
    modality: float | None
    flipped: float | None


@dataclass(frozen=True, eq=False)
class Cells:
    """One modality's cells.

    Attributes
    ----------
    name
        The modality's name.
    x
        Their standardised features, on the device.
    y
        ``(n,)`` codes of the labels, -1 for cells without one, on the device.
    train, valid
        Row indices: to learn from, and to choose the epoch by.
    """

    name: str
    x: Feed
    y: Tensor
    train: Array
    valid: Array

    @property
    def judged(self) -> bool:
        """Whether a cell that chooses the epoch has a label."""
        return bool((self.y[torch.as_tensor(self.valid, device=self.y.device)] != UNKNOWN).any())


class _Autoencoding:
    """The task (see :class:`unpaired.embed.training.Task`)."""

    def __init__(
        self,
        net: Autoencoders,
        cells: Sequence[Cells],
        weights: Weights,
        adversary: Adversary,
        *,
        batch: int,
        seed: int,
    ) -> None:
        self.net = net
        self.records: list[AutoencoderLosses] = []
        self._cells, self._weights, self._kind, self._seed = cells, weights, adversary, seed
        self._train = [torch.as_tensor(c.train) for c in cells]
        self._valid = [torch.as_tensor(c.valid) for c in cells]
        self._judged = torch.tensor([c.judged for c in cells], device=cells[0].y.device)
        # As many cells of every modality a step, or the adversary would guess the larger one: an epoch is one walk
        # through the largest modality, and smaller ones are walked through again.
        longest = max(len(t) for t in self._train)
        self.steps = max(1, round(longest / batch))
        self._size = longest // self.steps
        self._codes: list[Tensor] = []

    @property
    def players(self) -> tuple[nn.Module, ...]:
        if self._kind == "adversarial" and self.net.adversary is not None:
            return self.net.generator, self.net.adversary
        return (self.net,)

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        orders = [self._order(c.name, t, epoch) for c, t in zip(self._cells, self._train, strict=True)]
        for step in range(self.steps):
            part = slice(step * self._size, (step + 1) * self._size)
            yield tuple(order[part] for order in orders)

    def loss(self, batch: tuple[Tensor, ...], player: int) -> Tensor:
        if player == 1:
            # On the codes that the generator has just been judged on, so that they are made once.
            net = self.players[player]
            told = [self._told(net, z, fixed=False)[0][:, at].mean() for at, z in enumerate(self._codes)]
            return torch.stack(told).sum()
        means, self._codes = [], []
        for at, rows in enumerate(batch):
            sums, counts, z = self._judge(at, rows, draw=True)
            means.append(sums / counts)
            self._codes.append(z.detach())
        return self._total(torch.stack(means))

    def validate(self) -> Tensor:
        means = []
        for at, rows in enumerate(self._valid):
            parts = [self._judge(at, r, draw=False)[:2] for r in rows.split(self.net.generator[at].chunk)]
            means.append(torch.stack([s for s, _ in parts]).sum(0) / torch.stack([c for _, c in parts]).sum(0))
        of_modality = torch.stack(means)
        # A modality without a label here has not got them all right: it counts as the mean of the others.
        if self._judged.any():
            of_modality[~self._judged, _LABEL] = of_modality[self._judged, _LABEL].mean()
        total = self._total(of_modality, against=False)
        reconstruction, kl, label, modality, flipped = of_modality.mean(0).tolist()
        label = label if self._judged.any() else math.nan
        told = (modality, flipped) if self.net.adversary is not None else (None, None)
        self.records.append(AutoencoderLosses(float(total), reconstruction, kl, label, *told))
        return total[None]

    def _order(self, name: str, rows: Tensor, epoch: int) -> Tensor:
        """Rows of an epoch, each as often as any other or once more."""
        generator = torch.Generator().manual_seed(named_seed(self._seed, name, "order", str(epoch)))
        walks = -(-self.steps * self._size // len(rows))
        return torch.cat([rows[torch.randperm(len(rows), generator=generator)] for _ in range(walks)])

    def _judge(self, at: int, rows: Tensor, *, draw: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return sums of a modality's losses over cells, over how many cells each is, and the cells' codes.

        The losses are those of :class:`AutoencoderLosses`, from the second on. Codes are drawn while learning; cells
        are judged by the mean, which is their place in the space.
        """
        part, cells = self.net.generator[at], self._cells[at]
        rows = rows.to(cells.y.device)
        x, y = cells.x[rows], cells.y[rows]
        posterior = part.encode(x)
        z = posterior.sample() if draw else posterior.mean
        reconstruction = (part.decode(z) - x).square().flatten(1).mean(1).sum()
        mean, logvar = posterior
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum()
        logits = self.net.generator.labels(z).float()
        label = functional.cross_entropy(logits, y, ignore_index=UNKNOWN, reduction="sum")
        losses = [reconstruction, kl, label, *self._modality(at, z)]
        known = (y != UNKNOWN).sum().clamp(min=1)
        counts = torch.full((len(losses),), len(rows), device=y.device)
        counts[_LABEL] = known
        return torch.stack(losses), counts, z

    def _modality(self, at: int, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return sums of the modality classifier's losses, with the modality itself and with the others."""
        if self.net.adversary is None:
            return z.new_zeros(()), z.new_zeros(())
        own, others = self._told(self.net.adversary, z, fixed=self._kind == "adversarial")
        return own[:, at].sum(), others[:, at].sum()

    @staticmethod
    def _told(net: nn.Module, z: Tensor, *, fixed: bool) -> tuple[Tensor, Tensor]:
        """``(cells, K)`` cross-entropies of the classifier's answer with each modality, and with all but each, evenly.

        For two modalities the others are one, and its label the flipped one. For more, flipping to one of the others
        at random would have the second as its expectation, and would only add noise.
        """
        # The encoders learn through the classifier as it is: it has its own turn.
        logits = functional_call(net, {k: p.detach() for k, p in net.named_parameters()}, (z,)) if fixed else net(z)
        own = -functional.log_softmax(logits.float(), dim=1)
        return own, (own.sum(1, keepdim=True) - own) / (own.shape[1] - 1)

    def _total(self, of_modality: Tensor, *, against: bool = True) -> Tensor:
        """Weight a modality's losses and sum over modalities: what the generator brings down, also ``against``."""
        kinds = {"adversarial": (0.0, float(against)), "published": (1.0, 0.0), "none": (0.0, 0.0)}
        w, told = self._weights, kinds[self._kind]
        weights = (1.0, w.kl, w.alpha, w.beta * told[0], w.beta * told[1])
        return (of_modality * torch.tensor(weights, device=of_modality.device)).sum()


def train_autoencoders(
    net: Autoencoders,
    cells: Sequence[Cells],
    *,
    weights: Weights,
    adversary: Adversary,
    settings: TrainingSettings,
    device: str,
    seed: int,
    progress: bool,
    watch: Callable[[int, AutoencoderLosses], None] | None = None,
) -> list[AutoencoderLosses]:
    """Train the autoencoders of all modalities together, and keep them at their best epoch.

    Parameters
    ----------
    net
        The networks.
    cells
        Each modality's cells; they are not paired.
    weights
        What the parts of the loss count.
    adversary
        ``"adversarial"``: the modality classifier learns in its own step, and the encoders against it.
        ``"published"``: it learns together with the encoders, which then tell the modalities apart. ``"none"``.
    settings
        See :class:`~unpaired.embed.training.TrainingSettings`.
    device
        A resolved device, where the cells are.
    seed
        Seed of the order of the cells and of the codes that are drawn.
    progress
        Show a progress bar.
    watch
        Called after every epoch with its number and its losses.

    Returns
    -------
    list of AutoencoderLosses
        One an epoch.

    Raises
    ------
    UnpairedError
        If the loss is not finite.
    """
    task = _Autoencoding(net, cells, weights, adversary, batch=settings.batch, seed=seed)
    tell = None if watch is None else lambda epoch, _: watch(epoch, task.records[-1])
    train_ensemble(task, settings, device=device, seed=seed, progress=progress, watch=tell)
    return task.records
