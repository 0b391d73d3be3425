"""New readings: the same in chunks as at once, in the target's units, and refused where nothing can be said of them."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import unpaired as up
from unpaired.data.types import Modality
from unpaired.errors import DataError, OptionError
from unpaired.translate import model as module
from unpaired.translate.model import read_source, read_target
from unpaired.translate.translator import Translator


@pytest.fixture
def learned(toy):
    """``(data, model)`` of a toy."""
    data, _ = toy(10)
    return data, Translator(members=2, epochs=2).fit(data, up.match_uniform(data))


def a_side(X, *, recipe=None):
    n = X.shape[0]
    return Modality("rna", X, np.zeros(n, dtype=int), np.array([f"rna:{i}" for i in range(n)]), recipe=recipe)


# ------------------------------------------------------------------ predicting


@pytest.mark.parametrize("chunk", [1, 7, 29, 30, 31])
@pytest.mark.parametrize("kept", ["dense", "csr", "coo"])
def test_chunks_give_what_the_whole_gives(learned, monkeypatch, chunk, kept):
    data, model = learned
    X = data["rna"].X
    whole = model.predict(X)
    monkeypatch.setattr(module, "_CHUNK", chunk)
    parts = model.predict({"dense": X, "csr": sp.csr_matrix(X), "coo": sp.coo_matrix(X)}[kept])
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parts.spread, whole.spread, rtol=1e-4, atol=1e-6)
    assert parts.mean.dtype == parts.spread.dtype == np.float32


@pytest.mark.parametrize("recipe", ["none", "counts:pcs=3", "peaks:components=2"])
def test_a_sparse_source_is_made_dense_by_chunks(toy, monkeypatch, made_dense, recipe):
    data = toy(10)[0]
    rng = np.random.default_rng(0)
    counts = {n: sp.csr_matrix(rng.poisson(1, size=(30, 6)), dtype=np.float32) for n in data}
    sides = {n: replace(m, X=counts[n]) for n, m in data.modalities.items()}
    data = up.prepare(replace(data, modalities=sides), recipes=recipe)
    model = Translator(members=2, epochs=1).fit(data, up.match_uniform(data))
    monkeypatch.setattr(module, "_CHUNK", 7)
    made_dense.clear()
    assert len(model.predict(data["rna"].X).mean) == 30
    assert max((n for n, _ in made_dense), default=0) <= 7


def test_mean_and_spread_are_those_of_the_members_in_the_targets_units(learned):
    data, model = learned
    learned_from = model.model_
    source, target = learned_from.source, learned_from.target
    x = ((data["rna"].X - source.center) / source.scale).astype(np.float32)
    with torch.no_grad():
        out = learned_from.net.eval()(torch.as_tensor(x).expand(2, *x.shape)).numpy()
    own = out * target.scale + target.center
    found = model.predict(data["rna"])
    np.testing.assert_allclose(found.mean, own.mean(axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.spread, own.std(axis=0), rtol=1e-3, atol=1e-5)
    assert np.array_equal(found.rows, np.arange(30))
    assert found.cells == 30


def test_no_cells_have_a_prediction_of_no_rows(learned):
    data, model = learned
    found = model.predict(data["rna"].X[:0])
    assert found.mean.shape == found.spread.shape == (0, 6)
    assert model.predict(sp.csr_matrix((0, 6))).mean.shape == (0, 6)


def test_a_cell_alone_is_predicted_as_among_others(learned):
    data, model = learned
    whole = model.predict(data["rna"]).mean
    np.testing.assert_allclose(model.predict(data["rna"].X[[4]]).mean, whole[[4]], atol=1e-5)
    np.testing.assert_allclose(model.predict(data["rna"].X[4:5].tolist()).mean, whole[[4]], atol=1e-5)
    np.testing.assert_allclose(model.predict(data["rna"].X.astype(np.float64)).mean, whole, atol=1e-5)


@pytest.mark.parametrize(
    "shape", [(), (6,), (3, 5), (3, 7), (0, 5), (3, 6, 1), (3, 1, 6, 1)], ids=lambda s: "x".join(map(str, s))
)
def test_other_features_are_refused(learned, shape):
    expected = rf"have the shape \({', '.join(map(str, shape[1:]))},?\) a cell; rna was learned with \(6,\)"
    with pytest.raises(DataError, match=expected):
        learned[1].predict(np.zeros(shape, dtype=np.float32))


def test_sparse_readings_of_other_features_are_refused(learned):
    with pytest.raises(DataError, match=r"shape \(5,\) a cell"):
        learned[1].predict(sp.csr_matrix((3, 5)))


def test_what_is_no_number_is_refused(learned):
    for readings in (np.full((2, 6), "a"), np.full((2, 6), None), np.full((2, 6), 1j)):
        with pytest.raises(DataError, match=r"the readings have the type .* Give real numbers"):
            learned[1].predict(readings)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kept", ["dense", "csr"])
@pytest.mark.parametrize("recipe", [None, "scale", "none"])
def test_missing_and_infinite_readings_are_counted_and_the_first_is_named(toy, monkeypatch, value, kept, recipe):
    monkeypatch.setattr(module, "_CHUNK", 7)
    data = toy(10)[0]
    data = data if recipe is None else up.prepare(data, recipes=recipe)
    model = Translator(members=2, epochs=1).fit(data, up.match_uniform(data))
    X = data["rna"].X.copy()
    X[[17, 17, 25], [0, 3, 2]] = value
    before = X.copy()
    with pytest.raises(DataError, match="2 cells have readings that are missing or infinite, the first in row 17"):
        model.predict(sp.csr_matrix(X) if kept == "csr" else X)
    assert np.array_equal(X, before, equal_nan=True)


def test_missing_readings_are_filled_where_the_recipe_was_learned_with_some(toy):
    data = toy(10)[0]
    X = data["rna"].X.copy()
    X[3, 2] = np.nan
    data = up.prepare(replace(data, modalities=dict(data.modalities) | {"rna": replace(data["rna"], X=X)}))
    model = Translator(members=2, epochs=2).fit(data, up.match_uniform(data))
    filled = X.copy()
    filled[3, 2] = np.nanmedian(X[:, 2])
    np.testing.assert_allclose(model.predict(X).mean, model.predict(filled).mean, atol=1e-6)
    X[9, 0] = np.inf
    with pytest.raises(DataError, match="1 cells have readings that are missing or infinite, the first in row 9"):
        model.predict(X)


def test_another_modality_is_refused_although_its_features_would_fit(learned):
    data, model = learned
    assert data["image"].X.shape == data["rna"].X.shape
    with pytest.raises(OptionError, match="predicts from 'rna', not from 'image'"):
        model.predict(data["image"])


# ------------------------------------------------------------------ what is read of the two ends


SOME = np.random.default_rng(3).permutation(50)[:30]  # those that are learned from


@pytest.mark.parametrize("kept", ["dense", "csr"])
def test_raw_targets_are_scaled_one_by_one_by_those_learned_from(kept):
    X = np.random.default_rng(0).poisson([0.5, 3, 40, 5], size=(50, 4)).astype(np.float32)
    X[SOME, 3] = 7  # constant where it is learned from
    side = a_side(sp.csr_matrix(X) if kept == "csr" else X)
    told, values, sizes = read_target(side, SOME, space="raw", head="gaussian")
    np.testing.assert_allclose(told.center, X[SOME].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(told.scale, [*X[SOME].std(axis=0)[:3], 1], rtol=1e-5)
    assert values.shape == (50, 4)
    assert values is side.X or np.shares_memory(values, side.X)
    assert (sizes, told.size) == (None, None)


def test_features_keep_their_relative_sizes():
    X = (np.random.default_rng(1).normal(size=(50, 3)) * [1, 3, 9] + 5).astype(np.float32)
    told, _, _ = read_target(a_side(X), SOME, space="features", head="gaussian")
    end, x = read_source(a_side(X), SOME)
    center, one = X[SOME].mean(axis=0), np.sqrt(X[SOME].var(axis=0).mean())
    for found in (told, end):
        np.testing.assert_allclose(found.center, center, rtol=1e-5)
        np.testing.assert_allclose(found.scale, [one] * 3 if found is told else one, rtol=1e-5)
    np.testing.assert_allclose(x, (X - center) / one, atol=1e-5)
    assert np.array_equal(x, end.standardised(X))


def test_a_head_of_counts_knows_every_cells_total_and_predicts_for_the_median_one():
    X = np.random.default_rng(2).poisson(3, size=(50, 4)).astype(np.float32)
    X[SOME[:3]] = 0
    for readings in (X, sp.csr_matrix(X)):
        told, _, sizes = read_target(a_side(readings), SOME, space="raw", head="nb")
        assert np.array_equal(sizes, X.sum(axis=1))
        assert told.size == np.median(X[SOME[3:]].sum(axis=1))
        assert (told.center == 0).all()
        assert (told.scale == 1).all()


@pytest.mark.parametrize(
    ("X", "space", "match"),
    [
        ([[1, 2], [0.5, 1]], "raw", "'rna' has readings that are none"),
        ([[1, 2], [-1, 1]], "raw", "'rna' has readings that are none"),
        ([[0, 0], [0, 0]], "raw", "every reading of 'rna' that is learned from is zero"),
        ([[0, 0], [3, 1]], "raw", "every reading of 'rna' that is learned from is zero"),
        ([[1, 2], [3, 1]], "features", "use space='raw'"),
    ],
)
def test_a_head_of_counts_needs_counts(X, space, match):
    for readings in (np.array(X, dtype=np.float32), sp.csr_matrix(np.array(X, dtype=np.float32))):
        with pytest.raises(OptionError, match=match):
            read_target(a_side(readings), np.array([0]), space=space, head="nb")
