"""One shared space for all modalities, and what can make one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np

from unpaired.data.types import Array, Dataset
from unpaired.errors import OptionError

__all__ = ["Embedder", "Embedding", "Provenance", "Snapshot", "Watch", "features_embedding"]


@dataclass(frozen=True)
class Provenance:
    """How a result was made.

    Attributes
    ----------
    method
        The function or class.
    options
        Its options as they were used: numbers, strings, lists.
    notes
        What happened that the user should know, as sentences.
    """

    method: str
    options: Mapping[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Embedding:
    """Coordinates of every cell of every modality in one shared space.

    Attributes
    ----------
    arrays
        Modality name -> ``(n, d)`` float64 coordinates.
    space
        ``"logit"`` (propensity scores), ``"latent"`` (a learned code) or ``"feature"`` (the features themselves).
    noise
        Modality name -> ``(n,)`` variance of a coordinate between estimates of it; ``None`` where unknown.
    dims
        Names of the ``d`` dimensions; for propensities the labels they stand for.
    made_by
        How it was made.
    noise_covariance
        Modality name -> ``(d, d)`` covariance of the error of a cell's coordinates, mean over its cells; ``None`` where
        unknown.
    """

    arrays: Mapping[str, Array]
    space: Literal["logit", "latent", "feature"]
    noise: Mapping[str, Array] | None
    dims: tuple[str, ...]
    made_by: Provenance
    noise_covariance: Mapping[str, Array] | None = None

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def __repr__(self) -> str:
        parts = ", ".join(f"{n} {'x'.join(map(str, a.shape))}" for n, a in self.arrays.items())
        return f"Embedding({parts}; {self.space} space by {self.made_by.method})"


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What an embedder has learned after an epoch, for whoever watches it learn.

    Attributes
    ----------
    epoch
        Its number, from 0.
    modality
        The modality that is learned just now; ``None`` where all are learned at once.
    loss
        The validation loss that the epoch is chosen by, mean over the members of an ensemble.
    cross_entropy
        Validation cross-entropy of the labels, in nats.
    embed
        Gives modality name -> ``(n, d)`` coordinates of another data set's cells as of this epoch, for the modalities
        that are learned just now. To be called while the snapshot is shown, not later.
    """

    epoch: int
    modality: str | None
    loss: float
    cross_entropy: float
    embed: Callable[[Dataset], Mapping[str, Array]]


Watch = Callable[[Snapshot], None]
"""Called by ``fit`` after every epoch."""


@runtime_checkable
class Embedder(Protocol):
    """What can put all modalities into one space. A protocol: nothing inherits from it."""

    def fit(self, data: Dataset) -> Self:
        """Learn from the data set and return itself."""
        ...

    def transform(self, data: Dataset) -> Embedding:
        """Return the coordinates of the data set's cells."""
        ...


def features_embedding(data: Dataset) -> Embedding:
    """Take the modalities' own features as the space; they must have the same number of columns.

    For data whose features are comparable as they are (a known joint embedding with ``recipes="none"``).

    Raises
    ------
    OptionError
        If the numbers of features differ.
    """
    arrays = {n: m.flat_features.astype(np.float64) for n, m in data.modalities.items()}
    widths = {a.shape[1] for a in arrays.values()}
    if len(widths) > 1:
        sizes = ", ".join(f"{n}: {a.shape[1]}" for n, a in arrays.items())
        msg = f"the features cannot serve as a shared space, their numbers differ ({sizes})."
        raise OptionError(msg)
    dims = tuple(f"feature {i}" for i in range(widths.pop()))
    return Embedding(arrays, "feature", None, dims, Provenance("features", {}))
