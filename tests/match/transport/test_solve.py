"""The engine against oracles: POT, exact transport, and the definition of the problem itself."""

import math
import threading
import time
import warnings

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from unpaired.errors import OptionError
from unpaired.match.transport import anneal, multiscale, paths
from unpaired.match.transport.anneal import solve_dense
from unpaired.match.transport.certify import certify
from unpaired.match.transport.limits import Limits
from unpaired.match.transport.multiscale import solve_multiscale
from unpaired.match.transport.problem import prepare
from unpaired.match.transport.solve import solve_many, solve_ot
from unpaired.match.transport.workers import Workers

KINDS = ("plain", "weights", "zero mass", "duplicates", "identical", "one point", "clusters", "tiny", "huge")


def draw(kind, seed, n, m, d):
    """Return x, y, a, b of a random problem of the kind."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d)) + rng.normal(size=d)
    a, b = np.full(n, 1 / n), np.full(m, 1 / m)
    if kind == "weights":
        a, b = rng.random(n) ** 4 + 1e-9, rng.random(m) ** 4 + 1e-9
    elif kind == "zero mass":
        a, b = rng.random(n) * (rng.random(n) < 0.7), rng.random(m) * (rng.random(m) < 0.7)
        a[0], b[-1] = 1.0, 1.0
    elif kind == "duplicates":
        x, y = x[rng.integers(0, max(1, n // 4), n)], y[rng.integers(0, max(1, m // 4), m)]
    elif kind == "identical":
        x, y = np.zeros((n, d)), np.zeros((m, d))
    elif kind == "one point":
        x, a = x[:1], np.ones(1)
    elif kind == "clusters":
        x[: n // 3] += 30.0
        y[: m // 2] += 30.0
    scale = {"tiny": 1e-6, "huge": 1e6}.get(kind, 1.0)
    return x * scale, y * scale, a / a.sum(), b / b.sum()


def costs(x, y, cost):
    return cdist(x, y, metric=cost)


def typical(x, y, cost):
    return max(float(np.median(costs(x, y, cost))), 1e-9 * (1 + np.abs(x).max() ** 2))


def conditional(plan):
    total = plan.sum(axis=1, keepdims=True)
    return plan / np.where(total > 0, total, 1)


def variation(p, q, a):
    """Mean total variation between the rows of two plans, over the rows with mass."""
    return float((a * 0.5 * np.abs(conditional(p) - conditional(q)).sum(axis=1)).sum())


def pot(x, y, a, b, eps, cost, stop=1e-13):
    rows, cols = a > 0, b > 0
    c = costs(x[rows], y[cols], cost) / eps
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = ot.sinkhorn(a[rows], b[cols], c, 1.0, method="sinkhorn_log", numItermax=20_000, stopThr=stop)
    plan = np.zeros((len(a), len(b)))
    plan[np.ix_(rows, cols)] = part
    return plan


def unbalanced_fixed_point(x, y, a, b, eps, cost, penalty):
    """Scaling iterations in the logarithm (Chizat et al. 2018), to convergence."""
    from scipy.special import logsumexp

    kernel = -costs(x, y, cost) / eps + np.log(a)[:, None] + np.log(b)
    power, f, g = penalty / (penalty + eps), np.zeros(len(a)), np.zeros(len(b))
    for _ in range(20_000):
        old = f
        f = -power * (logsumexp(kernel + g, axis=1) - np.log(a))
        g = -power * (logsumexp(kernel + f[:, None], axis=0) - np.log(b))
        if np.abs(f - old).max() < 1e-13:
            break
    return np.exp(kernel + f[:, None] + g)


def dense_path(x, y, a, b, *, eps, cost, tol, unbalanced=None, jobs=1):
    problem, rows, cols = prepare(x, y, a, b, eps=eps, cost=cost, unbalanced=unbalanced)
    with Workers(jobs) as workers:
        found = solve_dense(problem, Limits(tol, 10_000, time.perf_counter() + 60), workers)
    return potentials(found, rows, cols, len(a), len(b)), found


def multiscale_path(x, y, a, b, *, eps, cost, tol, unbalanced=None, jobs=1):
    problem, rows, cols = prepare(x, y, a, b, eps=eps, cost=cost, unbalanced=unbalanced)
    with Workers(jobs) as workers:
        found = solve_multiscale(problem, Limits(tol, 10_000, time.perf_counter() + 60), workers, 2**30)
    return potentials(found, rows, cols, len(a), len(b)), found


def potentials(found, rows, cols, n, m):
    f, g = np.full(n, -np.inf), np.full(m, -np.inf)
    f[rows], g[cols] = found.f, found.g
    return f, g


def plan_of(x, y, f, g, eps, cost):
    return np.exp(f[:, None] + g - costs(x, y, cost) / eps)


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 10_000),
    n=st.integers(1, 40),
    m=st.integers(1, 40),
    d=st.integers(1, 7),
    relative=st.sampled_from([0.02, 0.1, 1.0, 100.0]),
    cost=st.sampled_from(["euclidean", "sqeuclidean"]),
)
def test_the_plan_is_that_of_pot(kind, seed, n, m, d, relative, cost):
    x, y, a, b = draw(kind, seed, n, m, d)
    eps = relative * typical(x, y, cost)
    expected = pot(x, y, a, b, eps, cost)
    solution = solve_ot(x, y, a, b, eps=eps, cost=cost, tol=1e-7)
    assert solution.converged
    assert solution.marginal_error <= 1e-7
    mine = solution.plan.rows(0, len(a))
    assert np.isfinite(mine).all()
    reached = np.abs(expected.sum(axis=1) - a).sum() + np.abs(expected.sum(axis=0) - b).sum()
    if reached < 1e-9:  # where POT arrives within its iterations
        assert variation(mine, expected, a) < 1e-5
        exact = solve_ot(x, y, a, b, eps=eps, cost=cost, tol=1e-11).plan.rows(0, len(a))
        assert np.abs(conditional(exact) - conditional(expected))[a > 0].max() < 1e-7
    assert np.abs(mine.sum(axis=1) - a).sum() + np.abs(mine.sum(axis=0) - b).sum() <= 1e-7


@pytest.mark.parametrize("path", [dense_path, multiscale_path])
@pytest.mark.parametrize("cost", ["euclidean", "sqeuclidean"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_path_finds_the_plan_of_pot(path, cost, kind, monkeypatch):
    monkeypatch.setattr(multiscale, "_SAMPLE", 60)
    x, y, a, b = draw(kind, 7, 150, 190, 3)
    eps = 0.05 * typical(x, y, cost)
    (f, g), found = path(x, y, a, b, eps=eps, cost=cost, tol=1e-7)
    mine = plan_of(x, y, f, g, eps, cost)
    assert found.error <= 1e-7
    assert np.abs(mine.sum(axis=1) - a).sum() + np.abs(mine.sum(axis=0) - b).sum() <= 1.01e-7
    assert variation(mine, pot(x, y, a, b, eps, cost), a) < 1e-5


@pytest.mark.parametrize("path", [dense_path, multiscale_path])
@pytest.mark.parametrize("penalty", [0.02, 1.0, 30.0])
def test_every_path_finds_the_unbalanced_fixed_point(path, penalty, monkeypatch):
    monkeypatch.setattr(multiscale, "_SAMPLE", 60)
    x, y, a, b = draw("weights", 3, 150, 170, 3)
    eps = 0.05 * typical(x, y, "euclidean")
    (f, g), found = path(x, y, a, b, eps=eps, cost="euclidean", tol=1e-7, unbalanced=penalty)
    expected = unbalanced_fixed_point(x, y, a, b, eps, "euclidean", penalty)
    assert found.error <= 1e-7
    assert np.abs(plan_of(x, y, f, g, eps, "euclidean") - expected).sum() < 1e-5


@pytest.mark.parametrize("n", [30, 300])
def test_as_eps_goes_to_zero_the_cost_goes_to_that_of_exact_transport(n):
    x, y, a, b = draw("weights", 5, n, n + 20, 4)
    c = costs(x, y, "sqeuclidean")
    exact = ot.emd2(a, b, c)
    gaps = []
    for relative in (1e-1, 1e-2, 1e-3, 1e-4):
        eps = relative * np.median(c)
        solution = solve_ot(x, y, a, b, eps=eps, tol=1e-6)
        assert solution.converged
        gap = float((solution.plan.rows(0, n) * c).sum()) - exact
        assert gap < eps * math.log(n + 20) + 1e-6 * c.max()
        assert gap > -1e-6 * c.max()
        gaps.append(gap)
    assert gaps == sorted(gaps, reverse=True)


@pytest.mark.parametrize("relative", [1e-4, 1e-2, 1.0, 1e2])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("cost", ["euclidean", "sqeuclidean"])
def test_the_answer_does_not_depend_on_the_units(relative, scale, cost):
    x, y, a, b = draw("plain", 1, 160, 140, 5)
    eps = relative * typical(x, y, cost)
    power = 2 if cost == "sqeuclidean" else 1
    one = solve_ot(x, y, a, b, eps=eps, cost=cost, tol=1e-6)
    other = solve_ot(x * scale, y * scale, a, b, eps=eps * scale**power, cost=cost, tol=1e-6)
    assert one.converged
    assert other.converged
    assert variation(one.plan.rows(0, 160), other.plan.rows(0, 160), a) < 1e-4


def test_the_result_does_not_depend_on_the_threads():
    problems = [draw("plain", k, n, n + 7, 4) for k, n in enumerate((20, 60, 200, 300, 400, 500))]
    runs = [list(solve_many(problems, eps=0.05, cost="euclidean", jobs=j)) for j in (1, 2, 3)]
    for one, two, three in zip(*runs, strict=True):
        assert np.array_equal(one.plan.f, two.plan.f)
        assert np.array_equal(one.plan.g, three.plan.g)
        assert np.array_equal(one.coupling.data, two.coupling.data)


def test_threads_within_a_label_change_nothing():
    x, y, a, b = draw("plain", 0, 2300, 1900, 6)
    one = solve_ot(x, y, a, b, eps=0.05, cost="euclidean", jobs=1)
    two = solve_ot(x, y, a, b, eps=0.05, cost="euclidean", jobs=2)
    assert one.converged
    assert np.array_equal(one.plan.f, two.plan.f)


def test_the_coupling_keeps_what_it_says():
    x, y, a, b = draw("weights", 2, 300, 400, 3)
    whole = solve_ot(x, y, a, b, eps=0.1, cost="euclidean")
    plan = whole.plan.rows(0, 300)
    for keep in (0.5, 0.9, 0.999):
        solution = solve_ot(x, y, a, b, eps=0.1, cost="euclidean", keep=keep)
        kept = solution.coupling.toarray()
        assert np.allclose(kept[kept > 0], plan[kept > 0], rtol=1e-9)
        assert np.allclose(kept.sum(axis=1) + solution.dropped, plan.sum(axis=1), atol=1e-4 * a.min())
        assert (solution.dropped <= (1 - keep) * plan.sum(axis=1) * 1.001 + 1e-15).all()
        assert (kept.sum(axis=0) > 0).all()
        needed = 1 + (np.sort(plan, axis=1)[:, ::-1].cumsum(axis=1) < keep * plan.sum(axis=1, keepdims=True)).sum()
        assert (kept > 0).sum() <= 1.05 * (needed + 300) + 400  # at most one entry more for a row, and for a column
    everything = solve_ot(x, y, a, b, eps=0.1, cost="euclidean", keep=1.0)
    assert np.allclose(everything.coupling.toarray(), plan, rtol=1e-9, atol=1e-300)


def test_points_without_mass_have_no_partners():
    x, y, a, b = draw("zero mass", 4, 200, 180, 3)
    solution = solve_ot(x, y, a, b, eps=0.1, cost="euclidean")
    assert solution.converged
    assert (solution.coupling.toarray()[a == 0] == 0).all()
    assert (solution.coupling.toarray()[:, b == 0] == 0).all()
    assert (solution.dropped[a == 0] == 0).all()


def test_where_the_coupling_has_no_room_the_potentials_remain():
    x, y, a, b = draw("plain", 0, 600, 700, 3)
    solution = solve_ot(x, y, a, b, eps=2.0, cost="euclidean", memory=200_000)
    assert solution.coupling is None
    assert solution.used["path"] == "multiscale"
    assert solution.converged
    assert abs(solution.plan.sum(1) - a).sum() < 1e-4


def test_not_converged_is_a_value_with_advice():
    x, y, a, b = draw("clusters", 0, 300, 320, 3)
    solution = solve_ot(x, y, a, b, eps=0.01, cost="euclidean", max_iter=3)
    assert not solution.converged
    assert "max_iter" in solution.advice
    assert solution.marginal_error > 1e-4
    plan = solution.plan.rows(0, 300)
    assert np.isfinite(plan).all()
    true = np.abs(plan.sum(axis=1) - a).sum() + np.abs(plan.sum(axis=0) - b).sum()
    assert true == pytest.approx(solution.marginal_error, rel=1e-3)
    out_of_time = solve_ot(x, y, a, b, eps=0.01, cost="euclidean", max_seconds=1e-9)
    assert not out_of_time.converged
    assert "max_seconds" in out_of_time.advice


def test_a_halt_ends_a_search_at_once():
    x, y, a, b = draw("plain", 0, 3000, 3000, 8)
    problem, *_ = prepare(x, y, a, b, eps=1e-3, cost="euclidean", unbalanced=None)
    halt = threading.Event()
    halt.set()
    with Workers(1) as workers:
        start = time.perf_counter()
        found = solve_dense(problem, Limits(1e-9, 10_000, math.inf, halt), workers)
    assert time.perf_counter() - start < 20
    assert found.error > 1e-9


def test_a_caller_that_stops_listening_stops_the_work():
    problems = [draw("plain", k, 300, 300, 4) for k in range(40)]
    before = threading.active_count()
    stream = solve_many(problems, eps=0.01, cost="euclidean", jobs=2)
    next(stream)
    stream.close()
    deadline = time.perf_counter() + 20
    while threading.active_count() > before and time.perf_counter() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"eps": 0}, "eps"),
        ({"eps": math.nan}, "eps"),
        ({"cost": "cosine"}, "cost"),
        ({"tol": -1}, "tol"),
        ({"keep": 1.5}, "keep"),
        ({"jobs": 0}, "jobs"),
        ({"unbalanced": -1}, "unbalanced"),
        ({"a": np.array([1.0, -1.0, 1.0])}, "a must be finite, not negative"),
        ({"b": np.zeros(4)}, "positive somewhere"),
        ({"a": np.ones(5)}, "a must hold 3 masses"),
        ({"x": np.array([[0.0, np.nan], [0, 0], [0, 0]])}, "x is not finite in 1 rows, the first is row 0"),
        ({"y": np.zeros((4, 3))}, "points of one space"),
    ],
)
def test_bad_input_is_named(change, words):
    given = {"x": np.zeros((3, 2)), "y": np.zeros((4, 2)), "a": None, "b": None, "eps": 1.0} | change
    with pytest.raises(OptionError, match=words):
        solve_ot(given.pop("x"), given.pop("y"), given.pop("a"), given.pop("b"), **given)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(OptionError, match=r"x is not finite.*b must hold 4 masses"):
        solve_ot(np.full((3, 2), np.inf), np.zeros((4, 2)), None, np.ones(3), eps=1.0)


def test_the_path_is_chosen_by_size_and_memory():
    assert paths.choose(100, 100, on_line=False, memory=2**33) == "small"
    assert paths.choose(1700, 1700, on_line=False, memory=2**33) == "dense"
    assert paths.choose(5000, 5000, on_line=True, memory=2**33) == "line"
    assert paths.choose(1700, 1700, on_line=False, memory=2**22) == "multiscale"
    assert paths.choose(10**5, 10**5, on_line=False, memory=2**40) == "multiscale"


def test_a_permutation_of_one_side_permutes_the_answer():
    x, y, a, b = draw("weights", 9, 250, 260, 4)
    order = np.random.default_rng(0).permutation(250)
    one = solve_ot(x, y, a, b, eps=0.1, cost="euclidean", tol=1e-8)
    two = solve_ot(x[order], y, a[order], b, eps=0.1, cost="euclidean", tol=1e-8)
    assert np.abs(one.plan.rows(0, 250)[order] - two.plan.rows(0, 250)).sum() < 1e-6


def test_temperatures_end_at_one():
    assert anneal.heats(0.0) == [1.0]
    assert anneal.heats(1e4)[-1] == 1.0
    assert all(a > b for a, b in zip(anneal.heats(1e4), anneal.heats(1e4)[1:], strict=False))


@pytest.mark.parametrize("strength", [1.0, 0.1])
@pytest.mark.parametrize("cost", ["euclidean", "sqeuclidean"])
def test_over_many_tiles_the_multiscale_path_agrees_with_the_dense_one(strength, cost, monkeypatch):
    monkeypatch.setattr(multiscale, "_SAMPLE", 300)
    x, y, a, b = draw("weights", 6, 900, 1100, 5)
    options = {"eps": 0.05, "cost": cost, "tol": 1e-6}
    solutions = []
    for path in ("dense", "multiscale"):
        monkeypatch.setattr("unpaired.match.transport.solve.choose", lambda *_, path=path, **__: path)
        solutions += [solve_ot(strength * x, strength * y, a, b, jobs=j, **options) for j in (1, 2)]
    dense, large = solutions[0], solutions[2]
    assert [s.used["path"] for s in solutions] == ["dense", "dense", "multiscale", "multiscale"]
    assert all(s.converged for s in solutions)
    assert variation(dense.plan.rows(0, 900), large.plan.rows(0, 900), a) < 1e-4
    for one, two in (solutions[:2], solutions[2:]):
        assert np.array_equal(one.plan.f, two.plan.f)
        assert np.array_equal(one.coupling.indices, two.coupling.indices)
    kept, plan = large.coupling.toarray(), large.plan.rows(0, 900)
    assert np.allclose(kept[kept > 0], plan[kept > 0], rtol=1e-6)
    assert (plan.sum(axis=1) - kept.sum(axis=1) <= large.dropped + 1e-15).all()
    assert (large.dropped <= 0.001 * plan.sum(axis=1) * 1.01).all()


def test_the_certificate_is_that_of_scipy_whatever_the_potentials():
    rng = np.random.default_rng(0)
    for d, size in ((3, 1.0), (1000, 1.0), (4, 1e4)):
        x, y = size * rng.normal(size=(300, d)), size * rng.normal(size=(400, d))
        problem, *_ = prepare(x, y, np.ones(300), np.ones(400), eps=1.0, cost="euclidean", unbalanced=None)
        c = cdist(problem.x, problem.y)
        f, g = c.min(axis=1) - 6 + rng.normal(size=300), 0.1 * rng.normal(size=400)
        plan = np.exp(f[:, None] + g - c)
        true = np.abs(plan.sum(axis=1) - 1 / 300).sum() + np.abs(plan.sum(axis=0) - 1 / 400).sum()
        with Workers(1) as workers:
            sure = certify(problem, f, g, 1e-4, workers)
        assert sure.error >= true * (1 - 1e-9)
        assert sure.error <= true + 1.1e-5 + 1e-9 * true
        assert np.abs(sure.rows - plan.sum(axis=1)).max() <= 1e-5 / 300 * 1.01 + 1e-9 * plan.sum()


def test_costs_beyond_all_range_are_said_to_be():
    rng = np.random.default_rng(0)
    for n in (20, 200):
        solution = solve_ot(1e200 * rng.normal(size=(n, 3)), rng.normal(size=(n, 3)), eps=1e-3)
        assert not solution.converged
        assert solution.advice
        assert not np.isnan(solution.plan.f).any()


def test_a_penalty_that_leaves_little_mass_is_solved_in_relation_to_it():
    x, y, a, b = draw("weights", 3, 200, 220, 3)
    penalty, eps = 0.3, 0.3
    expected = unbalanced_fixed_point(x, y + 4, a, b, eps, "euclidean", penalty)
    assert expected.sum() < 3e-3
    solution = solve_ot(x, y + 4, a, b, eps=eps, cost="euclidean", unbalanced=penalty)
    assert solution.converged
    assert np.abs(solution.plan.rows(0, 200) - expected).sum() < 1e-3 * expected.sum()


@pytest.mark.parametrize("cost", ["euclidean", "sqeuclidean"])
def test_mass_is_moved_between_clusters_that_are_far_apart(cost):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(300, 2)), rng.normal(size=(300, 2)) + 1000])
    y = np.concatenate([rng.normal(size=(200, 2)), rng.normal(size=(400, 2)) + 1000])
    eps = 0.05 if cost == "euclidean" else 100.0
    solution = solve_ot(x, y, eps=eps, cost=cost)
    assert solution.converged
    assert solution.plan.rows(0, 300)[:, 200:].sum() == pytest.approx(1 / 6, abs=1e-3)
