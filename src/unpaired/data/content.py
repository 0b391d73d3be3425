"""Cells told by what was measured, not by where they stand in a file."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = ["row_keys"]


def row_keys(X: Any, *, salt: str) -> NDArray[np.uint64]:
    """Return ``(n,)`` uint64 content hashes of the rows of ``X`` (dense, CSR or images), salted by ``salt``.

    What is hashed are the places and the float32 values that are not zero, so that it does not matter how the readings
    are stored; of images all values, a picture at a time: few are zero, and a copy of all may have no room.
    """
    if np.ndim(X) == 4:
        return _picture_keys(X, salt)
    sparse = sp.issparse(X)
    rows: Any = X.tocsr() if sparse else np.asarray(X, dtype=np.float32)
    start = blake2b(salt.encode(), digest_size=8)
    keys = np.empty(X.shape[0], dtype=np.uint64)
    for i in range(len(keys)):
        if sparse:
            part = slice(rows.indptr[i], rows.indptr[i + 1])
            places, values = rows.indices[part], rows.data[part].astype(np.float32)
            order = np.argsort(places[values != 0], kind="stable")
            places, values = places[values != 0][order], values[values != 0][order]
        else:
            places = np.flatnonzero(rows[i])
            values = rows[i][places]
        digest = start.copy()
        digest.update(places.astype(np.int64).tobytes())
        digest.update(values.tobytes())
        keys[i] = int.from_bytes(digest.digest(), "little")
    return keys


def _picture_keys(X: Any, salt: str) -> NDArray[np.uint64]:
    keys = np.empty(len(X), dtype=np.uint64)
    for i, picture in enumerate(X):
        values = np.asarray(picture, dtype=np.float32) + np.float32(0)  # no -0, which is not 0 to a hash
        key = blake2b(salt.encode() + values.tobytes(), digest_size=8).digest()
        keys[i] = int.from_bytes(key, "little")
    return keys
