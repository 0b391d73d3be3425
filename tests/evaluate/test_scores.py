"""Scores against three-line brute force, and what the averages say they cover."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import unpaired as up
from unpaired.embed.embedding import Provenance
from unpaired.errors import DataError, OptionError
from unpaired.evaluate import ranks
from unpaired.evaluate.ranks import foscttm
from unpaired.match.block import Block, Status
from unpaired.match.matching import Matching


def make(sizes=(7, 5), *, d=3, seed=0, order=None):
    """Two modalities of the same cells, each side shuffled, and the truth; ``order`` gives each row's cell."""
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    units = {"a": rng.permutation(n), "b": rng.permutation(n)}
    latent = rng.normal(size=(n, d))
    sides = {}
    for i, name in enumerate("ab"):
        x = latent @ rng.normal(size=(d, 4)) + 0.1 * rng.normal(size=(n, 4))
        ids = np.array([f"{name}:{k}" for k in range(n)])
        sides[name] = up.Modality(name, x[units[name]].astype(np.float32), labels[units[name]], ids)
        assert i < 2
    data = up.Dataset(sides, tuple("stuvw"[: len(sizes)]))
    return data, up.Truth(units, {k: latent[u] for k, u in units.items()})


def dense_matching(data, seed=0, *, sparse=False):
    rng = np.random.default_rng(seed)
    blocks = []
    for code, label in enumerate(data.classes):
        rows, cols = (rng.permutation(np.flatnonzero(data[m].labels == code)) for m in "ab")
        weights = rng.gamma(0.3, size=(len(rows), len(cols)))
        blocks.append(Block(label, rows, cols, sp.csr_matrix(weights) if sparse else weights, Status("ok")))
    shape = (len(data["a"]), len(data["b"]))
    return Matching("a", "b", shape, tuple(blocks), Provenance("made up", {}))


def brute_foscttm(projected, measured, pairs):
    """Eqs. 26 and 27 word for word, with ties at one half and the true one left out."""
    d = np.linalg.norm(projected[:, None] - measured[None], axis=2)
    rows = [
        np.mean([(d[i, k] < d[i, j]) + 0.5 * (d[i, k] == d[i, j]) for k in range(d.shape[1]) if k != j])
        for i, j in pairs
    ]
    cols = [
        np.mean([(d[k, j] < d[i, j]) + 0.5 * (d[k, j] == d[i, j]) for k in range(d.shape[0]) if k != i])
        for i, j in pairs
    ]
    return (np.mean(rows) + np.mean(cols)) / 2


@pytest.mark.parametrize("sparse", [False, True])
def test_every_metric_equals_its_brute_force(sparse):
    data, truth = make()
    matching = dense_matching(data, sparse=sparse)
    scores = up.score(matching, truth, data)
    partner = truth.partners("a", "b")
    for block in matching.blocks:
        mine = scores.per_label[block.label]
        m = block.dense() / block.dense().sum(1, keepdims=True)
        back = (block.dense() / block.dense().sum(0)).T
        pairs = [(i, int(np.flatnonzero(block.cols == partner[r])[0])) for i, r in enumerate(block.rows)]
        x, y = data["a"].X[block.rows].astype(float), data["b"].X[block.cols].astype(float)
        z = truth.latents["a"][block.rows]
        assert mine.pairs == len(pairs)
        assert mine.trace == pytest.approx(np.mean([m[i, j] for i, j in pairs]))
        assert mine.trace_over_uniform == pytest.approx(mine.trace * len(block.cols))
        assert mine.foscttm_target == pytest.approx(brute_foscttm(m @ y, y, pairs))
        assert mine.foscttm_source == pytest.approx(brute_foscttm(back @ x, x, [(j, i) for i, j in pairs]))
        assert mine.latent_mse == pytest.approx(np.mean((z - m @ truth.latents["b"][block.cols]) ** 2))


def test_averages_are_by_label_and_by_pair():
    data, truth = make((9, 4))
    scores = up.score(dense_matching(data), truth, data)
    traces = [scores.per_label[c].trace for c in "st"]
    assert scores.unweighted["trace"] == pytest.approx(np.mean(traces))
    assert scores.weighted["trace"] == pytest.approx((9 * traces[0] + 4 * traces[1]) / 13)


def test_the_uniform_coupling_scores_one_and_one_half_exactly():
    data, truth = make((30, 11, 8), seed=3)
    scores = up.score(up.match_uniform(data), truth, data)
    for average in (scores.unweighted, scores.weighted, scores.uniform):
        assert average["trace_over_uniform"] == pytest.approx(1, abs=1e-12)
        assert average["foscttm_source"] == pytest.approx(0.5, abs=1e-12)
        assert average["foscttm_target"] == pytest.approx(0.5, abs=1e-12)
    assert scores.unweighted["latent_mse"] == pytest.approx(scores.uniform["latent_mse"])


def test_the_uniform_coupling_scores_one_half_far_from_the_origin():
    """Rounding must not break the ties of a projection onto one point: counts can be far from zero."""
    data, truth = make((40,), seed=4)
    far = replace(data, modalities={n: replace(m, X=m.X * 30 + 5e4) for n, m in data.modalities.items()})
    scores = up.score(up.match_uniform(far), truth, far)
    assert scores.unweighted["foscttm_source"] == pytest.approx(0.5, abs=1e-9)
    assert scores.unweighted["foscttm_target"] == pytest.approx(0.5, abs=1e-9)


def test_random_matchings_score_one_half_on_average():
    data, truth = make((60, 60), seed=5)
    values = [up.score(up.match_random(data, seed=s), truth, data).unweighted["foscttm_target"] for s in range(20)]
    assert np.mean(values) == pytest.approx(0.5, abs=4 * np.std(values) / np.sqrt(20) + 1e-3)


def test_the_true_pairs_score_perfectly():
    data, truth = make((12, 6))
    scores = up.score(up.match_pairs(data, truth), truth, data)
    assert scores.unweighted["trace"] == 1
    assert scores.unweighted["foscttm_source"] == scores.unweighted["foscttm_target"] == 0
    assert scores.matching_score == 1


def test_the_sampled_foscttm_of_a_one_to_one_matching_is_the_projected_one():
    data, truth = make((15, 10))
    scores = up.score(up.match_random(data, seed=1), truth, data)
    assert scores.unweighted["foscttm_sampled_source"] == scores.unweighted["foscttm_source"]
    assert scores.unweighted["foscttm_sampled_target"] == scores.unweighted["foscttm_target"]


def test_the_sampled_foscttm_of_a_soft_matching_is_not_the_projected_one_and_depends_on_the_seed():
    data, truth = make((25, 10))
    matching = dense_matching(data)
    one, again, other = (up.score(matching, truth, data, seed=s).unweighted for s in (0, 0, 1))
    assert one == again
    assert one["foscttm_sampled_target"] not in (one["foscttm_target"], other["foscttm_sampled_target"])


@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_chunks_of_any_size_give_the_same_foscttm(monkeypatch, chunk):
    rng = np.random.default_rng(0)
    p, m = rng.normal(size=(13, 3)), rng.normal(size=(13, 3))
    whole = foscttm(p, m)
    assert whole == pytest.approx(brute_foscttm(p, m, [(i, i) for i in range(13)]))
    monkeypatch.setattr(ranks, "_CHUNK", chunk)
    assert foscttm(p, m) == pytest.approx(whole, abs=1e-15)


def test_swapping_the_modalities_swaps_the_two_foscttm():
    data, truth = make()
    matching = dense_matching(data)
    there, back = up.score(matching, truth, data), up.score(matching.transpose, truth, data)
    assert there.unweighted["foscttm_source"] == pytest.approx(back.unweighted["foscttm_target"])
    assert there.unweighted["foscttm_target"] == pytest.approx(back.unweighted["foscttm_source"])


def test_labels_without_two_pairs_are_left_out_and_named():
    data, truth = make((6, 1, 5))
    matching = up.match_uniform(data)
    scores = up.score(matching, truth, data)
    assert set(scores.per_label) == {"s", "u"}
    assert scores.coverage.left_out == {"t": "it has 1 true pair; two are needed."}
    assert (scores.coverage.labels, scores.coverage.labels_total) == (2, 3)
    assert (scores.coverage.pairs, scores.coverage.pairs_total) == (11, 12)


def test_the_matching_score_counts_pairs_that_are_not_covered_as_zero():
    data, truth = make((6, 6))
    full = up.match_pairs(data, truth)
    half = replace(full, blocks=(full.blocks[0], replace(full.blocks[1], weights=None, status=Status("failed", "why"))))
    scores = up.score(half, truth, data)
    assert scores.matching_score == pytest.approx(0.5)
    assert scores.unweighted["trace"] == 1
    assert scores.coverage.left_out == {"t": "why"}


def test_cells_without_a_partner_take_part_in_the_matching_but_not_in_the_ranks():
    data, truth = make((10,))
    units = {"a": truth.units["a"].copy(), "b": truth.units["b"].copy()}
    units["a"][:4] = -1
    scores = up.score(up.match_uniform(data), up.Truth(units), data)
    assert scores.per_label["s"].pairs == 6
    assert scores.per_label["s"].trace == pytest.approx(1 / 10)
    assert scores.unweighted["foscttm_target"] == pytest.approx(0.5)
    assert scores.unweighted["latent_mse"] is None


def test_sides_of_different_size_are_scored():
    data, truth = make((10, 9))
    rows = np.arange(3, 19)
    cut = data.take({"b": rows})
    known = up.Truth({"a": truth.units["a"], "b": truth.units["b"][rows]})
    scores = up.score(up.match_uniform(cut), known, cut)
    assert scores.coverage.pairs_total == 16
    assert scores.unweighted["trace_over_uniform"] == pytest.approx(1)
    assert scores.unweighted["foscttm_source"] == pytest.approx(0.5)


def test_a_row_without_any_weight_scores_zero_and_not_nan():
    data, truth = make((8,))
    matching = dense_matching(data)
    weights = matching.blocks[0].weights.copy()
    weights[2] = 0
    broken = replace(matching, blocks=(replace(matching.blocks[0], weights=weights),))
    text = json.dumps(up.score(broken, truth, data).to_dict(), allow_nan=False)
    assert "NaN" not in text


def test_nothing_to_score_is_an_error_that_says_why():
    data, truth = make((1, 1))
    with pytest.raises(DataError, match="two are needed"):
        up.score(up.match_uniform(data), truth, data)


def test_a_matching_of_other_cells_is_refused():
    data, truth = make((5, 5))
    with pytest.raises(OptionError, match="10, 10"):
        up.score(up.match_uniform(data), truth, data.take({"a": np.arange(4)}))


def test_the_layout_of_scores_json():
    data, truth = make()
    out = up.score(dense_matching(data), truth, data).to_dict()
    assert {"trace", "trace_over_uniform", "foscttm", "matching_score", "coverage", "per_label"} <= set(out)
    assert set(out["foscttm"]) == {"source", "target", "mean"}
    assert out["foscttm"]["mean"] == pytest.approx((out["foscttm"]["source"] + out["foscttm"]["target"]) / 2)
    assert set(out["per_label"]) == {"s", "t"}
    assert out["per_label"]["s"]["foscttm"]["mean"] > 0
    json.dumps(out, allow_nan=False)


def test_foscttm_agrees_with_the_published_formula_but_for_ties_and_the_denominator():
    """Eq. 26-27 divide by n and count no ties: on data without ties ours is theirs times n / (n - 1)."""
    rng = np.random.default_rng(2)
    p, m = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    d = ((p[:, None] - m[None]) ** 2).sum(2)
    own = np.diag(d)
    published = ((d < own[:, None]).mean(1) + (d < own[None]).mean(0)).mean() / 2
    assert foscttm(p, m) == pytest.approx(published * 20 / 19)
