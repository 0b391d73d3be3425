"""New cells of a modality that a run knows: its features in its order, told by their names."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from unpaired.data.check_values import check_values
from unpaired.data.detect import Kind, detect_kind
from unpaired.data.labels import names_of
from unpaired.data.load import load_tables
from unpaired.data.load_npz import array_names
from unpaired.data.load_scverse import modality_names
from unpaired.data.recipes import fill_missing
from unpaired.data.scan import readings
from unpaired.data.tables import Table
from unpaired.data.types import UNKNOWN, Array, Modality
from unpaired.data.wording import counted, listed
from unpaired.errors import DataError, Problem

__all__ = ["NewCells", "read_cells"]

_LAYERED = ("h5ad", "h5mu", "zarr")


@dataclass(frozen=True, eq=False)
class NewCells:
    """Cells that were measured after a run.

    Attributes
    ----------
    modality
        Their readings, with the run's features and recipe.
    classes
        Names of their labels, which need not be the run's; ``modality.labels`` are codes into it.
    notes
        What is worth a warning, as sentences.
    """

    modality: Modality
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def read_cells(file: str | Path, known: Modality, options: Mapping[str, Any]) -> NewCells:
    """Read new cells of a modality from a file of any known kind.

    Parameters
    ----------
    file
        The file. Of a file with several modalities the one of the same name is taken.
    known
        The modality in the run.
    options
        How the run's data were read: ``label``, ``batch`` and ``layer``. None of the first two need be in the file.

    Raises
    ------
    DataError
        With every problem of the file: features of the run that it lacks, readings that cannot be used.
    OptionError
        If the file holds several modalities, none of the run's name.
    """
    loaded = _load(Path(file), known.name, options)
    table = _with_features(loaded, known)
    found = (*_check_order(loaded, known), *_check(table, known))
    if any(p.severity == "error" for p in found):
        raise DataError(p for p in found if p.severity != "note")
    label, batch = (table.obs.get(options.get(key)) for key in ("label", "batch"))
    names = np.full(len(table), None) if label is None else names_of(label)
    classes = sorted({n for n in names if n is not None})
    code: dict[str | None, int] = {n: k for k, n in enumerate(classes)} | {None: UNKNOWN}
    X = readings(table.X)
    modality = Modality(
        name=known.name,
        X=X.toarray() if sp.issparse(X) and np.isnan(X.data).any() else X,  # what is to be filled is dense
        labels=np.array([code[n] for n in names], dtype=np.int64),
        ids=np.array([f"{known.name}:{_bare(i, known.name)}" for i in table.ids.tolist()], dtype=object),
        feature_names=known.feature_names,
        batch=None if batch is None else np.array([n or "unknown" for n in names_of(batch)], dtype=object),
        recipe=known.recipe,
    )
    return NewCells(modality, tuple(classes), tuple(str(p) for p in found if p.severity == "warning"))


def _bare(name: str, modality: str) -> str:
    """Return a name without the modality's prefix, which a file written by a run has."""
    return name.removeprefix(f"{modality}:")


def _load(file: Path, name: str, options: Mapping[str, Any]) -> Table:
    kind = detect_kind(file)
    inside = array_names(file) if kind == "npz" else modality_names(file) if kind in {"h5mu", "zarr"} else None
    columns = _columns(file, kind, [options.get(k) for k in ("label", "batch")])
    (table,) = load_tables(
        [file],
        modalities=[name] if inside is not None and len(inside) > 1 else None,
        layer=options.get("layer") if kind in _LAYERED else None,
        label=columns[0],
        batch=columns[1],
    )
    return table


def _columns(file: Path, kind: Kind, wanted: Sequence[str | None]) -> list[str | None]:
    """Return the columns that a table of text has: it holds nothing but readings and the columns that are named."""
    if kind == "csv":
        with file.open(encoding="utf-8-sig", newline="") as opened:
            line = opened.readline()
        separators = "\t;,"
        header = next(csv.reader([line], delimiter=max(separators, key=line.count)))
        there = {h.strip() for h in header}
    elif kind == "parquet":
        from pyarrow.parquet import read_schema

        there = set(read_schema(file).names)
    else:
        return list(wanted)
    return [c if c in there else None for c in wanted]


def _with_features(table: Table, known: Modality) -> Table:
    """Return the table with the run's features, in the run's order."""
    shape, ours = np.shape(table.X)[1:], known.X.shape[1:]
    theirs = table.feature_names
    if len(ours) == 1 and len(shape) == 1 and theirs is not None and _named(theirs) and _named(known.feature_names):
        bare = [_bare(n, known.name) for n in theirs.tolist()]
        return _by_name(table, bare, [str(n) for n in known.feature_names])  # type: ignore[union-attr]
    if shape != ours:
        sizes = (" x ".join(f"{s:,}" for s in part) for part in (shape, ours))
        what = f"has {next(sizes)} features, but {known.name!r} has {next(sizes)} in the run."
        raise DataError([Problem("error", table.where, what, "Give the features that the run was made with.")])
    return replace(table, feature_names=known.feature_names if len(ours) == 1 else None)


def _named(names: Array | None) -> bool:
    """Whether features have names; what was numbered because it had none was not."""
    return names is not None and not np.array_equal(names.astype(str), np.arange(len(names)).astype(str))


def _check_order(table: Table, known: Modality) -> list[Problem]:
    """Return a warning where the features of the run have names, and those of the file none to be told by."""
    if np.ndim(table.X) > 2 or not _named(known.feature_names) or _named(table.feature_names):
        return []
    what = "its features have no names;"
    return [Problem("warning", table.where, what, "they are taken to be the run's, in the run's order.")]


def _by_name(table: Table, theirs: list[str], ours: list[str]) -> Table:
    places = {n: k for k, n in enumerate(theirs)}
    missing = [n for n in ours if n not in places]
    repeated = sorted({n for n in set(ours) & set(theirs) if theirs.count(n) > 1}) if len(places) < len(theirs) else []
    problems = []
    if missing:
        what = f"lacks {counted(len(missing), 'feature')} of the run: {listed(missing)}."
        fix = "Give the features that the run was made with, in any order."
        problems.append(Problem("error", table.where, what, fix))
    if repeated:
        what = f"{counted(len(repeated), 'feature name')} occurs more than once: {listed(repeated, limit=3)}."
        problems.append(Problem("error", table.where, what, "Make them unique, or sum the columns of equal names."))
    if problems:
        raise DataError(problems)
    at = [places[n] for n in ours]
    X = table.X.tocsr() if sp.issparse(table.X) else table.X
    return replace(table, X=X if at == list(range(len(theirs))) else X[:, at], feature_names=np.array(ours, dtype=str))


def _check(table: Table, known: Modality) -> tuple[Problem, ...]:
    """Return the problems of the readings; what the run's recipe fills is only a warning."""
    recipe = known.recipe
    filled, notes = table, []
    if recipe is not None and "median" in recipe.arrays and table.X.dtype.kind == "f":
        values = readings(table.X)
        count = int(np.isnan(values.data if sp.issparse(values) else values).sum())
        if count:
            filled = replace(table, X=fill_missing(values, recipe.arrays["median"]))
            what = f"{counted(count, 'value')} of X {'is' if count == 1 else 'are'} missing;"
            fix = "each is filled with its feature's median in the run."
            notes.append(Problem("warning", table.where, what, fix))
    return (*check_values(filled, spec=recipe.name if recipe else "none", missing="error"), *notes)
