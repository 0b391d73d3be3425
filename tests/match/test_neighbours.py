"""Shared nearest neighbours against eqs. 16-18 of Xi et al. 2024, written out with sets."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unpaired.data.types import Truth
from unpaired.errors import OptionError
from unpaired.evaluate.scores import score
from unpaired.match.neighbours import match_snn


def nearest(point, among, k):
    """Indices of the k nearest as a set; the places of these tests are all different."""
    order = sorted(range(len(among)), key=lambda j: float(np.sum((point - among[j]) ** 2)))
    return set(order[:k])


def by_hand(x, y, k):
    """Unnormalised weights of eq. 17; the four sets are smaller where there are fewer cells than k."""
    out = np.zeros((len(x), len(y)))
    for i, p in enumerate(x):
        for j, q in enumerate(y):
            s11, s12 = nearest(p, x, k), nearest(q, x, k)
            s21, s22 = nearest(p, y, k), nearest(q, y, k)
            shared = len(s11 & s12) + len(s21 & s22)
            out[i, j] = shared / (len(s11) + len(s12) + len(s21) + len(s22) - shared)
    return out


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("k", [1, 2, 3, 6])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_rows_divided_by_their_sums_are_equation_18(problem, k, metric):
    data, space = problem({"left": (9, 7), "right": (8, 12)}, d=3)
    matching = match_snn(data, space, k=k, metric=metric)
    rows = matching.to_sparse("rows").toarray()
    for block in matching.blocks:
        x, y = space["left"][block.rows], space["right"][block.cols]
        raw = by_hand(x, y, k) if metric == "euclidean" else by_hand(unit(x), unit(y), k)
        np.testing.assert_allclose(
            rows[np.ix_(block.rows, block.cols)], raw / raw.sum(axis=1, keepdims=True), rtol=1e-5
        )
        np.testing.assert_allclose(block.dense(), raw / raw.sum())
        assert block.status.state == "ok"


@pytest.mark.parametrize(("left", "right"), [(2, 9), (9, 2), (3, 2), (4, 9)])
def test_in_a_label_smaller_than_k_all_its_cells_are_neighbours(problem, left, right):
    data, space = problem({"left": (left,), "right": (right,)}, d=3)
    (block,) = match_snn(data, space, k=5).blocks
    raw = by_hand(space["left"][block.rows], space["right"][block.cols], 5)
    np.testing.assert_allclose(block.dense(), raw / raw.sum())
    assert block.status.used["k"] == [min(5, left), min(5, right)]


def test_one_neighbour_of_well_separated_twins_finds_the_twins(problem):
    places = np.random.default_rng(0).normal(size=(12, 2)) * 100
    shuffle = np.random.default_rng(1).permutation(12)
    data, space = problem(points={"left": places, "right": places[shuffle] + 0.01})
    partner, probability = match_snn(data, space).partners()
    assert np.array_equal(shuffle[partner[:, 0]], np.arange(12))
    np.testing.assert_allclose(probability, 1)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_turning_the_direction_transposes_the_coupling(problem, full, metric):
    data, space = problem({"left": (9, 7), "right": (8, 12)}, d=3)
    there = match_snn(data, space, k=3, metric=metric)
    back = match_snn(data, space, k=3, metric=metric, source="right", target="left")
    np.testing.assert_allclose(full(back), full(there).T, atol=1e-12)


def test_cosine_does_not_depend_on_the_lengths(problem, full):
    data, space = problem({"left": (9, 7), "right": (8, 12)}, d=3)
    rng = np.random.default_rng(0)
    stretched = replace(space, arrays={n: a * (rng.random((len(a), 1)) + 0.5) for n, a in space.arrays.items()})
    one, two = (full(match_snn(data, s, k=2, metric="cosine")) for s in (space, stretched))
    np.testing.assert_allclose(one, two)
    assert not np.allclose(*(full(match_snn(data, s, k=2)) for s in (space, stretched)))


def test_the_two_distances_are_not_the_same(problem, full):
    data, space = problem({"left": (9, 7), "right": (8, 12)}, d=3)
    assert not np.allclose(full(match_snn(data, space, k=2)), full(match_snn(data, space, k=2, metric="cosine")))


def test_a_place_at_the_origin_has_no_direction_and_does_no_harm(problem, full):
    data, space = problem({"left": (6,), "right": (6,)})
    space.arrays["left"][0] = 0
    assert np.isfinite(full(match_snn(data, space, metric="cosine"))).all()


@settings(max_examples=30, deadline=None)
@given(
    left=st.integers(2, 9),
    right=st.integers(2, 9),
    k=st.integers(1, 6),
    places=st.integers(1, 4),
    metric=st.sampled_from(["euclidean", "cosine"]),
    seed=st.integers(0, 2**20),
)
def test_every_row_and_every_column_has_a_weight_even_where_places_coincide(
    problem, left, right, k, places, metric, seed
):
    """Lemma B.1: every point is its own neighbour."""
    rng = np.random.default_rng(seed)
    points = {n: rng.integers(places, size=(m, 2)).astype(float) for n, m in (("left", left), ("right", right))}
    data, space = problem(points=points)
    (block,) = match_snn(data, space, k=k, metric=metric).blocks
    w = block.dense()
    assert (w >= 0).all()
    assert (w.sum(axis=0) > 0).all()
    assert (w.sum(axis=1) > 0).all()
    assert w.sum() == pytest.approx(1)
    raw = w / w.max()
    assert (raw <= 1).all()


def test_where_all_places_coincide_every_cell_still_has_a_partner(problem):
    data, space = problem(points={"left": np.zeros((5, 2)), "right": np.zeros((7, 2))})
    matching = match_snn(data, space)
    assert (matching.partners()[0] >= 0).all()
    assert (matching.transpose.partners()[0] >= 0).all()


def test_where_all_places_coincide_a_cells_first_neighbour_is_still_itself(problem, full):
    """With k = 1 a pair shares a neighbour only if one of the two is the other's nearest: n + m pairs at most."""
    data, space = problem(points={"left": np.zeros((5, 2)), "right": np.zeros((7, 2))})
    assert np.count_nonzero(full(match_snn(data, space))) <= 5 + 7


def test_with_all_cells_as_neighbours_all_partners_are_alike(problem):
    data, space = problem({"left": (5,), "right": (7,)})
    (block,) = match_snn(data, space, k=100).blocks
    np.testing.assert_allclose(block.dense(), 1 / 35)


@pytest.mark.parametrize("k", [0, -1, 1.5, "1", True])
def test_a_number_of_neighbours_that_is_none_is_refused(problem, k):
    with pytest.raises(OptionError, match="k must be a whole number of at least 1"):
        match_snn(*problem(), k=k)


def test_an_unknown_distance_is_refused(problem):
    with pytest.raises(OptionError, match="metric must be one of cosine, euclidean; got 'manhattan'"):
        match_snn(*problem(), metric="manhattan")


def test_the_options_are_kept(problem):
    matching = match_snn(*problem(), k=2, metric="cosine")
    assert matching.made_by.method == "match_snn"
    assert matching.made_by.options == {"k": 2, "metric": "cosine", "within": "label"}


def _batched(data, left, right):
    batches = {"left": np.array(left), "right": np.array(right)}
    return replace(data, modalities={n: replace(m, batch=batches[n]) for n, m in data.modalities.items()})


def test_within_a_batch_cells_of_other_batches_are_no_candidates_whatever_their_labels(problem):
    data, space = problem({"left": (5, 4), "right": (6, 3)}, d=3)
    rng = np.random.default_rng(0)
    data = _batched(data, rng.permutation(list("aaaabbbbb")), rng.permutation(list("aaabbbbbb")))
    matching = match_snn(data, space, k=2, metric="cosine", within="batch")
    assert [b.label for b in matching.blocks] == ["a", "b"]
    for block in matching.blocks:
        assert set(data["left"].batch[block.rows]) == set(data["right"].batch[block.cols]) == {block.label}
        raw = by_hand(unit(space["left"][block.rows]), unit(space["right"][block.cols]), 2)
        np.testing.assert_allclose(block.dense(), raw / raw.sum())
    assert matching.made_by.options == {"k": 2, "metric": "cosine", "within": "batch"}


def test_within_all_there_is_one_block_also_of_cells_without_a_label(problem):
    data, space = problem({"left": (5, 4), "right": (6, 3)}, d=3)
    data = replace(data, modalities={n: replace(m, labels=np.full(9, -1)) for n, m in data.modalities.items()})
    (block,) = match_snn(data, space, within="all").blocks
    assert (len(block.rows), len(block.cols)) == (9, 9)


def test_a_matching_within_batches_is_scored_against_chance_within_batches(problem):
    data, space = problem({"left": (6, 6), "right": (6, 6)}, d=3)
    order = np.arange(12)
    data, truth = _batched(data, ["a"] * 4 + ["b"] * 8, ["a"] * 4 + ["b"] * 8), Truth({"left": order, "right": order})
    scores = score(match_snn(data, space, within="batch"), truth, data)
    assert set(scores.per_label) == {"a", "b"}
    assert scores.uniform["trace"] == pytest.approx((1 / 4 + 1 / 8) / 2)


def test_within_batches_needs_batches(problem):
    data, space = problem({"left": (5,), "right": (6,)}, d=3)
    with pytest.raises(OptionError, match="within='batch' needs batches, and there are none of left, right"):
        match_snn(data, space, within="batch")
    with pytest.raises(OptionError, match="within must be one of all, batch, label; got 'donor'"):
        match_snn(data, space, within="donor")
