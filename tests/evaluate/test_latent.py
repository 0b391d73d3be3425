"""Scores of a space: against their definitions written out, at chance, and whatever the order of the rows."""

import numpy as np
import pytest

from unpaired.errors import OptionError
from unpaired.evaluate import ranks
from unpaired.evaluate.latent import score_latent


def places(n=60, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6))
    return x, x + noise * rng.normal(size=x.shape)


def judged(x, y):
    return score_latent(x, y, source="rna", target="adt")


def test_foscttm_is_the_share_of_cells_nearer_by_the_cosine(monkeypatch):
    x, y = places()
    monkeypatch.setattr(ranks, "_CHUNK", 7 * len(x))  # in several chunks
    near = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (y / np.linalg.norm(y, axis=1, keepdims=True)).T
    true = np.diag(near)
    found = judged(x, y)
    assert found.foscttm_target == pytest.approx((near > true[:, None]).sum() / (60 * 59))  # among adt, seen from rna
    assert found.foscttm_source == pytest.approx((near > true[None]).sum() / (60 * 59))
    assert found.foscttm_target != found.foscttm_source


def test_the_matching_score_is_that_of_nearest_neighbours_shared_by_cosine():
    x, y = places(noise=0.8)
    u, v = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y))
    near = u @ v.T
    first, second = near.argmax(axis=0), near.argmax(axis=1)  # of every target among the source, and back
    one, other = (np.zeros((60, 60)) for _ in range(2))
    one[first, np.arange(60)] = 1
    other[np.arange(60), second] = 1
    shared = one + other
    weights = shared / (4 - shared)
    rows = weights / weights.sum(1, keepdims=True)
    found = judged(x, y)
    assert found.matching_score == pytest.approx(np.diag(rows).mean())
    assert found.matching_score_back == pytest.approx(np.diag(weights / weights.sum(0)).mean())
    assert found.matching_score_chance == 1 / 60


def test_length_does_not_matter_and_neither_does_the_order_of_the_cells():
    x, y = places()
    order = np.random.default_rng(1).permutation(60)
    found, again = judged(x, y), judged(3 * x[order], y[order] / 7)
    assert again.matching_score == pytest.approx(found.matching_score)
    assert again.foscttm_source == pytest.approx(found.foscttm_source)


def test_places_that_know_nothing_score_as_chance():
    found = judged(np.ones((40, 3)), np.ones((40, 3)))
    assert found.foscttm_source == found.foscttm_target == 0.5
    assert found.matching_score < 2 / 40
    assert found.to_dict()["cells"] == 40


def test_one_cell_cannot_be_judged():
    with pytest.raises(OptionError, match="two or more"):
        judged(*places(n=1))
