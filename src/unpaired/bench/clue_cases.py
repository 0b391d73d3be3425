"""The cells of the bench of CLUE: who is learned from with which pairs known, and who is to be matched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from unpaired.data.counts import are_counts
from unpaired.data.pairing import hide_pairing
from unpaired.data.preprocess import prepare
from unpaired.data.read import read
from unpaired.data.split import hold_out
from unpaired.data.types import Array, Dataset, Pairs, Truth
from unpaired.errors import DataError, OptionError, Problem
from unpaired.seeds import named_rng, named_seed

__all__ = ["SIDES", "Case", "case_of", "files_of", "read_cells", "with_share"]

SIDES = ("rna", "adt")
"""Source and target."""

_MATCHED = 0.3  # of the cells are to be matched
_RECIPES = {"rna": "counts:pcs=100", "adt": "protein"}  # what encoders read: published are 100 components of each side
_LABELS = ("label", "cell_type")


@dataclass(frozen=True, eq=False)
class Case:
    """One split of the cells.

    Attributes
    ----------
    learn
        The cells to learn from. Rows of either side are shuffled; ``pairs`` are those that are known.
    match
        The cells to be matched: no pairs, each side shuffled. The recipes are fitted on ``learn``.
    truth
        Who is whose partner among the cells to be matched. No method is given it.
    hidden
        All pairs of the cells to learn from, of which some may be known. No method is given them.
    """

    learn: Dataset
    match: Dataset
    truth: Truth
    hidden: Truth

    @property
    def partners(self) -> Array:
        """Row of the target that is the partner, for every row of the source to be matched."""
        return self.truth.partners(*SIDES)


def files_of(folder: Path | None) -> tuple[Path, Path]:
    """Return the files of a folder.

    Raises
    ------
    OptionError
        If there is no such folder, or it lacks one of them.
    """
    files = [] if folder is None else [folder / f"{name}.h5ad" for name in SIDES]
    if not files or not all(f.is_file() for f in files):
        msg = f"data must be a folder with rna.h5ad and adt.h5ad; got {folder}."
        raise OptionError(msg)
    return files[0], files[1]


@lru_cache(maxsize=1)
def read_cells(folder: Path, most: int | None) -> Dataset:
    """Read a folder of raw counts, its pairs known; about ``most`` cells, alike in labels, or all.

    Raises
    ------
    DataError
        If the files cannot be used, are no counts, or have no cells in common.
    """
    files = files_of(folder)
    data, _ = read(*files, label=_label(files[0]), pairing="use", recipes="none")
    for modality in data.modalities.values():
        if not are_counts(modality):
            what = "its readings are not counts, which this bench is about."
            raise DataError([Problem("error", f"memory {modality.name}", what, "Give it the raw counts.")])
    if data.pairs is None or not (data.pairs.partners(*SIDES) >= 0).any():
        what = "no cell is in both files."
        raise DataError([Problem("error", str(folder), what, "Name the cells alike in both.")])
    cells = len(data[SIDES[0]])
    if most is None or most >= cells:
        return data
    return hold_out(data, fraction=1 - most / cells, seed=0)[0]


def case_of(data: Dataset, seed: int) -> Case:
    """Split the cells, label by label; all pairs of those to learn from are known.

    Parameters
    ----------
    data
        As of :func:`read_cells`.
    seed
        Seed of the split and of the shuffling.
    """
    learn, _, held = hold_out(data, fraction=_MATCHED, seed=named_seed(seed, "clue", "split"))
    shuffled, hidden = hide_pairing(learn, named_seed(seed, "clue", "learn"))
    shuffled = prepare(shuffled, recipes=_RECIPES)
    match, truth = hide_pairing(held.data, named_seed(seed, "clue", "match"))
    fitted = {n: replace(m, recipe=shuffled[n].recipe) for n, m in match.modalities.items()}
    case = Case(shuffled, replace(match, modalities=fitted), truth, hidden)
    return with_share(case, 1.0, seed)


def with_share(case: Case, share: float, seed: int) -> Case:
    """Return the case with so many of its pairs known; the other cells stay, each row one of its own.

    The pairs of a smaller share are among those of a larger one.

    Parameters
    ----------
    case
        The case.
    share
        From 0 to 1, of the cells to learn from that have a pair; rounded to whole cells.
    seed
        Seed of which.
    """
    paired = _paired(case)
    drawn = named_rng(seed, "clue", "known").permutation(paired)[: round(share * len(paired))]
    units: Mapping[str, Array] = {n: np.where(np.isin(u, drawn), u, -1) for n, u in case.hidden.units.items()}
    return replace(case, learn=replace(case.learn, pairs=Pairs(units) if len(drawn) else None))


def _paired(case: Case) -> Array:
    """Return the cells that were measured on both sides, in an order that no order of rows can change."""
    source, target = (case.hidden.units[n] for n in SIDES)
    ordered = source[case.learn[SIDES[0]].order]
    return np.asarray(ordered[(ordered >= 0) & np.isin(ordered, target)])


def _label(path: Path) -> str:
    """Return the column with the label: the first of those that benches know."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            obs: Any = file.get("obs", {})
            return next((c for c in _LABELS if c in obs), _LABELS[0])
    except OSError:  # the reader will say what is wrong with it
        return _LABELS[0]
