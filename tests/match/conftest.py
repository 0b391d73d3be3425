"""Small matching problems, and the dense algebra to check matchings against."""

import numpy as np
import pytest

from unpaired.data.types import Dataset, Modality
from unpaired.embed.embedding import Embedding, Provenance


def make_problem(counts=None, *, points=None, d=2, unlabelled=0, noise=None, seed=0):
    """Return ``(data, embedding)`` whose coordinates are drawn at random, or given for one label.

    ``counts`` is modality name -> number of cells of the labels "a", "b", ...; ``points`` is modality name ->
    ``(n, d)`` coordinates of the cells of the one label "a"; ``noise`` is modality name -> variance of every cell.
    """
    rng = np.random.default_rng(seed)
    made, arrays = {}, {}
    if points is None:
        counts = counts or {"left": (6, 5), "right": (4, 7)}
        points = {n: rng.normal(size=(sum(c) + unlabelled, d)) for n, c in counts.items()}
        labels = {n: np.r_[np.repeat(np.arange(len(c)), c), np.full(unlabelled, -1)] for n, c in counts.items()}
        labels = {n: rng.permutation(y) for n, y in labels.items()}
    else:
        labels = {n: np.zeros(len(x), dtype=int) for n, x in points.items()}
    for name, x in points.items():
        # What was measured is not the coordinates: identical places need not be identical readings.
        X = rng.normal(size=(len(x), 3)).astype(np.float32)
        made[name] = Modality(name, X, labels[name], np.array([f"{name}:{i}" for i in range(len(x))]))
        arrays[name] = np.array(x, dtype=np.float64)
    classes = tuple("abcdefgh"[: max(1, max(y.max() for y in labels.values()) + 1)])
    dims = tuple(f"dimension {i}" for i in range(next(iter(arrays.values())).shape[1]))
    spread = None if noise is None else {n: np.broadcast_to(v, len(made[n])).astype(float) for n, v in noise.items()}
    return Dataset(made, classes), Embedding(arrays, "latent", spread, dims, Provenance("test", {}))


@pytest.fixture(scope="session")
def problem():
    """Factory of small problems; see :func:`make_problem`."""
    return make_problem
