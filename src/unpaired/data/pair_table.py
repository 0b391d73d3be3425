"""Tables that say which cells are one: a column for each modality, a row for each cell, its name in every modality."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unpaired.data.types import Array, Dataset, Pairs
from unpaired.data.wording import counted, did_you_mean, listed
from unpaired.errors import DataError, Problem

__all__ = ["read_pairs", "read_units"]

_NAMED = 3  # cells that a sentence names


def read_units(path: str | Path, data: Dataset) -> tuple[dict[str, Array], list[str], list[Problem]]:
    """Read a CSV file of pairs, and find what is wrong with it.

    Parameters
    ----------
    path
        The file: a column for each modality that it speaks of, in it the names of the cells, with or without the
        modality's prefix, empty where a cell was not measured.
    data
        The data set that it is of.

    Returns
    -------
    units
        Modality name -> ``(n,)`` row of the file that names each cell; -1 where none does.
    columns
        The names of the columns.
    problems
        Names that are unknown, and names in two rows; fewer than two columns that are modalities.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    import pandas as pd

    file = Path(path)
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, skip_blank_lines=False).fillna("")
    except (OSError, ValueError) as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else str(error).strip()
        raise DataError([_problem(file, f"cannot be read ({why}).", "It must be a CSV file.")]) from None
    problems: list[Problem] = []
    units = {name: np.full(len(data[name]), -1, dtype=np.int64) for name in data}
    for name in data:
        if name in table:
            ids = pd.Index(data[name].ids.astype(str))
            given = table[name].map(lambda v, n=name: v if not v or v.startswith(f"{n}:") else f"{n}:{v}").to_numpy()
            lines = np.flatnonzero(given != "")
            rows = ids.get_indexer(given[lines])
            problems += _unknown(file, name, data, given[lines[rows < 0]], lines[rows < 0])
            problems += _repeated(file, name, given[lines[rows >= 0]], lines[rows >= 0])
            units[name][rows[rows >= 0]] = lines[rows >= 0]
    columns = [str(c) for c in table.columns]
    if sum(name in columns for name in data) < 2:
        what = f"has the columns {listed(columns)}, of which two or more must be modalities."
        problems.append(_problem(file, what, f"Name them as the modalities: {list(data)}."))
    return units, columns, problems


def read_pairs(path: str | Path, data: Dataset) -> Pairs:
    """Read a CSV file of pairs to learn from; see :func:`read_units` for its layout.

    Raises
    ------
    DataError
        With every problem of the file: a column that is no modality, a name that is unknown or in two rows, or that
        no row names a cell in two modalities.
    """
    file = Path(path)
    units, columns, problems = read_units(file, data)
    for column in columns:
        if column not in data.modalities:
            what = f"column {column!r} is no modality."
            problems.append(
                _problem(file, what, f"{did_you_mean(column, list(data), kind='modalities')} Or remove it.")
            )
    named = np.concatenate([u[u >= 0] for u in units.values()])
    if not problems and not (np.bincount(named) > 1).any():
        fix = "Write the names of a cell into one row, or do without pairs."
        problems.append(_problem(file, "no row names a cell in two modalities: no pair is left.", fix))
    if problems:
        raise DataError(problems)
    return Pairs(units)


def _unknown(file: Path, name: str, data: Dataset, given: Array, rows: Array) -> list[Problem]:
    if not len(given):
        return []
    what = f"column {name!r}: {counted(len(given), 'unknown cell')}: {_places(name, given, rows)}."
    known = [i.removeprefix(f"{name}:") for i in data[name].ids[:2].tolist()]
    return [_problem(file, what, f"Write the names as the file of {name} has them, such as {listed(known)}.")]


def _repeated(file: Path, name: str, given: Array, rows: Array) -> list[Problem]:
    import pandas as pd

    again = pd.Series(given).duplicated().to_numpy()
    if not again.any():
        return []
    places = _places(name, given[again], rows[again])
    verb = "appears" if again.sum() == 1 else "appear"
    what = f"column {name!r}: {counted(int(again.sum()), 'cell')} {verb} more than once: {places}."
    return [_problem(file, what, "Keep one row a cell.")]


def _places(name: str, given: Array, rows: Array) -> str:
    """Name some cells, each with its line in the file, of which the first is the header."""
    shown = [f"{v.removeprefix(f'{name}:')!r} in line {row + 2}" for v, row in zip(given[:_NAMED], rows, strict=False)]
    return ", ".join(shown) + (f" (and {len(given) - _NAMED} more)" if len(given) > _NAMED else "")


def _problem(file: Path, what: str, fix: str) -> Problem:
    return Problem("error", str(file), what, fix)
