"""Cells told by what was measured, not by where they stand in a file."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = ["row_keys"]


def row_keys(X: Any, *, salt: str) -> NDArray[np.uint64]:
    """Return ``(n,)`` uint64 content hashes of the rows of ``X`` (dense, CSR or images), salted by ``salt``."""
    start = blake2b(salt.encode(), digest_size=8)
    keys = np.empty(X.shape[0], dtype=np.uint64)
    if sp.issparse(X):
        rows = X.tocsr(copy=False)
        for i in range(rows.shape[0]):
            part = slice(rows.indptr[i], rows.indptr[i + 1])
            h = start.copy()
            h.update(rows.indices[part].astype(np.int64).tobytes())
            h.update(rows.data[part].astype(np.float32).tobytes())
            keys[i] = int.from_bytes(h.digest(), "little")
        return keys
    dense = np.ascontiguousarray(X, dtype=np.float32).reshape(X.shape[0], -1)
    for i, row in enumerate(dense):
        h = start.copy()
        h.update(row.tobytes())
        keys[i] = int.from_bytes(h.digest(), "little")
    return keys
