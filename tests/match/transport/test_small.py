"""Batches of small labels: the right plans, the same to the last bit however they are batched, and never a NaN."""

import math

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from unpaired.match.transport import small
from unpaired.match.transport.problem import Problem
from unpaired.match.transport.small import solve_small

MASSES = {"uniform": 0.0, "general": 3.0, "extreme": 12.0}  # decades


def make(n, m, *, d=3, size=1.0, squared=False, penalty=math.inf, decades=0.0, seed=0):
    """A label with costs of about this size, in units of eps, and masses over some decades."""
    rng = np.random.default_rng(seed)
    size = math.sqrt(size) if squared else size
    x, y = size * rng.normal(size=(n, d)), size * (rng.normal(size=(m, d)) + 0.3)
    centre = (x.mean(axis=0) + y.mean(axis=0)) / 2
    a, b = (10 ** -rng.uniform(0, decades, k) for k in (n, m))
    return Problem(x - centre, y - centre, a / a.sum(), b / b.sum(), squared, penalty)


def one(problem, *, tol=1e-9, max_iter=2000):
    (answer,) = solve_small([problem], tol=tol, max_iter=max_iter, jobs=1)
    return answer


def cost_of(problem):
    return cdist(problem.x, problem.y, "sqeuclidean" if problem.squared else "euclidean")


def plan_of(problem, f, g):
    return np.exp(f[:, None] + g - cost_of(problem))


def error_of(problem, f, g):
    plan = plan_of(problem, f, g)
    return sum(np.abs(plan.sum(axis=1 - side) - problem.targets((f, g)[side], side)).sum() for side in (0, 1))


def scaled(problem, iterations=20_000):
    """The plan by plain scaling in the logarithm (Chizat et al. 2018), on and on until nothing moves."""
    cost, power = cost_of(problem), problem.power(1.0)
    log_a, log_b = np.log(problem.a), np.log(problem.b)
    f, g = log_a, log_b
    for _ in range(iterations):
        old = f
        f = log_a - power * logsumexp(g - cost, axis=1)
        g = log_b - power * logsumexp(f[:, None] - cost, axis=0)
        if np.abs(f - old).max() < 1e-13:
            break
    return np.exp(f[:, None] + g - cost)


def same(first, second):
    """Two lists of answers, bit for bit."""
    return all(
        np.array_equal(p[0], q[0]) and np.array_equal(p[1], q[1]) and p[2:] == q[2:]
        for p, q in zip(first, second, strict=True)
    )


# ------------------------------------------------------------------ the plan


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("size", [0.1, 1.0, 4.0])
@pytest.mark.parametrize(("n", "m"), [(20, 20), (7, 33), (40, 11)])
def test_the_plan_is_that_of_plain_scaling(n, m, size, squared):
    problem = make(n, m, size=size, squared=squared, decades=1.0)
    f, g, error, _, converged = one(problem, tol=1e-7)
    assert converged
    assert error <= 1e-7
    assert np.abs(plan_of(problem, f, g) - scaled(problem)).sum() / 2 < 1e-5


@pytest.mark.parametrize("squared", [False, True])
def test_the_plan_is_that_of_pot(squared):
    problem = make(30, 25, size=2.0, squared=squared)
    f, g, *_ = one(problem)
    theirs = ot.bregman.sinkhorn_log(
        problem.a, problem.b, cost_of(problem), 1.0, stopThr=1e-12, numItermax=10**5, warn=False
    )
    np.testing.assert_allclose(plan_of(problem, f, g), theirs, atol=1e-8)


@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0, 60.0])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("decades", [0.0, 3.0])
def test_the_unbalanced_plan_is_that_of_plain_scaling(penalty, squared, decades):
    problem = make(25, 15, size=2.0, squared=squared, penalty=penalty, decades=decades)
    f, g, error, _, converged = one(problem)
    theirs = scaled(problem)
    assert converged
    assert error <= 1e-9
    np.testing.assert_allclose(plan_of(problem, f, g), theirs, atol=1e-8)
    assert np.abs(plan_of(problem, f, g) - theirs).sum() < 1e-6 * theirs.sum()


def test_a_strong_label_on_which_scaling_would_take_for_ever():
    problem = make(50, 50, d=12, size=80.0)
    f, g, error, passes, converged = one(problem, tol=1e-10)
    assert converged
    assert error <= 1e-10
    assert passes < 100
    assert error_of(problem, f, g) <= 2e-10


def test_a_large_penalty_is_the_constraint():
    free, bound = (make(12, 18, size=2.0, penalty=p) for p in (1e9, math.inf))
    plans = [plan_of(p, *one(p, tol=1e-8)[:2]) for p in (free, bound)]
    np.testing.assert_allclose(*plans, atol=1e-7)


# ------------------------------------------------------------------ shapes and points of every kind


@pytest.mark.parametrize("penalty", [math.inf, 1.0])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 9), (9, 1), (2, 2), (1, 16_384), (128, 128)])
def test_shapes(n, m, penalty):
    problem = make(n, m, size=3.0, penalty=penalty)
    f, g, error, _, converged = one(problem)
    assert f.shape == (n,)
    assert g.shape == (m,)
    assert converged
    assert error_of(problem, f, g) == pytest.approx(error, abs=1e-12)


def test_one_row_takes_all():
    problem = make(1, 9, size=30.0, decades=6.0)
    np.testing.assert_allclose(plan_of(problem, *one(problem)[:2])[0], problem.b, rtol=1e-12)


@pytest.mark.parametrize("squared", [False, True])
def test_identical_points_share_out_by_mass(squared):
    problem = make(6, 8, size=0.0, squared=squared, decades=12.0)
    np.testing.assert_allclose(plan_of(problem, *one(problem)[:2]), np.outer(problem.a, problem.b), rtol=1e-9)


def test_points_given_twice_have_the_same_potential():
    problem, rows = make(10, 12, size=20.0), np.r_[0:10, 0:10]
    twice = Problem(problem.x[rows], problem.y, problem.a[rows] / 2, problem.b, squared=False)
    f, *_ = one(twice, tol=1e-12)
    np.testing.assert_allclose(f[:10], f[10:], atol=1e-9)
    np.testing.assert_allclose(f[:10] + math.log(2), one(problem, tol=1e-12)[0], atol=1e-9)


def test_the_same_cloud_twice_far_apart_stays_two_problems():
    half = make(15, 15, size=5.0)
    x, y = (np.r_[p, p + 1e4] for p in (half.x, half.y))
    problem = Problem(x, y, np.r_[half.a, half.a] / 2, np.r_[half.b, half.b] / 2, squared=False)
    plan, part = (plan_of(p, *one(p)[:2]) for p in (problem, half))
    np.testing.assert_allclose(plan[:15, :15], part / 2, atol=1e-8)
    np.testing.assert_allclose(plan[15:, 15:], part / 2, atol=1e-8)


problems = st.builds(
    make,
    st.integers(1, 12),
    st.integers(1, 12),
    d=st.integers(1, 4),
    size=st.floats(-8, 6).map(lambda e: 10**e),
    squared=st.booleans(),
    penalty=st.sampled_from([math.inf, math.inf, 1e6, 100.0, 1.0, 0.01]),
    decades=st.sampled_from(list(MASSES.values())),
    seed=st.integers(0, 10**6),
)


@given(problems, st.sampled_from([1e-3, 1e-6, 1e-10]))
@settings(max_examples=300, deadline=None)
def test_whatever_comes_the_error_is_true_and_small(problem, tol):
    f, g, error, passes, converged = one(problem, tol=tol, max_iter=1000)
    largest = cost_of(problem).max()
    assert np.isfinite(f).all()
    assert np.isfinite(g).all()
    assert passes <= 1000
    assert error == pytest.approx(error_of(problem, f, g), rel=1e-6, abs=1e-13 + 1e-15 * largest)
    if converged:
        assert error <= tol
    else:  # what the last digits of the costs leave open, no solver can close
        assert error <= 1e-14 * largest


@given(problems)
@settings(max_examples=50, deadline=None)
def test_few_passes_are_an_honest_failure(problem):
    f, g, error, passes, converged = one(problem, tol=1e-12, max_iter=2)
    assert np.isfinite(f).all()
    assert np.isfinite(g).all()
    assert passes <= 2
    if np.isfinite(error_of(problem, f, g)):
        assert error == pytest.approx(error_of(problem, f, g), rel=1e-6, abs=1e-12 + 1e-15 * cost_of(problem).max())
    assert converged <= (error <= 1e-12)


# ------------------------------------------------------------------ order, batches and threads


@pytest.mark.parametrize("penalty", [math.inf, 5.0])
def test_the_order_of_the_points_does_not_matter(penalty):
    problem, rng = make(30, 40, size=20.0, penalty=penalty, decades=2.0), np.random.default_rng(1)
    i, j = rng.permutation(30), rng.permutation(40)
    other = Problem(problem.x[i], problem.y[j], problem.a[i], problem.b[j], squared=False, penalty=penalty)
    (f, g, *_), (f2, g2, *_) = one(problem, tol=1e-12), one(other, tol=1e-12)
    np.testing.assert_allclose(f2, f[i], atol=1e-9)
    np.testing.assert_allclose(g2, g[j], atol=1e-9)


@pytest.mark.parametrize("penalty", [math.inf, 5.0])
def test_the_sides_can_be_exchanged(penalty):
    problem = make(30, 20, size=10.0, penalty=penalty)
    (f, g, *_), (g2, f2, *_) = one(problem, tol=1e-12), one(problem.T, tol=1e-12)
    np.testing.assert_allclose(f2, f, atol=1e-9)
    np.testing.assert_allclose(g2, g, atol=1e-9)


@pytest.fixture(scope="module")
def batch():
    """Labels of all kinds, side by side."""
    rng = np.random.default_rng(0)
    return [
        make(
            *rng.integers(1, 40, 2),
            d=int(rng.integers(1, 6)),
            size=10 ** rng.uniform(-2, 3),
            squared=bool(k % 2),
            penalty=(math.inf, math.inf, 20.0)[k % 3],
            decades=float(k % 5),
            seed=k,
        )
        for k in range(60)
    ]


def test_threads_and_chunks_change_no_bit(batch, monkeypatch):
    whole = solve_small(batch, tol=1e-8, max_iter=2000, jobs=1)
    assert all(answer[4] for answer in whole)
    assert same(whole, solve_small(batch, tol=1e-8, max_iter=2000, jobs=2))
    monkeypatch.setattr(small, "_CHUNK", 700)
    assert same(whole, solve_small(batch, tol=1e-8, max_iter=2000, jobs=1))
    assert same(whole, solve_small(batch, tol=1e-8, max_iter=2000, jobs=3))
    assert same(whole[::-1], solve_small(batch[::-1], tol=1e-8, max_iter=2000, jobs=2))


def test_a_label_alone_is_the_label_in_a_batch(batch):
    whole = solve_small(batch, tol=1e-8, max_iter=2000, jobs=2)
    assert same(whole, [one(problem, tol=1e-8) for problem in batch])


def test_many_labels_are_few_calls(monkeypatch):
    calls, solve = [], small._solve_chunk
    monkeypatch.setattr(small, "_solve_chunk", lambda *args: calls.append(len(args[0])) or solve(*args))
    answers = solve_small([make(10, 12, seed=k) for k in range(500)], tol=1e-6, max_iter=1000, jobs=1)
    assert len(answers) == 500
    assert sum(calls) == 500
    assert len(calls) < 5


def test_no_label_is_no_answer():
    assert solve_small([], tol=1e-6, max_iter=100, jobs=2) == []
