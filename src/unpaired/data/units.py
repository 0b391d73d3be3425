"""The codes that say which rows of two modalities are one physical cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["partners_of", "take_units"]

Array = NDArray[Any]


def partners_of(units: Mapping[str, Array], source: str, target: str) -> Array:
    """Return for each source row the target row of the same unit, or -1."""
    known = np.flatnonzero(units[target] >= 0)
    lookup = dict(zip(units[target][known].tolist(), known.tolist(), strict=True))
    return np.array([lookup.get(u, -1) if u >= 0 else -1 for u in units[source].tolist()], dtype=np.int64)


def take_units(units: Mapping[str, Array], rows: Mapping[str, Array]) -> dict[str, Array]:
    """Return ``units`` with the given rows of each named modality."""
    return {n: u[rows[n]] if n in rows else u for n, u in units.items()}
