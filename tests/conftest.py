"""Builders that the tests of several rooms share."""

import sys

import anndata
import numpy as np
import pandas as pd
import pytest

from unpaired import cli
from unpaired.data.types import Dataset, Modality, Truth

_LATENTS = 3


def make_toy(
    counts=20,
    *,
    labels=("a", "b", "c"),
    modalities=("rna", "image"),
    features=6,
    spread=3.0,
    noise=0.1,
    unlabelled=0,
    recipe=None,
    seed=0,
):
    """Return ``(data, truth)``: modalities that read one latent state of cells in a few labelled experiments.

    ``counts`` is the number of cells of every label; or one number a label; or modality name -> either. Cell i of a
    label is the same cell in every modality. ``unlabelled`` cells more, in every modality, have no label. ``spread``
    is the distance between the labels' centres in units of the cells' own spread. Every modality is shuffled on its
    own, so that row numbers and names say nothing.
    """
    rng = np.random.default_rng(seed)
    per = {m: np.broadcast_to(counts[m] if isinstance(counts, dict) else counts, len(labels)) for m in modalities}
    most = np.max([per[m] for m in modalities], axis=0)
    centres = rng.normal(size=(len(labels), _LATENTS)) * spread
    labelled = np.repeat(np.arange(len(labels)), most)
    codes = np.r_[labelled, np.full(unlabelled, -1)]
    member = np.r_[labelled, rng.integers(len(labels), size=unlabelled)]
    place = np.concatenate([np.arange(n) for n in most] + [np.full(unlabelled, -1)])
    latent = centres[member] + rng.normal(size=(len(codes), _LATENTS))
    made, units, latents = {}, {}, {}
    for name in modalities:
        mixing = rng.normal(size=(_LATENTS, features))
        X = (latent @ mixing + noise * rng.normal(size=(len(codes), features))).astype(np.float32)
        rows = rng.permutation(np.flatnonzero(place < per[name][member]))
        ids = np.array([f"{name}:{i}" for i in range(len(rows))])
        made[name] = Modality(name=name, X=X[rows], labels=codes[rows], ids=ids, recipe=recipe)
        units[name], latents[name] = rows, latent[rows]
    return Dataset(modalities=made, classes=tuple(labels)), Truth(units=units, latents=latents)


@pytest.fixture(scope="session")
def toy():
    """Factory of small data sets with their truth; see :func:`make_toy`."""
    return make_toy


def dense_of(matching):
    """The whole coupling as it is in the blocks, ``(n_source, n_target)``, by nothing but assignment."""
    out = np.zeros(matching.shape)
    for block in matching.matched:
        out[np.ix_(block.rows, block.cols)] = block.dense()
    return out


@pytest.fixture(scope="session")
def full():
    """The dense coupling of a matching; see :func:`dense_of`."""
    return dense_of


@pytest.fixture(scope="session")
def one_thread():
    """One thread a test process: networks as small as a test's only wait for each other's threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Run the command line in this process: exit code, stdout, stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["unpaired", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as exit_:
            code = exit_.code or 0
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


@pytest.fixture
def files(tmp_path):
    """Two h5ad files of the same 60 cells in three labels, with equal barcodes."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["ctrl", "drug", "knock/out"], 20)
    latent = rng.normal(size=(60, 2)) + np.repeat([0, 2, 4], 20)[:, None]
    paths = []
    for name, width in (("rna", 8), ("image", 5)):
        x = (latent @ rng.normal(size=(2, width)) + 0.1 * rng.normal(size=(60, width))).astype(np.float32)
        obs = pd.DataFrame({"perturbation": labels}, index=[f"cell{i}" for i in range(60)])
        paths.append(tmp_path / f"{name}.h5ad")
        anndata.AnnData(x, obs=obs).write_h5ad(paths[-1])
    return paths
