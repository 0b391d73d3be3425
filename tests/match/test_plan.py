"""A coupling kept as potentials: the same answers as its entries give, in a bounded number of them at a time."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from unpaired.embed.embedding import Provenance
from unpaired.match import block as block_module
from unpaired.match.block import Block, OnDemand, Product, Status
from unpaired.match.blocks import match_labels, one_by_one
from unpaired.match.matching import Matching
from unpaired.match.transport import solution as module
from unpaired.match.transport.solution import Plan

MADE = Provenance("test", {})
COSTS = ["sqeuclidean", "euclidean"]


def make_plan(n=7, m=5, *, cost="sqeuclidean", eps=0.8, d=3, seed=0, without=((), ())):
    """Some potentials, minus infinity for the points without mass."""
    rng = np.random.default_rng(seed)
    f, g = rng.normal(size=n), rng.normal(size=m)
    f[list(without[0])] = -np.inf
    g[list(without[1])] = -np.inf
    return Plan(rng.normal(size=(n, d)), rng.normal(size=(m, d)), f, g, eps, cost)


def entries(plan):
    """All of them, from the definition."""
    return np.exp((plan.f[:, None] + plan.g - cdist(plan.x, plan.y, plan.cost)) / plan.eps)


def by_potentials(x, y, a, b, seed):
    """A solver that keeps what a few scalings have made of a label as potentials."""
    c, f, g = cdist(x, y, "sqeuclidean"), np.zeros(len(a)), np.zeros(len(b))
    for _ in range(30):
        f = np.log(a) - np.log(np.exp(g - c).sum(axis=1))
        g = np.log(b) - np.log(np.exp(f[:, None] - c).sum(axis=0))
    return Plan(x, y, f, g, 1.0, "sqeuclidean"), Status("ok")


def matched_by_potentials(data, space):
    return match_labels(data, space, one_by_one(by_potentials), MADE, source=None, target=None)


def as_entries(matching):
    blocks = tuple(replace(b, weights=b.dense()) for b in matching.blocks)
    return replace(matching, blocks=blocks)


# ------------------------------------------------------------------ the plan itself


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("chunk", [1, 7, 2**22])
def test_every_answer_is_that_of_the_entries(cost, chunk, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    plan, rng = make_plan(9, 6, cost=cost), np.random.default_rng(1)
    whole, values = entries(plan), rng.normal(size=(6, 2))
    assert plan.shape == whole.shape
    np.testing.assert_allclose(plan.rows(2, 5), whole[2:5], rtol=1e-12)
    np.testing.assert_allclose(plan.sum(axis=1), whole.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(plan.sum(axis=0), whole.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(plan @ values, whole @ values, rtol=1e-11)
    np.testing.assert_allclose(plan @ values[:, 0], whole @ values[:, 0], rtol=1e-11)
    rows, cols = np.array([8, 0, 0, 3]), np.array([5, 1, 1, 0])
    np.testing.assert_allclose(plan.at(rows, cols), whole[rows, cols], rtol=1e-12)
    assert plan.at(rows[:0], cols[:0]).shape == (0,)


@pytest.mark.parametrize("asked_before", [False, True])
def test_the_transpose_is_the_transposed_plan(asked_before):
    plan = make_plan(9, 6)
    if asked_before:
        plan.sum(axis=1)
    turned = plan.T
    np.testing.assert_allclose(turned.rows(0, 6), entries(plan).T, rtol=1e-12)
    np.testing.assert_allclose(turned.sum(axis=1), entries(plan).sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(turned.sum(axis=0), entries(plan).sum(axis=1), rtol=1e-12)
    assert np.array_equal(turned.T.rows(0, 9), plan.rows(0, 9))


@pytest.mark.parametrize("cost", COSTS)
def test_a_point_without_mass_has_a_row_of_zeros_and_no_nan(cost):
    plan = make_plan(7, 5, cost=cost, without=((0, 3), (2,)))
    for one in (plan, plan.T.T):
        whole = one.rows(0, 7)
        assert np.isfinite(whole).all()
        assert (whole[[0, 3]] == 0).all()
        assert (whole[:, 2] == 0).all()
        assert (one.sum(axis=1)[[0, 3]] == 0).all()
        assert one.sum(axis=0)[2] == 0
        assert (one @ np.ones((5, 1)))[3] == 0
        assert one.at(np.array([0, 1]), np.array([2, 2])).tolist() == [0, 0]


def test_what_a_sum_returns_can_be_written_to():
    plan = make_plan()
    plan.sum(axis=1)[:] = 0
    assert (plan.sum(axis=1) > 0).all()


def test_the_plan_takes_the_memory_of_its_points_and_works_in_bounded_parts(monkeypatch):
    plan, most, cost = make_plan(300, 200), [0], module.cdist

    def watched(x, y, **options):
        most[0] = max(most[0], len(x) * len(y))
        return cost(x, y, **options)

    monkeypatch.setattr(module, "cdist", watched)
    monkeypatch.setattr(module, "_CHUNK", 1000)
    monkeypatch.setattr(block_module, "_CHUNK", 1000)
    assert plan.nbytes == 8 * (500 * 3 + 500)
    block = Block("a", np.arange(300), np.arange(200), plan, Status("ok"))
    for one in (block, block.transpose):
        n, m = len(one.rows), len(one.cols)
        one.sums(0), one.sums(1), one.dot(np.ones((m, 2))), one.project(np.ones((m, 2)))
        one.sample(np.random.default_rng(0)), one.effective_partners(), one.sparsify(0.5)
        one.at(np.arange(n), np.zeros(n, dtype=int))
        Matching("l", "r", (n, m), (one,), MADE).partners(2)
    assert 0 < most[0] <= 1000


def test_the_sums_of_a_plan_and_of_its_transpose_are_made_once(monkeypatch):
    plan, calls, cost = make_plan(), [], module.cdist
    monkeypatch.setattr(module, "cdist", lambda *a, **k: calls.append(1) or cost(*a, **k))
    plan.sum(axis=1), plan.sum(axis=0), plan.T.sum(axis=1), plan.T.T.sum(axis=0)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "weights", [make_plan(), Product(np.ones(3), np.ones(2))], ids=lambda w: type(w).__name__.lower()
)
def test_what_is_made_on_demand_is_told_from_entries(weights):
    assert isinstance(weights, OnDemand)
    assert not isinstance(np.ones((2, 2)), OnDemand)
    assert not isinstance(sp.csr_matrix(np.ones((2, 2))), OnDemand)


@pytest.mark.parametrize("cost", COSTS)
def test_a_cut_plan_is_the_cut_coupling(cost):
    plan = make_plan(cost=cost, without=([1], [2]))
    plan.sum(1)  # sums that were kept are those of the whole
    rows, cols = np.array([4, 1, 0]), np.array([2, 3, 0])
    cut = plan.take(rows, cols)
    expected = entries(plan)[np.ix_(rows, cols)]
    np.testing.assert_allclose(cut.rows(0, 3), expected)
    np.testing.assert_allclose(cut.sum(1), expected.sum(axis=1))
    block = Block("a", np.arange(7), np.arange(5), plan, Status("ok")).take(rows, cols)
    assert isinstance(block.weights, Plan)
    np.testing.assert_allclose(block.dense(), expected)


def test_many_draws_are_those_of_the_entries_and_take_one_pass(monkeypatch):
    plan, passed = make_plan(60, 40), []
    rows = Plan.rows
    monkeypatch.setattr(block_module, "_CHUNK", 400)
    monkeypatch.setattr(Plan, "rows", lambda p, a, b: passed.append(a) or rows(p, a, b))
    lazy, dense = (Block("a", np.arange(60), np.arange(40), w, Status("ok")) for w in (plan, entries(plan)))
    drawn = lazy.sample(np.random.default_rng(0), 30)
    assert passed == list(range(0, 60, 10))
    assert np.array_equal(drawn, dense.sample(np.random.default_rng(0), 30))


# ------------------------------------------------------------------ in a matching


def every_answer(matching):
    rng = np.random.default_rng(3)
    left, right = rng.normal(size=(matching.shape[0], 2)), rng.normal(size=(matching.shape[1], 2))
    return {
        "pull": matching.pull(right),
        "push": matching.push(left),
        "partners": np.stack(matching.partners(3)),
        "best": np.stack(matching.partners()),
        "sample": matching.sample(np.random.default_rng(4)),
        "joint": matching.to_sparse().toarray(),
        "rows": matching.to_sparse("rows").toarray(),
        "thin": matching.sparsify(0.8).to_sparse().toarray(),
        "undecided": np.concatenate([b.effective_partners() for b in matching.blocks]),
        "part": matching.blocks[0].dense(1, 3),
        "transposed": matching.transpose.to_sparse().toarray(),
        "turned sample": matching.transpose.sample(np.random.default_rng(5)),
    }


@pytest.mark.parametrize("chunk", [1, 13, 2**22])
@pytest.mark.parametrize("holes", [False, True])
def test_a_matching_of_potentials_answers_as_one_of_entries(problem, chunk, holes, monkeypatch):
    matching = matched_by_potentials(*problem({"left": (6, 5, 3), "right": (4, 7, 2)}, unlabelled=2))
    if holes:
        plan = matching.blocks[0].weights
        plan = replace(plan, f=np.r_[-np.inf, plan.f[1:]], g=np.r_[plan.g[:-1], -np.inf])
        matching = replace(matching, blocks=(replace(matching.blocks[0], weights=plan), *matching.blocks[1:]))
    dense = every_answer(as_entries(matching))
    monkeypatch.setattr(module, "_CHUNK", chunk)
    monkeypatch.setattr(block_module, "_CHUNK", chunk)
    for name, value in every_answer(matching).items():
        np.testing.assert_allclose(value, dense[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_row_of_zeros_pulls_the_fill_and_samples_none():
    plan = make_plan(3, 4, without=((1,), ()))
    matching = Matching("l", "r", (3, 4), (Block("a", np.arange(3), np.arange(4), plan, Status("ok")),), MADE)
    assert np.isnan(matching.pull(np.ones((4, 1)))).ravel().tolist() == [False, True, False]
    assert (matching.sample(np.random.default_rng(0)) == -1).tolist() == [False, True, False]
    assert np.isfinite(matching.blocks[0].effective_partners()).all()


def test_between_how_many_cells_a_row_is_undecided_is_told_alike_by_all_kinds():
    w = entries(make_plan(6, 4))
    w[2] = 0
    w[3] = [0, 0, 1, 0]
    blocks = [Block("a", np.arange(6), np.arange(4), kind, Status("ok")) for kind in (w, sp.csr_matrix(w))]
    dense, csr = (b.effective_partners() for b in blocks)
    np.testing.assert_allclose(csr, dense, rtol=1e-12)
    assert dense[3] == pytest.approx(1)
    flat = Block("a", np.arange(6), np.arange(4), Product(np.ones(6), np.ones(4)), Status("ok"))
    np.testing.assert_allclose(flat.effective_partners(), 4)


def test_a_matching_of_potentials_can_be_sent_between_processes(problem, full):
    matching = matched_by_potentials(*problem())
    assert np.array_equal(full(pickle.loads(pickle.dumps(matching))), full(matching))


# ------------------------------------------------------------------ no leak


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**20), sides=st.sampled_from([("left",), ("right",), ("left", "right")]), rename=st.booleans()
)
def test_reordered_rows_give_the_same_bits_reordered(problem, seed, sides, rename):
    rng = np.random.default_rng(seed)
    data, space = problem({"left": (9, 6), "right": (5, 10)}, unlabelled=2, seed=seed)
    rows = {n: rng.permutation(len(data[n])) if n in sides else np.arange(len(data[n])) for n in data}
    other = data.take(rows)
    if rename:
        made = {n: replace(m, ids=data[n].ids) for n, m in other.modalities.items()}
        other = replace(other, modalities=made)
    moved = replace(space, arrays={n: a[rows[n]] for n, a in space.arrays.items()})
    one, two = matched_by_potentials(data, space), matched_by_potentials(other, moved)
    values = rng.normal(size=(17, 2))
    assert np.array_equal(one.pull(values)[rows["left"]], two.pull(values[rows["right"]]), equal_nan=True)
    assert np.array_equal(one.push(values)[rows["right"]], two.push(values[rows["left"]]), equal_nan=True)
    drawn, again = (m.sample(np.random.default_rng(1)) for m in (one, two))
    back = np.append(np.argsort(rows["right"]), -1)
    assert np.array_equal(back[drawn[rows["left"]]], again)
    for mine, other_block in zip(one.blocks, two.blocks, strict=True):
        assert np.array_equal(mine.dense(), other_block.dense())


def test_cells_of_one_label_do_not_influence_the_potentials_of_another(problem):
    data, space = problem({"left": (9, 6), "right": (5, 10)})
    rng = np.random.default_rng(0)
    arrays = {n: np.where((data[n].labels == 1)[:, None], rng.normal(size=a.shape), a) for n, a in space.arrays.items()}
    one, two = (matched_by_potentials(data, s).blocks[0].weights for s in (space, replace(space, arrays=arrays)))
    assert np.array_equal(one.f, two.f)
    assert np.array_equal(one.rows(0, 9), two.rows(0, 9))
