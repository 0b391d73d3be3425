"""New cells of a modality: whatever the file, they get the run's features in the run's order."""

from __future__ import annotations

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from unpaired.data.preprocess import fit_recipe
from unpaired.data.types import Modality
from unpaired.errors import DataError, OptionError
from unpaired.workflow.cells import read_cells

NAMES = ["g0", "g1", "g2", "g3"]
HOW = {"label": "drug", "batch": "plate", "layer": None}


def known(X=None, *, names=NAMES, missing=False):
    """A modality as it comes back from a run."""
    X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32) if X is None else X
    return Modality(
        name="rna",
        X=X,
        labels=np.zeros(len(X), dtype=np.int64),
        ids=np.array([f"rna:{i}" for i in range(len(X))], dtype=object),
        feature_names=np.array(names, dtype=object),
        recipe=fit_recipe("scale" if X.ndim == 2 else "image", X, missing=missing),
    )


def new(n=5, seed=1):
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


def h5ad(path, X, names=NAMES, **columns):
    obs = pd.DataFrame(columns, index=[f"new{i}" for i in range(X.shape[0])])
    anndata.AnnData(X, obs=obs, var=pd.DataFrame(index=names)).write_h5ad(path)
    return path


def test_features_are_told_by_their_names_whatever_their_order(tmp_path):
    X, order = new(), [2, 0, 3, 1]
    more = np.c_[X[:, order], np.full(5, np.inf)]  # a feature that the run does not have is never looked at
    file = h5ad(tmp_path / "a.h5ad", more, [NAMES[k] for k in order] + ["other"])
    found = read_cells(file, known(), HOW)
    assert np.array_equal(found.modality.X, X)
    assert found.modality.ids.tolist() == [f"rna:new{i}" for i in range(5)]
    assert found.modality.feature_names.tolist() == NAMES
    assert found.notes == ()
    assert np.array_equal(found.modality.features, known().transform(X))


def test_sparse_cells_are_the_same_cells(tmp_path):
    X = np.where(new() > 0, new(), 0)
    dense = read_cells(h5ad(tmp_path / "a.h5ad", X[:, ::-1], NAMES[::-1]), known(), HOW).modality
    sparse = read_cells(h5ad(tmp_path / "b.h5ad", sp.csc_matrix(X[:, ::-1]), NAMES[::-1]), known(), HOW).modality
    assert sp.issparse(sparse.X)
    assert np.array_equal(sparse.X.toarray(), dense.X)
    assert np.array_equal(sparse.features, dense.features)


def test_every_feature_that_is_missing_is_named(tmp_path):
    file = h5ad(tmp_path / "a.h5ad", new()[:, :2], ["g1", "G3"])
    with pytest.raises(DataError, match=r"lacks 3 features of the run: 'g0', 'g2', 'g3'") as error:
        read_cells(file, known(), HOW)
    assert str(file) in str(error.value)


def test_a_feature_that_occurs_twice_is_refused(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("id,g0,g1,g2,g3,g1\nx,1,2,3,4,5\n")
    with pytest.raises(DataError, match="'g1'"):
        read_cells(file, known(), HOW)


def test_without_names_the_order_counts_and_is_said(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, rna=new())
    found = read_cells(file, known(), HOW)
    assert np.array_equal(found.modality.X, new())
    assert "in the run's order" in found.notes[0]
    assert found.modality.ids.tolist() == [f"rna:{i}" for i in range(5)]
    np.savez(file, rna=new()[:, :3])
    with pytest.raises(DataError, match="has 3 features, but 'rna' has 4"):
        read_cells(file, known(), HOW)


def test_where_the_run_has_no_names_nothing_is_said(tmp_path):
    numbered = known(names=["0", "1", "2", "3"])
    found = read_cells(h5ad(tmp_path / "a.h5ad", new()), numbered, HOW)
    assert np.array_equal(found.modality.X, new())
    assert found.notes == ()


def test_of_several_modalities_the_one_of_the_same_name_is_taken(tmp_path):
    both = {"rna": h5ad(tmp_path / "a.h5ad", new()), "adt": h5ad(tmp_path / "b.h5ad", -new())}
    with mudata.set_options(pull_on_update=False):
        parts = {n: anndata.read_h5ad(p) for n, p in both.items()}
        parts["adt"].var_names = [f"p{k}" for k in range(4)]
        mudata.MuData(parts).write_h5mu(tmp_path / "both.h5mu")
    assert np.array_equal(read_cells(tmp_path / "both.h5mu", known(), HOW).modality.X, new())
    np.savez(tmp_path / "both.npz", rna=new(), adt=-new(), drug=np.array(list("aabbc")))
    found = read_cells(tmp_path / "both.npz", known(), HOW)
    assert np.array_equal(found.modality.X, new())
    assert found.classes == ("a", "b", "c")
    np.savez(tmp_path / "other.npz", gex=new(), adt=-new())
    with pytest.raises(OptionError, match="'rna' does not exist"):
        read_cells(tmp_path / "other.npz", known(), HOW)


def test_names_as_a_run_writes_them_lose_their_prefix(tmp_path):
    file = h5ad(tmp_path / "a.h5ad", new(), [f"rna:{n}" for n in NAMES])
    assert np.array_equal(read_cells(file, known(), HOW).modality.X, new())


def test_labels_and_batches_are_kept_and_need_not_be_the_runs(tmp_path):
    found = read_cells(h5ad(tmp_path / "a.h5ad", new(3), drug=["new", "a", None], plate=[1, 1, 2]), known(), HOW)
    assert found.classes == ("a", "new")
    assert found.modality.labels.tolist() == [1, 0, -1]
    assert found.modality.batch.tolist() == ["1", "1", "2"]
    bare = read_cells(h5ad(tmp_path / "b.h5ad", new(3)), known(), HOW)
    assert bare.classes == ()
    assert bare.modality.labels.tolist() == [-1, -1, -1]
    assert bare.modality.batch is None


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("labelled", [True, False])
def test_a_table_may_have_a_label_or_not(tmp_path, kind, labelled):
    table = pd.DataFrame(new(3), columns=NAMES)[NAMES[::-1]].assign(id=["x", "y", "z"])
    if labelled:
        table["drug"] = ["a", "b", "a"]
    file = tmp_path / f"cells.{kind}"
    if kind == "parquet":
        table.to_parquet(file)
    else:
        table.to_csv(file, index=False, sep="\t" if kind == "tsv" else ",")
    found = read_cells(file, known(), HOW)
    assert pytest.approx(new(3), rel=1e-6) == found.modality.X
    assert found.modality.ids.tolist() == ["rna:x", "rna:y", "rna:z"]
    assert found.classes == (("a", "b") if labelled else ())


def test_the_layer_of_the_run_is_read_where_files_have_layers(tmp_path):
    adata = anndata.AnnData(-new(), var=pd.DataFrame(index=NAMES), layers={"raw": new()})
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert np.array_equal(read_cells(tmp_path / "a.h5ad", known(), HOW | {"layer": "raw"}).modality.X, new())
    with pytest.raises(DataError, match="has no layer 'counts'"):
        read_cells(tmp_path / "a.h5ad", known(), HOW | {"layer": "counts"})
    np.savez(tmp_path / "a.npz", rna=new())
    assert np.array_equal(read_cells(tmp_path / "a.npz", known(), HOW | {"layer": "raw"}).modality.X, new())


@pytest.mark.parametrize("sparse", [False, True])
def test_what_the_runs_recipe_fills_is_filled_and_said(tmp_path, sparse):
    X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    X[3, 1] = np.nan
    cells = new(1)
    cells[0, 2] = np.nan
    file = h5ad(tmp_path / "a.h5ad", sp.csr_matrix(cells) if sparse else cells)
    found = read_cells(file, known(X, missing=True), HOW)
    assert "1 value of X is missing" in found.notes[0]
    assert np.isfinite(found.modality.features).all()
    with pytest.raises(DataError, match="missing"):
        read_cells(file, known(), HOW)


@pytest.mark.parametrize(("value", "word"), [(np.inf, "infinite"), (np.nan, "missing")])
def test_readings_that_cannot_be_used_are_refused_with_their_place(tmp_path, value, word):
    cells = new()
    cells[1, 3] = value
    with pytest.raises(DataError, match=rf"{word}.*'new1' at feature 'g3'"):
        read_cells(h5ad(tmp_path / "a.h5ad", cells), known(), HOW)


def test_images_must_have_the_same_shape(tmp_path):
    images = np.random.default_rng(0).random((12, 1, 3, 3)).astype(np.float32)
    ours = known(images, names=[str(i) for i in range(9)])
    np.savez(tmp_path / "a.npz", cells=images[:4])
    found = read_cells(tmp_path / "a.npz", ours, HOW)
    assert found.modality.X.shape == (4, 1, 3, 3)
    assert np.array_equal(found.modality.features, ours.transform(images[:4]))
    np.savez(tmp_path / "a.npz", cells=images[:4, :, :2])
    with pytest.raises(DataError, match="1 x 2 x 3"):
        read_cells(tmp_path / "a.npz", ours, HOW)


def test_a_file_that_is_not_there_is_a_problem_of_the_data(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_cells(tmp_path / "none.h5ad", known(), HOW)
