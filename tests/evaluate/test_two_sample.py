"""The energy test against its definition, and against chance."""

from __future__ import annotations

import time
import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import kstest

from unpaired.evaluate import two_sample
from unpaired.evaluate.two_sample import compare_clouds


def energy(x, y):
    """The U-statistic, pair by pair."""
    n, m = len(x), len(y)
    across = cdist(x, y).mean()
    return (2 * across - cdist(x, x).sum() / (n * (n - 1)) - cdist(y, y).sum() / (m * (m - 1))) / across


def cloud(n, d=3, *, shift=0.0, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


def one(x, y, **options):
    return compare_clouds({"a": (x, y)}, **options).labels["a"]


@pytest.mark.parametrize(("n", "m", "d"), [(2, 2, 1), (2, 7, 3), (40, 25, 2), (100, 100, 30)])
@pytest.mark.parametrize("shift", [0.0, 0.7, 1e4])
def test_the_distance_is_the_u_statistic(n, m, d, shift):
    x, y = cloud(n, d, seed=1) + shift, cloud(m, d, shift=0.3, seed=2) + shift
    found = one(x, y)
    assert found.distance == pytest.approx(energy(x, y), abs=1e-8)
    assert found.cells == (n, m)


def test_the_p_value_is_that_of_all_exchanges():
    x, y = cloud(3, seed=3), cloud(4, shift=0.5, seed=4)
    cells = np.concatenate([x, y])
    values = []
    for first in combinations(range(7), 3):
        rest = [i for i in range(7) if i not in first]
        values.append(energy(cells[list(first)], cells[rest]))
    exact = np.mean(np.array(values) >= energy(x, y) - 1e-9)
    drawn = [one(x, y, seed=s).p_value for s in range(20)]
    assert np.mean(drawn) == pytest.approx((1 + 199 * exact) / 200, abs=4 * np.sqrt(exact * (1 - exact) / 4000))
    assert 0.05 < exact < 0.95


def test_p_values_of_equal_distributions_are_uniform():
    p = [one(cloud(30, seed=2 * s), cloud(20, seed=2 * s + 1), seed=s).p_value for s in range(200)]
    assert kstest(p, "uniform").pvalue > 1e-3
    assert 0.01 < np.mean(np.array(p) <= 0.05) < 0.11


def test_so_is_that_of_the_mean_over_labels_and_blocks(monkeypatch):
    monkeypatch.setattr(two_sample, "_BLOCK", 10)
    many = [{c: (cloud(20, seed=[s, i, 0]), cloud(20, seed=[s, i, 1])) for i, c in enumerate("ab")} for s in range(120)]
    p = [compare_clouds(m, seed=s).p_value for s, m in enumerate(many)]
    assert kstest(p, "uniform").pvalue > 1e-3


def test_clouds_apart_are_told_apart():
    found = one(cloud(40, seed=1), cloud(40, shift=1.0, seed=2))
    assert found.p_value == 1 / 200
    assert found.distance > 0.2


def test_labels_tell_together_what_none_tells_alone():
    clouds = {str(i): (cloud(20, seed=2 * i), cloud(20, shift=0.3, seed=2 * i + 1)) for i in range(40)}
    found = compare_clouds(clouds)
    assert found.p_value <= 0.01
    assert np.median([t.p_value for t in found.labels.values()]) > 0.05
    assert found.distance == pytest.approx(np.mean([t.distance for t in found.labels.values()]))


def test_two_points_apart_have_the_distance_two():
    found = one(np.zeros((20, 3)), np.ones((15, 3)))
    assert found.distance == pytest.approx(2, abs=1e-6)
    assert found.p_value == 1 / 200


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6 / 3])
def test_identical_points_are_no_evidence(value):
    found = one(np.full((20, 3), value), np.full((15, 3), value))
    assert (found.distance, found.p_value) == (0.0, 1.0)


def test_units_and_the_place_of_the_origin_do_not_matter():
    x, y = cloud(30, seed=1), cloud(30, shift=0.3, seed=2)
    here, there = one(x, y), one(x * 7 + 1e3, y * 7 + 1e3)
    assert there.distance == pytest.approx(here.distance, abs=1e-8)
    assert there.p_value == here.p_value


def test_half_precision_of_the_input_does_not_become_that_of_the_distances():
    x, y = ((cloud(60, seed=s) + 1000).astype(np.float32) for s in (1, 2))
    assert one(x, y).distance == pytest.approx(energy(x.astype(float), y.astype(float)), abs=1e-8)


def test_a_large_label_costs_little_and_says_what_the_whole_says():
    x, y = cloud(5000, 4, seed=1), cloud(5000, 4, shift=0.5, seed=2)
    tracemalloc.start()
    start = time.perf_counter()
    found = one(x, y)
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.cells == (500, 500)
    assert seconds < 5
    assert peak < 10e6  # 5,000 x 5,000 distances are 200 MB
    parts = [slice(k, k + 1000) for k in range(0, 5000, 1000)]
    across, within_x, within_y = (
        sum(cdist(a[i], b[j]).sum() for i in parts for j in parts) for a, b in ((x, y), (x, x), (y, y))
    )
    whole = 2 - (within_x + within_y) / across * 5000 / 4999
    assert found.distance == pytest.approx(whole, abs=0.05)
    assert whole > 0.1


@pytest.mark.parametrize(("n", "m", "cells"), [(400, 3, (100, 3)), (3, 400, (3, 100)), (150, 150, (150, 150))])
def test_a_side_with_few_cells_decides_the_number_of_blocks(n, m, cells):
    found = one(cloud(n, seed=1), cloud(m, seed=2))
    assert found.cells == cells
    assert np.isfinite(found.distance)


def test_blocks_are_dealt_like_cards(monkeypatch):
    monkeypatch.setattr(two_sample, "_BLOCK", 4)
    x, y = cloud(8, seed=1), cloud(6, shift=1.0, seed=2)
    assert one(x, y).distance == pytest.approx(np.mean([energy(x[i::2], y[i::2]) for i in (0, 1)]))


def test_of_many_labels_fewer_cells_each_are_compared(monkeypatch):
    monkeypatch.setattr(two_sample, "_CELLS", 100)
    x, y = cloud(60, seed=1), cloud(60, seed=2)
    found = compare_clouds(dict.fromkeys("abcd", (x, y)))
    assert {t.cells for t in found.labels.values()} == {(25, 25)}
    assert found.labels["a"].distance == pytest.approx(energy(*(v[np.arange(25) * 60 // 25] for v in (x, y))))


def test_a_label_has_its_own_generator():
    x, y = cloud(20, seed=1), cloud(20, seed=2)
    alone, first, last = (compare_clouds(dict.fromkeys(c, (x, y))).labels for c in ("b", "bca", "acb"))
    assert alone["b"] == first["b"] == last["b"]
    assert len({t.p_value for t in first.values()}) > 1


def test_labels_with_fewer_than_two_cells_are_left_out():
    x = cloud(20)
    found = compare_clouds({"a": (x, x[:1]), "b": (x[:0], x), "c": (x, x + 0.1)})
    assert list(found.labels) == ["c"]
    assert found.distance == found.labels["c"].distance
    nothing = compare_clouds({"a": (x, x[:1])})
    assert np.isnan([nothing.distance, nothing.p_value]).all()
    assert nothing.labels == {}
