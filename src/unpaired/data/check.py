"""Every problem of the tables at once, each with its place and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from unpaired.data.check_labels import check_column, check_labels
from unpaired.data.check_values import check_values, recipe_of
from unpaired.data.labels import names_of
from unpaired.data.tables import Table
from unpaired.data.wording import counted, listed
from unpaired.errors import Problem
from unpaired.options import check_choice

__all__ = ["check_tables", "shared_ids"]


def check_tables(
    tables: Sequence[Table],
    *,
    label: str | None,
    batch: str | None = None,
    missing: Literal["median", "error"] = "median",
    recipes: Mapping[str, str] | str = "auto",
    pairing: Literal["none", "use", "hide"] = "none",
    matched: bool = True,
) -> tuple[Problem, ...]:
    """Return every problem of the tables: errors first, then warnings and notes.

    Parameters
    ----------
    tables
        The modalities, as found.
    label
        Column with the label of each cell's experiment; ``None`` where labels are not looked at.
    batch
        Column with the batch, if any.
    missing
        ``"median"``: missing values will be filled by their feature's median; ``"error"``: they are an error.
    recipes
        One recipe for all, or modality name -> recipe.
    pairing
        What will be done with cells of the same id.
    matched
        Whether cells will be matched by their labels, which must then be shared by all modalities.

    Raises
    ------
    OptionError
        If an option has a value that is not allowed.
    """
    check_choice("missing", missing, ("median", "error"))
    check_choice("pairing", pairing, ("none", "use", "hide"))
    found: list[Problem] = []
    if len(tables) < 2:
        names = f"only {tables[0].name!r} is given" if tables else "none is given"
        where = tables[0].where if tables else "input"
        found.append(Problem("error", where, f"at least two modalities are needed; {names}.", "Name another file."))
    for table in tables:
        found += check_values(table, spec=recipe_of(recipes, table.name), missing=missing)
        found += [] if batch is None else _check_batch(table, batch)
    found += [] if label is None else check_labels(tables, label, matched=matched)
    found += _check_ids(tables) if pairing == "none" else _check_pairs(tables, label, pairing)
    rank = {"error": 0, "warning": 1, "note": 2}
    return tuple(sorted(found, key=lambda p: rank[p.severity]))


def shared_ids(tables: Sequence[Table]) -> list[str]:
    """Return the ids that occur in several tables, sorted; row numbers that we gave are no ids."""
    counts = Counter(i for t in tables if not t.numbered for i in set(t.ids.tolist()))
    return sorted(i for i, k in counts.items() if k > 1)


def _check_batch(table: Table, batch: str) -> list[Problem]:
    wrong = check_column(table, batch, option="batch")
    if wrong:
        return wrong
    unknown = sum(n is None for n in names_of(table.obs[batch]))
    if not unknown:
        return []
    what = f"{counted(unknown, 'cell')} of {len(table):,} {'has' if unknown == 1 else 'have'} no batch in {batch!r};"
    return [Problem("warning", table.where, what, "they form a batch of their own, 'unknown'.")]


def _where(tables: Sequence[Table]) -> str:
    return ", ".join(dict.fromkeys(t.where for t in tables))


def _check_ids(tables: Sequence[Table]) -> list[Problem]:
    shared = shared_ids(tables)
    if not shared:
        return []
    what = f"{counted(len(shared), 'id')} {'occurs' if len(shared) == 1 else 'occur'} in several modalities"
    fix = "If they are the same cells, choose pairing='use' to learn from the pairs, or 'hide' to score with them."
    return [Problem("note", _where(tables), f"{what} ({listed(shared, limit=3)}); they are kept apart.", fix)]


def _check_pairs(tables: Sequence[Table], label: str | None, pairing: str) -> list[Problem]:
    shared = shared_ids(tables)
    if not shared:
        numbered = [t.name for t in tables if t.numbered]
        samples = "; ".join(f"{t.name} has {listed(t.ids, limit=2)}" for t in tables if not t.numbered)
        what = f"pairing={pairing!r} needs cells with the same id in several modalities, and there is none"
        what += f": {samples}" if samples else ""
        what += f" ({', '.join(numbered)} without ids: rows are only numbered)." if numbered else "."
        return [Problem("error", _where(tables), what, "Name the same cells alike, or do without pairs.")]
    found = []
    for table in tables:
        if not table.numbered and (table.ids == np.arange(len(table)).astype(str)).all():
            what = (
                f"the ids are the row numbers 0 to {len(table) - 1}: with pairing={pairing!r}, equal rows are one cell."
            )
            found.append(Problem("warning", table.where, what, "Make sure that the rows are in the same order."))
    return found if label is None else found + _check_disagreement(tables, label, set(shared))


def _check_disagreement(tables: Sequence[Table], label: str, shared: set[str]) -> list[Problem]:
    """Return a warning of cells whose labels differ between the modalities."""
    known: dict[str, str] = {}
    differ: list[str] = []
    for table in tables:
        if table.numbered or check_column(table, label, option="label"):
            continue
        for cell, name in zip(table.ids.tolist(), names_of(table.obs[label]), strict=True):
            if name is not None and cell in shared and known.setdefault(cell, name) != name:
                differ.append(cell)
    if not differ:
        return []
    verb = "has" if len(differ) == 1 else "have"
    what = f"{counted(len(differ), 'cell')} {verb} different labels in different modalities"
    fix = "Such pairs cannot be found by matching within labels."
    return [Problem("warning", _where(tables), f"{what}: {listed(differ, limit=3)}.", fix)]
