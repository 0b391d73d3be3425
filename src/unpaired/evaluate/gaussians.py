"""Gaussians with shrunken covariances, of few cells or many features, and the divergence between two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unpaired.data.types import Array

__all__ = ["Gaussian", "divergence"]

_SINGULAR = 1e-10  # of the largest eigenvalue: below it, a covariance cannot be inverted


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A mean and a covariance: V diag(values) V' on the span of V, and ``rest`` in every direction beyond it.

    Attributes
    ----------
    mean
        ``(p,)`` mean.
    vectors
        ``(p, r)`` orthonormal eigenvectors V.
    values
        ``(r,)`` their eigenvalues.
    rest
        The eigenvalue of every other direction.
    """

    mean: Array
    vectors: Array
    values: Array
    rest: float

    @classmethod
    def of(cls, X: Array) -> Gaussian:
        """Fit to ``(n, p)`` readings by Ledoit and Wolf's shrinkage towards a multiple of the identity.

        From the eigenvalues of the smaller side, because scikit-learn's goes over all pairs of features: minutes a
        label for the genes of a few cells.
        """
        n, p = X.shape
        mean = X.mean(axis=0)
        c = X - mean
        values, vectors = np.linalg.eigh((c.T @ c if p <= n else c @ c.T) / n)
        if p > n:  # the same eigenvalues from the smaller side
            kept = values > 1e-12 * values[-1]
            values = values[kept]
            vectors = c.T @ vectors[:, kept] / np.sqrt(n * values)
        values = np.maximum(values, 0)
        average, squares = values.sum() / p, float(values @ values)
        spread = squares - p * average**2  # how far the covariance is from a multiple of the identity ...
        error = (float(np.mean(np.einsum("ij,ij->i", c, c) ** 2)) - squares) / n  # ... and how much of it is noise
        shrinkage = 0.0 if p == 1 or spread <= 0 else min(max(error, 0.0), spread) / spread
        return cls(mean, vectors, (1 - shrinkage) * values + shrinkage * average, shrinkage * average)

    @property
    def whole(self) -> bool:
        """Whether the vectors span all directions."""
        return len(self.mean) == len(self.values)

    @property
    def singular(self) -> bool:
        """Whether some direction has no variance."""
        if not self.values.size:
            return True
        smallest = self.values.min() if self.whole else min(self.values.min(), self.rest)
        return bool(smallest <= _SINGULAR * self.values.max())

    @property
    def log_determinant(self) -> float:
        """Logarithm of the covariance's determinant."""
        beyond = self.vectors.shape[0] - len(self.values)
        return float(np.log(self.values).sum()) + (beyond * float(np.log(self.rest)) if beyond else 0.0)


def divergence(one: Gaussian, other: Gaussian) -> float:
    """Return KL(one || other) = 1/2 (tr(S2^-1 S1) + d' S2^-1 d - p + log|S2| - log|S1|), by the eigenvectors."""
    p = len(one.mean)
    beyond = 0.0 if other.whole else 1 / other.rest  # the inverse, off the span of the other's vectors
    shift = one.mean - other.mean
    along = other.vectors.T @ shift
    squared = along**2 @ (1 / other.values) + beyond * (shift @ shift - along @ along)
    # The one's covariance is V diag(own) V' + rest I.
    rest = 0.0 if one.whole else one.rest
    own = one.values - rest
    overlap = (other.vectors.T @ one.vectors) ** 2
    trace = (1 / other.values) @ overlap @ own + beyond * (own @ (1 - overlap.sum(axis=0)))
    trace += rest * (np.sum(1 / other.values) + beyond * (p - len(other.values)))
    return float(trace + squared - p + other.log_determinant - one.log_determinant) / 2
