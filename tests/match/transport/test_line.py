"""Points on a line: found to be on one, solved to the tolerance or honest about it, certified over all pairs."""

import math
import threading
import time
import tracemalloc

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from unpaired.match.transport import line as module
from unpaired.match.transport.certify import certify
from unpaired.match.transport.limits import Limits
from unpaired.match.transport.line import LinePlan, on_line, solve_line
from unpaired.match.transport.problem import prepare
from unpaired.match.transport.solve import solve_ot
from unpaired.match.transport.workers import Workers

pytestmark = pytest.mark.filterwarnings("error")


def problem_of(x, y, a=None, b=None, penalty=None):
    x, y = (np.asarray(p, dtype=float) for p in (x, y))
    x, y = (p[:, None] if p.ndim == 1 else p for p in (x, y))
    a, b = np.ones(len(x)) if a is None else a, np.ones(len(y)) if b is None else b
    return prepare(x, y, a, b, eps=1.0, cost="euclidean", unbalanced=penalty)[0]


def find(problem, tol=1e-9, max_iter=10_000, **more):
    return solve_line(problem, on_line(problem), Limits(tol, max_iter, time.perf_counter() + 60, **more))


def dense(problem, found):
    return np.exp(found.f[:, None] + found.g - cdist(problem.x, problem.y))


def error_of(problem, found):
    plan = dense(problem, found)
    rows, cols = problem.targets(found.f, 0), problem.targets(found.g, 1)
    return abs(plan.sum(axis=1) - rows).sum() + abs(plan.sum(axis=0) - cols).sum()


def clusters(rng, sizes, gap, spread=3.0):
    return np.concatenate([gap * k + spread * rng.normal(size=n) for k, n in enumerate(sizes)])


# ------------------------------------------------------------------ on a line or not


@pytest.mark.parametrize("dim", [1, 2, 7])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_points_on_a_line_keep_their_distances(dim, scale):
    rng = np.random.default_rng(dim)
    axis, base = rng.normal(size=dim), rng.normal(size=dim)
    x, y = (base + scale * np.multiply.outer(rng.normal(size=n), axis) for n in (150, 40))
    problem = problem_of(x, y)
    at = on_line(problem)
    far = cdist(problem.x, problem.y)
    np.testing.assert_allclose(abs(at[0][:, None] - at[1]), far, rtol=0, atol=1e-12 * max(far.max(), 1.0))


def test_two_labels_have_centred_logits_on_a_line():
    rng = np.random.default_rng(0)
    sides = [z - z.mean(axis=1, keepdims=True) for z in (3 * rng.normal(size=(n, 2)) for n in (300, 200))]
    problem = prepare(*sides, np.ones(300), np.ones(200), eps=0.05, cost="euclidean", unbalanced=None)[0]
    at = on_line(problem)
    np.testing.assert_allclose(abs(at[0][:, None] - at[1]), cdist(problem.x, problem.y), atol=1e-11)


@pytest.mark.parametrize("row", [0, 5, 999])
@pytest.mark.parametrize("side", [0, 1])
def test_one_point_off_the_line_is_noticed(row, side):
    sides = [np.multiply.outer(np.random.default_rng(k).normal(size=1000), [1.0, 2.0, -1.0]) for k in (0, 1)]
    assert on_line(problem_of(*sides)) is not None
    sides[side][row, 0] += 1e-6
    assert on_line(problem_of(*sides)) is None


def test_points_all_in_one_place_are_on_a_line():
    at = on_line(problem_of(np.ones((4, 3)), np.ones((6, 3))))
    assert [len(p) for p in at] == [4, 6]
    assert not np.concatenate(at).any()


# ------------------------------------------------------------------ the plan


def test_the_plan_is_that_of_pot():
    rng = np.random.default_rng(0)
    x, y, a, b = 4 * rng.normal(size=60), 5 * rng.normal(size=45) + 1, rng.random(60) + 0.1, rng.random(45) + 0.1
    problem = problem_of(x, y, a, b)
    theirs = ot.sinkhorn(problem.a, problem.b, cdist(problem.x, problem.y), 1.0, stopThr=1e-13, numItermax=10**5)
    np.testing.assert_allclose(dense(problem, find(problem)), theirs, atol=1e-9)


@pytest.mark.parametrize("penalty", [0.3, 4.0, 60.0])
def test_the_plan_with_a_penalty_is_that_of_scaling(penalty):
    rng = np.random.default_rng(1)
    problem = problem_of(6 * rng.normal(size=50), 6 * rng.normal(size=35) + 2, rng.random(50) + 0.1, penalty=penalty)
    cost, power, g = cdist(problem.x, problem.y), penalty / (penalty + 1), np.zeros(35)
    for _ in range(800):
        f = -power * logsumexp(g - cost + np.log(problem.b), axis=1)
        g = -power * logsumexp(f[:, None] - cost + np.log(problem.a)[:, None], axis=0)
    theirs = np.exp(f[:, None] + g - cost) * np.outer(problem.a, problem.b)
    np.testing.assert_allclose(dense(problem, find(problem)), theirs, atol=1e-9)


@pytest.mark.parametrize("penalty", [None, 2.0])
@pytest.mark.parametrize("heat", [1.0, 7.0])
def test_sums_and_newtons_step_are_those_of_the_dense_plan(monkeypatch, penalty, heat):
    monkeypatch.setattr(module, "bend", lambda *_: None)
    monkeypatch.setattr(module, "_DAMPING", 0.0)
    rng = np.random.default_rng(2)
    x, y = np.sort(10 * rng.normal(size=40)), np.sort(12 * rng.normal(size=57))
    y[5] = x[3] = x[4]
    x, y = np.sort(x), np.sort(y)
    problem = problem_of(x, y, rng.random(40) + 0.1, rng.random(57) + 0.1, penalty)
    plan, f = LinePlan(problem, (problem.x[:, 0], problem.y[:, 0])), 3 * rng.normal(size=40)
    g = plan.evaluate(f, heat)
    full = np.exp((f[:, None] + g - cdist(problem.x, problem.y)) / heat)
    np.testing.assert_allclose(plan.sums, full.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(plan.col_sums, full.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(plan.col_sums, problem.targets(g, 1, heat), rtol=1e-12)
    best = heat * (np.log(problem.a) - problem.power(heat) * np.log(np.exp(-f / heat) * full.sum(axis=1)))
    np.testing.assert_allclose(plan.scale(heat), best, rtol=1e-12, atol=1e-12)

    ease, target = 0.0 if penalty is None else heat / penalty, problem.targets(f, 0, heat)
    step = plan.step(target - plan.sums, target, ease)
    matrix = np.diag(plan.sums + ease * target) - full / (plan.col_sums * (1 + ease)) @ full.T
    there = matrix @ step
    np.testing.assert_allclose(there, target - plan.sums, atol=1e-8 * abs(target - plan.sums).sum())


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    scales=st.tuples(st.floats(-3, 5), st.floats(-3, 5)),
    lightest=st.sampled_from([0.0, -3.0, -12.0]),
    rounded=st.booleans(),
    penalty=st.sampled_from([None, None, 0.1, 3.0, 300.0]),
    seed=st.integers(0, 2**20),
)
def test_whatever_the_problem_the_error_is_what_is_said(sizes, scales, lightest, rounded, penalty, seed):
    rng = np.random.default_rng(seed)
    x, y = (rng.normal(size=n) * 10.0**s for n, s in zip(sizes, scales, strict=True))
    if rounded:  # onto each other
        x, y = np.round(x), np.round(y)
    a, b = (10.0 ** rng.uniform(lightest, 0, n) for n in sizes)
    problem = problem_of(x, y, a, b, penalty)
    found = find(problem, tol=1e-7)
    assert found.error <= 1e-7
    assert found.error == pytest.approx(error_of(problem, found), abs=1e-9)
    np.testing.assert_allclose(found.certificate.rows, dense(problem, found).sum(axis=1), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(found.certificate.cols, dense(problem, found).sum(axis=0), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("penalty", [None, 5.0])
def test_the_certificate_is_that_of_the_other_ways(penalty):
    rng = np.random.default_rng(3)
    problem = problem_of(30 * rng.normal(size=700), 40 * rng.normal(size=500), rng.random(700) + 0.1, None, penalty)
    found = find(problem, tol=1e-2, max_iter=15)
    with Workers(1) as workers:
        theirs = certify(problem, found.f, found.g, 1e-12, workers)
    assert found.error == pytest.approx(theirs.error, rel=1e-6, abs=1e-12)
    np.testing.assert_allclose(found.certificate.rows, theirs.rows, rtol=1e-9)
    np.testing.assert_allclose(found.certificate.cols, theirs.cols, rtol=1e-9)


# ------------------------------------------------------------------ what may not matter


def test_the_order_of_the_points_and_the_sides_do_not_matter():
    rng = np.random.default_rng(4)
    x, y = np.round(20 * rng.normal(size=80)), np.round(25 * rng.normal(size=60))
    a, b = rng.random(80) + 0.1, rng.random(60) + 0.1
    first = dense(problem := problem_of(x, y, a, b), found := find(problem, keep=0.9, most=10**6))
    rows, cols = rng.permutation(80), rng.permutation(60)
    moved = find(turned := problem_of(x[rows], y[cols], a[rows], b[cols]), keep=0.9, most=10**6)
    np.testing.assert_allclose(dense(turned, moved), first[rows][:, cols], atol=1e-9)
    np.testing.assert_allclose(moved.f, found.f[rows], atol=1e-6)
    assert abs(moved.certificate.coupling - found.certificate.coupling[rows][:, cols]).max() < 1e-9
    np.testing.assert_allclose(moved.certificate.dropped, found.certificate.dropped[rows], atol=1e-9)
    other = problem.T
    np.testing.assert_allclose(dense(other, find(other)).T, first, atol=1e-9)


def test_a_point_twice_is_a_point_of_twice_the_mass():
    rng = np.random.default_rng(5)
    x, y = 10 * rng.normal(size=30), 10 * rng.normal(size=40)
    once = dense(heavy := problem_of(x, y, np.r_[np.full(10, 2.0), np.ones(20)]), find(heavy))
    twice = dense(light := problem_of(np.r_[x, x[:10]], y), find(light))
    np.testing.assert_allclose(twice[:10] + twice[30:], once[:10], atol=1e-9)
    np.testing.assert_allclose(twice[10:30], once[10:], atol=1e-9)


# ------------------------------------------------------------------ nasty


def nasty():
    rng = np.random.default_rng(6)
    wide, other = rng.normal(size=300), rng.normal(size=300)
    log = [np.sign(rng.normal(size=300)) * 10 ** rng.uniform(-6, 6, 300) for _ in range(2)]
    light = [10 ** rng.uniform(-12, 0, 300) for _ in range(2)]
    yield "far and wide", 1e6 * wide, 1.3e6 * other, None, None
    yield "light", 20 * wide, 30 * other, *light
    yield "light and wide", 1e3 * wide, 1e3 * other, *light
    yield "all scales", *log, *light
    yield "one place", np.zeros(50), np.zeros(70), None, None
    yield "two places", np.zeros(50), np.full(70, 1e5), None, None
    yield "one point", [0.0], 100 * other, None, None
    yield "two points", [0.0], [1e6], None, None
    yield "apart", wide, 1e4 + other, None, None
    yield "every step a little on", np.arange(300) * 50.0, np.arange(301) * 50.0 + 25, None, None
    yield "pairs far apart", np.arange(300) * 1e3, np.arange(300) * 1e3 + 500 * (np.arange(300) % 2), None, None
    yield "far outlier", np.r_[wide, 1e6], other, None, None
    yield "far outlier of no weight", np.r_[wide, 1e6], other, np.r_[np.ones(300), 1e-9], None
    for gap in (100, 1e4, 1e6):
        yield f"clusters {gap:g}", clusters(rng, [180, 120], gap), clusters(rng, [120, 180], gap), None, None
        yield f"ten {gap:g}", *(clusters(rng, rng.multinomial(300, np.ones(10) / 10), gap) for _ in "xy"), None, None
        for shift in (0.0, 1e-3, 1e-6):  # mass that has to cross, next to nothing of it
            x, y = clusters(rng, [150, 150], gap), clusters(rng, [150, 150], gap)
            yield f"{shift:g} crosses {gap:g}", x, y, np.repeat([1 + shift, 1 - shift], 150), None


NASTY = {name: rest for name, *rest in nasty()}


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("penalty", [None, 0.01, 30.0, 1e3])
def test_nasty_problems_are_solved(name, penalty):
    problem = problem_of(*NASTY[name], penalty)
    for tol in (1e-4, 1e-8):
        found = find(problem, tol=tol)
        assert np.isfinite(found.f).all()
        assert np.isfinite(found.g).all()
        assert error_of(problem, found) <= found.error + 1e-9
        assert found.error <= tol
        assert found.passes < 1000


def test_mass_crosses_a_wide_gap():
    rng = np.random.default_rng(7)
    problem = problem_of(clusters(rng, [60, 40], 1e4), clusters(rng, [40, 60], 1e4))
    plan = dense(problem, find(problem))
    assert plan[:60, 40:].sum() == pytest.approx(0.2, abs=1e-6)
    assert plan[60:, :40].sum() < 1e-12


def test_a_tolerance_beyond_rounding_ends_and_is_not_claimed():
    rng = np.random.default_rng(8)
    problem = problem_of(1e7 * rng.normal(size=200), 1e7 * rng.normal(size=150))
    found = find(problem, tol=1e-15)
    assert 1e-15 < found.error < 1e-5
    assert found.error == pytest.approx(error_of(problem, found), rel=0.5)


# ------------------------------------------------------------------ limits


@pytest.mark.parametrize("max_iter", [1, 4, 9])
def test_stopping_early_is_said_with_the_error_that_remains(max_iter):
    rng = np.random.default_rng(9)
    problem = problem_of(100 * rng.normal(size=200), 120 * rng.normal(size=150))
    found = find(problem, tol=1e-9, max_iter=max_iter)
    assert 1e-9 < found.error == pytest.approx(error_of(problem, found), rel=1e-9)
    assert found.passes < max_iter + 20


@pytest.mark.parametrize("how", ["halt", "deadline"])
def test_a_search_that_is_stopped_at_once_returns_potentials(how):
    rng = np.random.default_rng(10)
    problem = problem_of(100 * rng.normal(size=200), 120 * rng.normal(size=150))
    halt = threading.Event()
    if how == "halt":
        halt.set()
    limits = Limits(1e-9, 10_000, time.perf_counter() + (60 if how == "halt" else -1), halt)
    found = solve_line(problem, on_line(problem), limits)
    assert math.isfinite(found.error)
    assert found.error == pytest.approx(error_of(problem, found), rel=1e-9)


# ------------------------------------------------------------------ in the whole


def test_the_coupling_is_made_where_it_fits():
    rng = np.random.default_rng(11)
    problem = problem_of(40 * rng.normal(size=300), 50 * rng.normal(size=250))
    found = find(problem, tol=1e-6, keep=0.99, most=300 * 250)
    sure, plan = found.certificate, dense(problem, found)
    assert sure.coupling.shape == plan.shape
    kept = sure.coupling.toarray()
    np.testing.assert_allclose(kept[kept > 0], plan[kept > 0], rtol=1e-9)
    np.testing.assert_allclose(sure.rows - sure.dropped, kept.sum(axis=1), rtol=1e-4)
    assert (sure.dropped <= (0.01 + 1e-6) * sure.rows).all()
    without = find(problem, tol=1e-6, keep=0.99, most=300)
    assert without.certificate.coupling is None
    assert without.error == found.error
    np.testing.assert_array_equal(without.f, found.f)


def test_a_label_of_two_classes_goes_along_the_line():
    rng = np.random.default_rng(12)
    x, y = (np.multiply.outer(3 * rng.normal(size=n), [1.0, -1.0]) for n in (2500, 2100))
    weights = rng.random(2500)
    weights[[3, 77]] = 0
    solution = solve_ot(x, y, weights, eps=0.05, cost="euclidean", tol=1e-5, keep=0.99)
    assert solution.used["path"] == "line"
    assert solution.converged
    plan = solution.plan.rows(0, 2500)
    np.testing.assert_allclose(plan.sum(axis=1), weights / weights.sum(), atol=1e-5)
    assert abs(plan.sum(axis=0) - 1 / 2100).sum() <= 1e-5
    assert solution.coupling.shape == (2500, 2100)


def test_memory_grows_with_the_points_and_not_with_the_pairs():
    rng = np.random.default_rng(13)
    n = 100_000
    problem = problem_of(80 * rng.normal(size=n), 90 * rng.normal(size=n))
    line = on_line(problem)
    tracemalloc.start()
    found = solve_line(problem, line, Limits(1e-4, 10_000, time.perf_counter() + 60, keep=0.999, most=10 * n))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.error <= 1e-4
    assert found.certificate.coupling is None
    assert peak < 200 * 2 * n


def test_points_out_of_order_are_not_certified():
    problem = problem_of([0.0, 1.0, 2.0], [0.0, 2.0])
    plan = LinePlan(problem, (problem.x[:, 0], problem.y[:, 0]))
    g = plan.evaluate(np.zeros(3), 1.0)
    assert module._certify(plan, np.zeros(3), g).error < math.inf
    plan.at = plan.at[::-1].copy()
    assert module._certify(plan, np.zeros(3), g).error == math.inf
