"""SCOT: against POT called directly, on copies that differ by what it cannot see, and where it fails."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import ot
import pytest
from scipy.sparse.csgraph import dijkstra
from sklearn.neighbors import kneighbors_graph

from unpaired.data.types import Dataset, Modality
from unpaired.errors import OptionError
from unpaired.match.gromov import _too_many, graph_distances, match_gromov

EPS = 0.1  # few cells, coarse distances: at 0.01 the inner iterations take long
EPS_ACROSS = 0.05


def make(left, right, labels=None, other=None):
    """Two modalities with these readings; all of one label, or ``labels`` on the left and ``other`` on the right."""
    sides = {"left": (left, labels), "right": (right, labels if other is None else other)}
    made = {}
    for name, (x, given) in sides.items():
        codes = np.zeros(len(x), dtype=int) if given is None else np.asarray(given)
        ids = np.array([f"{name}:{i}" for i in range(len(x))])
        made[name] = Modality(name, np.asarray(x, dtype=np.float32), codes, ids)
    classes = 1 + max(m.labels.max() for m in made.values())
    return Dataset(made, tuple("abcdef"[:classes]))


def arms(lengths=(6, 10, 15), d=12, seed=0):
    """Points along three curves of different length from one point: only one map of them to themselves keeps the paths.

    But for neighbours that are linked with the same cells.
    """
    rng = np.random.default_rng(seed)
    parts = []
    start = 3 * rng.normal(size=d)
    for m in lengths:
        ahead, aside = rng.normal(size=(2, d))
        t = np.arange(1, m + 1)[:, None] / 10
        parts.append(start + t * ahead + np.sin(0.7 * t) * aside)
    return np.vstack(parts)


def turned(x, seed=1):
    """The points after a rotation that correlation cannot see: one that keeps the mean of the features."""
    d = x.shape[1]
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(np.c_[np.ones(d), rng.normal(size=(d, d - 1))])[0]
    inner = np.eye(d)
    inner[1:, 1:] = np.linalg.qr(rng.normal(size=(d - 1, d - 1)))[0]
    return x @ (basis @ inner @ basis.T)


def cloud(n, d=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


@pytest.fixture(scope="module")
def unlike():
    """40 and 30 cells of two labels that have nothing in common, and their matching."""
    data = make(cloud(40), cloud(30, 5, seed=1), np.repeat([0, 1], [25, 15]), np.repeat([0, 1], [12, 18]))
    return data, match_gromov(data, eps=EPS)


@pytest.mark.parametrize("k", [3, 4])
def test_a_turned_and_stretched_copy_is_recognised(k):
    x = arms()
    shuffle = np.random.default_rng(2).permutation(len(x))
    copy = turned(x)[shuffle] * np.random.default_rng(3).uniform(0.5, 2, size=(len(x), 1)) + 1.0
    matching = match_gromov(make(x, copy), k=k, eps=1e-3)
    (block,) = matching.blocks
    rows = matching.to_sparse("rows").toarray()
    assert block.status.state == "ok"
    assert rows[shuffle, np.arange(len(x))].mean() > 0.85
    # Neighbours at the end of an arm have the same paths to all others: nothing tells them apart.
    assert np.mean(shuffle[matching.partners()[0][:, 0]] == np.arange(len(x))) > 0.85
    assert block.status.used["information"] > 3


def test_it_sees_neither_rotations_that_keep_the_mean_nor_lengths_nor_the_features_order(full):
    x, y = arms(), cloud(25, 6)
    seen = match_gromov(make(x, y), eps=EPS)
    rng = np.random.default_rng(0)
    again = match_gromov(make(turned(x), 3 * y[:, rng.permutation(6)] - 1), eps=EPS)
    np.testing.assert_allclose(full(again), full(seen), rtol=1e-4, atol=1e-9)
    other = match_gromov(make(x, y @ np.linalg.qr(rng.normal(size=(6, 6)))[0]), eps=EPS)
    assert not np.allclose(full(other), full(seen), rtol=1e-4, atol=1e-9)


def test_it_is_what_pot_says_of_the_graphs_that_scot_makes(unlike):
    data, matching = unlike
    for block, k in zip(matching.blocks, (2, 3), strict=True):
        paths = []
        for name, own in (("left", block.rows), ("right", block.cols)):
            x = data[name].X[own].astype(float)
            x /= np.linalg.norm(x, axis=1, keepdims=True)
            graph = kneighbors_graph(x, k, mode="connectivity", metric="correlation", include_self=True)
            d = dijkstra(graph, directed=False)
            d[np.isinf(d)] = d[np.isfinite(d)].max()
            paths.append(d / d.max())
        n, m = len(block.rows), len(block.cols)
        plan, log = ot.gromov.entropic_gromov_wasserstein(
            *paths, np.full(n, 1 / n), np.full(m, 1 / m), "square_loss", epsilon=EPS, log=True
        )
        np.testing.assert_allclose(block.weights, plan, atol=1e-9)
        used = block.status.used
        assert (used["k"], used["eps"], used["eps_tried"]) == (k, EPS, [EPS])
        assert used["cost"] == pytest.approx(log["gw_dist"])
        by_hand = sum(p * np.log(p * n * m) for p in plan.ravel() if p > 0)
        assert used["information"] == pytest.approx(by_hand, abs=1e-6)
        assert block.status.iterations % 10 == 1
        assert block.status.marginal_error < 1e-6
        assert block.status.seconds > 0


def test_cells_that_no_path_links_are_as_far_apart_as_the_longest_path():
    far = np.r_[np.eye(6)[:3] + 10 * np.eye(6)[0], np.eye(6)[3:] + 10 * np.eye(6)[5]]
    apart = graph_distances(far, 2)
    assert apart.max() == 1
    assert (apart[:3, 3:] == 1).all()
    assert (np.diag(apart) == 0).all()
    np.testing.assert_array_equal(apart, apart.T)


def test_a_cell_without_variation_has_no_direction_and_does_no_harm():
    x = cloud(12)
    x[:2] = 0.1
    x[2] = 0
    (block,) = match_gromov(make(x, cloud(9)), eps=EPS).blocks
    assert block.status.state == "ok"
    assert np.isfinite(block.weights).all()
    (block,) = match_gromov(make(np.full((5, 3), 0.1), np.zeros((4, 2))), eps=EPS).blocks
    assert np.isfinite(block.weights).all()


def test_permuting_the_rows_of_a_side_permutes_the_answer_bit_by_bit(unlike):
    data, matching = unlike
    order = np.random.default_rng(5).permutation(30)
    other = replace(data, modalities={"left": data["left"], "right": data["right"].take(order)})
    assert np.array_equal(match_gromov(other, eps=EPS).to_sparse().toarray(), matching.to_sparse().toarray()[:, order])
    one, two = (match_gromov(d, across_labels=True, eps=EPS_ACROSS).to_sparse().toarray() for d in (data, other))
    assert np.array_equal(two, one[:, order])


def test_turning_the_direction_transposes(unlike, full):
    data, matching = unlike
    back = match_gromov(data, source="right", target="left", eps=EPS)
    np.testing.assert_allclose(full(back).T, full(matching), atol=1e-8)


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bits(unlike, full):
    data, matching = unlike
    assert np.array_equal(full(match_gromov(data, jobs=2, eps=EPS)), full(matching))


def test_the_uniform_coupling_does_not_pass_for_an_answer(unlike):
    # In a graph of all with all every cell is as far from all others: the uniform coupling is where the search stays.
    (block,) = match_gromov(make(cloud(20), cloud(20, seed=1)), k=20).blocks
    assert block.status.used["information"] == pytest.approx(0, abs=1e-9)
    assert "all but uniform" in block.status.advice
    assert all(b.status.used["information"] > 0.1 and not b.status.advice for b in unlike[1].blocks)


@pytest.mark.parametrize(("left", "right"), [(2, 2), (2, 7), (3, 2), (4, 3), (9, 5)])
def test_labels_of_a_few_cells_have_a_coupling(left, right):
    (block,) = match_gromov(make(cloud(left), cloud(right, seed=1)), eps=EPS).blocks
    assert block.status.state == "ok"
    assert block.status.used["k"] == 2
    np.testing.assert_allclose(block.weights.sum(axis=1), 1 / left, rtol=1e-6)
    np.testing.assert_allclose(block.weights.sum(axis=0), 1 / right, rtol=1e-6)


@pytest.mark.parametrize("across", [False, True])
def test_one_cell_or_none_on_a_side_is_said_by_value(across):
    data = make(cloud(14), cloud(13, seed=1), np.repeat([0, 1, 2], [8, 1, 5]), np.repeat([0, 1], [7, 6]))
    blocks = match_gromov(data, across_labels=across, eps=EPS).blocks
    assert [b.status.state for b in blocks] == ["ok", "too_small", "absent"]
    np.testing.assert_allclose(blocks[1].dense(), 1 / 6)


class _Broken:
    """POT, that gives no numbers until eps is ``works_from``."""

    def __init__(self, works_from, spoil):
        self.works_from, self.spoil, self.tried = works_from, spoil, []
        self.real = ot.gromov.entropic_gromov_wasserstein

    def __call__(self, *args, epsilon, **options):
        self.tried.append(epsilon)
        plan, log = self.real(*args, epsilon=epsilon, **options)
        if epsilon < self.works_from:
            warnings.warn("Solver failed to produce a transport plan.", stacklevel=1)
            self.spoil(plan)
        return plan, log


def _empty_row(plan):
    plan[0] = 0


def _not_a_number(plan):
    plan[0, 0] = np.nan


def _lost(plan):
    plan *= 0.9


@pytest.mark.parametrize("spoil", [_not_a_number, _empty_row, _lost])
@pytest.mark.parametrize("across", [False, True])
def test_where_the_iterations_break_down_the_next_eps_is_tried(monkeypatch, spoil, across, recwarn):
    broken = _Broken(0.035, spoil)
    monkeypatch.setattr(ot.gromov, "entropic_gromov_wasserstein", broken)
    (block,) = match_gromov(make(cloud(12), cloud(11, seed=1)), across_labels=across, max_iter=1).blocks
    assert broken.tried == [0.01, 0.02, 0.03, 0.04]
    assert block.matched
    assert block.status.used["eps"] == 0.04
    assert block.status.used["eps_tried"] == broken.tried
    assert not [w for w in recwarn if "transport plan" in str(w.message)]


@pytest.mark.parametrize("across", [False, True])
def test_where_no_eps_gives_numbers_the_label_fails_by_value(monkeypatch, across):
    broken = _Broken(np.inf, _not_a_number)
    monkeypatch.setattr(ot.gromov, "entropic_gromov_wasserstein", broken)
    data = make(cloud(22), cloud(21, seed=1), np.arange(22) % 2, np.arange(21) % 2)
    matching = match_gromov(data, across_labels=across, max_iter=1)
    assert [b.status.state for b in matching.blocks] == ["failed", "failed"]
    assert all(b.weights is None for b in matching.blocks)
    assert "from 0.01 to 0.1: use a larger eps" in matching.blocks[0].status.advice
    assert matching.blocks[0].status.used["eps_tried"] == [round(0.01 * i, 2) for i in range(1, 11)]
    assert matching.coverage.labels == 0
    assert len(broken.tried) == (10 if across else 20)


def test_an_eps_too_small_for_real_numbers_is_raised():
    (block,) = match_gromov(make(cloud(20), cloud(20, seed=1)), eps=2e-4, max_iter=2).blocks
    assert len(block.status.used["eps_tried"]) > 1
    assert block.status.used["eps"] == block.status.used["eps_tried"][-1]


def test_a_search_that_is_cut_short_says_so():
    (block,) = match_gromov(make(arms(), cloud(25, 6)), max_iter=3, eps=EPS).blocks
    assert block.status.state == "not_converged"
    assert block.status.iterations == 11  # POT looks at the change in the first and in every tenth from there
    assert "use a larger max_iter" in block.status.advice
    assert block.matched


@pytest.mark.parametrize(("limit", "made"), [(1, 1), (2, 11), (11, 11), (12, 21), (200, 201), (1000, 1001)])
def test_the_limit_of_the_iterations_is_the_next_that_pot_looks_at(monkeypatch, limit, made):
    real, asked = ot.gromov.entropic_gromov_wasserstein, []

    def seen(*args, max_iter, tol, **options):
        asked.append(max_iter)
        return real(*args, max_iter=min(max_iter, 21), tol=tol, **options)

    monkeypatch.setattr(ot.gromov, "entropic_gromov_wasserstein", seen)
    (block,) = match_gromov(make(arms(), cloud(25, 6)), max_iter=limit, eps=EPS, tol=1e-300).blocks
    assert asked == [made]
    assert block.status.iterations == min(made, 21)


def test_the_change_that_is_told_is_that_of_the_last_iteration():
    data = make(arms(), cloud(25, 6))
    (block,) = match_gromov(data, max_iter=15, eps=EPS).blocks
    real = ot.gromov.entropic_gromov_wasserstein
    x, y = (data[n].features[data[n].order] for n in data)
    paths = graph_distances(x, 5), graph_distances(y, 5)
    sides = np.full(31, 1 / 31), np.full(25, 1 / 25)
    plans = [real(*paths, *sides, "square_loss", epsilon=EPS, max_iter=n, symmetric=True) for n in (20, 21)]
    np.testing.assert_array_equal(block.weights, plans[1])
    assert f"changed by {np.linalg.norm(plans[1] - plans[0]):.1e}" in block.status.advice
    assert block.status.iterations == 21


def test_marginals_that_are_off_are_said(monkeypatch):
    real = ot.gromov.entropic_gromov_wasserstein

    def off(*args, **options):
        plan, log = real(*args, **options)
        plan[0] *= 1.1
        return plan, log

    monkeypatch.setattr(ot.gromov, "entropic_gromov_wasserstein", off)
    (block,) = match_gromov(make(cloud(12), cloud(11, seed=1)), eps=EPS).blocks
    assert block.status.state == "not_converged"
    assert block.status.marginal_error == pytest.approx(0.1 / 12 * 2, rel=1e-3)
    assert "the marginals are off" in block.status.advice


def test_across_labels_keeps_the_parts_within_the_labels_of_one_coupling(unlike):
    data, _ = unlike
    whole = match_gromov(make(data["left"].X, data["right"].X), eps=EPS_ACROSS).blocks[0]
    place = [np.argsort(own) for own in (whole.rows, whole.cols)]
    matching = match_gromov(data, across_labels=True, eps=EPS_ACROSS)
    for block in matching.blocks:
        part = whole.weights[np.ix_(place[0][block.rows], place[1][block.cols])]
        np.testing.assert_allclose(block.weights, part / part.sum(), atol=1e-9)
        used = block.status.used
        assert used["within_label"] == pytest.approx(part.sum() / (len(block.rows) / 40), rel=1e-5)
        assert used["within_label_by_chance"] == len(block.cols) / 30
        assert used["k"] == 6
        assert np.isnan(block.status.marginal_error)
    assert matching.made_by.options["across_labels"]
    # Cells without a label are not among those that are matched.
    more = [np.r_[data[n].labels, -1, -1] for n in data]
    extra = make(*(np.vstack([data[n].X, cloud(2, data[n].X.shape[1], seed=9)]) for n in data), *more)
    same = match_gromov(extra, across_labels=True, eps=EPS_ACROSS).to_sparse().toarray()
    np.testing.assert_allclose(same[:40, :30], matching.to_sparse().toarray(), atol=1e-12)
    assert same[40:].sum() == same[:, 30:].sum() == 0


def test_across_labels_a_label_that_has_no_mass_within_fails_and_cells_without_partner_are_counted(monkeypatch):
    def apart(c1, c2, a, b, *_, **__):
        plan = np.zeros((8, 8))
        plan[:4, 4:] = plan[4:, :4] = 1 / 32
        plan[0, 0] = plan[0, 4]
        return plan / plan.sum(), {"err": [0.0], "gw_dist": 0.0}

    monkeypatch.setattr(ot.gromov, "entropic_gromov_wasserstein", apart)
    data = make(cloud(8), cloud(8, seed=1))
    halves = {n: np.zeros(8, dtype=int) for n in data}
    for n in data:
        halves[n][data[n].order[4:]] = 1
    data = make(*(data[n].X for n in data), halves["left"], halves["right"])
    some, none = match_gromov(data, across_labels=True).blocks
    assert some.matched
    assert some.status.used["without_partner"] == [3, 3]
    assert "3 of 4 and 3 of 4 cells have no partner" in some.status.advice
    assert none.status.state == "failed"
    assert "matched with other labels" in none.status.advice
    assert none.status.used["within_label"] == 0


@pytest.mark.parametrize("blank", [0, 1])
def test_across_labels_every_part_is_told_of_itself(monkeypatch, blank):
    """One label's part is uniform and the other's a permutation: the whole is neither."""

    def mixed(c1, c2, a, b, *_, **__):
        plan = np.zeros((8, 8))
        plan[:4, :4], plan[4:, 4:] = np.full((4, 4), 1 / 32), np.eye(4) / 8
        return plan, {"err": [0.0], "gw_dist": 0.0}

    monkeypatch.setattr(ot.gromov, "entropic_gromov_wasserstein", mixed)
    data = make(cloud(8), cloud(8, seed=1))
    codes = {n: np.full(8, blank) for n in data}
    for n in data:
        codes[n][data[n].order[4:]] = 1 - blank
    blocks = match_gromov(make(*(data[n].X for n in data), codes["left"], codes["right"]), across_labels=True).blocks
    assert "all but uniform" in blocks[blank].status.advice
    assert blocks[1 - blank].status.advice == ""
    assert blocks[1 - blank].status.used["information"] == pytest.approx(np.log(4))


def test_a_uniform_whole_does_not_speak_for_its_parts():
    matching = match_gromov(
        make(cloud(20), cloud(20, seed=1), np.arange(20) % 2, np.arange(20) % 2), k=20, across_labels=True
    )
    assert all(b.status.advice.count("all but uniform") == 1 for b in matching.blocks)


def test_the_copies_of_long_features_are_part_of_the_memory_that_is_told():
    assert "would need about 0 GB" in _too_many((3, 5), (2, 5), 2)
    assert "would need about 10 GB" in _too_many((3, 200_000_000), (2, 5), 2)


def test_too_many_cells_are_refused_before_the_work():
    data = make(cloud(22), cloud(21, seed=1), np.repeat([0, 1], [12, 10]), np.repeat([0, 1], [9, 12]))
    matching = match_gromov(data, max_cells=11)
    assert [b.status.state for b in matching.blocks] == ["failed", "failed"]
    assert "12 and 9 cells are more than max_cells = 11" in matching.blocks[0].status.advice
    with pytest.raises(OptionError, match="across_labels makes one coupling: 22 and 21 cells are more than"):
        match_gromov(data, max_cells=21, across_labels=True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"k": 1}, "k must be a whole number of at least 2; got 1"),
        ({"k": 2.5}, "k must be a whole number of at least 2"),
        ({"eps": 0}, "eps must be a finite number larger than 0.0"),
        ({"eps": "auto"}, "eps must be a finite number"),
        ({"max_iter": 0}, "max_iter must be a whole number of at least 1"),
        ({"tol": -1}, "tol must be a finite number larger than 0.0"),
        ({"max_cells": 1}, "max_cells must be a whole number of at least 2"),
        ({"jobs": 0}, "jobs must be a whole number of at least 1"),
        ({"source": "nothing"}, "nothing"),
    ],
)
@pytest.mark.parametrize("across", [False, True])
def test_a_value_that_is_not_allowed_is_refused(options, sentence, across):
    with pytest.raises(OptionError, match=sentence):
        match_gromov(make(cloud(9), cloud(8)), across_labels=across, **options)


@pytest.mark.parametrize("across", [False, True])
def test_features_that_are_no_numbers_are_refused(across):
    x = cloud(9)
    x[3, 0] = np.inf
    with pytest.raises(OptionError, match="not finite"):
        match_gromov(make(x, cloud(8)), across_labels=across)


def test_the_options_are_kept(unlike):
    made_by = unlike[1].made_by
    assert made_by.method == "match_gromov"
    assert made_by.options == {
        "k": None,
        "eps": EPS,
        "across_labels": False,
        "max_iter": 1000,
        "tol": 1e-9,
        "max_cells": 5000,
    }
