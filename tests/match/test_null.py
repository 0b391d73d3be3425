"""Matchings to compare with."""

import numpy as np
import pytest

from unpaired.data.types import Pairs, Truth
from unpaired.errors import OptionError
from unpaired.match.null import match_pairs, match_random, match_uniform

# ------------------------------------------------------------------ uniform


def test_uniform_gives_every_cell_all_cells_of_its_label_alike(problem, full):
    data, _ = problem({"left": (6, 5), "right": (4, 7)}, unlabelled=2)
    same = (data["left"].labels[:, None] == data["right"].labels) & (data["left"].labels >= 0)[:, None]
    rows = match_uniform(data).to_sparse("rows").toarray()
    np.testing.assert_allclose(rows, same / np.maximum(same.sum(axis=1, keepdims=True), 1), rtol=1e-6)


def test_uniform_meets_both_marginals(problem):
    for block in match_uniform(problem()[0]).blocks:
        np.testing.assert_allclose(block.sums(1), 1 / len(block.rows))
        np.testing.assert_allclose(block.sums(0), 1 / len(block.cols))
        assert block.status.marginal_error == 0


def test_uniform_pulls_the_mean_of_the_label(problem):
    data, _ = problem()
    values = np.random.default_rng(0).normal(size=(11, 2))
    out = match_uniform(data).pull(values)
    for code in (0, 1):
        own = values[data["right"].labels == code].mean(axis=0)
        np.testing.assert_allclose(
            out[data["left"].labels == code], np.tile(own, (np.sum(data["left"].labels == code), 1))
        )


# ------------------------------------------------------------------ random


@pytest.mark.parametrize("counts", [(6, 6), (4, 11), (11, 4), (2, 9)])
def test_random_uses_every_cell_of_the_larger_side_once_and_of_the_other_as_evenly_as_can_be(problem, full, counts):
    data, _ = problem({"left": counts[:1], "right": counts[1:]})
    hit = full(match_random(data)) > 0
    smaller, larger = (
        (hit.sum(axis=1), hit.sum(axis=0)) if counts[0] <= counts[1] else (hit.sum(axis=0), hit.sum(axis=1))
    )
    assert (larger == 1).all()
    assert smaller.max() - smaller.min() <= 1
    assert smaller.min() >= 1


def test_random_stays_within_the_label(problem, full):
    data, _ = problem()
    rows, cols = np.nonzero(full(match_random(data)))
    assert np.array_equal(data["left"].labels[rows], data["right"].labels[cols])


def test_random_gives_all_its_partners_the_same_weight(problem):
    for block in match_random(problem({"left": (4, 9), "right": (11, 3)})[0]).blocks:
        w = block.dense()
        np.testing.assert_allclose(w[w > 0], 1 / max(w.shape))


def test_random_tells_by_how_much_its_marginals_are_off(problem):
    for block in match_random(problem({"left": (4, 6), "right": (11, 6)})[0]).blocks:
        w = block.dense()
        expected = abs(w.sum(axis=1) - 1 / w.shape[0]).sum() + abs(w.sum(axis=0) - 1 / w.shape[1]).sum()
        assert block.status.marginal_error == pytest.approx(expected, abs=1e-12)


def test_random_is_decided_by_the_seed(problem, full):
    data, _ = problem({"left": (20,), "right": (20,)})
    one, two, other = (full(match_random(data, seed=s)) for s in (3, 3, 4))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_random_matches_every_pair_of_cells_equally_often(problem, full):
    data, _ = problem({"left": (4,), "right": (4,)})
    mean = sum(full(match_random(data, seed=s)) > 0 for s in range(100)) / 100
    np.testing.assert_allclose(mean, 0.25, atol=0.17)


def test_random_draws_anew_for_every_label():
    """Two labels of equal size do not repeat the same permutation."""
    from dataclasses import replace

    from unpaired.data.types import Dataset, Modality

    X = np.arange(40, dtype=np.float32)[:, None]
    ids = np.array([str(i) for i in range(40)])
    made = {n: Modality(n, X, np.repeat([0, 1], 20), ids) for n in ("left", "right")}
    first, second = match_random(Dataset(made, ("a", "b"))).blocks
    swapped = match_random(Dataset({n: replace(m, labels=1 - m.labels) for n, m in made.items()}, ("a", "b")))
    assert not np.array_equal(first.dense(), second.dense())
    assert np.array_equal(swapped.blocks[0].dense(), first.dense())


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5])
def test_a_seed_that_is_none_is_refused(problem, seed):
    with pytest.raises(OptionError, match="seed must be a whole number"):
        match_random(problem()[0], seed=seed)


# ------------------------------------------------------------------ true pairs


def test_pairs_match_every_cell_with_its_partner(toy, full):
    data, truth = toy(7)
    hit = full(match_pairs(data, truth)) > 0
    assert np.array_equal(hit, truth.units["rna"][:, None] == truth.units["image"])


def test_pairs_put_the_same_weight_on_every_pair_of_a_label(toy):
    data, truth = toy((7, 4, 5))
    for block in match_pairs(data, truth).blocks:
        w = block.dense()
        np.testing.assert_allclose(w[w > 0], 1 / len(block.rows))


def test_pairs_offered_for_learning_and_the_truth_give_the_same(toy, full):
    data, truth = toy(5)
    assert np.array_equal(full(match_pairs(data, truth)), full(match_pairs(data, Pairs(truth.units))))


def test_pairs_bring_the_true_readings(toy):
    data, truth = toy(7)
    pulled = match_pairs(data, truth).pull(truth.latents["image"])
    np.testing.assert_allclose(pulled, truth.latents["rna"])


def test_a_cell_whose_partner_was_not_measured_has_none(toy):
    data, truth = toy({"rna": 8, "image": 5})
    matching = match_pairs(data, truth)
    partner, probability = matching.partners()
    known = np.isin(truth.units["rna"], truth.units["image"])
    assert np.array_equal(partner[:, 0] >= 0, known)
    assert np.array_equal(probability[:, 0], known.astype(float))
    assert [b.dense().sum() for b in matching.blocks] == pytest.approx([1, 1, 1])


def test_a_cell_whose_partner_has_another_label_has_none(toy):
    data, truth = toy(6)
    units = {n: u.copy() for n, u in truth.units.items()}
    first = np.flatnonzero(data["image"].labels == 0)[0]
    second = np.flatnonzero(data["image"].labels == 1)[0]
    units["image"][[first, second]] = units["image"][[second, first]]
    partner, _ = match_pairs(data, Truth(units)).partners()
    lost = np.isin(units["rna"], units["image"][[first, second]])
    assert lost.sum() == 2
    assert np.array_equal(partner[:, 0] < 0, lost)


def test_a_cell_without_a_label_has_no_partner(toy):
    data, truth = toy(6, unlabelled=3)
    partner, _ = match_pairs(data, truth).partners()
    assert np.array_equal(partner[:, 0] < 0, data["rna"].labels < 0)


def test_a_single_cell_of_a_label_is_matched_with_its_partner_and_not_with_all(toy):
    data, truth = toy({"rna": (1, 6, 6), "image": (5, 6, 6)})
    hit = match_pairs(data, truth).to_sparse("rows").toarray()
    expected = truth.units["rna"][:, None] == truth.units["image"]
    np.testing.assert_allclose(hit, expected.astype(float), atol=1e-6)


def test_a_single_cell_of_a_label_whose_partner_is_unknown_has_none(toy):
    data, truth = toy({"rna": (1, 6, 6), "image": (5, 6, 6)})
    units = {**truth.units, "image": np.where(data["image"].labels == 0, -1, truth.units["image"])}
    partner, _ = match_pairs(data, Truth(units)).partners()
    assert partner[data["rna"].labels == 0, 0].tolist() == [-1]


def test_a_label_of_which_no_pair_is_known_is_not_covered_and_not_ok(toy):
    data, truth = toy(6)
    units = {**truth.units, "image": np.where(data["image"].labels == 0, -1, truth.units["image"])}
    matching = match_pairs(data, Truth(units))
    assert matching.blocks[0].status.state != "ok"
    assert matching.coverage.labels == 2
    assert "a" in matching.coverage.left_out


def test_the_joint_coupling_of_pairs_sums_to_one_though_a_label_has_none(toy):
    data, truth = toy(6)
    units = {**truth.units, "image": np.where(data["image"].labels == 0, -1, truth.units["image"])}
    assert match_pairs(data, Truth(units)).to_sparse().sum() == pytest.approx(1, abs=1e-6)


def test_with_three_modalities_the_pairs_of_the_named_two_are_taken(toy, full):
    data, truth = toy(5, modalities=("rna", "image", "adt"))
    hit = full(match_pairs(data, truth, source="adt", target="rna")) > 0
    assert np.array_equal(hit, truth.units["adt"][:, None] == truth.units["rna"])
