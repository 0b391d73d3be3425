"""The CITE-seq cells of bone marrow: read, normalised, split; and the recipe that this asks for."""

import gzip
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import unpaired as up
from unpaired.data import bmmc, download, recipes
from unpaired.data.counts import are_counts
from unpaired.data.preprocess import fit_recipe
from unpaired.errors import DataError, OptionError

STARTER = Path(__file__).parents[3] / "shared" / "data" / "bmmc_cite_starter"
GENES, PROTEINS = 40, 7
PARTS = {"train": "train", "valid": "test", "test": "iid_holdout"}


def make_file(path, n=120, *, is_train=True, seed=0, layers=True, order=None):
    """Write a file like that of GEO: genes and proteins beside one another, normalised, counts in a layer."""
    rng = np.random.default_rng(seed)
    label = rng.choice(["B", "NK", "T"], n)
    mean = np.exp(rng.normal(size=(3, GENES + PROTEINS)))[np.unique(label, return_inverse=True)[1]]
    counts = rng.poisson(mean * rng.gamma(5, 0.4, size=(n, 1)) + 0.2).astype(np.float32)
    X = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 3e3)
    obs = pd.DataFrame({"cell_type": pd.Categorical(label)}, index=[f"cell{i}" for i in range(n)])
    if is_train:
        obs["is_train"] = pd.Categorical(rng.choice(list(PARTS.values()), n, p=[0.6, 0.2, 0.2]))
    types = ["GEX"] * GENES + ["ADT"] * PROTEINS
    var = pd.DataFrame({"feature_types": types}, index=[f"f{i}" for i in range(GENES + PROTEINS)])
    whole = ad.AnnData(sp.csr_matrix(X), obs=obs, var=var)
    if layers:
        whole.layers["counts"] = sp.csr_matrix(counts)
    whole = whole if order is None else whole[order].copy()
    whole.write_h5ad(path)
    return whole


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    path = tmp_path_factory.mktemp("bmmc") / "processed.h5ad"
    return path, make_file(path)


def rows_of(data, name, whole):
    return whole.obs.index.get_indexer([i.partition(":")[2] for i in data[name].ids])


def test_the_file_is_cut_into_genes_and_proteins_and_split_as_it_says(processed):
    path, whole = processed
    split = up.examples.bmmc_citeseq(path, pcs=5)
    assert split.published
    for part, said in PARTS.items():
        data, truth = split.take(part)
        for name, columns in {"rna": slice(0, GENES), "adt": slice(GENES, None)}.items():
            rows = rows_of(data, name, whole)
            assert set(rows) == set(np.flatnonzero(whole.obs["is_train"] == said))
            assert np.array_equal(data[name].X.toarray(), whole.X[rows][:, columns].toarray())
            assert np.array_equal(np.array(data.classes)[data[name].labels], whole.obs["cell_type"].iloc[rows])
        assert data.pairs is None
        back = truth.partners("rna", "adt")
        assert np.array_equal(rows_of(data, "rna", whole), rows_of(data, "adt", whole)[back])
    assert len(split.learn[0]["rna"]) == len(split.train[0]["rna"]) + len(split.valid[0]["rna"])
    assert split.learn[0]["adt"].feature_names.tolist() == [f"f{i}" for i in range(GENES, GENES + PROTEINS)]


def test_the_recipes_are_fitted_on_the_training_cells_and_shared(processed):
    path, whole = processed
    split = up.examples.bmmc_citeseq(path, pcs=5)
    x = whole.X[(whole.obs["is_train"] == "train").to_numpy()][:, :GENES].toarray()
    scores = np.clip((x - x.mean(0)) / x.std(0), -10, 10)
    axes = np.linalg.svd(scores - scores.mean(0), full_matrices=False)[2][:5]
    test, _ = split.test
    own = np.clip((test["rna"].X.toarray() - x.mean(0)) / x.std(0), -10, 10) - scores.mean(0)
    assert np.allclose(np.abs(test["rna"].features), np.abs(own @ axes.T), atol=1e-3)
    assert np.array_equal(test["adt"].features, test["adt"].X.toarray())
    assert test["rna"].recipe is split.train[0]["rna"].recipe
    assert test["rna"].recipe.options == {"pcs": 5, "clip": 10}
    assert "on all cells" in test.notes[-1]


def test_too_few_cells_make_fewer_components_and_a_note(processed):
    split = up.examples.bmmc_citeseq(processed[0])
    assert split.data["rna"].features.shape[1] == GENES - 1
    assert "39 principal components of rna (200 were asked for" in split.data.notes[-1]


def test_the_counts_of_the_layer_come_in_the_order_of_the_cells(processed):
    path, whole = processed
    split = up.examples.bmmc_citeseq(path, pcs=5, counts=True)
    data, counts = split.test[0], split.take_counts("test")
    assert np.array_equal(counts["rna"].ids, data["rna"].ids)
    expected = whole.layers["counts"][rows_of(data, "adt", whole)][:, GENES:].toarray()
    assert np.array_equal(counts["adt"].X.toarray(), expected)
    assert (counts["rna"].recipe.name, counts["adt"].recipe.name) == ("counts", "protein")
    with pytest.raises(OptionError, match="ask for them"):
        up.examples.bmmc_citeseq(path, pcs=5).take_counts("test")


def test_pairs_can_be_used_or_left_out(processed):
    used = up.examples.bmmc_citeseq(processed[0], pairing="use", pcs=5)
    data, truth = used.train
    assert truth is None
    assert np.array_equal(data.pairs.partners("rna", "adt"), np.arange(len(data["rna"])))
    none = up.examples.bmmc_citeseq(processed[0], pairing="none", pcs=5)
    assert none.data.pairs is None
    assert none.truth is None


def test_without_is_train_every_label_is_drawn_apart_and_partners_stay_together(tmp_path):
    whole = make_file(tmp_path / "a.h5ad", is_train=False)
    split = up.examples.bmmc_citeseq(tmp_path / "a.h5ad", pcs=5)
    assert not split.published
    assert any("split 60/20/20" in n for n in split.data.notes)
    size = whole.obs["cell_type"].value_counts()
    for part, share in {"train": 0.6, "valid": 0.2, "test": 0.2}.items():
        data, truth = split.take(part)
        found = pd.Series(np.array(data.classes)[data["rna"].labels]).value_counts()
        assert np.all(np.abs(found - share * size) <= 1)
        assert (truth.partners("rna", "adt") >= 0).all()
    other = up.examples.bmmc_citeseq(tmp_path / "a.h5ad", pcs=5, seed=1)
    assert set(other.test[0]["rna"].ids) != set(split.test[0]["rna"].ids)


def test_the_drawn_split_and_the_features_do_not_depend_on_the_order_of_the_rows(tmp_path):
    make_file(tmp_path / "a.h5ad", is_train=False)
    make_file(tmp_path / "b.h5ad", is_train=False, order=np.random.default_rng(1).permutation(120))
    a, b = (up.examples.bmmc_citeseq(tmp_path / f"{n}.h5ad", pcs=5).test[0]["rna"] for n in "ab")
    assert set(a.ids) == set(b.ids)
    assert np.array_equal(a.features[np.argsort(a.ids)], b.features[np.argsort(b.ids)])


def test_raw_counts_are_normalised_and_said_so(tmp_path):
    whole = make_file(tmp_path / "a.h5ad", is_train=False)
    for name, columns in {"rna": slice(0, GENES), "adt": slice(GENES, None)}.items():
        part = whole[:, columns].copy()
        part.X = part.layers["counts"]
        part.write_h5ad(tmp_path / f"{name}.h5ad")
    split = up.examples.bmmc_citeseq(tmp_path, pcs=5, counts=True)
    data, raw = split.test[0], split.take_counts("test")
    x = raw["rna"].X.toarray()
    assert np.allclose(data["rna"].X.toarray(), np.log1p(x / x.sum(1, keepdims=True) * 1e4), atol=1e-5)
    y = raw["adt"].X.toarray()
    geometric = np.exp(np.log1p(y).mean(axis=1, keepdims=True))
    assert np.allclose(data["adt"].X.toarray(), np.log1p(y / geometric), atol=1e-5)
    assert sum("raw counts" in n for n in data.notes) == 2


def test_a_downloaded_file_is_hashed_once(processed, tmp_path, monkeypatch):
    hashed, own = [], download.sha256
    (tmp_path / "it.gz").write_bytes(gzip.compress(processed[0].read_bytes()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(bmmc, "BMMC_URL", (tmp_path / "it.gz").as_uri())
    first = up.examples.bmmc_citeseq(sha256=None, pcs=5)
    monkeypatch.setattr(download, "sha256", lambda path: hashed.append(path) or own(path))
    split = up.examples.bmmc_citeseq(sha256=None, pcs=5, counts=True)  # from the cache
    assert hashed == [tmp_path / "unpaired" / bmmc.BMMC_FILE]
    assert np.array_equal(split.data["rna"].ids, first.data["rna"].ids)


@pytest.mark.parametrize("sparse", [False, True])
def test_counts_are_whole_numbers_that_are_not_negative(toy, sparse):
    modality = toy(5)[0]["rna"]

    def made_of(X):
        return replace(modality, X=sp.csr_matrix(X) if sparse else X)

    X = np.arange(15 * 6, dtype=np.float32).reshape(15, 6)
    assert are_counts(made_of(X))
    for wrong in (0.5, -1, np.inf, np.nan):
        other = X.copy()
        other[3, 2] = wrong
        assert not are_counts(made_of(other))
    assert not are_counts(replace(modality, X=np.zeros((15, 1, 2, 3), dtype=np.float32)))


def test_what_is_wrong_with_the_file_is_said(tmp_path, processed):
    whole = processed[1].copy()
    whole.obs["is_train"] = whole.obs["is_train"].astype(str).replace("test", "later")
    whole.write_h5ad(tmp_path / "later.h5ad")
    with pytest.raises(DataError, match="it holds 'later'"):
        up.examples.bmmc_citeseq(tmp_path / "later.h5ad")
    whole[:, :GENES].copy().write_h5ad(tmp_path / "genes.h5ad")
    with pytest.raises(DataError, match="whose type is 'ADT'"):
        up.examples.bmmc_citeseq(tmp_path / "genes.h5ad")
    make_file(tmp_path / "plain.h5ad", layers=False)
    with pytest.raises(DataError, match="no layer 'counts'"):
        up.examples.bmmc_citeseq(tmp_path / "plain.h5ad", counts=True)
    with pytest.raises(DataError, match=r"rna\.h5ad"):
        up.examples.bmmc_citeseq(tmp_path)
    with pytest.raises(OptionError, match="pcs must be"):
        up.examples.bmmc_citeseq(tmp_path, pcs=0)
    with pytest.raises(OptionError, match="part must be one of"):
        up.examples.bmmc_citeseq(processed[0], pcs=5).take("holdout")


@pytest.mark.skipif(not STARTER.is_dir(), reason="the starter subset is not beside the checkout")
def test_the_starter_subset():
    split = up.examples.bmmc_citeseq(STARTER, label="label")
    data, truth = split.test
    assert data["rna"].features.shape == (119, 200)
    assert data["adt"].features.shape == (119, 134)
    assert len(data.classes) == 7
    assert (truth.partners("rna", "adt") >= 0).all()
    assert 0 < data["adt"].features.min() + 1e-9 < data["adt"].features.max() < 10


# ------------------------------------------------------------------------------------------------------ the recipe

RNG = np.random.default_rng(0)
SPIKED = RNG.normal(size=(80, 12)).astype(np.float32)
SPIKED[0, 0] = 60


@pytest.mark.parametrize(("spec", "most"), [("scale", 10), ("scale:clip=3", 3), ("scale:clip=8", 8)])
def test_scores_are_cut_where_the_option_says(spec, most):
    assert fit_recipe(spec, np.vstack([SPIKED] * 5)).transform(SPIKED * 5).max() == most


def test_zero_cuts_nothing():
    recipe = fit_recipe("scale:clip=0", SPIKED)
    assert np.allclose(recipe.transform(SPIKED * 9), (SPIKED * 9 - SPIKED.mean(0)) / SPIKED.std(0), rtol=1e-4)
    assert recipe.transform(SPIKED * 9).max() > 50


def test_the_components_are_those_of_the_cut_scores():
    recipe = fit_recipe("scale:pcs=3,clip=2", SPIKED)
    scores = np.clip((SPIKED - SPIKED.mean(0)) / SPIKED.std(0), -2, 2)
    axes = np.linalg.svd(scores - scores.mean(0), full_matrices=False)[2][:3]
    assert np.allclose(np.abs(recipe.transform(SPIKED)), np.abs((scores - scores.mean(0)) @ axes.T), atol=1e-4)


def test_the_default_is_the_recipe_that_it_was():
    recipe = fit_recipe("scale:pcs=3", SPIKED)
    assert recipe.options == {"pcs": 3, "clip": 10}
    assert set(recipe.arrays) == {"center", "std", "mean", "axes"}


@pytest.mark.parametrize("sparse", [False, True])
def test_many_readings_are_made_dense_in_parts_with_the_same_result(monkeypatch, sparse):
    X = np.maximum(RNG.normal(size=(300, 30)) @ np.diag(np.linspace(1, 3, 30)), 0).astype(np.float32)
    X[:, :4] += np.maximum(RNG.normal(size=(300, 1)), 0) * 3
    X = sp.csr_matrix(X) if sparse else X
    whole = fit_recipe("scale:pcs=4", X)
    plain = fit_recipe("scale", X)
    monkeypatch.setattr(recipes, "_LARGE", 2000)
    parts = fit_recipe("scale:pcs=4", X)
    for name in ("center", "std", "mean"):
        assert np.allclose(parts.arrays[name], whole.arrays[name], atol=1e-6)
    found, expected = parts.transform(X), whole.transform(X)
    signs = np.sign((found * expected).sum(axis=0))
    assert np.allclose(found * signs, expected, atol=2e-3)
    assert np.allclose(fit_recipe("scale", X).transform(X), plain.transform(X), atol=1e-5)
    again = fit_recipe("scale:pcs=4", X)
    assert np.array_equal(again.arrays["axes"], parts.arrays["axes"])


def test_the_names_of_the_file_are_those_of_geo():
    assert bmmc.BMMC_URL.endswith("/GSE194122/suppl/GSE194122_openproblems_neurips2021_cite_BMMC_processed.h5ad.gz")
    assert len(bmmc.BMMC_SHA256) == 64
