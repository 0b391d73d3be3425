"""What the wrapped methods share: the kinds of the modalities, and cells known by their readings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from unpaired.data.counts import are_counts
from unpaired.data.preprocess import choose, parse_recipe
from unpaired.data.types import Array, Dataset, Modality
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import NotFittedError, OptionError, UnpairedError

__all__ = ["Learned", "are_counts", "embedding_of", "float_csr", "kind_of", "learned"]

_COUNTED = ("counts", "protein", "peaks")


@dataclass(frozen=True, eq=False)
class Learned:
    """The coordinates of one modality's cells.

    Attributes
    ----------
    keys
        ``(n,)`` hashes of the cells' readings, sorted.
    codes
        ``(n, d)`` coordinates.
    """

    keys: Array
    codes: Array


def kind_of(modality: Modality) -> str:
    """Return what was counted, ``"counts"`` (genes), ``"protein"`` or ``"peaks"``; ``"other"`` for all else."""
    if not are_counts(modality):
        return "other"
    recipe = modality.recipe.name if modality.recipe else ""
    if recipe not in _COUNTED:
        recipe = parse_recipe(choose(modality.X, feature_names=modality.feature_names)[0])[0]
    return recipe if recipe in _COUNTED else "other"


def learned(method: str, data: Dataset, codes: Mapping[str, Array]) -> dict[str, Learned]:
    """Keep the coordinates of each modality's cells, given in canonical order.

    Raises
    ------
    UnpairedError
        If a coordinate is no number.
    """
    out = {}
    for name, found in codes.items():
        bad = int(np.sum(~np.isfinite(found).all(axis=1)))
        if bad:
            msg = f"{method} gave no numbers for {bad} of {len(found)} cells of {name!r}: its training broke down."
            raise UnpairedError(msg)
        modality = data[name]
        # The canonical order is by the keys first.
        out[name] = Learned(modality.keys[modality.order], np.asarray(found, dtype=np.float64))
    return out


def embedding_of(method: str, data: Dataset, known: Mapping[str, Learned] | None, made_by: Provenance) -> Embedding:
    """Look up the cells of a data set among those that were learned from.

    Raises
    ------
    NotFittedError
        Before ``fit``.
    OptionError
        If a modality or a cell was not in ``fit``.
    """
    if known is None:
        msg = "call fit before asking for what is learned."
        raise NotFittedError(msg)
    arrays = {}
    for name, modality in data.modalities.items():
        own = known.get(name)
        if own is None:
            msg = f"{method} has not learned modality {name!r}; it knows {', '.join(known)}."
            raise OptionError(msg)
        at = np.searchsorted(own.keys, modality.keys).clip(max=len(own.keys) - 1)
        new = int(np.sum(own.keys[at] != modality.keys))
        if new:
            msg = (
                f"{method} embeds only the cells that it learned from, and {new} of {len(modality)} cells of {name!r} "
                "were not among them; fit it on the cells to be matched."
            )
            raise OptionError(msg)
        arrays[name] = own.codes[at]
    dims = tuple(f"latent {i}" for i in range(next(iter(arrays.values())).shape[1]))
    return Embedding(arrays, "latent", None, dims, made_by)


def float_csr(X: Any) -> sp.csr_matrix:
    """Return readings as float32 CSR."""
    return sp.csr_matrix(X, dtype=np.float32)
