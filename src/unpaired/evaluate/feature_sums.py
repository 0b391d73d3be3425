"""Sums over cells, feature by feature, from which R2 and correlations come: taken in one pass, part by part."""

from __future__ import annotations

import numpy as np

from unpaired.data.types import Array

__all__ = ["FeatureSums"]

_ROUNDING = float(np.finfo(np.float32).eps)


class FeatureSums:
    """What measured and predicted readings add up to; a measured one that is missing (NaN) is left out.

    Parameters
    ----------
    features
        Number of features.

    Attributes
    ----------
    cells
        Cells that were added.
    readings
        ``(p,)`` how many of them each feature has a measured reading of.
    error
        ``(p,)`` sums of squared differences between measured and predicted readings.
    """

    def __init__(self, features: int) -> None:
        self.cells = 0
        self.readings = np.zeros(features, dtype=np.int64)
        self.error = np.zeros(features)
        self._means = np.zeros((2, features))  # of the measured readings, and of the predicted ones
        self._products = np.zeros((3, features))  # around these means: measured, predicted, one with the other
        self._low, self._high = np.full((2, features), np.inf), np.full((2, features), -np.inf)

    def add(self, measured: Array, predicted: Array) -> None:
        """Add ``(k, p)`` float64 readings of some cells."""
        both, there = np.stack([measured, predicted]), ~np.isnan(measured)
        self.error += np.where(there, (measured - predicted) ** 2, 0.0).sum(axis=0)
        self._low = np.minimum(self._low, np.where(there, both, np.inf).min(axis=1))
        self._high = np.maximum(self._high, np.where(there, both, -np.inf).max(axis=1))
        new = there.sum(axis=0)
        means = np.where(there, both, 0.0).sum(axis=1) / np.maximum(new, 1)
        y, f = np.where(there, both - means[:, None], 0.0)
        own = np.stack([(y**2).sum(axis=0), (f**2).sum(axis=0), (y * f).sum(axis=0)])
        # Sums around the mean of all cells, from those around the means of two parts (Chan et al. 1979).
        step, readings = means - self._means, self.readings + new
        some = np.maximum(readings, 1)
        between = self.readings * new / some
        self._products += own + between * np.stack([step[0] ** 2, step[1] ** 2, step[0] * step[1]])
        self._means += step * (new / some)
        self.readings = readings
        self.cells += len(measured)

    @property
    def flat(self) -> Array:
        """``(2, p)`` whether all measured, and all predicted readings of a feature are the same, or there are none."""
        # Readings are float32: what differs by less than their rounding is one value.
        flat: Array = self._high - self._low <= _ROUNDING * np.maximum(np.abs(self._low), np.abs(self._high))
        return flat

    @property
    def spread(self) -> Array:
        """``(p,)`` sums of squared differences between measured readings and their mean."""
        out: Array = self._products[0]
        return out

    def r2(self) -> Array:
        """``(p,)`` 1 - MSE / MSE of the mean; NaN where all measured readings are the same."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.flat[0], np.nan, 1 - self.error / self.spread)

    def pearson(self) -> Array:
        """``(p,)`` correlations; NaN where all measured, or all predicted readings are the same."""
        yy, ff, yf = self._products
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.flat.any(axis=0), np.nan, yf / np.sqrt(yy * ff))
