"""Encoders taught by soft pairs: two networks, one a modality, whose codes of partners have a large product.

An encoder pair learns, for a cell and some candidates of its label, which candidate was drawn as its partner. At the
best, the product of two codes is the log odds of being partners, but for what depends on one cell alone (van den Oord
et al. 2018, InfoNCE): what is noise in one pair averages out over many, and what is left is what the readings of both
modalities say of each other, whether the space that the pairs came from knew of it or not.

Every cell is coded by members of the ensemble that saw neither it nor any pair that was drawn for it. The codes of two
members are the same but for a rotation, which is found on all cells (orthogonal Procrustes, both modalities together).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unpaired.data.types import Array, Dataset
from unpaired.embed.classifiers import averaged
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.embed.feed import Feed
from unpaired.embed.folds import Split, make_splits
from unpaired.embed.inputs import Inputs, read_inputs
from unpaired.embed.learning import predict_all, predict_own
from unpaired.embed.modality_fit import spread_of
from unpaired.embed.networks import MLP, ConvNet, uniform
from unpaired.embed.training import TrainingSettings, resolve_device, train_ensemble
from unpaired.errors import DataError, Problem
from unpaired.seeds import named_rng, named_seed

__all__ = ["FOLDS", "REPEATS", "Encoded", "encode"]

FOLDS, REPEATS = 5, 2
"""Cross-fitting of the encoders; repeats have folds of their own, so they tell how far two answers are apart."""

_CODE = 16  # width of a code
_HIDDEN = 128
_GROUP = 64  # cells of a label that are told apart at a time: a pair has so many candidates
_GROUPS = 4  # of them a step
_STEPS = 300  # of the optimizer at least,
_PASSES = 4  # and enough for so many passes over the cells
_EPOCHS = 10
_ALIGNED = 4000  # cells a modality that tell the rotation between members
_VALID = 0.1
_TURNS = 5  # rounds of rotating members to their mean


_NOTHING = Problem(
    "error",
    "the matching",
    "no label has pairs of cells with different readings for every encoder to learn from.",
    "Match more cells, or leave the refinement out.",
)


@dataclass(frozen=True, eq=False)
class Encoded:
    """What the encoders say of every cell.

    Attributes
    ----------
    codes
        Modality name -> ``(R, n, d)`` codes of the repeats, each by encoders that did not see the cell.
    noise
        Modality name -> ``(d, d)`` covariance of the error of their mean.
    loss
        Held-out loss (nats) of telling a drawn partner from the other candidates, mean over members, one an epoch.
    made_by
        How they were made.
    """

    codes: Mapping[str, Array]
    noise: Mapping[str, Array]
    loss: tuple[float, ...]
    made_by: Provenance

    @property
    def embedding(self) -> Embedding:
        """The mean over the repeats, with the covariance of its error."""
        return self._embedding({n: c.mean(axis=0) for n, c in self.codes.items()})

    def repeat(self, r: int) -> Embedding:
        """Return what one repeat says alone; its noise is told by all of them together."""
        return self._embedding({n: c[r] for n, c in self.codes.items()})

    def _embedding(self, arrays: Mapping[str, Array]) -> Embedding:
        dims = tuple(f"code {i + 1}" for i in range(next(iter(arrays.values())).shape[1]))
        return Embedding(arrays, "latent", None, dims, self.made_by, self.noise)


class _Towers(nn.Module):
    def __init__(self, source: nn.Module, target: nn.Module) -> None:
        super().__init__()
        self.source, self.target = source, target


class _Pairs(NamedTuple):
    """Cells of a step, ``(members, groups, cells)`` in canonical order; the k-th of a group were drawn as partners."""

    source: Tensor
    target: Tensor


class _Member(NamedTuple):
    """Pairs of one member, sorted by label: ``start[t]`` to ``start[t + 1]`` are those of a label."""

    source: Array
    target: Array
    start: Array


class _Contrast:
    """The task: to tell the drawn partner from the other candidates of a group, in both directions."""

    def __init__(
        self,
        net: _Towers,
        feeds: tuple[Feed, Feed],
        learn: Sequence[_Member],
        valid: Sequence[_Member],
        steps: int,
        seed: int,
    ) -> None:
        self.net, self.players, self.steps = net, (net,), steps
        self._feeds, self._learn, self._seed = feeds, learn, seed
        # As many groups as an eighth of an epoch has are enough to choose the epoch by, the same at every one.
        judged = valid if _sizes(valid).any() else learn
        self._judged = list(_deal(judged, max(4, steps // 8), named_rng(seed, "valid")))

    def batches(self, epoch: int) -> Iterator[_Pairs]:
        return _deal(self._learn, self.steps, named_rng(self._seed, "order", str(epoch)))

    def loss(self, batch: _Pairs, player: int) -> Tensor:
        return self._losses(batch).sum()

    def validate(self) -> Tensor:
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


def _sizes(members: Sequence[_Member]) -> Array:
    """``(labels,)`` pairs of a label that every member has at least."""
    return np.asarray(np.min([np.diff(m.start) for m in members], axis=0))


def _deal(members: Sequence[_Member], steps: int, rng: np.random.Generator) -> Iterator[_Pairs]:
    """Draw the groups of so many steps: a label as often as it has pairs, the same one for all members."""
    sizes = _sizes(members)
    labels = rng.choice(len(sizes), size=(steps, _GROUPS), p=sizes / sizes.sum())
    for chosen in labels:
        at = np.stack([[rng.integers(m.start[t], m.start[t + 1], _GROUP) for t in chosen] for m in members])
        source = np.stack([m.source[a] for m, a in zip(members, at, strict=True)])
        target = np.stack([m.target[a] for m, a in zip(members, at, strict=True)])
        yield _Pairs(torch.as_tensor(source), torch.as_tensor(target))


def encode(
    data: Dataset,
    names: tuple[str, str],
    pairs: Array,
    *,
    seed: int,
    device: str,
    progress: bool = False,
) -> Encoded:
    """Teach an ensemble of encoder pairs by drawn pairs, and code every cell by those that did not see it.

    Parameters
    ----------
    data
        The data set.
    names
        The two modalities.
    pairs
        ``(2, k)`` rows of source and target: soft pairs of one label each, drawn from a coupling, as often as it says.
    seed
        Seed of folds, weights, order and dropout.
    device
        Where the networks learn.
    progress
        Show a progress bar.

    Raises
    ------
    OptionError
        If the device is not there.
    DataError
        If there is no label of which every member of the ensemble has pairs to learn from.
    """
    device = resolve_device(device)
    if not pairs.shape[1]:
        raise DataError([_NOTHING])
    sides = [_Side.of(data, n, rows, seed) for n, rows in zip(names, pairs, strict=True)]
    learn, valid = _own_pairs(sides)
    if not _sizes(learn).any():
        raise DataError([_NOTHING])
    generator = torch.Generator().manual_seed(named_seed(seed, "weights"))
    members = FOLDS * REPEATS
    net = _Towers(*(_tower(side.inputs, members, generator) for side in sides))
    cells = max(len(side.inputs) for side in sides)
    steps = max(_STEPS, round(_PASSES * cells / (_GROUP * _GROUPS))) // _EPOCHS
    feeds = (Feed(sides[0].inputs, device), Feed(sides[1].inputs, device))
    task = _Contrast(net, feeds, learn, valid, steps, named_seed(seed, "groups"))
    settings = TrainingSettings(_EPOCHS, _GROUP * _GROUPS, 3e-3, 1e-2, "adamw", _EPOCHS)
    loss = train_ensemble(task, settings, device=device, seed=named_seed(seed, "dropout"), progress=progress)
    towers = (net.source, net.target)
    turns = _rotations(sides, towers, device)
    codes, noise = {}, {}
    for name, side, tower in zip(names, sides, towers, strict=True):
        codes[name], noise[name] = _out_of_fold(side, tower, turns, device)
    made_by = Provenance("encode", {"folds": FOLDS, "repeats": REPEATS, "seed": seed, "device": device})
    return Encoded(codes, noise, tuple(loss), made_by)


@dataclass(frozen=True, eq=False)
class _Side:
    """One modality in canonical order: inputs, labels that count, who learns from whom, and its side of the pairs."""

    order: Array
    inputs: Inputs
    labels: Array
    splits: list[Split]
    drawn: Array

    @classmethod
    def of(cls, data: Dataset, name: str, rows: Array, seed: int) -> _Side:
        modality = data[name]
        order = modality.order
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        drawn = place[rows]
        labels = np.full(len(order), -1)
        labels[drawn] = modality.labels[rows]  # who has no partner is not learned from
        splits = make_splits(
            labels,
            folds=FOLDS,
            repeats=REPEATS,
            valid=_VALID,
            rng=named_rng(seed, name, "folds"),
            keys=modality.keys[order],
        )
        return cls(order, read_inputs(modality)[0], labels, splits, drawn)


def _own_pairs(sides: Sequence[_Side]) -> tuple[list[_Member], list[_Member]]:
    """Return every member's pairs: those of which neither cell is held out, and of which one chooses the epoch."""
    labels = sides[0].labels[sides[0].drawn]
    order = np.lexsort((sides[1].drawn, sides[0].drawn, labels))
    drawn = [side.drawn[order] for side in sides]
    _, labels = np.unique(labels[order], return_inverse=True)
    learn, valid = [], []
    for one, other in zip(*(side.splits for side in sides), strict=True):
        out = one.held_out[drawn[0]] | other.held_out[drawn[1]]
        aside = np.isin(drawn[0], np.setdiff1d(one.valid, one.train)) & ~out
        learn.append(_member(drawn, labels, ~out & ~aside))
        valid.append(_member(drawn, labels, aside if aside.any() else ~out))
    return learn, valid


def _member(drawn: Sequence[Array], labels: Array, own: Array) -> _Member:
    start = np.concatenate([[0], np.cumsum(np.bincount(labels[own], minlength=labels.max() + 1))])
    return _Member(drawn[0][own], drawn[1][own], start)


def _tower(inputs: Inputs, members: int, generator: torch.Generator) -> nn.Module:
    n_out = _CODE + 1
    if len(inputs.shape) == 4:
        return ConvNet(members=members, shape=inputs.values.shape[1:], n_out=n_out, generator=generator)
    n_in = inputs.shape[1]
    net = MLP(
        members=members,
        n_in=n_in,
        n_out=n_out,
        hidden=_HIDDEN,
        layout="LBRD",
        dropout=0.2,
        generator=generator,
        linear=True,
    )
    # Two linear maps that are both zero have no gradient to begin with; a product of codes is of their second order.
    net.linear = uniform((members, n_in, n_out), n_in, generator)
    return net


def _rotations(sides: Sequence[_Side], towers: Sequence[nn.Module], device: str) -> Array:
    """``(members, d, d)`` rotations that lay the members' codes on each other, both modalities together."""
    parts = []
    for side, tower in zip(sides, towers, strict=True):
        known = np.flatnonzero(side.labels >= 0)
        some = known[np.linspace(0, len(known) - 1, min(len(known), _ALIGNED)).astype(np.int64)]
        codes, labels = predict_all(tower, side.inputs.take(some), device=device)[..., :_CODE], side.labels[some]
        parts.append(np.stack([_within(member, labels) for member in codes]))
    codes = np.concatenate(parts, axis=1)
    mean, turns = codes[0], np.empty((0,))
    for _ in range(_TURNS):
        found = [np.linalg.svd(member.T @ mean) for member in codes]
        turns = np.stack([u @ vt for u, _, vt in found])
        mean = np.mean(codes @ turns, axis=0)
    return turns


def _within(x: Array, labels: Array) -> Array:
    """Take the mean of its label off every row."""
    _, at = np.unique(labels, return_inverse=True)
    means = np.stack([np.bincount(at, column) for column in x.T], axis=1) / np.bincount(at)[:, None]
    return np.asarray(x - means[at])


def _out_of_fold(side: _Side, tower: nn.Module, turns: Array, device: str) -> tuple[Array, Array]:
    """``(R, n, d)`` codes by the members that did not see the cell, and the covariance of their mean's error."""
    rows = [np.flatnonzero(s.held_out) for s in side.splits]
    own = predict_own(tower, side.inputs, rows, device=device)
    found = averaged([codes[:, :_CODE] @ turn for codes, turn in zip(own, turns, strict=True)], side.splits)
    out = np.empty_like(found)
    out[:, side.order] = found
    return out, spread_of(found) / found.shape[1]
