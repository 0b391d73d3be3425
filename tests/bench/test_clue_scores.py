"""Scores of a space whose partners are known, against the definitions, written out."""

from dataclasses import replace

import numpy as np
import pytest

from unpaired.bench.clue_scores import coupling_scores, imputation_score, space_scores
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.evaluate import ranks
from unpaired.match.null import match_uniform
from unpaired.match.transport.front import match_ot

SIDES = ("rna", "adt")


@pytest.fixture(scope="module")
def cells(toy):
    """Data, the partners of the first side's rows, and a space in which partners are near each other."""
    data, truth = toy(14, modalities=SIDES)
    rng = np.random.default_rng(0)
    arrays = {n: truth.latents[n] + 0.3 * rng.normal(size=truth.latents[n].shape) for n in SIDES}
    return data, truth.partners(*SIDES), arrays


def by_hand(x, y, metric):
    """FOSCTTM of the rows of x among those of y, row i being i's partner."""
    if metric == "cosine":
        x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    distance = np.linalg.norm(x[:, None] - y[None], axis=2)
    own = np.diag(distance)[:, None]
    ties = (np.abs(distance - own) < 1e-9).sum(axis=1) - 1
    return (((distance < own - 1e-9).sum(axis=1) + ties / 2) / (len(x) - 1)).mean()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_foscttm_is_that_of_the_definition(cells, metric, monkeypatch):
    data, partners, arrays = cells
    monkeypatch.setattr(ranks, "_CHUNK", 100)  # in chunks of a few rows
    found = space_scores(data, arrays, partners, SIDES, metric)
    x, y = arrays["rna"], arrays["adt"][partners]
    assert found["foscttm_there"] == pytest.approx(by_hand(x, y, metric))
    assert found["foscttm_back"] == pytest.approx(by_hand(y, x, metric))
    assert found["foscttm"] == pytest.approx((by_hand(x, y, metric) + by_hand(y, x, metric)) / 2)
    labels = data["rna"].labels
    within = [by_hand(x[labels == k], y[labels == k], metric) for k in range(3)]
    assert found["foscttm_label_there"] == pytest.approx(np.mean(within))  # labels are alike in size


def test_the_same_place_is_perfect_and_one_place_for_all_is_chance(cells):
    data, partners, arrays = cells
    same = {"rna": arrays["rna"], "adt": np.empty_like(arrays["adt"])}
    same["adt"][partners] = arrays["rna"]
    found = space_scores(data, same, partners, SIDES, "cosine")
    assert (found["foscttm"], found["foscttm_label"]) == (0, 0)
    assert found["matching_score"] == pytest.approx(1)
    one = {n: np.ones((len(a), 3)) for n, a in arrays.items()}
    assert space_scores(data, one, partners, SIDES, "cosine")["foscttm"] == pytest.approx(0.5)


def test_the_matching_score_is_of_all_cells_at_once(cells):
    """A mean over cells of the normalised overlap of first neighbours; labels have no say."""
    data, partners, arrays = cells
    found = space_scores(data, arrays, partners, SIDES, "cosine")
    unit = {n: a / np.linalg.norm(a, axis=1, keepdims=True) for n, a in arrays.items()}
    x, y = unit["rna"], unit["adt"]
    across, back = (x @ y.T).argmax(axis=1), (y @ x.T).argmax(axis=1)
    n, m = len(x), len(y)
    shared = np.zeros((n, m))
    shared[np.arange(n), across] += 1  # its neighbour there, which is its own first neighbour
    shared[back, np.arange(m)] += 1
    weight = shared / (4 - shared)
    there = (weight / weight.sum(axis=1, keepdims=True))[np.arange(n), partners]
    assert found["matching_score_there"] == pytest.approx(there.mean())
    other = {name: replace(own, labels=np.zeros_like(own.labels)) for name, own in data.modalities.items()}
    alike = space_scores(replace(data, modalities=other), arrays, partners, SIDES, "cosine")
    assert alike["matching_score"] == found["matching_score"]


def test_a_coupling_is_judged_by_its_ranks(cells):
    data, partners, arrays = cells
    flat = coupling_scores(match_uniform(data), partners)
    assert flat["foscttm_coupling"] == pytest.approx(0.5)
    assert flat["coupling_score"] == pytest.approx(1 / 14)
    space = Embedding(arrays, "latent", None, ("a", "b", "c"), Provenance("test", {}))
    matching = match_ot(data, space, eps=0.1, keep=1.0)
    found = coupling_scores(matching, partners)
    assert 0 < found["foscttm_coupling"] < 0.3
    dense = np.zeros(matching.shape)
    for block in matching.matched:
        dense[np.ix_(block.rows, block.cols)] = block.dense()
    rows = dense / dense.sum(axis=1, keepdims=True)
    assert found["coupling_score_there"] == pytest.approx(rows[np.arange(len(rows)), partners].mean())


def test_correlation_of_what_is_imputed():
    rng = np.random.default_rng(0)
    counts = rng.poisson(5, size=(50, 3)).astype(float)
    counts[:, 2] = 4  # never varies: left out
    assert imputation_score(counts, counts) == pytest.approx(1)
    assert imputation_score(np.full_like(counts, 5.0), counts) == 0
    guess = counts + rng.random(counts.shape)
    r = [np.corrcoef(np.log1p(guess[:, k]), np.log1p(counts[:, k]))[0, 1] for k in range(2)]
    assert imputation_score(guess, counts) == pytest.approx(np.mean(r))
    assert imputation_score(counts[:, 2:], counts[:, 2:]) is None
