"""The means over a cell's partners, and how much these differ: against a loop over cells, whatever it is kept as."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import unpaired as up
from unpaired.errors import NotFittedError, OptionError
from unpaired.translate import barycentric as module
from unpaired.translate.barycentric import Barycentric

COUNTS = {"rna": (7, 5, 4, 0, 1), "image": (6, 8, 3, 2, 1)}
LABELS = tuple("abcde")


def by_a_loop(weights, values):
    """``(rows, mean, spread)`` of the cells that have a partner."""
    rows, means, spreads = [], [], []
    for i, w in enumerate(weights):
        if w.sum() == 0:
            continue
        mean = sum(w[j] * values[j] for j in range(len(values))) / w.sum()
        square = sum(w[j] * (values[j] - mean) ** 2 for j in range(len(values))) / w.sum()
        rows.append(i)
        means.append(mean)
        spreads.append(np.sqrt(square))
    return np.array(rows), np.array(means), np.array(spreads)


def assert_same(prediction, expected, atol=1e-5):
    rows, mean, spread = expected
    assert np.array_equal(prediction.rows, rows)
    np.testing.assert_allclose(prediction.mean, mean, atol=atol, rtol=1e-5)
    np.testing.assert_allclose(prediction.spread, spread, atol=atol, rtol=1e-5)


def with_X(data, name, X):
    side = replace(data[name], X=X)
    return replace(data, modalities=dict(data.modalities) | {name: side})


@pytest.fixture
def data(toy):
    return toy(COUNTS, labels=LABELS, features=4)[0]


@pytest.mark.parametrize("direction", [("rna", "image"), ("image", "rna")])
@pytest.mark.parametrize("kept_as", [("rna", "image"), ("image", "rna")])
def test_means_and_spreads_are_those_of_a_loop_over_the_cells(data, matched, kind, full, direction, kept_as):
    source, target = direction
    matching = matched(data, kind, source=kept_as[0], target=kept_as[1])
    weights = full(matching) if kept_as == direction else full(matching).T
    model = Barycentric(space="raw").fit(data, matching, source=source, target=target)
    found = model.predict()
    assert_same(found, by_a_loop(weights, data[target].X))
    assert (found.source, found.target, found.space, found.cells) == (source, target, "raw", len(data[source]))
    assert found.mean.dtype == found.spread.dtype == np.float32
    assert found.made_by.method == "Barycentric"
    assert found.made_by.options["matching"] == "test"
    unmatched = np.flatnonzero(data[source].labels == 3)  # cells of it are on one side only
    assert not np.isin(unmatched, found.rows).any()
    assert len(found.rows) == len(data[source]) - len(unmatched)


def test_the_matchings_own_direction_is_the_default(data, matched):
    matching = matched(data, "dense", source="image", target="rna")
    found = Barycentric().fit(data, matching).predict()
    assert (found.source, found.target) == ("image", "rna")
    other = Barycentric().fit(data, matching, source="rna").predict()
    assert (other.source, other.target) == ("rna", "image")


def test_features_are_those_of_the_recipe(toy, matched, full):
    data = up.prepare(toy(20, features=5)[0], recipes={"rna": "scale", "image": "scale:pcs=2"})
    matching = matched(data, "csr")
    found = Barycentric().fit(data, matching).predict()
    assert_same(found, by_a_loop(full(matching), data["image"].features))
    assert list(found.feature_names) == ["PC1", "PC2"]
    raw = Barycentric(space="raw").fit(data, matching).predict()
    assert list(raw.feature_names) == [f"image {i}" for i in range(5)]


@pytest.mark.parametrize("chunk", [1, 100, 2**24])
def test_sparse_readings_give_the_same_and_are_made_dense_by_columns(
    data, matched, kind, monkeypatch, made_dense, chunk
):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    counts = np.random.default_rng(0).poisson(0.5, size=(len(data["image"]), 30)).astype(np.float32)
    matching = matched(data, kind)
    dense = Barycentric(space="raw").fit(with_X(data, "image", counts), matching).predict()
    made_dense.clear()
    sparse = Barycentric(space="raw").fit(with_X(data, "image", sp.csr_matrix(counts)), matching).predict()
    np.testing.assert_array_equal(sparse.mean, dense.mean)
    np.testing.assert_array_equal(sparse.spread, dense.spread)
    assert sum(n * width for n, width in made_dense) == 18 * 30  # the matched cells, each once
    assert all(n * width <= max(chunk, n) for n, width in made_dense)
    assert max(n for n, _ in made_dense) == max(COUNTS["image"])  # never the cells of two labels at a time


def test_cells_without_mass_are_left_out_and_the_others_rows_are_in_order(data, matched, full):
    matching = matched(data, "dense")
    weights = matching.blocks[1].weights.copy()
    weights[[0, 3]] = 0
    weights[:, 2] = 0
    blocks = list(matching.blocks)
    blocks[1] = replace(blocks[1], weights=weights)
    blocks[0] = replace(blocks[0], weights=None)
    matching = replace(matching, blocks=tuple(blocks))
    found = Barycentric(space="raw").fit(data, matching).predict()
    assert_same(found, by_a_loop(full(matching), data["image"].X))
    assert (np.diff(found.rows) > 0).all()
    left_out = {*blocks[1].rows[[0, 3]].tolist(), *np.flatnonzero(np.isin(data["rna"].labels, [0, 3])).tolist()}
    assert set(found.rows.tolist()) == set(range(len(data["rna"]))) - left_out


def test_without_any_partner_nothing_is_predicted(data, matched):
    matching = matched(data, "dense")
    empty = [sp.csr_matrix((len(b.rows), len(b.cols))) for b in matching.blocks]
    nothing = [replace(b, weights=None if i % 2 else empty[i]) for i, b in enumerate(matching.blocks)]
    found = Barycentric().fit(data, replace(matching, blocks=tuple(nothing))).predict()
    assert found.mean.shape == found.spread.shape == (0, 4)
    assert len(found.rows) == 0
    assert found.cells == len(data["rna"])


def test_a_true_pair_is_predicted_as_its_partner_and_without_spread(toy):
    data, truth = toy({"rna": (12, 9), "image": (9, 11)}, labels=("a", "b"))
    found = Barycentric(space="raw").fit(data, up.match_pairs(data, truth)).predict()
    partner = truth.partners("rna", "image")
    assert np.array_equal(found.rows, np.flatnonzero(partner >= 0))
    np.testing.assert_allclose(found.mean, data["image"].X[partner[found.rows]], rtol=1e-6)
    assert found.spread.max() < 1e-6


def test_a_uniform_matching_gives_every_cell_its_labels_mean_and_spread(toy):
    data, _ = toy(15)
    found = Barycentric(space="raw").fit(data, up.match_uniform(data)).predict()
    for code in range(3):
        X = data["image"].X[data["image"].labels == code]
        own = data["rna"].labels == code
        np.testing.assert_allclose(found.mean[own], np.tile(X.mean(axis=0), (15, 1)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.spread[own], np.tile(X.std(axis=0), (15, 1)), rtol=1e-4)


def test_a_large_offset_does_not_take_the_spreads_digits(data, matched, kind, full):
    X = data["image"].X.astype(np.float64)
    matching = matched(data, kind)
    here = Barycentric(space="raw").fit(with_X(data, "image", X), matching).predict()
    far = Barycentric(space="raw").fit(with_X(data, "image", X + 1e8), matching).predict()
    np.testing.assert_allclose(far.spread, here.spread, rtol=1e-4, atol=1e-5)
    assert here.spread.max() > 0.5


@pytest.mark.parametrize("name", ["rna", "image"])
@pytest.mark.parametrize("how", ["plan", "uniform"])
def test_the_order_of_one_sides_rows_changes_no_prediction(toy, matched, reorder, name, how):
    data, truth = toy((9, 6, 4))
    make = up.match_uniform if how == "uniform" else lambda d: matched(d, "plan")
    other, _, order = reorder(data, truth, name)
    one = Barycentric(space="raw").fit(data, make(data)).predict()
    two = Barycentric(space="raw").fit(other, make(other)).predict()
    order = order if name == "rna" else np.arange(len(data["rna"]))
    assert np.array_equal(one.rows, two.rows)
    assert np.array_equal(one.mean[order], two.mean)
    assert np.array_equal(one.spread[order], two.spread)


def test_nothing_of_the_input_is_written_to(data, matched, kind):
    matching = matched(data, kind)
    before = data["image"].X.copy(), [b.dense().copy() for b in matching.matched]
    Barycentric(space="raw").fit(data, matching).predict()
    assert np.array_equal(data["image"].X, before[0])
    assert all(np.array_equal(b.dense(), w) for b, w in zip(matching.matched, before[1], strict=True))


def test_what_cannot_be_done_is_refused_in_one_sentence(data, toy, matched):
    matching = matched(data, "dense")
    with pytest.raises(NotFittedError, match="call fit before"):
        Barycentric().predict()
    with pytest.raises(OptionError, match="space must be one of features, raw; got 'pcs'"):
        Barycentric(space="pcs").fit(data, matching)
    with pytest.raises(OptionError, match=r"source must be one of rna, image|source must be one of image, rna"):
        Barycentric().fit(data, matching, source="adt")
    with pytest.raises(OptionError, match="source and target must differ"):
        Barycentric().fit(data, matching, source="rna", target="rna")
    more, _ = toy(10)
    with pytest.raises(OptionError, match=r"matching is of \(17, 20\) cells and the data have \(30, 30\)"):
        Barycentric().fit(more, matching)
