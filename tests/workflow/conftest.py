"""Sixty cells read twice, for whole runs in a second or two."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def arrays():
    """What an npz file of them holds."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 20)
    latent = rng.normal(size=(60, 2)) + 3 * y[:, None]
    return {"label": y, "sample_id": np.arange(60).astype(str)} | {
        n: latent @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(60, 5)) for n in ("x", "y")
    }
