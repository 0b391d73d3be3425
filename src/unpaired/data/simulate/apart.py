"""The last step of every simulation: the pairs are hidden, offered or dropped; the latent states go along."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from unpaired.data.pairing import hide_pairing
from unpaired.data.types import Array, Dataset, Truth
from unpaired.errors import OptionError

__all__ = ["hide_cells", "set_pairing"]


def hide_cells(data: Dataset, latents: Array, seed: int) -> tuple[Dataset, Truth]:
    """Shuffle each modality of a paired data set on its own and return the truth with the cells' latent states.

    Parameters
    ----------
    data
        Data with pairs, whose rows are the same cells in the same order in every modality; not modified.
    latents
        ``(n, d)`` latent states, in that order.
    seed
        Seed of the shuffling.

    Raises
    ------
    OptionError
        If the data set has no pairs.
    """
    if data.pairs is None:
        msg = "hide_cells needs a data set with pairs; this one has none."
        raise OptionError(msg)
    by_unit = np.empty_like(latents)
    by_unit[data.pairs.units[next(iter(data))]] = latents
    hidden, truth = hide_pairing(data, seed)
    return hidden, replace(truth, latents={n: by_unit[units] for n, units in truth.units.items()})


def set_pairing(
    data: Dataset, latents: Array, pairing: Literal["hide", "use", "none"], seed: int
) -> tuple[Dataset, Truth | None]:
    """Return the data as ``pairing`` asks for, and the truth where it is hidden."""
    if pairing == "hide":
        return hide_cells(data, latents, seed)
    return (data if pairing == "use" else replace(data, pairs=None)), None
