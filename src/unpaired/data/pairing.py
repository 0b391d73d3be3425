"""Who is whose partner: found by id, kept together when cells are left out, and hidden from the methods."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unpaired.data.check import shared_ids
from unpaired.data.tables import Table
from unpaired.data.types import UNKNOWN, Array, Dataset, Truth
from unpaired.data.units import take_units
from unpaired.errors import OptionError
from unpaired.seeds import named_rng

__all__ = ["find_units", "hide_pairing", "limit_cells"]

_Cell = tuple[str, int | str]  # ("", unit) of a cell in several modalities, (modality, id) of one in a single one


def find_units(tables: Sequence[Table]) -> dict[str, Array]:
    """Return for each table the code of the physical cell behind each row; -1 where only one table has it."""
    codes = {cell: k for k, cell in enumerate(shared_ids(tables))}
    return {
        t.name: np.array([-1 if t.numbered else codes.get(i, -1) for i in t.ids.tolist()], dtype=np.int64)
        for t in tables
    }


def hide_pairing(data: Dataset, seed: int = 0) -> tuple[Dataset, Truth]:
    """Take the pairs out of a data set and shuffle the rows of each modality on its own.

    Parameters
    ----------
    data
        A data set with pairs; not modified.
    seed
        Seed of the shuffling; every modality has its own generator.

    Returns
    -------
    Dataset
        The shuffled data without pairs.
    Truth
        The pairs, in the new order of the rows.

    Raises
    ------
    OptionError
        If the data set has no pairs.
    """
    if data.pairs is None:
        msg = "hide_pairing needs a data set with pairs; this one has none."
        raise OptionError(msg)
    rows = {n: named_rng(seed, "hide_pairing", n).permutation(len(m)) for n, m in data.modalities.items()}
    return replace(data.take(rows), pairs=None), Truth(take_units(data.pairs.units, rows))


def limit_cells(data: Dataset, limit: int, *, seed: int) -> dict[str, Array]:
    """Return for each modality the rows to keep, at most ``limit`` of each label; cells without a label stay.

    A cell in several modalities is kept or left out as one. It is kept if there is room for its label in each of them,
    whether or not these labels agree. Which cells are kept does not depend on the order of the rows.
    """
    cells = _cells(data)
    room: dict[tuple[str, int], int] = defaultdict(lambda: limit)
    keep: dict[str, list[int]] = {name: [] for name in data}
    for cell in _shuffled(data, cells, seed):
        labels = [(name, int(data[name].labels[row])) for name, row in cells[cell]]
        labels = [(name, code) for name, code in labels if code != UNKNOWN]
        if any(room[key] < 1 for key in labels):
            continue
        for key in labels:
            room[key] -= 1
        for name, row in cells[cell]:
            keep[name].append(row)
    return {name: np.array(sorted(rows), dtype=np.int64) for name, rows in keep.items()}


def _cells(data: Dataset) -> dict[_Cell, list[tuple[str, int]]]:
    """Return the physical cells, each with its (modality, row)."""
    cells: dict[_Cell, list[tuple[str, int]]] = defaultdict(list)
    for name, modality in data.modalities.items():
        units = [-1] * len(modality) if data.pairs is None else data.pairs.units[name].tolist()
        for row, (unit, cell) in enumerate(zip(units, modality.ids.tolist(), strict=True)):
            cells[("", unit) if unit >= 0 else (name, cell)].append((name, row))
    return dict(cells)


def _shuffled(data: Dataset, cells: dict[_Cell, list[tuple[str, int]]], seed: int) -> list[_Cell]:
    """Return the cells in random order, drawn for each label (and each side, where partners are not known) apart."""
    groups: dict[tuple[str, str], list[_Cell]] = defaultdict(list)
    for cell, rows in cells.items():
        codes = [int(data[name].labels[row]) for name, row in rows]
        known = [data.classes[c] for c in codes if c != UNKNOWN]
        groups[known[0] if known else "", cell[0]].append(cell)
    drawn: dict[_Cell, float] = {}
    for (label, side), members in groups.items():
        members.sort()
        values = named_rng(seed, "max_cells_per_label", label, side).random(len(members))
        drawn.update(zip(members, values.tolist(), strict=True))
    return sorted(drawn, key=lambda cell: drawn[cell])
