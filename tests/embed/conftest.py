"""Networks are trained on one thread here."""

import numpy as np
import pytest

from unpaired.data.types import Dataset, Modality, Pairs


@pytest.fixture(scope="session", autouse=True)
def _one_thread(one_thread):
    return one_thread


class Screen:
    """Simulated cells that are measured as counts, as numbers and as 0 or 1.

    ``X`` are the readings of every modality for all cells, ``place`` which cell a row of the data is.
    """

    def __init__(self, n=120, *, paired=60, modalities=("rna", "protein"), labels=4, batches=1, lost=None, seed=0):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=(n, 3))
        self.batch = np.array([f"b{i}" for i in np.arange(n) * batches // n])
        rates = np.exp(z @ rng.normal(size=(3, 20)) * 0.6)
        sizes = rng.lognormal(5, 0.3, size=(n, 1))
        self.X = {
            "rna": rng.poisson(rates / rates.sum(1, keepdims=True) * sizes).astype(np.float32),
            "protein": (4 * z @ rng.normal(size=(3, 9)) + 1.2 * rng.normal(size=(n, 9)) + 7).astype(np.float32),
            "peaks": (2 * z @ rng.normal(size=(3, 15)) + rng.logistic(size=(n, 15)) > 0).astype(np.float32),
        }
        # Another instrument day reads all proteins higher, and half of the genes lower.
        self.X["protein"] += np.float32(10) * (self.batch == "b1")[:, None]
        made, units, self.place = {}, {}, {}
        for name in modalities:
            here = np.flatnonzero((lost or {}).get(name, np.zeros(n)) == 0)
            rows = rng.permutation(here)
            code = (z[rows, 0] > 0) * 2 + (z[rows, 1] > 0) if labels > 1 else np.zeros(len(rows), dtype=int)
            ids = np.array([f"{name}:{i}" for i in range(len(rows))])
            batch = self.batch[rows] if batches > 1 else None
            made[name] = Modality(name, self.X[name][rows], code, ids, batch=batch)
            self.place[name], units[name] = rows, np.where(rows < paired, rows, -1)
        self.data = Dataset(made, tuple("abcd"), Pairs(units) if paired else None)
        self.paired = paired

    def rest(self, name):
        """Rows of the cells that are known in one modality only."""
        return np.flatnonzero(self.place[name] >= self.paired)

    def foscttm(self, embedding, one="rna", other="protein"):
        """Cells without a pair: fraction of the other modality's that are closer than the true partner, by cosine."""
        a, b = self.rest(one), self.rest(other)
        close = embedding[one][a] @ embedding[other][b].T
        true = self.place[one][a][:, None] == self.place[other][b][None]
        there, back = (close * true).sum(1)[:, None], (close * true).sum(0)[None]
        return float(((close > there).mean() + (close > back).mean()) / 2)


@pytest.fixture(scope="session")
def screen():
    """Factory of :class:`Screen`."""
    return Screen
