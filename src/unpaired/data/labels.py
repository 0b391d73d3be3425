"""The names of labels: one way to read them, whatever type a file has given them."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from unpaired.data.types import Array

__all__ = ["ONE_LABEL", "alike", "name_of", "names_of", "near_duplicates"]

ONE_LABEL = "all cells"
"""The label of all cells where none was asked for."""


def name_of(value: Any) -> str | None:
    """Return the name of a label, ``None`` where it is not known.

    Whole numbers lose their decimal point (1, 1.0 and "1" are one label); no other value is rewritten.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, str):
        return str(value) if value.strip() else None
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return None
        if float(value).is_integer():
            return str(int(value))
    return str(value)


def names_of(column: Any) -> Array:
    """Return the names of a column's labels as an object array of ``str``, with ``None`` where unknown."""
    import pandas as pd

    values = pd.Series(column)
    if isinstance(values.dtype, np.dtype) and not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))  # pandas cannot factorise another machine's byte order
    # Factorising asks for each name once, and knows every kind of missing value (NaN, None, NA, NaT).
    codes, unique = pd.factorize(values, use_na_sentinel=True)
    plain = np.asarray(unique)
    # Numbers as an array's: pandas would hand out the float32 value 0.1 as the float64 0.10000000149.
    names = np.array([*map(name_of, plain if plain.dtype.kind == "f" else unique), None], dtype=object)
    return np.asarray(names[codes])


def alike(name: str) -> str:
    """Return what is left of a name without case, spacing and decimal zeros: equal for names that look like slips."""
    folded = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    return re.sub(r"^(-?\d+)\.0+$", r"\1", folded)


def near_duplicates(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of different names that differ only in case, spacing or a decimal zero."""
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        groups[alike(name)].add(name)
    return sorted(tuple(sorted(g)) for g in groups.values() if len(g) > 1)
