"""Rounds of learning from a matching and matching again.

A round draws pairs from the coupling, teaches an encoder of each modality to tell partners from other cells of the
label (:mod:`unpaired.embed.contrastive`), and matches again by what the first space and the codes say together. Each
space gives log odds of being partners, weighted by its own noise (:mod:`unpaired.match.transport.posterior`). The codes
were learned from a coupling of that first space, so the two are no independent witnesses, and their log odds must not
be added up: they are averaged, the codes with a half at most, and with nothing where partners that the encoders did not
see bear nothing of them out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired.data.types import Array, Dataset, Modality
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import DataError
from unpaired.match.block import Block
from unpaired.match.digest import digest_of
from unpaired.match.matching import Matching
from unpaired.match.refine_rule import MOST, Refined, Round, ended, no_time, rounds_kept
from unpaired.match.refine_store import Kept, keep, kept, round_file
from unpaired.match.transport.front import match_ot, weighted_space
from unpaired.match.transport.posterior import EPS
from unpaired.seeds import named_rng, named_seed

if TYPE_CHECKING:
    from unpaired.embed.contrastive import Encoded

__all__ = ["Work", "information", "refine_rounds", "rounds_of"]

_DRAWS = 16  # partners drawn for every cell of either side
_BELIEF = 4.0  # times the codes' share of the information is their weight, up to a half
_ROUNDING = 1e-12  # of the features' variance: what equal expectations of all cells differ by
_MANY = 5000  # features of the target: of more than that ...
_DIRECTIONS = 500  # ... an agreement is read off so many random directions of them
_ROWS = 2000
_ROUGH = 1e-2  # marginal error of a coupling that only an agreement is read off


@dataclass(frozen=True, eq=False)
class Work:
    """What all rounds have in common.

    Attributes
    ----------
    data, names
        The data set, and the modalities that are matched.
    options
        Limits and threads of the matching, as in :func:`unpaired.match_ot`.
    first
        The space of the first matching.
    seed, device, progress, folder
        As in :func:`refine_rounds`.
    """

    data: Dataset
    names: tuple[str, str]
    options: Mapping[str, Any]
    first: Embedding
    seed: int
    device: str
    progress: bool
    folder: Path | None

    def match(self, space: Embedding, **options: Any) -> Matching:
        """Match in a space, with the limits that the first matching had."""
        source, target = self.names
        return match_ot(self.data, space, source=source, target=target, **{**self.options, **options})

    def encode(self, matching: Matching, number: int) -> Encoded:
        """Teach encoders by a matching, or read what they said when this was done before."""
        from unpaired.embed.contrastive import encode, plan_of

        seed = named_seed(self.seed, "refine", str(number))
        digest = digest_of((self.data[self.names[0]], self.data[self.names[1]]), matching)
        made_of = {"matching": digest, "seed": seed, **plan_of(self.data, self.names, self.device)}
        place = None if self.folder is None else Kept(round_file(self.folder, number), made_of)
        before = None if place is None else kept(place, self.names)
        if before is not None:
            return before
        pairs = _draw(matching, seed)
        found = encode(self.data, self.names, pairs, seed=seed, device=self.device, progress=self.progress)
        if place is not None:
            keep(place, found)
        return found

    @cached_property
    def known(self) -> Embedding:
        """The first space, weighted."""
        return self.weighted(self.first)

    def weighted(self, space: Embedding, drawn: Array | None = None) -> Embedding:
        """Return the space in which half a squared distance is the log odds of a pair."""
        return weighted_space(self.data, space, *self.names, drawn=drawn, **self.options)

    def joined(self, encoded: Encoded) -> tuple[Embedding, float]:
        """Return the space whose squared distance is a mean of both spaces' log odds, and the codes' weight in it."""
        spaces = [self.known, self.weighted(encoded.embedding, encoded.common)]
        share = _share(*(s.made_by.options["information"] for s in spaces))
        weights = np.sqrt([1 - share, share])
        arrays = {
            n: np.concatenate([w * s[n] for w, s in zip(weights, spaces, strict=True)], axis=1) for n in self.names
        }
        dims = tuple(f"{of} {d}" for of, s in zip(("first space", "codes"), spaces, strict=True) for d in s.dims)
        told = {of: s.made_by.options for of, s in zip(("first", "codes"), spaces, strict=True)}
        return Embedding(arrays, "latent", None, dims, Provenance("refine", told | {"weight": share})), share


def _share(known: float, learned: float) -> float:
    """Return the weight of the codes: a half, or less where they know less than a seventh of the first space."""
    return min(0.5, _BELIEF * learned / (known + learned)) if learned > 0 else 0.0


def refine_rounds(
    data: Dataset,
    matching: Matching,
    embedding: Embedding,
    *,
    rounds: int | None,
    seed: int,
    device: str,
    jobs: int = 1,
    folder: Path | None = None,
    seconds: float | None = None,
    progress: bool = False,
) -> Refined:
    """Learn from a matching and match again, round by round.

    Parameters
    ----------
    data, matching, embedding
        What was matched, the result, and the space, which must know its noise.
    rounds
        How many; ``None``: until the matching does not change any more, at most :data:`MOST`, and the last one is
        undone if the two ensembles agree less than they did.
    seed
        Seed of everything that is drawn.
    device
        Where the networks learn.
    jobs
        Threads of the matching.
    folder
        Where finished rounds are kept; those that fit are not done again.
    seconds
        No round is begun that would not end within this time if it took as long as the one before.
    progress
        Show a progress bar of the training.

    Raises
    ------
    DataError
        If a round that was asked for has no pairs to learn from.
    OutputError
        If a finished round cannot be kept.
    """
    names = (matching.source, matching.target)
    made = matching.made_by.options
    taken = ("max_iter", "max_seconds", "tol", "keep", "memory", "device")
    options = {k: made[k] for k in taken if k in made} | {"jobs": jobs}
    work = Work(data, names, options, embedding, seed, device, progress, folder)
    done: list[Round] = []
    spaces, matchings = [embedding], [matching]
    sentence = (
        f"{rounds} round{'s were' if rounds > 1 else ' was'} asked for."
        if rounds
        else f"{MOST} rounds are the most that are made."
    )
    making = rounds_of(work, matching)
    while len(done) < (rounds or MOST):
        try:
            space, new, round_ = next(making)
        except DataError as error:
            if rounds is not None:
                raise
            sentence = f"Round {len(done) + 1} could not be made: {error.problems[0].what}"
            break
        done.append(round_)
        spaces, matchings = [spaces[-1], space], [matchings[-1], new]  # no more than one can be undone
        why = ended(done) if rounds is None else None
        if why is None and len(done) < (rounds or MOST):
            why = no_time(done, seconds)
        if why is not None:
            sentence = why
            break
    kept = len(done) if rounds else rounds_kept([(r.agreement, r.change, r.weight) for r in done])
    at = kept - len(done) - 1
    told = tuple(replace(r, kept=r.round <= kept) for r in done)
    return Refined(spaces[at], matchings[at], told, sentence)


def rounds_of(work: Work, matching: Matching) -> Iterator[tuple[Embedding, Matching, Round]]:
    """Iterate over the space and the matching of one round after another."""
    last, number = matching, 0
    features = _some_directions(work.data[work.names[1]], work.seed)
    while True:
        number += 1
        encoded = work.encode(last, number)
        start = time.perf_counter() - encoded.seconds  # it may have been read, and took longer when it was made
        space, weight = work.joined(encoded)
        new = work.match(space, eps=EPS)
        alone = (work.weighted(encoded.repeat(r), encoded.common) for r in range(2))
        one, other = (work.match(s, tol=_ROUGH, eps=EPS) for s in alone)
        told = Round(
            round=number,
            seconds=time.perf_counter() - start,
            loss=min(encoded.loss),
            weight=weight,
            information=information(new),
            agreement=_correlation(one, other, features),
            change=_correlation(last, new, features),
            kept=True,
        )
        last = new
        yield space, new, told


def information(matching: Matching) -> float:
    """Return what a coupling claims to know of a partner: mean log of candidates over effective partners, in nats."""
    total = cells = 0.0
    for block in matching.matched:
        known = block.sums(1) > 0
        total += float(np.log(len(block.cols) / block.effective_partners()[known]).sum())
        cells += float(known.sum())
    return total / cells if cells else 0.0


def _draw(matching: Matching, seed: int) -> Array:
    """``(2, k)`` pairs: partners of every source cell and of every target cell, drawn as the coupling says."""
    parts = [_of_block(b, seed) for b in matching.matched if min(len(b.rows), len(b.cols)) > 1]
    return np.concatenate(parts, axis=1) if parts else np.zeros((2, 0), dtype=np.int64)


def _of_block(block: Block, seed: int) -> Array:
    there, back = block, block.transpose
    found = []
    for side, one in (("source", there), ("target", back)):
        some = np.flatnonzero(one.sums(1) > 0)
        drawn = one.cols[one.sample(named_rng(seed, "pairs", side, block.label), _DRAWS)[some]]
        pair = (np.repeat(one.rows[some], _DRAWS), drawn.ravel())
        found.append(np.stack(pair if side == "source" else pair[::-1]))
    return np.concatenate(found, axis=1)


def _some_directions(modality: Modality, seed: int) -> Array:
    """``(n, k)`` features, or of very many (pixels) random directions, in which covariances are about the same."""
    n, p = len(modality), modality.flat_features.shape[1]
    if p <= _MANY:
        return modality.flat_features
    turn = named_rng(seed, "directions").standard_normal((p, _DIRECTIONS)) / np.sqrt(_DIRECTIONS)
    out = np.empty((n, _DIRECTIONS))
    parts = np.array_split(modality.order, max(1, n // _ROWS))  # in this order: the last bits depend on it
    for rows in parts:
        out[rows] = modality.flat_features[rows] @ turn
    return out


def _correlation(one: Matching, other: Matching, features: Array) -> float:
    """Correlation, within labels, of the target's features as two matchings expect them of the source's cells."""
    product, total = np.zeros(3), 0.0
    second = {b.label: b for b in other.matched}
    for block in one.matched:
        twin = second.get(block.label)
        if twin is None or min(len(block.rows), len(block.cols)) < 2:
            continue
        z = features[block.cols].astype(np.float64)
        z -= z.mean(axis=0)
        x, y = block.project(z), twin.project(z)
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        total += float((z * z).sum())
        product += [(x * y).sum(), (x * x).sum(), (y * y).sum()]
    if min(product[1:]) <= _ROUNDING * total:  # a matching that says nothing agrees with no other
        return 0.0
    return float(product[0] / np.sqrt(product[1] * product[2]))
