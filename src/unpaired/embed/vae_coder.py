"""From readings to the code of the multimodal autoencoder, modality by modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from unpaired import options
from unpaired.data.types import Array, Dataset, Modality
from unpaired.embed.feed import Feed
from unpaired.embed.inputs import Inputs, check_features, new_inputs
from unpaired.embed.vae_networks import Autoencoder

__all__ = ["Coder", "coordinates"]


@dataclass(frozen=True, eq=False)
class Coder:
    """What puts the cells of one modality into the space.

    Attributes
    ----------
    net
        Its networks.
    modality
        The cells that it was learned from, whose recipe serves new ones.
    center, scale
        Standardisation of the features.
    """

    net: Autoencoder
    modality: Modality
    center: Array
    scale: float

    def inputs(self, modality: Modality) -> Inputs:
        """Return the cells in canonical order.

        Raises
        ------
        DataError
            If they have other features.
        """
        if modality.recipe is self.modality.recipe and modality.X.ndim == 2:  # it has been applied, or will be once
            check_features(self.modality, modality.X)
            features = modality.features[modality.order]
            values = np.asarray((features - self.center) / self.scale, dtype=np.float32)
            return Inputs(values, np.arange(len(values)))
        return new_inputs(self.modality, modality.X, modality.order, self.center, self.scale)


def coordinates(coders: Mapping[str, Coder], data: Dataset, *, device: str) -> dict[str, Array]:
    """Return modality name -> ``(n, latent)`` float64 posterior means, by the networks as they are now.

    Parameters
    ----------
    coders
        Modality name -> what was learned.
    data
        Cells of some of these modalities.
    device
        A resolved device.

    Raises
    ------
    OptionError
        If a modality was not learned.
    DataError
        If a modality has other features.
    """
    arrays = {}
    for name, modality in data.modalities.items():
        options.check_choice("modality", name, tuple(coders))
        ordered = _means(coders[name].net, coders[name].inputs(modality), device=device)
        arrays[name] = np.empty_like(ordered)
        arrays[name][modality.order] = ordered
    return arrays


@torch.no_grad()
def _means(part: Autoencoder, x: Inputs, *, device: str) -> Array:
    """Return ``(n, latent)`` float64 means of the codes of a modality's cells."""
    part.eval().to(device)
    feed = Feed(x, device)
    means = [part.encode(feed[rows]).mean for rows in torch.arange(len(feed)).split(part.chunk)]
    return torch.cat(means).double().cpu().numpy()
