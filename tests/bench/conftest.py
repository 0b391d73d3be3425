"""Folders of small paired data sets, as files."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

LABELS = ("a", "b", "c")


def write_set(folder, toy, names=("rna", "image"), counts=30, seed=0):
    """Write a data set as one h5ad a modality; the same name is the same cell."""
    data, truth = toy(counts, labels=LABELS, modalities=names, seed=seed)
    folder.mkdir(parents=True)
    for name in names:
        modality = data[name]
        obs = pd.DataFrame(
            {"label": np.array(data.classes)[modality.labels]}, index=[f"cell{u}" for u in truth.units[name]]
        )
        ad.AnnData(np.asarray(modality.X), obs=obs).write_h5ad(folder / f"{name}.h5ad")
    return folder


@pytest.fixture
def folder(tmp_path, toy):
    """Two data sets, and a folder that holds none."""
    write_set(tmp_path / "data" / "one", toy)
    write_set(tmp_path / "data" / "two", toy, names=("adt", "gex", "peaks"), seed=1)
    (tmp_path / "data" / "empty").mkdir()
    return tmp_path / "data"
