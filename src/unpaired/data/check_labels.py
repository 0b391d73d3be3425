"""What may be wrong with the labels: in one table, and between tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from unpaired.data.labels import names_of, near_duplicates
from unpaired.data.tables import Table
from unpaired.data.types import Array
from unpaired.data.wording import counted, did_you_mean, listed
from unpaired.errors import Problem

__all__ = ["check_column", "check_labels"]

_FEWEST = 2  # labels that all must share: of one label alone nothing can be learned
_UNEQUAL = 20
_LOOKS_MISSING = {"na", "n/a", "nan", "none", "null", "<na>", "nat", "-"}


@dataclass(frozen=True, eq=False)
class _Labelled:
    """A table and the names of its labels."""

    table: Table
    names: Array
    sizes: Counter[str]

    @property
    def name(self) -> str:
        return self.table.name


def check_labels(tables: Sequence[Table], label: str, *, matched: bool = True) -> list[Problem]:
    """Return the problems of the labels: of every table, then between those tables that have labels.

    Where cells are not matched by them, they need only be there.
    """
    found: list[Problem] = []
    labelled: list[_Labelled] = []
    for table in tables:
        wrong = check_column(table, label, option="label")
        found += wrong
        if wrong:
            continue
        names = names_of(table.obs[label])
        one = _Labelled(table, names, Counter(n for n in names if n is not None))
        found += _check_one(one, label, matched=matched)
        labelled.append(one)
    if matched and len(labelled) > 1:
        found += _check_shared(labelled)
        found += _check_one_sided(labelled)
        found += _check_unequal_sides(labelled)
    found += _check_near_duplicates(labelled)
    return found


def check_column(table: Table, column: str, *, option: str) -> list[Problem]:
    """Return the problem of a column of ``obs`` that does not exist, or exists twice."""
    columns = [str(c) for c in table.obs.columns]
    times = columns.count(column)
    if times == 1:
        return []
    if times > 1:
        what = f"has {times} columns named {column!r} ({option})."
        return [Problem("error", table.where, what, "Rename all but one.")]
    what = f"has no column {column!r} ({option})."
    return [Problem("error", table.where, what, did_you_mean(column, columns, kind="columns"))]


def _warning(table: Table, what: str, fix: str = "") -> Problem:
    return Problem("warning", table.where, what, fix)


def _check_one(one: _Labelled, label: str, *, matched: bool) -> list[Problem]:
    table, sizes = one.table, one.sizes
    if not sizes:
        what = f"column {label!r} has no value: all {counted(len(table), 'cell')} are unlabelled."
        return [Problem("error", table.where, what, "Fill it, or name another column.")] if len(table) else []
    if not matched:
        return []
    found = []
    unknown = len(one.names) - sizes.total()
    if unknown:
        verb = "has" if unknown == 1 else "have"
        what = f"{counted(unknown, 'cell')} of {len(one.names):,} {verb} no label in {label!r}:"
        found.append(_warning(table, what, "scored, never trained on, not matched."))
    odd = [n for n in sizes if n.strip().casefold() in _LOOKS_MISSING]
    if odd:
        carried = sum(sizes[n] for n in odd)
        what = f"{counted(carried, 'cell carries', 'cells carry')} the label {listed(odd)}, which is taken as a name."
        found.append(_warning(table, what, "If it means that the label is not known, leave it empty."))
    single = sorted(n for n, k in sizes.items() if k == 1)
    if single:
        verb = "has" if len(single) == 1 else "have"
        found.append(_warning(table, f"{counted(len(single), 'label')} {verb} a single cell: {listed(single)}."))
    (large, most), (small, fewest) = sizes.most_common(1)[0], min(sizes.items(), key=lambda item: (item[1], item[0]))
    if most > _UNEQUAL * fewest:
        what = f"the labels' sizes are very unequal: {most:,} cells of {large!r}, {fewest:,} of {small!r}."
        found.append(_warning(table, what, "max_cells_per_label can even them out."))
    return found + _check_categories(one, label)


def _check_categories(one: _Labelled, label: str) -> list[Problem]:
    column = one.table.obs[label]
    if not hasattr(column, "cat") or not hasattr(column.cat, "categories"):
        return []
    used = set(np.unique(column.cat.codes))
    unused = [c for i, c in enumerate(column.cat.categories) if i not in used]
    if not unused:
        return []
    verb = "category has" if len(unused) == 1 else "categories have"
    what = f"{len(unused)} {verb} no cell and {'is' if len(unused) == 1 else 'are'} left out: {listed(unused)}."
    return [Problem("note", one.table.where, what)]


def _together(labelled: Sequence[_Labelled]) -> str:
    return ", ".join(dict.fromkeys(one.table.where for one in labelled))


def _check_shared(labelled: Sequence[_Labelled]) -> list[Problem]:
    if not all(one.sizes for one in labelled):
        return []  # said already, of the table without labels
    shared = set.intersection(*(set(one.sizes) for one in labelled))
    if len(shared) >= _FEWEST:
        return []
    samples = "; ".join(f"{one.name} has {listed(sorted(one.sizes), limit=5)}" for one in labelled)
    what = f"only the label {shared.copy().pop()!r} is" if shared else "no label is"
    what += f" shared by name by all modalities, where at least {_FEWEST} are needed: {samples}."
    slips = [g for g in near_duplicates({n for one in labelled for n in one.sizes}) if _across(g, labelled)]
    fix = (
        f"Some differ only in case, spacing or a decimal zero, write them alike: {_groups(slips)}."
        if slips
        else "Name the same experiments alike in all modalities, or choose another column."
    )
    return [Problem("error", _together(labelled), what, fix)]


def _across(group: tuple[str, ...], labelled: Sequence[_Labelled]) -> bool:
    """Whether the names of a group of near duplicates stand in different modalities."""
    return sum(any(n in one.sizes for n in group) for one in labelled) > 1


def _groups(groups: Sequence[tuple[str, ...]]) -> str:
    shown = " and ".join(" = ".join(map(repr, g)) for g in groups[:5])
    return shown + (f" (and {len(groups) - 5} more)" if len(groups) > 5 else "")


def _check_one_sided(labelled: Sequence[_Labelled]) -> list[Problem]:
    found = []
    for one, other in permutations(labelled, 2):
        alone = sorted(set(one.sizes) - set(other.sizes))
        if alone and len(alone) < len(one.sizes):
            verb = "does" if len(alone) == 1 else "do"
            cells = counted(sum(one.sizes[n] for n in alone), "cell")
            what = f"{counted(len(alone), 'label')} with {cells} {verb} not occur in {other.name}: {listed(alone)};"
            found.append(_warning(one.table, what, f"these cells are not matched with {other.name}."))
    return found


def _check_unequal_sides(labelled: Sequence[_Labelled]) -> list[Problem]:
    found = []
    for one, other in combinations(labelled, 2):
        pairs = {n: (one.sizes[n], other.sizes[n]) for n in sorted(set(one.sizes) & set(other.sizes))}
        unequal = [f"{n}: {a:,} and {b:,}" for n, (a, b) in pairs.items() if max(a, b) > _UNEQUAL * min(a, b)]
        if unequal:
            what = f"in {one.name} and {other.name} some labels have very unequal numbers of cells: {listed(unequal)}."
            found.append(Problem("warning", _together([one, other]), what, "max_cells_per_label can even them out."))
    return found


def _check_near_duplicates(labelled: Sequence[_Labelled]) -> list[Problem]:
    groups = near_duplicates({n for one in labelled for n in one.sizes})
    if not groups:
        return []
    what = f"some labels differ only in case, spacing or a decimal zero, and are taken as different: {_groups(groups)}."
    where = [one for one in labelled if any(n in one.sizes for g in groups for n in g)]
    return [Problem("warning", _together(where), what, "Write them alike if they are one experiment.")]
