"""Entropic optimal transport against POT, against exact limits, and honest about where it stops."""

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from unpaired.errors import OptionError, UnpairedError
from unpaired.match.transport import match_ot
from unpaired.match.transport.solution import Plan

TIGHT = {"tol": 1e-9, "max_iter": 100_000, "keep": 1.0}


def unbalanced_plan(a, b, c, eps, penalty, iterations=1500):
    """Chizat et al. 2018 in the logarithm: the minimum over plans of <c, p> + eps KL(p | ab) + penalty (KL + KL)."""
    power, g = penalty / (penalty + eps), np.zeros(len(b))
    for _ in range(iterations):
        f = -power * eps * logsumexp((g[None] - c) / eps + np.log(b)[None], axis=1)
        g = -power * eps * logsumexp((f[:, None] - c) / eps + np.log(a)[:, None], axis=0)
    return np.exp((f[:, None] + g[None] - c) / eps) * np.outer(a, b)


# ------------------------------------------------------------------ the plan


@pytest.mark.parametrize("cost", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("eps", [0.2, 1.0, 20.0])
def test_the_plan_is_that_of_pot(problem, cost, eps):
    data, space = problem({"left": (15, 6), "right": (9, 8)}, d=3)
    for block in match_ot(data, space, eps=eps, cost=cost, **TIGHT).blocks:
        c = cdist(space["left"][block.rows], space["right"][block.cols], cost)
        n, m = c.shape
        theirs = ot.sinkhorn(np.full(n, 1 / n), np.full(m, 1 / m), c, eps, stopThr=1e-13, numItermax=10**5)
        assert block.status.state == "ok"
        np.testing.assert_allclose(block.dense(), theirs, atol=1e-9)


def test_the_plan_minimises_cost_less_entropy(problem):
    data, space = problem({"left": (7,), "right": (7,)})
    (block,) = match_ot(data, space, eps=0.7, **TIGHT).blocks
    c = cdist(space["left"][block.rows], space["right"][block.cols], "sqeuclidean")
    p, rng = block.dense(), np.random.default_rng(0)

    def objective(plan):
        return np.sum(plan * c) + 0.7 * np.sum(plan * np.log(plan))

    for _ in range(50):  # any exchange between two rows and two columns keeps the marginals
        (i, k), (j, m) = rng.choice(7, 2, replace=False), rng.choice(7, 2, replace=False)
        other = p.copy()
        step = 0.3 * min(p[i, j], p[k, m])
        other[[i, k], [j, m]] -= step
        other[[i, k], [m, j]] += step
        assert objective(other) > objective(p) - 1e-12


def test_a_small_eps_on_a_line_matches_in_order(problem):
    rng = np.random.default_rng(0)
    x, y = (rng.permutation(np.arange(8.0))[:, None] for _ in range(2))
    data, space = problem(points={"left": x + 0.1 * rng.random((8, 1)), "right": y + 0.1 * rng.random((8, 1))})
    partner, probability = match_ot(data, space, eps=0.01).partners()
    assert np.array_equal(y[partner[:, 0], 0], x[:, 0])
    assert (probability > 0.99).all()


def test_a_small_eps_costs_what_exact_transport_costs(problem, full):
    data, space = problem({"left": (6,), "right": (9,)})
    rng = np.random.default_rng(1)
    left, right = rng.random(6) + 0.2, rng.random(9) + 0.2
    c = cdist(space["left"], space["right"], "sqeuclidean")
    weights = {"source_weights": left, "target_weights": right}
    plan = full(match_ot(data, space, eps=0.005, max_iter=50_000, keep=1.0, **weights))
    exact = ot.emd2(left / left.sum(), right / right.sum(), c)
    assert np.sum(plan * c) == pytest.approx(exact, rel=0.01)


def test_a_large_eps_gives_the_uniform_coupling(problem):
    for block in match_ot(*problem(), eps=1e6, keep=1.0).blocks:
        np.testing.assert_allclose(block.dense(), 1 / block.dense().size, rtol=1e-4)


def test_given_marginals_are_met(problem):
    data, space = problem()
    rng = np.random.default_rng(0)
    left, right = rng.random(11) + 0.05, rng.random(11) + 0.05
    for block in match_ot(data, space, eps=0.5, source_weights=left, target_weights=right, **TIGHT).blocks:
        np.testing.assert_allclose(block.sums(1), left[block.rows] / left[block.rows].sum(), atol=1e-8)
        np.testing.assert_allclose(block.sums(0), right[block.cols] / right[block.cols].sum(), atol=1e-8)


def test_moving_one_modality_as_a_whole_leaves_the_plan(problem, full):
    data, space = problem({"left": (12, 7), "right": (9, 8)}, d=3)
    moved = {**space.arrays, "right": space["right"] + np.array([2.0, -1.0, 0.5])}
    shifted = type(space)(moved, space.space, None, space.dims, space.made_by)
    np.testing.assert_allclose(
        full(match_ot(data, shifted, eps=1.0, **TIGHT)), full(match_ot(data, space, eps=1.0, **TIGHT)), atol=1e-7
    )


def test_eps_is_in_the_units_of_the_cost(problem, full):
    data, space = problem({"left": (12, 7), "right": (9, 8)})
    tripled = type(space)({n: 3 * a for n, a in space.arrays.items()}, space.space, None, space.dims, space.made_by)
    np.testing.assert_allclose(
        full(match_ot(data, tripled, eps=9.0, **TIGHT)), full(match_ot(data, space, eps=1.0, **TIGHT)), atol=1e-8
    )
    np.testing.assert_allclose(
        full(match_ot(data, tripled, eps=3.0, cost="euclidean", **TIGHT)),
        full(match_ot(data, space, eps=1.0, cost="euclidean", **TIGHT)),
        atol=1e-8,
    )


@settings(max_examples=15, deadline=None)
@given(
    left=st.integers(2, 12),
    right=st.integers(2, 12),
    eps=st.floats(0.3, 50),
    cost=st.sampled_from(["sqeuclidean", "euclidean"]),
    seed=st.integers(0, 2**20),
)
def test_whatever_the_problem_the_marginals_are_off_by_what_the_status_says(problem, left, right, eps, cost, seed):
    rng = np.random.default_rng(seed)
    data, space = problem({"left": (left,), "right": (right,)}, seed=seed)
    weights = rng.random(left) + 0.01
    (block,) = match_ot(data, space, eps=eps, cost=cost, source_weights=weights, tol=1e-6, keep=1.0).blocks
    p = block.dense()
    a = weights[block.rows] / weights.sum()
    error = abs(p.sum(axis=1) - a).sum() + abs(p.sum(axis=0) - 1 / right).sum()
    assert np.isfinite(p).all()
    assert (p >= 0).all()
    assert error <= block.status.marginal_error + 1e-12  # certified: what is said is never too little
    assert block.status.marginal_error == pytest.approx(error, abs=1e-7)
    assert (block.status.state == "ok") == (block.status.marginal_error <= 1e-6)


# ------------------------------------------------------------------ limits


@pytest.mark.parametrize("max_iter", [1, 7, 13])
def test_stopping_early_is_said_with_the_error_that_remains(problem, max_iter):
    data, space = problem({"left": (20,), "right": (15,)})
    (block,) = match_ot(data, space, eps=0.02, tol=1e-10, max_iter=max_iter, keep=1.0).blocks
    p = block.dense()
    assert block.status.state == "not_converged"
    assert 0 < block.status.iterations <= max_iter + 10  # to the end of what was begun
    error = abs(p.sum(axis=1) - 1 / 20).sum() + abs(p.sum(axis=0) - 1 / 15).sum()
    assert error > 1e-10
    assert block.status.marginal_error == pytest.approx(error)
    assert "max_iter" in block.status.advice
    assert "raise" in block.status.advice


@pytest.mark.parametrize("unbalanced", [None, 1e4])
def test_a_limit_on_the_time_is_said_too(problem, unbalanced):
    data, space = problem({"left": (300,), "right": (280,)}, d=3)
    limits = {"tol": 1e-13, "max_iter": 10**6, "max_seconds": 1e-3}
    (block,) = match_ot(data, space, eps=0.01, unbalanced=unbalanced, **limits).blocks
    assert block.status.state == "not_converged"
    assert block.status.marginal_error > 1e-13
    assert block.status.seconds < 30  # compiling what was never compiled before is not interrupted
    assert block.status.advice


def test_a_looser_tolerance_stops_no_later(problem):
    data, space = problem({"left": (20,), "right": (15,)})
    loose, tight = (match_ot(data, space, eps=0.05, tol=t, max_iter=10**5).blocks[0].status for t in (1e-2, 1e-9))
    assert loose.iterations <= tight.iterations
    assert loose.marginal_error <= 1e-2
    assert tight.marginal_error <= 1e-9


@pytest.mark.parametrize("unbalanced", [None, 1.0])
def test_a_hopeless_eps_fails_with_advice_and_without_nan(problem, unbalanced):
    data, space = problem({"left": (5, 4), "right": (4, 6)})
    space.arrays["left"][data["left"].labels == 0] *= 1e4
    with np.errstate(all="ignore"):
        matching = match_ot(data, space, eps=1e-306, unbalanced=unbalanced, max_iter=60)
    for block in matching.blocks:
        if block.matched:
            assert np.isfinite(block.dense()).all()
        else:
            assert block.status.state == "failed"
            assert "larger eps" in block.status.advice
            assert np.isnan(block.status.marginal_error)
    assert {b.label for b in matching.blocks if b.status.state == "failed"} >= {"a"}
    assert "a" in matching.coverage.left_out


def test_a_label_that_fails_does_not_touch_the_others(problem):
    data, space = problem({"left": (5, 4), "right": (4, 6)})
    good = match_ot(data, space, eps=0.5).blocks[1].dense()
    space.arrays["left"][data["left"].labels == 0] = 1e200
    with np.errstate(all="ignore"):
        matching = match_ot(data, space, eps=0.5)
    assert [b.status.state for b in matching.blocks] == ["failed", "ok"]
    assert np.array_equal(matching.blocks[1].dense(), good)


@pytest.mark.parametrize("unbalanced", [None, 1.0])
def test_a_space_with_missing_values_is_not_blamed_on_eps(problem, unbalanced):
    data, space = problem()
    space.arrays["left"][0] = np.nan
    try:
        matching = match_ot(data, space, eps=1.0, unbalanced=unbalanced)
    except UnpairedError as error:
        advice = str(error)
    else:
        (advice,) = (b.status.advice for b in matching.blocks if b.status.state == "failed")
    assert "too small" not in advice
    assert "finite" in advice or "missing" in advice


def test_a_coupling_that_has_no_room_is_kept_as_potentials_and_says_the_same(problem):
    data, space = problem({"left": (400,), "right": (350,)}, d=3)
    (roomy,) = match_ot(data, space, eps=5.0, tol=1e-8, keep=1.0).blocks
    (tight,) = match_ot(data, space, eps=5.0, tol=1e-8, keep=1.0, memory="1MB").blocks
    assert isinstance(tight.weights, Plan)
    assert tight.status.state == roomy.status.state == "ok"
    np.testing.assert_allclose(tight.dense(), roomy.dense(), atol=1e-8 / 300)


@pytest.mark.parametrize("keep", [0.9, 0.999])
def test_what_is_left_out_of_a_coupling_is_told(problem, keep):
    data, space = problem({"left": (30,), "right": (40,)}, d=3)
    whole, thin = (match_ot(data, space, eps=2.0, tol=1e-8, keep=k).blocks[0] for k in (1.0, keep))
    gone = whole.sums(1) - thin.sums(1)
    assert (gone <= (1 - keep) * whole.sums(1) + 1e-12).all()
    assert thin.status.used["row_mass_kept"] == keep
    assert thin.status.used["largest_dropped"] == pytest.approx(gone.max(), abs=1e-9)
    assert thin.status.used["total_dropped"] == pytest.approx(gone.sum(), abs=1e-9)
    assert (thin.sums(0) > 0).all()


def test_identical_places_share_alike(problem):
    data, space = problem(points={"left": np.zeros((3, 2)), "right": np.zeros((4, 2))})
    (block,) = match_ot(data, space, eps=0.1, keep=1.0).blocks
    np.testing.assert_allclose(block.dense(), 1 / 12)


# ------------------------------------------------------------------ soft marginals


@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("eps", [0.05, 0.2, 2.0])
def test_an_unbalanced_plan_that_is_called_ok_is_the_minimum(problem, eps, penalty):
    data, space = problem({"left": (15,), "right": (20,)}, d=3)
    (block,) = match_ot(data, space, eps=eps, unbalanced=penalty, max_iter=5000, keep=1.0).blocks
    c = cdist(space["left"][block.rows], space["right"][block.cols], "sqeuclidean")
    exact = unbalanced_plan(np.full(15, 1 / 15), np.full(20, 1 / 20), c, eps, penalty)
    assert block.status.state == "ok"
    assert abs(block.dense() - exact).sum() < 0.01 * exact.sum()


@pytest.mark.parametrize("tol", [1e-3, 1e-5, 1e-7])
def test_the_tolerance_bounds_how_far_an_unbalanced_plan_is_from_the_minimum(problem, tol):
    data, space = problem({"left": (15,), "right": (20,)}, d=3)
    (block,) = match_ot(data, space, eps=0.2, unbalanced=10.0, max_iter=5000, tol=tol, keep=1.0).blocks
    c = cdist(space["left"][block.rows], space["right"][block.cols], "sqeuclidean")
    exact = unbalanced_plan(np.full(15, 1 / 15), np.full(20, 1 / 20), c, 0.2, 10.0)
    assert block.status.state == "ok"
    assert abs(block.dense() - exact).sum() <= 3 * tol * exact.sum()


@pytest.mark.parametrize("eps", [2.0, 5.0])
def test_a_large_penalty_tends_to_the_balanced_plan(problem, full, eps):
    data, space = problem({"left": (8,), "right": (10,)})
    soft = full(match_ot(data, space, eps=eps, unbalanced=1e3, max_iter=20_000, tol=1e-9, keep=1.0))
    hard = full(match_ot(data, space, eps=eps, **TIGHT))
    np.testing.assert_allclose(soft, hard, atol=3e-4)


def test_a_cell_far_from_all_gives_up_its_mass_where_marginals_are_soft(problem):
    x, y = np.random.default_rng(0).normal(size=(2, 8, 2))
    x[0] += 6
    data, space = problem(points={"left": x, "right": y})
    mass = np.empty(8)
    (block,) = match_ot(data, space, eps=1.0, unbalanced=1.0).blocks
    mass[block.rows] = block.sums(1)
    assert mass[0] < 0.01 * np.median(mass)


def test_the_error_of_soft_marginals_is_the_distance_from_those_that_the_minimum_has(problem):
    data, space = problem({"left": (8,), "right": (10,)})
    (block,) = match_ot(data, space, eps=1.0, unbalanced=1.0, tol=1e-6, keep=1.0).blocks
    c = cdist(space["left"][block.rows], space["right"][block.cols], "sqeuclidean")
    exact = unbalanced_plan(np.full(8, 1 / 8), np.full(10, 1 / 10), c, 1.0, 1.0)
    p = block.dense()
    assert abs(p.sum(axis=1) - 1 / 8).sum() > 0.1  # far from those that were given,
    assert abs(p.sum(axis=1) - exact.sum(axis=1)).sum() < 1e-5  # near those of the minimum
    assert block.status.marginal_error <= 1e-6


@pytest.mark.parametrize("max_iter", [1, 3, 25, 1000])
def test_soft_marginals_take_no_more_iterations_than_allowed(problem, max_iter):
    data, space = problem(points={"left": np.zeros((4, 2)), "right": np.zeros((4, 2))})
    (block,) = match_ot(data, space, eps=1.0, unbalanced=1.0, max_iter=max_iter).blocks
    assert block.status.iterations <= max_iter + 10


# ------------------------------------------------------------------ eps from the noise


def test_auto_takes_the_mean_noise_of_the_labelled_cells(problem):
    rng = np.random.default_rng(0)
    noise = {"left": rng.random(14), "right": rng.random(14)}
    data, space = problem(unlabelled=3, noise=noise)
    matching = match_ot(data, space)
    assert (matching.made_by.options["eps"], matching.made_by.options["eps_from"]) == (2.0, "noise")
    assert all(b.status.used["eps"] == 2.0 for b in matching.blocks)
    for n in data:
        cells = [space[n][data[n].labels == code] for code in (0, 1)]
        within = np.concatenate([x - x.mean(axis=0) for x in cells])
        share = 2 * noise[n][data[n].labels >= 0].mean() / (np.sum(within**2) / (len(within) - 2))
        assert matching.made_by.options["weighting"]["noise_share"][n] == pytest.approx(share)


def test_a_given_number_is_of_the_space_as_it_is(problem):
    data, space = problem(noise={"left": 0.2, "right": 0.3})
    matching = match_ot(data, space, eps=1.0, keep=1.0, memory=1)
    assert matching.made_by.options["eps_from"] == "given"
    assert "weighting" not in matching.made_by.options
    assert all(np.array_equal(b.weights.x, space["left"][b.rows]) for b in matching.blocks)


def test_auto_takes_the_noise_of_the_two_modalities_that_are_matched(problem, full):
    counts = {"left": (6, 9), "right": (8, 7), "third": (10, 5)}
    data, space = problem(counts, noise={"left": 0.1, "right": 100.0, "third": 0.4})
    matching = match_ot(data, space, source="left", target="third")
    assert list(matching.made_by.options["weighting"]["noise_share"]) == ["left", "third"]
    data, space = problem(counts, noise={"left": 0.1, "right": 0.0, "third": 0.4})
    assert np.array_equal(full(matching), full(match_ot(data, space, source="left", target="third")))


def test_auto_without_noise_is_refused(problem):
    with pytest.raises(OptionError, match="eps='auto' needs the embedding's noise"):
        match_ot(*problem())


def test_auto_with_the_plain_distance_is_refused(problem):
    with pytest.raises(OptionError, match="eps='auto' is derived for cost='sqeuclidean'"):
        match_ot(*problem(noise={"left": 0.2, "right": 0.3}), cost="euclidean")


def test_auto_with_a_noise_that_is_no_number_is_refused(problem):
    with pytest.raises(OptionError, match="give a number"):
        match_ot(*problem(noise={"left": np.nan, "right": np.nan}))


BAD = [
    ("eps", 0),
    ("eps", -1.0),
    ("eps", np.nan),
    ("eps", np.inf),
    ("eps", "large"),
    ("eps", None),
    ("cost", "cosine"),
    ("cost", None),
    ("max_iter", 0),
    ("max_iter", 1.5),
    ("max_seconds", 0),
    ("max_seconds", np.inf),
    ("tol", 0),
    ("unbalanced", 0),
    ("unbalanced", -1),
    ("unbalanced", "soft"),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{n}={v!r}" for n, v in BAD])
def test_a_bad_option_is_one_sentence_that_names_it(problem, name, value):
    data, space = problem(noise={"left": 0.2, "right": 0.3})
    with pytest.raises(OptionError, match=f"^{name} must be .*; got .*\\.$"):
        match_ot(data, space, **{name: value})


def test_the_options_are_kept_as_they_were_used(problem):
    data, space = problem()
    options = match_ot(data, space, eps=0.5, cost="euclidean", target_weights=np.ones(11)).made_by.options
    assert (options["eps"], options["cost"], options["weights"]) == (0.5, "euclidean", "given")
