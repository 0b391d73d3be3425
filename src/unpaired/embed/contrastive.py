"""Encoders taught by soft pairs: two networks, one a modality, whose codes of partners have a large product.

An encoder pair learns, for a cell and some candidates of its label, which candidate was drawn as its partner. At the
best, the product of two codes is the log odds of being partners, but for what depends on one cell alone (van den Oord
et al. 2018, InfoNCE): what is noise in one pair averages out over many, and what is left is what the readings of both
modalities say of each other, whether the space that the pairs came from knew of it or not.

Every cell is coded by members of the ensemble that saw neither it nor any pair that was drawn for it. A product stays
the same if one code is turned by any map and the other by its inverse; what two members mostly differ in is a rotation,
which is found on all cells (orthogonal Procrustes, both modalities together, label means taken off).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from unpaired.data.types import Array, Dataset
from unpaired.embed.classifiers import averaged
from unpaired.embed.contrast_learning import GROUPS, Contrast, Member, Towers, fewest_pairs
from unpaired.embed.drawn import common_covariance, within_labels
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.embed.feed import Feed
from unpaired.embed.fit_network import native_bfloat16
from unpaired.embed.folds import Split, make_splits
from unpaired.embed.inputs import Inputs, read_inputs
from unpaired.embed.learning import predict_all, predict_own
from unpaired.embed.modality_fit import spread_of
from unpaired.embed.networks import MLP, ConvNet, uniform
from unpaired.embed.training import TrainingSettings, resolve_device, train_ensemble
from unpaired.errors import DataError, Problem
from unpaired.seeds import named_rng, named_seed

__all__ = ["REPEATS", "Encoded", "encode", "plan_of"]

REPEATS = 2
"""Of the cross-fitting; each has folds of its own, so they tell how far two answers are apart."""

_VERSION = 1  # of all that follows, and of what is drawn for it: codes that were kept by another one are made again
_CODE = 16  # width of a code
_HIDDEN = 128
_PASSES = 4  # over the cells, at least
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
    common
        ``(d, d)`` covariance, within labels, of the means of two drawn partners, beyond chance.
    loss
        Held-out loss (nats) of telling a drawn partner from the other candidates, mean over members, one an epoch.
    made_by
        How they were made.
    seconds
        What that took.
    """

    codes: Mapping[str, Array]
    noise: Mapping[str, Array]
    common: Array
    loss: tuple[float, ...]
    made_by: Provenance
    seconds: float

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


@dataclass(frozen=True)
class _Effort:
    """How much an ensemble learns.

    Attributes
    ----------
    folds
        Of the cross-fitting.
    group
        Cells of a label that are told apart at a time: a pair has so many candidates.
    steps
        Of the optimizer, at least.
    rate
        Largest learning rate.
    """

    folds: int
    group: int
    steps: int
    rate: float


_TABLES = _Effort(folds=5, group=64, steps=300, rate=3e-3)
_IMAGES = _Effort(folds=3, group=32, steps=150, rate=3e-4)  # where convolutions would take hours


def plan_of(data: Dataset, names: tuple[str, str], device: str) -> dict[str, Any]:
    """Return what the codes depend on beside the pairs and the seed."""
    device, effort, precision = _plan(data, names, device)
    return {"version": _VERSION, "device": device, "precision": precision, **asdict(effort)}


def _plan(data: Dataset, names: tuple[str, str], device: str) -> tuple[str, _Effort, Literal["float32", "bfloat16"]]:
    device = resolve_device(device)
    if all(data[n].X.ndim != 4 for n in names):
        return device, _TABLES, "float32"
    return device, _IMAGES, "bfloat16" if native_bfloat16(device) else "float32"


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
    start = time.perf_counter()
    device, effort, precision = _plan(data, names, device)
    if not pairs.shape[1]:
        raise DataError([_NOTHING])
    sides = [_Side.of(data, n, rows, effort.folds, seed) for n, rows in zip(names, pairs, strict=True)]
    learn, valid = _own_pairs(sides)
    if not fewest_pairs(learn).any():
        raise DataError([_NOTHING])
    generator = torch.Generator().manual_seed(named_seed(seed, "weights"))
    members = effort.folds * REPEATS
    net = Towers(*(_tower(side.inputs, members, generator) for side in sides))
    cells = max(len(side.inputs) for side in sides)
    batch = effort.group * GROUPS
    steps = max(effort.steps, round(_PASSES * cells / batch)) // _EPOCHS
    feeds = (Feed(sides[0].inputs, device), Feed(sides[1].inputs, device))
    task = Contrast(net, feeds, learn, valid, steps, effort.group, named_seed(seed, "groups"))
    settings = TrainingSettings(_EPOCHS, batch, effort.rate, 1e-2, "adamw", _EPOCHS, precision=precision)
    loss = train_ensemble(task, settings, device=device, seed=named_seed(seed, "dropout"), progress=progress)
    towers = (net.source, net.target)
    turns = _rotations(sides, towers, device)
    codes, noise = {}, {}
    for name, side, tower in zip(names, sides, towers, strict=True):
        codes[name], noise[name] = _out_of_fold(side, tower, turns, device)
    common = _common(sides, [codes[n] for n in names], named_rng(seed, "shuffles"))
    made_by = Provenance("encode", {"folds": effort.folds, "repeats": REPEATS, "seed": seed, "device": device})
    return Encoded(codes, noise, common, tuple(loss), made_by, time.perf_counter() - start)


@dataclass(frozen=True, eq=False)
class _Side:
    """One modality in canonical order: inputs, labels that count, who learns from whom, and its side of the pairs."""

    order: Array
    inputs: Inputs
    labels: Array
    splits: list[Split]
    drawn: Array

    @classmethod
    def of(cls, data: Dataset, name: str, rows: Array, folds: int, seed: int) -> _Side:
        modality = data[name]
        order = modality.order
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        drawn = place[rows]
        labels = np.full(len(order), -1)
        labels[drawn] = modality.labels[rows]  # who has no partner is not learned from
        if len(np.unique(modality.keys[order][labels >= 0])) < folds:
            raise DataError([_NOTHING])
        splits = make_splits(
            labels,
            folds=folds,
            repeats=REPEATS,
            valid=_VALID,
            rng=named_rng(seed, name, "folds"),
            keys=modality.keys[order],
        )
        return cls(order, read_inputs(modality)[0], labels, splits, drawn)


def _own_pairs(sides: Sequence[_Side]) -> tuple[list[Member], list[Member]]:
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


def _member(drawn: Sequence[Array], labels: Array, own: Array) -> Member:
    start = np.concatenate([[0], np.cumsum(np.bincount(labels[own], minlength=labels.max() + 1))])
    return Member(drawn[0][own], drawn[1][own], start)


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
        parts.append(np.stack([within_labels(member, labels) for member in codes]))
    codes = np.concatenate(parts, axis=1)
    mean, turns = codes[0], np.empty((0,))
    for _ in range(_TURNS):
        found = [np.linalg.svd(member.T @ mean) for member in codes]
        turns = np.stack([u @ vt for u, _, vt in found])
        mean = np.mean(codes @ turns, axis=0)
    return turns


def _out_of_fold(side: _Side, tower: nn.Module, turns: Array, device: str) -> tuple[Array, Array]:
    """``(R, n, d)`` codes by the members that did not see the cell, and the covariance of their mean's error."""
    rows = [np.flatnonzero(s.held_out) for s in side.splits]
    own = predict_own(tower, side.inputs, rows, device=device)
    found = averaged([codes[:, :_CODE] @ turn for codes, turn in zip(own, turns, strict=True)], side.splits)
    out = np.empty_like(found)
    out[:, side.order] = found
    known = side.labels >= 0  # a cell without a partner is coded by all members: their mean varies less
    return out, spread_of(found[:, known]) / max(1, known.sum())


def _common(sides: Sequence[_Side], codes: Sequence[Array], rng: np.random.Generator) -> Array:
    """Return what the codes of drawn partners have in common; in canonical order, as sums depend on it."""
    x, y = (c.mean(axis=0)[s.order] for c, s in zip(codes, sides, strict=True))
    drawn = np.stack([s.drawn for s in sides])
    return common_covariance((x, y), (sides[0].labels, sides[1].labels), drawn[:, np.lexsort(drawn[::-1])], rng)
