"""What confidence is worth: the risk of the cells that are kept, against the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import unpaired as up
from unpaired.errors import DataError, OptionError
from unpaired.evaluate.confidence import Confidence, selective_risk

SIDES = ("rna", "image")


def sure_of(values):
    return Confidence({"rna": np.asarray(values, dtype=float)}, {})


def risks(ranks, matching, truth, data):
    """Every source cell's own risk, by the definition."""
    out = np.full(matching.shape[0], np.nan)
    partner = truth.partners(*SIDES)
    for block in matching.blocks:
        nearer = ranks(block.dense(), data["image"].X[block.cols])
        i, j = np.nonzero(block.cols == partner[block.rows][:, None])
        out[block.rows[i]] = nearer[i, j]
    return out


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("n", [10, 21])
def test_the_risk_is_the_running_mean_of_each_cells_own(toy, coarse, n, coupled, rounded, ranks):
    data, truth = toy(n)
    data = rounded(data) if coarse else data
    matching = coupled(data)
    order = np.random.default_rng(0).permutation(3 * n)
    found = selective_risk(matching, truth, data, sure=sure_of(-order))
    own = risks(ranks, matching, truth, data)[np.argsort(order)]
    np.testing.assert_allclose(found.risk, own.cumsum() / np.arange(1, 3 * n + 1), atol=1e-9)
    np.testing.assert_allclose(found.kept, np.arange(1, 3 * n + 1) / (3 * n))
    assert found.risk[-1] == pytest.approx(own.mean())
    assert found.area == pytest.approx(found.risk.mean())
    assert found.area_random == pytest.approx(own.mean())
    assert found.cells == 3 * n


def test_of_many_cells_a_hundred_and_one_points_are_kept(toy, coupled, ranks):
    data, truth = toy(160, labels=("a",))
    matching = coupled(data)
    found = selective_risk(matching, truth, data, sure=sure_of(np.arange(160)))
    running = risks(ranks, matching, truth, data)[::-1].cumsum() / np.arange(1, 161)
    assert len(found.kept) == len(found.risk) == 101
    for kept, risk in zip(found.kept, found.risk, strict=True):
        assert risk == running[round(np.ceil(kept * 160 - 1e-6)) - 1]
    assert (found.kept[0], found.kept[-1]) == (1 / 160, 1)


def test_a_constant_confidence_gains_nothing(toy, coupled):
    data, truth = toy(20)
    matching = coupled(data)
    found = selective_risk(matching, truth, data, sure=sure_of(np.full(60, 0.4)))
    assert found.ratio == pytest.approx(1)
    np.testing.assert_allclose(found.risk, found.area_random)
    assert found.area_random > 0.1


def test_the_uniform_coupling_gains_nothing(toy):
    data, truth = toy(20)
    found = selective_risk(up.match_uniform(data), truth, data)
    assert found.area_random == pytest.approx(0.5)
    assert found.ratio == pytest.approx(1, abs=0.02)


def test_confidence_that_orders_the_errors_gains_and_its_opposite_loses(toy, coupled, ranks):
    data, truth = toy(20)
    matching = coupled(data)
    own = risks(ranks, matching, truth, data)
    right, wrong = (selective_risk(matching, truth, data, sure=sure_of(s * own)) for s in (-1, 1))
    assert right.ratio < 0.8
    assert wrong.ratio > 1.2
    assert (np.diff(right.risk) >= -1e-12).all()
    assert right.risk[-1] == pytest.approx(wrong.risk[-1])


def test_the_confidence_of_a_posterior_orders_its_errors(scored, coupled):
    data, truth, space = scored(80, labels=5, error=1.0)

    def posterior(rows, cols):
        gap = space["rna"][rows][:, None] - space["image"][cols]
        return np.exp(-0.25 * (gap**2).sum(axis=2)) + 1e-300

    assert selective_risk(coupled(data, posterior), truth, data).ratio < 0.8


def test_cells_of_the_same_confidence_count_alike(toy, coupled, ranks):
    data, truth = toy(20)
    matching = coupled(data)
    own = risks(ranks, matching, truth, data)
    found = selective_risk(matching, truth, data, sure=sure_of(own < 0.3))
    first = own < 0.3
    assert 5 < first.sum() < 55
    shared = np.r_[np.full(first.sum(), own[first].mean()), np.full((~first).sum(), own[~first].mean())]
    np.testing.assert_allclose(found.risk, shared.cumsum() / np.arange(1, 61))


def test_a_faultless_matching_cannot_gain(toy):
    data, truth = toy(20)
    found = selective_risk(up.match_pairs(data, truth), truth, data)
    assert (found.area, found.area_random, found.ratio) == (0, 0, 1)


def test_only_cells_with_a_partner_in_their_label_are_judged(toy, coupled, ranks):
    data, truth = toy({"rna": (12, 9, 1), "image": (7, 10, 1)}, unlabelled=3)
    units = truth.units["rna"].copy()
    units[np.flatnonzero(data["rna"].labels == 1)[:4]] = -1
    partial = up.Truth({**truth.units, "rna": units})
    matching = coupled(data)
    found = selective_risk(matching, partial, data)
    assert found.cells == 7 + 5
    own = risks(ranks, replace(matching, blocks=matching.blocks[:2]), partial, data)
    assert found.area_random == pytest.approx(np.nanmean(own))


def test_cells_without_a_confidence_are_not_judged(toy, coupled, ranks):
    data, truth = toy(20)
    values = np.where(np.arange(60) < 25, np.nan, 0.0)
    matching = coupled(data)
    found = selective_risk(matching, truth, data, sure=sure_of(values))
    assert found.cells == 35
    assert found.risk[-1] == pytest.approx(risks(ranks, matching, truth, data)[25:].mean())


def test_without_a_true_pair_there_is_nothing_to_judge(toy):
    data, truth = toy(5)
    apart = up.Truth({"rna": truth.units["rna"], "image": truth.units["image"] + 1000})
    with pytest.raises(DataError, match="no cell with a confidence has a true partner in its label"):
        selective_risk(up.match_uniform(data), apart, data)


def test_the_truth_of_other_cells_is_refused(toy):
    data, truth = toy(5)
    for name in SIDES:
        other = up.Truth({**truth.units, name: truth.units[name][1:]})
        with pytest.raises(OptionError, match="the truth is not of the"):
            selective_risk(up.match_uniform(data), other, data)
