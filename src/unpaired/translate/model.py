"""What a translator has learned: the network with everything that new readings of the source need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from unpaired.data.preprocess import Recipe
from unpaired.data.types import Array, Modality
from unpaired.embed.inputs import standardise
from unpaired.errors import DataError, OptionError, Problem
from unpaired.translate.prediction import Space, feature_labels, target_values

__all__ = ["Input", "Model", "Output", "mean_shares", "read_source", "read_target"]

_CHUNK = 4096  # cells a forward pass, at most,
_ENTRIES = 2**24  # and readings of all members together (64 MB)


@dataclass(frozen=True, eq=False)
class Input:
    """What the network reads: the source modality.

    Attributes
    ----------
    name
        The modality.
    recipe
        Its fitted recipe, or ``None``.
    shape
        Shape of one cell's readings.
    feature_names
        ``(p,)`` names of the readings, or ``None``.
    center, scale
        Standardisation of the features: ``(d,)``, and one number.
    """

    name: str
    recipe: Recipe | None
    shape: tuple[int, ...]
    feature_names: Array | None
    center: Array
    scale: float

    def check(self, readings: Any) -> None:
        """Raise unless readings can be predicted from.

        Raises
        ------
        DataError
            If the readings have another shape, are no numbers, or are missing or infinite.
        """
        found = tuple(int(s) for s in readings.shape[1:])
        if found != self.shape:
            what = f"the readings have the shape {found} a cell; {self.name} was learned with {self.shape}."
            raise DataError([Problem("error", "memory", what, "Give the same features in the same order.")])
        if readings.dtype.kind not in "biuf":
            what = f"the readings have the type {readings.dtype}."
            raise DataError([Problem("error", "memory", what, "Give real numbers.")])
        filled = self.recipe is not None and "median" in self.recipe.arrays
        starts = range(0, readings.shape[0], _CHUNK)
        bad = [start + _bad_rows(readings[start : start + _CHUNK], filled=filled) for start in starts]
        if sum(map(len, bad)):
            rows = np.concatenate(bad)
            what = f"{len(rows)} cells have readings that are missing or infinite, the first in row {rows[0]}."
            raise DataError([Problem("error", "memory", what, "Remove them.")])

    def standardised(self, readings: Any) -> Array:
        """Return ``(n, ...)`` float32 inputs of readings ``(n, *shape)``."""
        plain = Modality(self.name, readings, np.zeros(0), np.zeros(0), recipe=self.recipe)
        features = plain.transform(readings)
        return np.asarray((features - self.center) / self.scale, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Output:
    """What the network predicts: the target modality.

    Attributes
    ----------
    name
        The modality.
    space
        In which units (see :class:`~unpaired.translate.prediction.Prediction`).
    feature_names
        ``(p,)`` names of the columns.
    center, scale
        Standardisation: ``(p,)`` each.
    size
        Median of the target cells' totals, for a head of counts; otherwise ``None``.
    """

    name: str
    space: Space
    feature_names: Array
    center: Array
    scale: Array
    size: float | None


@dataclass(frozen=True, eq=False)
class Model:
    """A trained ensemble between its input and its output.

    Attributes
    ----------
    net
        The ensemble.
    layout
        What the ensemble is made of, so that it can be made again.
    source, target
        Its two ends.
    device
        Where it runs.
    digest
        SHA-256 of what it was learned from: the readings, the recipes and the matching.
    """

    net: Any
    layout: Mapping[str, Any]
    source: Input
    target: Output
    device: str
    digest: str

    def predict(self, readings: Any) -> tuple[Array, Array]:
        """Return ``(n, p)`` float32 mean and standard deviation between members, in the target's units, in chunks.

        Of a single network there is no such deviation: it is NaN.
        """
        rows = readings.tocsr() if sp.issparse(readings) else readings
        self.source.check(rows)
        n, p = rows.shape[0], len(self.target.feature_names)
        mean, spread = np.empty((n, p), dtype=np.float32), np.empty((n, p), dtype=np.float32)
        members = self.layout["members"]
        widest = max(p, int(np.prod(self.layout["shape"])))
        step = int(np.clip(_ENTRIES // (members * widest), 1, _CHUNK))
        for start in range(0, n, step):
            part = slice(start, start + step)
            mean[part], spread[part] = self._moments(self.source.standardised(rows[part]))
        return mean, spread

    def _moments(self, x: Array) -> tuple[Array, Array]:
        """``(n, p)`` mean over members and standard deviation between them, in the target's units."""
        import torch

        net = self.net.eval().to(self.device)
        members = self.layout["members"]
        with torch.no_grad():
            inputs = torch.as_tensor(x, device=self.device)
            many = inputs.expand(members, *inputs.shape)
            size = self.target.size
            sizes = None if size is None else torch.full(many.shape[:2], size, device=self.device)
            out = net(many, sizes)
            mean = out.mean(dim=0)
            # By hand: torch's own deviation over the first axis takes as long as the networks.
            spread = torch.full_like(mean, torch.nan) if members == 1 else ((out - mean) ** 2).mean(dim=0).sqrt()
            mean, spread = mean.cpu().numpy(), spread.cpu().numpy()
        return mean * self.target.scale + self.target.center, spread * self.target.scale


def _bad_rows(readings: Any, *, filled: bool) -> Array:
    """Rows with a value that is infinite, or missing where the recipe does not fill it."""
    values = (
        readings.data if sp.issparse(readings) else readings.reshape(len(readings), int(np.prod(readings.shape[1:])))
    )
    bad = np.isinf(values) if filled else ~np.isfinite(values)
    if sp.issparse(readings):
        return np.unique(np.repeat(np.arange(readings.shape[0]), np.diff(readings.indptr))[bad])
    return np.flatnonzero(bad.any(axis=1))


def read_source(modality: Modality, rows: Array) -> tuple[Input, Array]:
    """Return how a source is read, standardised by the cells ``rows``, and its ``(n, ...)`` standardised features."""
    center, scale = standardise(modality.features[rows])
    shape = tuple(int(s) for s in modality.X.shape[1:])
    end = Input(modality.name, modality.recipe, shape, modality.feature_names, center, scale)
    return end, np.asarray((modality.features - center) / scale, dtype=np.float32)


def read_target(modality: Modality, rows: Array, *, space: Space, head: str) -> tuple[Output, Any, Array | None]:
    """Return what is predicted of a target, its ``(n, p)`` values, and the cells' totals for a head of counts.

    It is standardised by the cells ``rows``: features keep their relative sizes, as principal components have them;
    raw readings are scaled one by one.

    Raises
    ------
    OptionError
        If a head of counts is asked for and the readings are not counts.
    """
    values = target_values(modality, space)
    names = feature_labels(modality, space)
    if head == "nb":
        _check_counts(modality, values, rows, space)
        sizes = np.asarray(values.sum(axis=1), dtype=np.float64).ravel()
        zero, one = np.zeros(len(names)), np.ones(len(names))
        median = float(np.median(sizes[rows][sizes[rows] > 0]))
        return Output(modality.name, space, names, zero, one, median), values, sizes
    if space == "features":
        center, one_scale = standardise(values[rows])
        return Output(modality.name, space, names, center, np.full(len(names), one_scale), None), values, None
    center, scale = _moments(values[rows])
    return Output(modality.name, space, names, center, scale, None), values, None


def mean_shares(target: Output, values: Any) -> Array | None:
    """Return the mean share of every feature in the counts, where a head of counts starts; ``None`` for another."""
    if target.size is None:
        return None
    total = np.asarray(values.sum(axis=0), dtype=np.float64).ravel()
    return np.asarray(total / total.sum())


def _check_counts(modality: Modality, values: Any, rows: Array, space: Space) -> None:
    if space != "raw":
        msg = "head 'nb' predicts counts: use space='raw' with it."
        raise OptionError(msg)
    entries = np.asarray(values.data if sp.issparse(values) else values)
    if (entries < 0).any() or (entries != np.round(entries)).any():
        msg = f"head 'nb' predicts counts, and {modality.name!r} has readings that are none; use head='gaussian'."
        raise OptionError(msg)
    if not values[rows].sum() > 0:
        msg = f"head 'nb' predicts counts, and every reading of {modality.name!r} that is learned from is zero."
        raise OptionError(msg)


def _moments(values: Any) -> tuple[Array, Array]:
    """Mean and standard deviation of every column; one that is constant is not scaled."""
    mean = np.asarray(values.mean(axis=0), dtype=np.float64).ravel()
    if sp.issparse(values):
        square = np.asarray(values.multiply(values).mean(axis=0), dtype=np.float64).ravel()
        std = np.sqrt(np.maximum(square - mean**2, 0))
    else:
        std = np.asarray(values.std(axis=0, dtype=np.float64))
    return mean, np.where(std > 1e-8, std, 1.0)
