"""Example data with known truth: one set that comes with the package, and a public one to download."""

from __future__ import annotations

from typing import Literal

import numpy as np

from unpaired.data.bmmc import Split, bmmc_citeseq
from unpaired.data.build import build_dataset, tables_from_arrays
from unpaired.data.types import Dataset, Truth

__all__ = ["Split", "bmmc_citeseq", "digits"]


def digits(*, pairing: Literal["hide", "use", "none"] = "hide", seed: int = 0) -> tuple[Dataset, Truth | None]:
    """Return the 1,797 handwritten digits that scikit-learn ships, each image cut in two "instruments".

    ``left`` reads the left four columns of the 8 x 8 image, ``right`` the right four; the label is the digit. Source:
    E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998.

    Parameters
    ----------
    pairing
        ``"hide"``: the two halves are shuffled apart and the truth is kept for scoring; ``"use"``: the pairs are
        offered for learning; ``"none"``: nobody knows.
    seed
        Seed of the shuffling.

    Returns
    -------
    Dataset, Truth or None
        The truth only with ``pairing="hide"``.

    Examples
    --------
    >>> import unpaired as up
    >>> data, truth = up.examples.digits()
    >>> data
    Dataset(left 1797x32, right 1797x32; 10 labels; unpaired)
    """
    from sklearn.datasets import load_digits  # scikit-learn is slow to import

    bunch = load_digits()
    images = np.asarray(bunch.images, dtype=np.float32)
    n = len(images)
    halves = {"left": images[:, :, :4].reshape(n, -1), "right": images[:, :, 4:].reshape(n, -1)}
    labels = [str(t) for t in bunch.target]
    ids = [f"digit{i:04d}" for i in range(n)]
    tables = tables_from_arrays(halves, dict.fromkeys(halves, labels), ids=dict.fromkeys(halves, ids))
    return build_dataset(tables, label="label", pairing=pairing, recipes="scale", seed=seed)
