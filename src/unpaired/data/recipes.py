"""What each preprocessing recipe learns and how it is applied: plain functions on readings and arrays.

``fit(X, seed=..., **options)`` returns the arrays to keep; ``apply(X, arrays)`` returns the features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array
from unpaired.seeds import named_rng

__all__ = ["STEPS", "Step", "fill_missing", "log_normalise"]

Arrays = dict[str, Array]

_LIBRARY = 1e4  # every cell is scaled to this many counts before the logarithm
_CLIP = 10  # z-scores beyond this are measurement accidents
_LARGE = 2**27  # readings (a gigabyte of float64) from which on they are made dense only in parts


@dataclass(frozen=True)
class Step:
    """What a recipe does: learn arrays from training readings, apply them to any, and the options with defaults.

    ``off`` names the options that 0 switches off.
    """

    fit: Callable[..., Arrays]
    apply: Callable[[Any, Arrays], Array]
    options: Mapping[str, int]
    off: frozenset[str] = frozenset()


def fill_missing(X: Any, median: Array) -> Array:
    """Return dense float32 ``X`` with its NaN replaced by the features' medians."""
    dense = np.array(X.toarray() if sp.issparse(X) else X, dtype=np.float32)
    at = np.isnan(dense)
    dense[at] = np.broadcast_to(median, dense.shape)[at]
    return dense


def log_normalise(X: Any) -> Any:
    """Scale each cell to the same number of counts and take log(1 + x); a cell without counts stays zero."""
    size = np.asarray(X.sum(axis=1), dtype=np.float64).ravel()
    factor = _LIBRARY / np.where(size > 0, size, 1.0)
    if sp.issparse(X):
        scaled = sp.csr_matrix(sp.diags(factor) @ X)
        scaled.data = np.log1p(scaled.data)
        return scaled
    return np.log1p(np.asarray(X, dtype=np.float64) * factor[:, None])


def _variances(X: Any) -> Array:
    if sp.issparse(X):
        mean = np.asarray(X.mean(axis=0)).ravel()
        return np.asarray(np.asarray(X.multiply(X).mean(axis=0)).ravel() - mean**2)
    return np.asarray(X.var(axis=0))


def _pca(X: Any, pcs: int, seed: int) -> Arrays:
    """Principal axes by a truncated decomposition (scikit-learn), dense or sparse."""
    from sklearn.decomposition import PCA

    n_components = min(pcs, min(X.shape) - 1)
    solver = "covariance_eigh" if X.shape[1] <= _EIGH else "arpack"
    model = PCA(n_components=n_components, svd_solver=solver, random_state=seed).fit(X)
    return {"mean": model.mean_, "axes": model.components_}


_EIGH = 1500  # up to this many features a full eigendecomposition is the faster one


def _project(X: Any, arrays: Arrays) -> Array:
    out = X @ arrays["axes"].T
    return np.asarray(out - arrays["mean"] @ arrays["axes"].T)


def _fit_counts(X: Any, *, seed: int, pcs: int, hvg: int) -> Arrays:
    logged = log_normalise(X)
    keep = np.arange(X.shape[1])
    if 0 < hvg < X.shape[1]:
        keep = np.sort(np.argsort(-_variances(logged), kind="stable")[:hvg])
    return {"keep": keep, **_pca(logged[:, keep], pcs, seed)}


def _apply_counts(X: Any, arrays: Arrays) -> Array:
    return _project(log_normalise(X)[:, arrays["keep"]], arrays)


def _tf_idf(X: Any, idf: Array) -> Any:
    counts = sp.csr_matrix(X, dtype=np.float64)
    size = np.asarray(counts.sum(axis=1)).ravel()
    tf = sp.diags(_LIBRARY / np.where(size > 0, size, 1.0)) @ counts
    out = sp.csr_matrix(tf @ sp.diags(idf))
    out.data = np.log1p(out.data)
    return out


def _fit_peaks(X: Any, *, seed: int, components: int) -> Arrays:
    from sklearn.decomposition import TruncatedSVD

    seen = np.asarray((sp.csr_matrix(X) > 0).sum(axis=0)).ravel()
    idf = np.log1p(X.shape[0] / np.maximum(seen, 1))
    weighted = _tf_idf(X, idf)
    k = min(components + 1, min(X.shape) - 1)
    model = TruncatedSVD(k, algorithm="arpack", random_state=seed).fit(weighted)
    depth = np.log1p(np.asarray(X.sum(axis=1), dtype=np.float64).ravel())
    scores = model.transform(weighted)
    # One component follows the sequencing depth (nearly always the first): it says nothing of the cell's state.
    spread = scores.std(axis=0) * depth.std()
    cov = ((scores - scores.mean(axis=0)) * (depth - depth.mean())[:, None]).mean(axis=0)
    drop = int(np.argmax(np.abs(cov) / np.where(spread > 0, spread, np.inf)))
    return {"idf": idf, "axes": np.delete(model.components_, drop, axis=0), "dropped": np.array([drop])}


def _apply_peaks(X: Any, arrays: Arrays) -> Array:
    return np.asarray(_tf_idf(X, arrays["idf"]) @ arrays["axes"].T)


def _clr(X: Any) -> Array:
    """Centred log-ratio of each cell over its features, with log(1 + x)."""
    logged = np.log1p(_dense(X))
    return np.asarray(logged - logged.mean(axis=1, keepdims=True))


def _fit_scaling(X: Array) -> Arrays:
    mean, std = X.mean(axis=0), X.std(axis=0)
    return {"mean": mean, "std": np.where(std > 1e-8, std, 1.0)}


def _scale(X: Array, arrays: Arrays) -> Array:
    scores = (X - arrays["mean"]) / arrays["std"]
    limit = int(arrays["clip"][0]) if "clip" in arrays else _CLIP
    return np.clip(scores, -limit, limit) if limit else scores


def _fit_protein(X: Any, *, seed: int) -> Arrays:
    return _fit_scaling(_clr(X))


def _apply_protein(X: Any, arrays: Arrays) -> Array:
    return _scale(_clr(X), arrays)


def _dense(X: Any) -> Array:
    return np.asarray(X.toarray() if sp.issparse(X) else X, dtype=np.float64)


def _parts(X: Any) -> Iterator[Array]:
    """Iterate over the rows of readings, dense, all at once if they are not many."""
    n, p = X.shape
    step = max(n, 1) if n * p <= _LARGE else max(1, _LARGE // (8 * p))
    return (_dense(X[start : start + step]) for start in range(0, max(n, 1), step))


def _fit_scale(X: Any, *, seed: int, pcs: int, clip: int) -> Arrays:
    limit = {} if clip == _CLIP else {"clip": np.array([clip])}
    large = X.shape[0] * X.shape[1] > _LARGE and X.shape[1] <= X.shape[0]  # else its covariance is no smaller
    scaling = {**(_fit_scaling_in_parts(X) if large else _fit_scaling(_dense(X))), **limit}
    if pcs == 0 or X.shape[1] <= pcs:
        return scaling
    axes = _pca_in_parts(X, scaling, pcs, seed) if large else _pca(_scale(_dense(X), scaling), pcs, seed)
    return {"center": scaling["mean"], "std": scaling["std"], **limit, **axes}


def _fit_scaling_in_parts(X: Any) -> Arrays:
    n = X.shape[0]
    mean = np.sum([part.sum(axis=0) for part in _parts(X)], axis=0) / n
    std = np.sqrt(np.sum([((part - mean) ** 2).sum(axis=0) for part in _parts(X)], axis=0) / n)
    return {"mean": mean, "std": np.where(std > 1e-8, std, 1.0)}


def _pca_in_parts(X: Any, scaling: Arrays, pcs: int, seed: int) -> Arrays:
    """Principal axes of the z-scores by their covariance in float32: nothing larger than the latter is in memory."""
    from scipy.linalg.blas import ssymv, ssyrk
    from scipy.sparse.linalg import LinearOperator, eigsh

    n, p = X.shape
    mean = np.sum([_scale(part, scaling).sum(axis=0) for part in _parts(X)], axis=0) / n
    cov = np.zeros((p, p), dtype=np.float32, order="F")
    for part in _parts(X):
        centred = np.ascontiguousarray(_scale(part, scaling) - mean, dtype=np.float32)
        cov = ssyrk(1 / n, centred.T, beta=1.0, c=cov, overwrite_c=True)  # the upper triangle
    product = LinearOperator((p, p), matvec=lambda v: ssymv(1.0, cov, v.astype(np.float32)).astype(float), dtype=float)
    start = named_rng(seed, "recipe", "start").random(p)
    values, axes = eigsh(product, k=min(pcs, min(X.shape) - 1), v0=start, tol=1e-6)
    axes = axes[:, np.argsort(-values)].T
    largest = np.argmax(np.abs(axes), axis=1)  # an axis has no sign of its own: its largest entry is made positive
    return {"mean": mean, "axes": axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]}


def _apply_scale(X: Any, arrays: Arrays) -> Array:
    if "axes" not in arrays:
        return _scale(_dense(X), arrays)
    scaling = {**arrays, "mean": arrays["center"]}
    return np.concatenate([_project(_scale(part, scaling), arrays) for part in _parts(X)])


def _fit_image(X: Any, *, seed: int) -> Arrays:
    mean = X.mean(axis=(0, 2, 3), keepdims=True)[0]
    std = X.std(axis=(0, 2, 3), keepdims=True)[0]
    return {"mean": mean, "std": np.where(std > 1e-8, std, 1.0)}


def _apply_image(X: Any, arrays: Arrays) -> Array:
    return np.asarray((X - arrays["mean"]) / arrays["std"])


def _fit_none(X: Any, *, seed: int) -> Arrays:
    return {}


def _apply_none(X: Any, arrays: Arrays) -> Array:
    return X.toarray() if sp.issparse(X) else np.asarray(X)


STEPS: Mapping[str, Step] = {
    "counts": Step(_fit_counts, _apply_counts, {"pcs": 50, "hvg": 0}, frozenset({"hvg"})),
    "peaks": Step(_fit_peaks, _apply_peaks, {"components": 50}),
    "protein": Step(_fit_protein, _apply_protein, {}),
    "scale": Step(_fit_scale, _apply_scale, {"pcs": 0, "clip": _CLIP}, frozenset({"pcs", "clip"})),
    "image": Step(_fit_image, _apply_image, {}),
    "none": Step(_fit_none, _apply_none, {}),
}
