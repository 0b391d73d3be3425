"""Inputs on a device: rows are fetched, made float32 and standardised when a batch asks for them."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from unpaired.embed.inputs import Inputs

__all__ = ["CELLS", "IMAGES", "Feed"]

CELLS = 4096
"""Cells of a table in a forward pass without gradients."""

IMAGES = 512
"""Images in one, all networks together: at 128 pixels their first maps take 0.3 GB."""


class Feed:
    """The cells of :class:`~unpaired.embed.inputs.Inputs` on a device; images of bytes are kept as bytes there.

    Parameters
    ----------
    inputs
        The cells.
    device
        A resolved device. On the CPU the values are not copied.

    Attributes
    ----------
    values
        As in the inputs, on the device.
    """

    def __init__(self, inputs: Inputs, device: str) -> None:
        self.device = device
        self.shape = inputs.shape
        with warnings.catch_warnings():
            # torch warns of arrays that must not be written to (as those read from a mapped file); nothing is written.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
            self.values = torch.as_tensor(np.ascontiguousarray(inputs.values), device=device)
        self._rows = torch.as_tensor(inputs.rows, device=device)
        self._moments = None if inputs.moments is None else torch.as_tensor(inputs.moments, device=device)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, cells: Tensor) -> Tensor:
        """Return ``(*cells.shape, ...)`` float32 inputs of the cells; images lie channels last in memory."""
        cells = cells.to(self.device)
        x = self.values[self._rows[cells.flatten()]]
        if x.ndim == 4:
            x = x.to(torch.float32, memory_format=torch.channels_last)
        if self._moments is not None:
            x = x.sub_(self._moments[0]).div_(self._moments[1])  # in place: these are bytes made numbers just now
        return x.view(*cells.shape, *x.shape[1:])
