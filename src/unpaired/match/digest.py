"""Tell whether work that goes on is of the same data and the same matching as the work that began."""

from __future__ import annotations

import hashlib

import numpy as np

from unpaired.data.types import Modality
from unpaired.match.matching import Matching
from unpaired.seeds import named_rng

__all__ = ["digest_of"]


def digest_of(sides: tuple[Modality, Modality], rows: Matching) -> str:
    """Return a hash of data and matching: a training must not go on with others than it began with."""
    digest = hashlib.sha256()
    parts = [m.keys for m in sides]
    for recipe in (m.recipe for m in sides if m.recipe is not None):
        parts += [np.array(recipe.name), *(recipe.arrays[k] for k in sorted(recipe.arrays))]
    for block in rows.matched:
        # Sums alone would not do: of two couplings with the same marginals they are the same.
        probe = named_rng(0, "probe", block.label).random((len(block.cols), 1))
        parts += [block.rows, block.cols, block.dot(probe).astype(np.float32)]
    for part in parts:
        digest.update(f"{part.dtype} {part.shape}".encode() + np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
