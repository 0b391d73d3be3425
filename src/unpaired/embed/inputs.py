"""What the classifiers are given: standardised features, and the labels that can be learned."""

from __future__ import annotations

import numpy as np

from unpaired.data.types import Array, Dataset
from unpaired.errors import DataError, Problem

__all__ = ["standardise", "trained_labels"]


def standardise(x: Array) -> tuple[Array, float]:
    """Centre every feature and divide all by one number: principal components keep their relative sizes."""
    if x.ndim > 2:
        return np.zeros(1, dtype=np.float32), 1.0
    center = x.mean(axis=0)
    scale = float(np.sqrt(x.var(axis=0).mean()))
    return center, scale if scale > 0 else 1.0


def trained_labels(data: Dataset) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the labels with two or more cells in every modality, and a sentence on each of the others."""
    counts = {n: np.bincount(m.labels[m.labels >= 0], minlength=len(data.classes)) for n, m in data.modalities.items()}
    least = np.min(list(counts.values()), axis=0)
    notes = []
    for t, name in enumerate(data.classes):
        if least[t] < 2:
            short = ", ".join(f"{c[t]} in {m}" for m, c in counts.items() if c[t] < 2)
            notes.append(f"label {name!r} is not trained on: a classifier needs two of its cells, there are {short}.")
    names = tuple(str(data.classes[t]) for t in np.flatnonzero(least >= 2))
    if len(names) < 2:
        problem = Problem(
            "error",
            "memory",
            f"{len(names)} of {len(data.classes)} labels have two or more cells in every modality; two are needed.",
            "Merge small labels, or leave a modality out.",
        )
        raise DataError([problem])
    return names, tuple(notes)
