"""What may be wrong with the readings of one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp

from unpaired.data.preprocess import choose, parse_recipe
from unpaired.data.scan import Found, Scan, readings, scan
from unpaired.data.tables import Table
from unpaired.data.types import Array
from unpaired.data.wording import counted, listed
from unpaired.errors import Problem

__all__ = ["check_values", "recipe_of"]

_COUNT_RECIPES = ("counts", "peaks", "protein")
_TABLE, _IMAGES = 2, 4
_MOST_MISSING = 0.5


def recipe_of(recipes: Mapping[str, str] | str, name: str) -> str:
    """Return the recipe that is asked for in one modality."""
    return recipes if isinstance(recipes, str) else recipes.get(name, "auto")


def check_values(table: Table, *, spec: str, missing: str) -> list[Problem]:
    """Return the problems of a table's readings and their names.

    Parameters
    ----------
    table
        The table.
    spec
        The recipe that is asked for.
    missing
        ``"median"`` or ``"error"``.
    """
    found = _check_form(table)
    if found:
        return [*found, *_check_names(table)]
    values = readings(table.X)
    recipe, reason = _recipe(table, values, spec)
    seen = scan(values)
    shape = " x ".join(f"{s:,}" for s in values.shape[1:])
    size = f"{counted(len(table), 'cell')} x {shape} {'features' if values.ndim == _TABLE else 'pixels'}"
    return [
        *_check_names(table),
        *_check_infinite(table, seen),
        *_check_missing(table, seen, recipe=recipe, missing=missing),
        *_check_negative(table, seen, recipe),
        *_check_zero(table, seen, recipe),
        *_check_constant(table, seen),
        Problem("note", table.where, f"{size}; recipe {recipe!r} ({reason})."),
    ]


def _recipe(table: Table, values: Array, spec: str) -> tuple[str, str]:
    name, _ = parse_recipe(spec)
    if name != "auto":
        return name, "asked for"
    return choose(values, feature_names=table.feature_names, feature_types=table.feature_types)


def _error(table: Table, what: str, fix: str) -> Problem:
    return Problem("error", table.where, what, fix)


def _check_form(table: Table) -> list[Problem]:
    """Return what makes the readings no readings at all: their dimensions, type or length."""
    found, shape = [], np.shape(table.X)
    if len(shape) not in {_TABLE, _IMAGES} or (sp.issparse(table.X) and len(shape) != _TABLE):
        what = (
            f"X has {counted(len(shape), 'dimension')} {shape}; a table has 2, and images have 4 (n, channels, h, w)."
        )
        found.append(_error(table, what, "Reshape it."))
    if table.X.dtype.kind not in "biuf":
        kinds = {"O": "Python objects", "U": "text", "S": "text", "T": "text", "c": "complex numbers", "M": "dates"}
        what = f"X holds {kinds.get(table.X.dtype.kind, 'no real numbers')} (dtype {table.X.dtype})."
        found.append(_error(table, what, "Convert it to numbers: X.astype('float32')."))
    if shape and shape[0] != len(table):
        what = f"X has {counted(shape[0], 'row')}, but there are {counted(len(table), 'label or id', 'labels or ids')}."
        found.append(_error(table, what, "Give one label and one id for each row."))
    if 0 in shape:
        missing = "cells" if shape[0] == 0 else "features"
        found.append(_error(table, f"has 0 {missing} (X is {' x '.join(map(str, shape))}).", "Check the last filter."))
    return found


def _check_names(table: Table) -> list[Problem]:
    found = []
    fixes = {
        "id": "Make them unique (adata.obs_names_make_unique()); each cell may occur once.",
        "feature name": "Make them unique (adata.var_names_make_unique()), or sum the columns of equal names.",
    }
    for kind, names in (("id", table.ids), ("feature name", table.feature_names)):
        repeated = [] if names is None else [n for n, k in Counter(names.tolist()).items() if k > 1]
        if repeated:
            what = f"{counted(len(repeated), kind)} {'occurs' if len(repeated) == 1 else 'occur'} more than once"
            found.append(_error(table, f"{what}: {listed(repeated, limit=3)}.", fixes[kind]))
    return found


def _at(table: Table, found: Found) -> str:
    return f"the first in cell {table.cell(found.row)} at feature {table.feature(found.column)}"


def _check_infinite(table: Table, seen: Scan) -> list[Problem]:
    if not seen.infinite:
        return []
    verb = "is" if seen.infinite.count == 1 else "are"
    what = f"{counted(seen.infinite.count, 'value')} of X {verb} infinite (or too large for single precision)"
    return [_error(table, f"{what}, {_at(table, seen.infinite)}.", "Correct or remove these cells or features.")]


def _check_missing(table: Table, seen: Scan, *, recipe: str, missing: str) -> list[Problem]:
    if not seen.missing:
        return []
    share = 100 * seen.missing.count / np.prod(np.shape(table.X))
    verb = "is" if seen.missing.count == 1 else "are"
    what = (
        f"{counted(seen.missing.count, 'value')} of X ({share:.2g} %) {verb} missing (NaN), {_at(table, seen.missing)}"
    )
    if np.ndim(table.X) == _IMAGES:
        return [_error(table, f"{what}; images must be complete.", "Remove these images, or fill them yourself.")]
    if missing == "error":
        return [_error(table, f"{what}.", "Remove these cells or features, or choose missing='median'.")]
    if recipe in _COUNT_RECIPES:
        fix = f"A missing count is no number that can be filled. Choose another recipe: --recipe {table.name}=scale."
        return [_error(table, f"{what}, and recipe {recipe!r} is for counts.", fix)]
    return _check_fillable(table, seen) or [
        Problem("warning", table.where, f"{what}.", "Each is filled with its feature's median over the cells.")
    ]


def _check_fillable(table: Table, seen: Scan) -> list[Problem]:
    """Return what no median can fill: features and cells of which too little was measured."""
    n, p = np.shape(table.X)
    found = []
    empty = np.flatnonzero(seen.missing_by_feature == n)
    if len(empty):
        verb = "has" if len(empty) == 1 else "have"
        what = f"{counted(len(empty), 'feature')} {verb} no measured value at all"
        found.append(_error(table, f"{what}, the first is {table.feature(int(empty[0]))}.", "Remove them."))
    sparse = np.flatnonzero(seen.missing_by_cell > _MOST_MISSING * p)
    if len(sparse):
        first = int(sparse[0])
        what = (
            f"of {counted(len(sparse), 'cell')} more than half of the values are missing, "
            f"the first is {table.cell(first)} ({seen.missing_by_cell[first]} of {p})."
        )
        found.append(_error(table, what, "Remove them; to fill them would be to invent them."))
    return found


def _check_negative(table: Table, seen: Scan, recipe: str) -> list[Problem]:
    if not seen.negative or recipe not in _COUNT_RECIPES:
        return []
    verb = "is" if seen.negative.count == 1 else "are"
    what = f"{counted(seen.negative.count, 'value')} of X {verb} negative, {_at(table, seen.negative)}"
    fix = f"Give raw counts (perhaps in a layer), or choose another recipe: --recipe {table.name}=scale."
    return [_error(table, f"{what}, and recipe {recipe!r} is for counts.", fix)]


def _check_zero(table: Table, seen: Scan, recipe: str) -> list[Problem]:
    zero = np.flatnonzero(seen.zero_cells)
    if not len(zero) or recipe not in _COUNT_RECIPES:
        return []
    verb = "has" if len(zero) == 1 else "have"
    what = f"{counted(len(zero), 'cell')} {verb} no count at all, the first is {table.cell(int(zero[0]))}."
    return [Problem("warning", table.where, what, "They stay at zero and say nothing; remove them.")]


def _check_constant(table: Table, seen: Scan) -> list[Problem]:
    constant = np.flatnonzero(seen.constant)
    if not len(constant) or np.ndim(table.X) != _TABLE:
        return []
    verb = "has" if len(constant) == 1 else "have"
    what = f"{counted(len(constant), 'feature')} {verb} the same value in all cells"
    return [Problem("note", table.where, f"{what}, the first is {table.feature(int(constant[0]))}.")]
