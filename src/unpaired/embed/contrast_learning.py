"""What an ensemble of encoder pairs learns: to tell the cell that was drawn as partner from others of its label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unpaired.data.types import Array
from unpaired.embed.feed import Feed
from unpaired.seeds import named_rng

__all__ = ["GROUPS", "Contrast", "Member", "Towers", "fewest_pairs"]

GROUPS = 4
"""Groups of cells a step; those of a group have one label."""


class Towers(nn.Module):
    """An ensemble of encoder pairs.

    Parameters
    ----------
    source, target
        Ensembles of :mod:`unpaired.embed.networks` with as many members and outputs.
    """

    def __init__(self, source: nn.Module, target: nn.Module) -> None:
        super().__init__()
        self.source, self.target = source, target


class _Pairs(NamedTuple):
    """Cells of a step, ``(members, groups, cells)`` in canonical order; the k-th of a group were drawn as partners."""

    source: Tensor
    target: Tensor


class Member(NamedTuple):
    """Pairs of one member, sorted by label: ``start[t]`` to ``start[t + 1]`` are those of a label."""

    source: Array
    target: Array
    start: Array


class Contrast:
    """The task (:class:`unpaired.embed.training.Task`): to tell the drawn partner from a group, in both directions.

    Parameters
    ----------
    net
        The encoders.
    feeds
        Inputs of the two modalities.
    learn, valid
        Every member's pairs to learn from, and to choose the epoch by; where there are none of these, the former.
    steps
        Batches an epoch.
    group
        Cells of a group.
    seed
        Seed of the groups.
    """

    def __init__(
        self,
        net: Towers,
        feeds: tuple[Feed, Feed],
        learn: Sequence[Member],
        valid: Sequence[Member],
        steps: int,
        group: int,
        seed: int,
    ) -> None:
        self.net, self.players, self.steps = net, (net,), steps
        self._feeds, self._learn, self._group, self._seed = feeds, learn, group, seed
        # As many groups as an eighth of an epoch has are enough to choose the epoch by, the same at every one.
        judged = valid if fewest_pairs(valid).any() else learn
        self._judged = list(_deal(judged, max(4, steps // 8), group, named_rng(seed, "valid")))

    def batches(self, epoch: int) -> Iterator[_Pairs]:
        """Iterate over the groups of an epoch, which depend on its number alone."""
        return _deal(self._learn, self.steps, self._group, named_rng(self._seed, "order", str(epoch)))

    def loss(self, batch: _Pairs, player: int) -> Tensor:
        """Return the loss, summed over members."""
        return self._losses(batch).sum()

    def validate(self) -> Tensor:
        """Return ``(members,)`` losses on the pairs kept aside."""
        return torch.stack([self._losses(b) for b in self._judged]).mean(dim=0)

    def _losses(self, batch: _Pairs) -> Tensor:
        """``(members,)`` cross-entropy of the partner, mean over cells and over both directions."""
        codes = []
        for tower, feed, cells in zip((self.net.source, self.net.target), self._feeds, batch, strict=True):
            codes.append(tower(feed[cells.flatten(1)]).float().unflatten(1, cells.shape[1:]))
        u, v = codes
        product = u[..., :-1] @ v[..., :-1].transpose(-1, -2)
        # The last number of a code is how likely a cell is as anybody's partner.
        rows = _cross_entropy(product + v[..., None, :, -1], batch.target)
        cols = _cross_entropy(product.transpose(-1, -2) + u[..., None, :, -1], batch.source)
        return (rows + cols) / 2


def _cross_entropy(logits: Tensor, candidates: Tensor) -> Tensor:
    """Cross-entropy of the diagonal; a candidate that stands twice in a group is no alternative to itself."""
    same = candidates[..., None, :] == candidates[..., :, None]
    other = ~torch.eye(candidates.shape[-1], dtype=torch.bool)
    masked = logits.masked_fill((same & other).to(logits.device), -torch.inf)
    return -functional.log_softmax(masked, dim=-1).diagonal(dim1=-2, dim2=-1).mean(dim=(-2, -1))


def fewest_pairs(members: Sequence[Member]) -> Array:
    """Return ``(labels,)`` numbers of pairs that every member has at least."""
    return np.asarray(np.min([np.diff(m.start) for m in members], axis=0))


def _deal(members: Sequence[Member], steps: int, group: int, rng: np.random.Generator) -> Iterator[_Pairs]:
    """Draw the groups of so many steps: a label as often as it has pairs, the same one for all members."""
    sizes = fewest_pairs(members)
    labels = rng.choice(len(sizes), size=(steps, GROUPS), p=sizes / sizes.sum())
    for chosen in labels:
        at = np.stack([[rng.integers(m.start[t], m.start[t + 1], group) for t in chosen] for m in members])
        source = np.stack([m.source[a] for m, a in zip(members, at, strict=True)])
        target = np.stack([m.target[a] for m, a in zip(members, at, strict=True)])
        yield _Pairs(torch.as_tensor(source), torch.as_tensor(target))
