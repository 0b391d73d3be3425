"""The parts of learning a space of partly paired cells: partners from labels, imputing in parts, judging."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np

from unpaired.data.split import HeldOut
from unpaired.data.types import Array, Dataset, Pairs
from unpaired.embed.clue import Clue
from unpaired.embed.embedding import Embedding
from unpaired.embed.propensity import Propensity
from unpaired.evaluate.diagnose import diagnose
from unpaired.evaluate.imputation import ImputationScores, score_imputation
from unpaired.evaluate.latent import LatentScores, score_latent
from unpaired.evaluate.prediction_scores import as_dense
from unpaired.match.matching import Matching
from unpaired.match.transport.front import match_ot
from unpaired.run.imputed import write_imputed
from unpaired.workflow.steps import log, progress, step

__all__ = ["Imputer", "judge_imputation", "judge_latent", "soft_pairs", "write_all_imputed"]

_PART = 2**22  # readings that are imputed at a time


def soft_pairs(
    data: Dataset, clock: dict[str, float], *, device: str, seed: int
) -> tuple[list[Matching], list[dict[str, Any]]]:
    """Match every two modalities by their labels, and say of each matching whether it can be believed.

    Parameters
    ----------
    data
        What is learned from.
    clock
        Takes the seconds of the steps.
    device, seed
        Where it runs, and the seed of what is drawn.
    """
    with step(clock, "classifiers"):
        space = Propensity(device=device, seed=seed, progress=progress()).fit(data).transform(data)
    matchings, told = [], []
    # The matching needs float64, which an Apple GPU has not.
    where: dict[str, Any] = {"device": "cpu" if device == "mps" else device, "progress": progress()}
    with step(clock, "matching"):
        for source, target in combinations(data, 2):
            matching = match_ot(data, space, eps="auto", source=source, target=target, **where)
            matchings.append(matching)
            told.append(_told(data, space, matching, seed))
    return matchings, told


def _told(data: Dataset, space: Embedding, matching: Matching, seed: int) -> dict[str, Any]:
    diagnosis, covered = diagnose(data, space, matching, seed=seed).to_dict(), matching.coverage
    log.info("%s and %s: %s", matching.source, matching.target, diagnosis["sentence"])
    return {
        "source": matching.source,
        "target": matching.target,
        "method": matching.made_by.method,
        "cells": {"source": covered.source, "target": covered.target},
        "verdict": diagnosis["verdict"],
        "sentence": diagnosis["sentence"],
        "notes": list(matching.made_by.notes),
    }


@dataclass(frozen=True, eq=False)
class Imputer:
    """A model that imputes in parts, in batches that it knows.

    Attributes
    ----------
    model
        What was learned.
    learned
        What it was learned from.
    """

    model: Clue
    learned: Dataset

    def batches(self, data: Dataset, source: str, target: str) -> Array | None:
        """Return the batches to impute in: a cell's own, or the target's largest where it has no cell of that one.

        ``None`` where batches are not told apart.
        """
        own, known = data[source].batch, self.learned[target].batch
        if own is None or known is None:
            return None
        names, times = np.unique(known.astype(str), return_counts=True)
        own = own.astype(str)
        return np.where(np.isin(own, names), own, names[times.argmax()])

    def parts(self, data: Dataset, source: str, target: str) -> Iterator[tuple[Array, Array, Array]]:
        """Iterate over ``(rows, mean, spread)`` of the source's cells: rows, and imputed readings of the target."""
        batches, modality = self.batches(data, source, target), data[source]
        size = max(1, _PART // self.learned[target].X.shape[1])
        for start in range(0, len(modality), size):
            rows = np.arange(start, min(start + size, len(modality)))
            some = replace(data, modalities={source: modality.take(rows)}, pairs=None)
            found = self.model.impute(some, source, target, batch=None if batches is None else batches[rows])
            yield rows, found.mean, found.spread


def judge_latent(held: HeldOut, alone: Mapping[str, Array]) -> list[LatentScores]:
    """Score the space for every two modalities that cells which were held out were measured in.

    Parameters
    ----------
    held
        Cells that were not learned from.
    alone
        Modality name -> places of these cells by this modality's readings.
    """
    found = []
    for source, target in combinations(held.data, 2):
        rows, partners = _pairs(held, source, target)
        if len(rows) > 1:
            found.append(score_latent(alone[source][rows], alone[target][partners], source=source, target=target))
    return found


def judge_imputation(held: HeldOut, imputer: Imputer) -> list[ImputationScores]:
    """Score what is imputed of cells that were held out, in every direction in which they were measured."""
    found, kinds = [], imputer.model.used()["likelihoods"]
    for source, target in permutations(held.data, 2):
        rows, partners = _pairs(held, source, target)
        if len(rows) < 2:
            continue
        some, measured = replace(held.data.take({source: rows}), pairs=None), held.data[target].X
        parts = (
            (as_dense(measured, partners[at]), mean, spread) for at, mean, spread in imputer.parts(some, source, target)
        )
        names = _feature_names(held.data, target)
        counts = kinds[target] == "nb"
        found.append(score_imputation(parts, source=source, target=target, names=names, counts=counts))
    return found


def write_all_imputed(
    folder: Path, data: Dataset, imputer: Imputer, *, which: str
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Write the imputed readings of all directions, and return what there is to say of them.

    Parameters
    ----------
    folder
        Where ``imputed/SOURCE_to_TARGET.h5ad`` are made.
    data
        All cells, with the pairs that are known.
    imputer
        What imputes.
    which
        ``"missing"``: of cells that lack the target; ``"all"``; or ``"none"``.

    Returns
    -------
    written, notes
        File -> ``source``, ``target``, ``cells``, ``features``; and what is worth a warning.
    """
    written, notes = dict[str, dict[str, Any]](), list[str]()
    for source, target in permutations(data, 2) if which != "none" else ():
        lacking = np.full(len(data[source]), -1) if data.pairs is None else data.pairs.partners(source, target)
        some = data.take({source: np.flatnonzero(lacking < 0)}) if which == "missing" else data
        if not len(some[source]):
            continue
        batches = imputer.batches(some, source, target)
        names = _feature_names(data, target)
        file = folder / "imputed" / f"{source}_to_{target}.h5ad"
        file.parent.mkdir(exist_ok=True)
        parts = ((mean, spread) for _, mean, spread in imputer.parts(some, source, target))
        write_imputed(
            file, some, parts, source=source, target=target, names=names, options=imputer.model.used(), batch=batches
        )
        told = {"source": source, "target": target, "cells": len(some[source]), "features": len(names)}
        written[file.relative_to(folder).as_posix()] = told
        notes += _elsewhere(some, source, target, batches)
    return written, notes


def _elsewhere(data: Dataset, source: str, target: str, batches: Array | None) -> list[str]:
    """Say that cells were imputed in another batch than their own."""
    own = data[source].batch
    other = np.zeros(0, bool) if batches is None or own is None else batches != own.astype(str)
    if batches is None or not other.any():
        return []
    name = str(batches[other][0])
    return [
        f"{target} was imputed for {int(other.sum()):,} of {len(other):,} cells of {source} as batch {name!r} would "
        f"have read it: there was no cell of {target} in their own batch to learn from."
    ]


def _pairs(held: HeldOut, source: str, target: str) -> tuple[Array, Array]:
    """Return the rows of the source that have a true partner, and their partners, ordered by what was measured."""
    from unpaired.embed.clue_inputs import slots_of

    if held.truth is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    slots = slots_of(replace(held.data, pairs=Pairs(held.truth.units)), [source, target])
    slots = slots[(slots >= 0).all(axis=1)]
    return held.data[source].order[slots[:, 0]], held.data[target].order[slots[:, 1]]


def _feature_names(data: Dataset, name: str) -> Array:
    names = data[name].feature_names
    return np.arange(data[name].X.shape[1]).astype(str) if names is None else names
