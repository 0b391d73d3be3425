"""The confidence of a cell against two loops."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import unpaired as up
from unpaired.evaluate import confidence as module
from unpaired.evaluate.confidence import confidence, selective_risk
from unpaired.match.block import Product
from unpaired.match.transport.solution import Plan

SIDES = ("rna", "image")


def expected(ranks, weights, y):
    p = weights / weights.sum(axis=1, keepdims=True)
    return (p * ranks(weights, y)).sum(axis=1)


@pytest.mark.parametrize("coarse", [False, True])
def test_it_is_the_expected_rank_by_two_loops(toy, coarse, coupled, rounded, ranks):
    data, _ = toy({"rna": (7, 4, 9), "image": (5, 6, 2)})
    data = rounded(data) if coarse else data
    matching = coupled(data)
    found = confidence(matching, data)
    for block in matching.blocks:
        there = expected(ranks, block.weights, data["image"].X[block.cols])
        back = expected(ranks, block.weights.T, data["rna"].X[block.rows])
        np.testing.assert_allclose(found.values["rna"][block.rows], 1 - 2 * there, atol=1e-7)
        np.testing.assert_allclose(found.values["image"][block.cols], 1 - 2 * back, atol=1e-7)
        claim = found.claims[block.label]
        p = block.weights / block.weights.sum(axis=1, keepdims=True)
        assert claim.trace_over_uniform == pytest.approx(np.mean(len(block.cols) * (p**2).sum(axis=1)))
        assert claim.foscttm_target == pytest.approx(there.mean(), abs=1e-7)
        assert claim.foscttm_source == pytest.approx(back.mean(), abs=1e-7)
        assert claim.foscttm == pytest.approx((there.mean() + back.mean()) / 2, abs=1e-7)


def test_the_uniform_coupling_is_not_sure_of_anything(toy):
    data, _ = toy((30, 5), labels=("a", "b"))
    found = confidence(up.match_uniform(data), data)
    for values in found.values.values():
        np.testing.assert_allclose(values, 0, atol=1e-9)
    for claim in found.claims.values():
        assert claim.trace_over_uniform == pytest.approx(1)
        assert claim.foscttm == pytest.approx(0.5)


def test_a_hard_coupling_is_certain(toy):
    data, truth = toy(25)
    found = confidence(up.match_pairs(data, truth), data)
    assert all((v == 1).all() for v in found.values.values())
    assert {c.trace_over_uniform for c in found.claims.values()} == {25.0}


def test_features_without_variance_tell_nobody_apart(toy):
    data, truth = toy(25)
    flat = replace(data, modalities={n: replace(m, X=np.full_like(m.X, 0.1)) for n, m in data.modalities.items()})
    matching = up.match_pairs(data, truth)
    for name, values in confidence(matching, flat).values.items():
        np.testing.assert_allclose(values, 0, atol=1e-12, err_msg=name)
    assert selective_risk(matching, truth, flat).risk[-1] == pytest.approx(0.5)


def test_partners_on_opposite_sides_of_the_others_are_worse_than_none(toy, coupled):
    data, _ = toy(5, labels=("a",), features=1)
    place = {n: np.argsort(np.argsort(m.X[:, 0])) for n, m in data.modalities.items()}
    line = replace(
        data, modalities={n: replace(m, X=np.float32(place[n])[:, None]) for n, m in data.modalities.items()}
    )
    ends = np.tile(np.isin(place["image"], (0, 4)) / 2, (5, 1))
    values = confidence(coupled(line, lambda *_: ends), line).values["rna"]
    np.testing.assert_allclose(values, 1 - 2 * (0.5 * (3 + 4) / 2 / 4 * 2), atol=1e-12)
    assert (values < 0).all()


def plan(rng):
    def weights(rows, cols):
        x, y = rng.normal(size=(len(rows), 2)), rng.normal(size=(len(cols), 2))
        return Plan(x, y, rng.normal(size=len(rows)), rng.normal(size=len(cols)), 0.7, "sqeuclidean")

    return weights


def product(rng):
    return lambda rows, cols: Product(rng.random(len(rows)) + 0.1, rng.random(len(cols)) + 0.1)


@pytest.mark.parametrize("kind", [plan, product])
@pytest.mark.parametrize("into", [np.asarray, sp.csr_matrix])
def test_how_the_weights_are_kept_does_not_matter(toy, kind, into, coupled):
    data, truth = toy({"rna": (30, 12), "image": (20, 25)}, labels=("a", "b"))
    kept = coupled(data, kind(np.random.default_rng(0)))
    other = replace(kept, blocks=tuple(replace(b, weights=into(b.dense())) for b in kept.blocks))
    one, two = confidence(kept, data), confidence(other, data)
    for name in SIDES:
        np.testing.assert_allclose(one.values[name], two.values[name], atol=1e-9)
        assert one.values[name].std() > 0.01 or kind is product
    risks = [selective_risk(m, truth, data, sure=one).risk for m in (kept, other)]
    np.testing.assert_allclose(*risks, atol=1e-9)


def test_source_and_target_can_be_exchanged(toy, coupled):
    data, _ = toy({"rna": (8, 11), "image": (12, 6)}, labels=("a", "b"))
    matching = coupled(data)
    there, back = confidence(matching, data), confidence(matching.transpose, data)
    for name in SIDES:
        np.testing.assert_allclose(there.values[name], back.values[name], atol=1e-12)
    for label, claim in there.claims.items():
        assert back.claims[label].foscttm_source == pytest.approx(claim.foscttm_target, abs=1e-12)
        assert back.claims[label].foscttm_target == pytest.approx(claim.foscttm_source, abs=1e-12)


def test_the_size_of_a_chunk_does_not_matter(toy, monkeypatch, coupled):
    data, truth = toy(15)
    matching = coupled(data)
    whole, risk = confidence(matching, data), selective_risk(matching, truth, data)
    monkeypatch.setattr(module, "_CHUNK", 40)
    parts = confidence(matching, data)
    for name in SIDES:
        np.testing.assert_allclose(parts.values[name], whole.values[name], atol=1e-12)
    np.testing.assert_allclose(selective_risk(matching, truth, data).risk, risk.risk, atol=1e-12)


@pytest.mark.parametrize("shape", [0.003, 0.3])
def test_among_many_candidates_a_rank_is_probed(toy, monkeypatch, shape, coupled):
    data, _ = toy({"rna": 30, "image": 1500}, labels=("a",))
    matching = coupled(data, shape=shape)
    probed = confidence(matching, data).values
    monkeypatch.setattr(module, "_ALL", 10**6)
    exact = confidence(matching, data).values
    assert np.array_equal(probed["image"], exact["image"])
    assert not np.array_equal(probed["rna"], exact["rna"])
    np.testing.assert_allclose(probed["rna"], exact["rna"], atol=4 / np.sqrt(256) / 2)  # of a share's standard error
    assert abs((probed["rna"] - exact["rna"]).mean()) < 0.05
    assert exact["rna"].std() > 0.005


def test_a_probed_rank_is_that_among_the_probes_with_ties_one_half(toy, monkeypatch, coupled, rounded):
    monkeypatch.setattr(module, "_ALL", 10)
    monkeypatch.setattr(module, "_PROBES", 7)
    data, _ = toy(31, labels=("a",))
    data = rounded(data)
    matching = coupled(data)
    block = matching.blocks[0]
    p = block.weights / block.weights.sum(axis=1, keepdims=True)
    probes = [0, 5, 10, 15, 20, 25, 30]
    wanted = []
    y = data["image"].X[block.cols].astype(float)
    for row in p:
        d = ((row @ y - y) ** 2).sum(axis=1)
        below = [np.mean(d[probes] < own - 1e-9) + 0.5 * np.mean(np.abs(d[probes] - own) <= 1e-9) for own in d]
        wanted.append(row @ below)
    np.testing.assert_allclose(
        confidence(matching, data).values["rna"][block.rows], 1 - 2 * np.array(wanted), atol=1e-9
    )


@pytest.mark.parametrize("candidates", [20, 1200])
def test_a_cell_without_weight_has_no_confidence(toy, candidates, coupled):
    data, _ = toy({"rna": 6, "image": candidates}, labels=("a",))

    def weights(rows, cols):
        w = np.ones((len(rows), len(cols)))
        w[2], w[:, 4] = 0, 0
        return sp.csr_matrix(w)

    matching = coupled(data, weights)
    found = confidence(matching, data)
    assert np.flatnonzero(np.isnan(found.values["rna"])).tolist() == [matching.blocks[0].rows[2]]
    assert np.flatnonzero(np.isnan(found.values["image"])).tolist() == [matching.blocks[0].cols[4]]
    assert found.claims["a"].trace_over_uniform == pytest.approx(candidates / (candidates - 1))


def test_labels_without_a_choice_or_without_weight_claim_nothing(toy, coupled):
    data, truth = toy({"rna": (6, 1, 6, 6, 0), "image": (6, 6, 1, 6, 3)}, labels=tuple("abcde"), unlabelled=4)
    matching = coupled(
        data, lambda r, c: np.zeros((len(r), len(c))) if (len(r), len(c)) == (6, 6) else Product(r + 1.0, c)
    )
    full = matching.blocks[3]
    blocks = (*matching.blocks[:3], replace(full, weights=np.eye(6)), replace(matching.blocks[4], weights=None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = confidence(replace(matching, blocks=blocks), data)
        risk = selective_risk(replace(matching, blocks=blocks), truth, data)
    assert list(found.claims) == ["d"]
    assert set(np.flatnonzero(np.isfinite(found.values["rna"]))) == set(full.rows)
    assert risk.cells == 6


def test_rows_can_come_in_any_order(toy):
    data, truth = toy((30, 4, 17), unlabelled=5)
    rng = np.random.default_rng(0)
    perm = {n: rng.permutation(len(data[n])) for n in SIDES}
    other = data.take(perm)
    hidden = up.Truth({n: truth.units[n][p] for n, p in perm.items()})
    for match in (up.match_uniform, up.match_random):
        here, there = confidence(match(data), data), confidence(match(other), other)
        for name in SIDES:
            assert np.array_equal(there.values[name], here.values[name][perm[name]], equal_nan=True)
        assert here.claims == there.claims
        risks = [selective_risk(match(d), t, d) for d, t in ((data, truth), (other, hidden))]
        assert risks[0].area == pytest.approx(risks[1].area, abs=1e-12)
