"""Whether readings are counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from unpaired.data.tables import Table
    from unpaired.data.types import Modality

__all__ = ["are_counts"]


def are_counts(side: Modality | Table) -> bool:
    """Whether the readings are a table of whole numbers that are not negative."""
    if side.X.ndim != 2:
        return False
    values = side.X.data if sp.issparse(side.X) else np.asarray(side.X)
    return bool(np.isfinite(values).all() and (values >= 0).all() and (values == np.round(values)).all())
