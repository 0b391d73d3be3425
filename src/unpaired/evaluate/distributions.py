"""How far predicted cells lie from measured ones, as two clouds: no pairs needed (appendix D.1.2, eq. 29)."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from unpaired.data.content import row_keys
from unpaired.data.types import Array
from unpaired.errors import OptionError
from unpaired.evaluate.gaussians import Gaussian, divergence
from unpaired.options import check_integer
from unpaired.seeds import named_rng

__all__ = [
    "MOST_CELLS",
    "Distance",
    "energy_distance",
    "kl_gaussian",
    "kl_neighbours",
    "l2_of_means",
    "wasserstein",
]

MOST_CELLS = 2000
"""Cells a side that an exact transport is solved for; of more, a random part is compared."""

_CHUNK = 2**22  # distances at a time
_NEAR = 1e-8  # of the squared norms: below it, rounding of |x|^2 + |y|^2 - 2 x.y would show
_PIVOTS = 10**7  # of the network simplex; some 10^5 are needed for 2,000 cells a side


@dataclass(frozen=True)
class Distance:
    """One number between measured and predicted cells.

    Attributes
    ----------
    value
        The number; ``None`` if it does not exist for these cells.
    compared
        Measured and predicted cells that it was computed from.
    why
        Why there is no number, as a sentence.
    """

    value: float | None
    compared: tuple[int, int]
    why: str = ""


def l2_of_means(measured: Any, predicted: Any) -> Distance:
    """Euclidean distance between the two means.

    Parameters
    ----------
    measured, predicted
        ``(n, p)`` and ``(m, p)`` readings, dense or CSR; one cell or more on either side.

    Raises
    ------
    OptionError
        If the shapes do not fit, or a value is not finite.
    """
    _check(measured, predicted)
    one, other = (np.asarray(v.mean(axis=0, dtype=np.float64)).ravel() for v in (measured, predicted))
    return Distance(float(np.linalg.norm(one - other)), (measured.shape[0], predicted.shape[0]))


def wasserstein(measured: Array, predicted: Array, *, most: int = MOST_CELLS, seed: int = 0) -> Distance:
    """1-Wasserstein distance: the exact cost of moving one cloud onto the other, by Euclidean distance.

    Every cell has the same weight. The transport problem is solved exactly, by POT's network simplex; a solve that does
    not reach the optimum gives no number. Between finite samples of one distribution it is not zero, and it falls with
    their size: compare only numbers from samples of the same sizes.

    Parameters
    ----------
    measured, predicted
        ``(n, p)`` and ``(m, p)`` readings.
    most
        Of more cells on a side, this many are drawn; which, depends on the seed and the readings and not on the order
        of the rows.
    seed
        Seed of that draw.

    Raises
    ------
    OptionError
        If the shapes do not fit, a value is not finite, or ``most`` is no positive whole number.
    """
    check_integer("most", most, low=1)
    x, y = _centred(_some(measured, most, seed), _some(predicted, most, seed))
    compared = (len(x), len(y))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)  # POT only warns; the status is read below
        weights = (np.full(k, 1 / k) for k in compared)
        cost, log = _pot().emd2(*weights, _distances(x, y), numItermax=_PIVOTS, log=True)
    if log["warning"] is not None or not np.isfinite(cost):
        return Distance(None, compared, f"the transport was not solved: {log['warning'] or 'its cost is not finite'}")
    return Distance(max(float(cost), 0.0), compared)


def energy_distance(measured: Array, predicted: Array) -> Distance:
    """Energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| (Szekely and Rizzo 2013), of the two samples as they are.

    Zero only where the two samples are equal. The means run over all pairs, a cell with itself included (the
    V-statistic), so it is never negative; between finite samples of one distribution it is of the order of
    (1/n + 1/m) E|X - X'|. Computed in chunks: n x m numbers are never held.

    Parameters
    ----------
    measured, predicted
        ``(n, p)`` and ``(m, p)`` readings.

    Raises
    ------
    OptionError
        If the shapes do not fit, or a value is not finite.
    """
    x, y = _centred(measured, predicted)
    value = 2 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y)
    return Distance(max(value, 0.0), (len(x), len(y)))


def kl_neighbours(measured: Array, predicted: Array, *, k: int = 5) -> Distance:
    """Kullback-Leibler divergence KL(measured || predicted) by distances to the k-th neighbour, in nats.

    The estimator of Wang, Kulkarni and Verdu (*Divergence estimation for multidimensional densities via
    k-nearest-neighbor distances*, IEEE Trans. Inf. Theory 2009): the mean over the measured cells of
    p log(nu / rho) + log(m / n), rho and nu being the distances to the k-th neighbour among the n other measured and
    the m predicted cells. Cells with exactly the same readings count as one cell seen again: they are no neighbours, on
    neither side, and n and m are without them. So a sample compared with itself gives zero. The estimate can be
    negative.

    Parameters
    ----------
    measured, predicted
        ``(n, p)`` and ``(m, p)`` readings.
    k
        Which neighbour; where a cell has fewer on one side, that number takes its place on both.

    Raises
    ------
    OptionError
        If the shapes do not fit, a value is not finite, or ``k`` is no positive whole number.
    """
    check_integer("k", k, low=1)
    x, y = _centred(measured, predicted)
    compared = (len(x), len(y))
    for name, cells in (("measured", x), ("predicted", y)):
        if (cells == cells[0]).all():
            return Distance(None, compared, f"all {name} cells are the same: there are no neighbours.")
    total = 0.0
    for part in _chunks(len(x), max(len(x), len(y))):
        own, n = _nearest(x[part], x, k)
        other, m = _nearest(x[part], y, k)
        nth = np.minimum(np.minimum(n, m), k)[:, None] - 1
        rho, nu = (np.take_along_axis(d, nth, axis=1)[:, 0] for d in (own, other))
        total += float(np.sum(x.shape[1] * np.log(nu / rho) + np.log(m / n)))
    return Distance(total / len(x), compared)


def kl_gaussian(measured: Array, predicted: Array) -> Distance:
    """Kullback-Leibler divergence KL(measured || predicted) between two fitted Gaussians, in nats.

    The covariances are those of Ledoit and Wolf (*A well-conditioned estimator for large-dimensional covariance
    matrices*, 2004), as in scikit-learn; they are held as eigenvectors and a multiple of the identity, so that more
    features than cells cost n x p and not p x p. Features that have one and the same value in all cells of both sides
    are left out.

    Parameters
    ----------
    measured, predicted
        ``(n, p)`` and ``(m, p)`` readings; two cells or more, and with more than one feature three: the shrinkage of
        two cells is zero.

    Raises
    ------
    OptionError
        If the shapes do not fit, or a value is not finite.
    """
    x, y = _centred(measured, predicted)
    compared = (len(x), len(y))
    varies = (x != x[0]).any(axis=0) | (y != x[0]).any(axis=0)
    if not varies.any():
        return Distance(0.0, compared)
    one, other = Gaussian.of(x[:, varies]), Gaussian.of(y[:, varies])
    for name, fitted in (("measured", one), ("predicted", other)):
        if fitted.singular:
            return Distance(None, compared, f"the {name} cells vary too little, or are too few, for a covariance.")
    return Distance(max(divergence(one, other), 0.0), compared)


# ------------------------------------------------------------------------------------------------------- distances


def _distances(x: Array, y: Array) -> Array:
    """Return ``(n, m)`` Euclidean distances; exactly zero where, and only where, two rows are equal."""
    norms = np.einsum("ij,ij->i", x, x)[:, None] + np.einsum("ij,ij->i", y, y)
    out = x @ y.T
    out *= -2
    out += norms
    rows, cols = np.nonzero(out <= _NEAR * norms)  # a difference of large numbers: these are computed anew
    step = max(1, _CHUNK // x.shape[1])
    for start in range(0, len(rows), step):
        i, j = rows[start : start + step], cols[start : start + step]
        apart = x[i] - y[j]
        out[i, j] = np.einsum("ij,ij->i", apart, apart)
    distances: Array = np.sqrt(out, out=out)
    return distances


def _mean_distance(x: Array, y: Array) -> float:
    total = sum(float(_distances(x[part], y).sum()) for part in _chunks(len(x), len(y)))
    return total / (len(x) * len(y))


def _nearest(x: Array, cells: Array, k: int) -> tuple[Array, Array]:
    """Distances to the k nearest of ``cells`` that differ, ascending (inf where fewer), and how many differ."""
    d = _distances(x, cells)
    d[d == 0] = np.inf
    differ = np.isfinite(d).sum(axis=1)
    if k < d.shape[1]:
        d = np.partition(d, k - 1, axis=1)[:, :k]
    return np.sort(d, axis=1), differ


def _chunks(rows: int, cols: int) -> Iterator[slice]:
    step = max(1, _CHUNK // cols)
    return (slice(start, start + step) for start in range(0, rows, step))


def _some(X: Array, most: int, seed: int) -> Array:
    if len(X) <= most:
        return X
    # By content, not by position. Both sides draw the same places, so that equal samples stay equal.
    drawn = named_rng(seed, "wasserstein").choice(len(X), most, replace=False)
    return X[np.argsort(row_keys(X, salt=""), kind="stable")[drawn]]


def _centred(measured: Array, predicted: Array) -> tuple[Array, Array]:
    """Check both, and return them in float64 around one centre, where squares lose the fewest digits."""
    _check(measured, predicted)
    x, y = (np.asarray(v, dtype=np.float64) for v in (measured, predicted))
    centre = (x.mean(axis=0) + y.mean(axis=0)) / 2
    return x - centre, y - centre


def _check(measured: Any, predicted: Any) -> None:
    shapes = (measured.shape, predicted.shape)
    if any(len(s) != 2 or not all(s) for s in shapes) or shapes[0][1] != shapes[1][1]:
        msg = (
            f"measured and predicted must be (n, p) and (m, p) with one cell or more; got {shapes[0]} and {shapes[1]}."
        )
        raise OptionError(msg)
    for name, values in (("measured", measured), ("predicted", predicted)):
        if not np.isfinite(values.data if sp.issparse(values) else values).all():
            msg = f"{name} readings must be finite; remove the cells that are not."
            raise OptionError(msg)


def _pot() -> Any:
    """Return the library POT; on import it would load every tensor framework that is installed, which takes seconds."""
    frameworks = {"PYTORCH": "torch", "JAX": "jax", "CUPY": "cupy", "TENSORFLOW": "tensorflow"}
    switches = {f"POT_BACKEND_DISABLE_{k}" for k, module in frameworks.items() if module not in sys.modules}
    before = {name: os.environ.get(name) for name in switches}
    os.environ.update(dict.fromkeys(switches, "1"))
    try:
        import ot
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return ot
