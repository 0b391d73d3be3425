"""Readings in the one form that the package works with, and one pass over them that counts what may be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array

__all__ = ["Found", "Scan", "readings", "scan"]

_BLOCK = 2**22  # values that are looked at together: 16 MiB


@dataclass(frozen=True)
class Found:
    """How many values of a kind there are, and the first one's row and column (of images: of the flattened image)."""

    count: int = 0
    row: int = 0
    column: int = 0

    def __bool__(self) -> bool:
        return self.count > 0


@dataclass(frozen=True, eq=False)
class Scan:
    """What was counted.

    Attributes
    ----------
    missing, infinite, negative
        The values that are NaN, infinite or below zero.
    missing_by_cell, missing_by_feature
        ``(n,)`` and ``(p,)`` numbers of values that are NaN.
    zero_cells
        ``(n,)`` whether a cell has only zeros.
    constant
        ``(p,)`` whether all measured values of a feature are equal.
    """

    missing: Found
    infinite: Found
    negative: Found
    missing_by_cell: Array
    missing_by_feature: Array
    zero_cells: Array
    constant: Array


def readings(X: Any) -> Any:
    """Return float32 readings: a C-contiguous array, or a CSR matrix in canonical form.

    What is already so is not copied; what is not is converted without touching the original, whose arrays scipy's own
    methods would sort in place.
    """
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is reported as such
        if not sp.issparse(X):
            return np.ascontiguousarray(X, dtype=np.float32)
        if X.format != "csr":
            found = X.tocoo(copy=False)
            data = found.data.astype(np.float32, copy=False)
            out = sp.csr_matrix(sp.coo_matrix((data, (found.row, found.col)), shape=found.shape))
        else:
            data = X.data.astype(np.float32, copy=False)
            out = sp.csr_matrix((data, X.indices, X.indptr), shape=X.shape)
    if not out.has_canonical_format:
        out = out.copy()
        out.sum_duplicates()
    if np.count_nonzero(out.data) < out.nnz:  # a stored zero is a zero
        out = out.copy()
        out.eliminate_zeros()
    return out


def scan(X: Any) -> Scan:
    """Return what one pass over readings (as made by :func:`readings`) has counted."""
    return _scan_sparse(X) if sp.issparse(X) else _scan_dense(X.reshape(len(X), -1))


def _scan_sparse(X: Any) -> Scan:
    n, p = X.shape
    masks = {"missing": np.isnan(X.data), "infinite": np.isinf(X.data), "negative": X.data < 0}
    stored = np.bincount(X.indices, minlength=p)
    low, high = np.where(stored < n, 0.0, np.inf), np.where(stored < n, 0.0, -np.inf)
    np.fmin.at(low, X.indices, X.data)
    np.fmax.at(high, X.indices, X.data)
    at = np.flatnonzero(masks["missing"])
    return Scan(
        **{k: _found_sparse(X, m) for k, m in masks.items()},
        missing_by_cell=np.bincount(np.searchsorted(X.indptr, at, side="right") - 1, minlength=n),
        missing_by_feature=np.bincount(X.indices[at], minlength=p),
        zero_cells=np.diff(X.indptr) == 0,
        constant=low == high,
    )


def _found_sparse(X: Any, mask: Array) -> Found:
    if not mask.any():
        return Found()
    k = int(np.argmax(mask))
    return Found(int(mask.sum()), int(np.searchsorted(X.indptr, k, side="right") - 1), int(X.indices[k]))


def _scan_dense(X: Array) -> Scan:
    n, p = X.shape
    found = dict.fromkeys(("missing", "infinite", "negative"), Found())
    by_cell, by_feature = np.zeros(n, dtype=np.int64), np.zeros(p, dtype=np.int64)
    zero = np.zeros(n, dtype=bool)
    low, high = np.full(p, np.inf), np.full(p, -np.inf)
    for rows in _blocks(n, p):
        block = X[rows]
        masks = {"missing": np.isnan(block), "infinite": np.isinf(block), "negative": block < 0}
        for key, mask in masks.items():
            found[key] = _add(found[key], mask, rows.start)
        by_cell[rows] = masks["missing"].sum(axis=1)
        by_feature += masks["missing"].sum(axis=0)
        zero[rows] = ~block.any(axis=1)
        low = np.fmin(low, np.fmin.reduce(block, axis=0))
        high = np.fmax(high, np.fmax.reduce(block, axis=0))
    return Scan(
        **found,
        missing_by_cell=by_cell,
        missing_by_feature=by_feature,
        zero_cells=zero,
        constant=low == high,
    )


def _add(found: Found, mask: Array, start: int) -> Found:
    count = int(np.count_nonzero(mask))
    if found or not count:
        return replace(found, count=found.count + count)
    row, column = divmod(int(np.argmax(mask)), mask.shape[1])
    return Found(count, start + row, column)


def _blocks(n: int, p: int) -> Iterator[slice]:
    step = max(1, _BLOCK // max(p, 1))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))
