"""The device path: the plans of POT, whatever shares the batch and however little memory there is.

Everything runs on the CPU, and again on a GPU where there is one.
"""

import math
import time

import numpy as np
import ot
import pytest
import torch
from scipy.spatial.distance import cdist

from unpaired.errors import OptionError
from unpaired.match.transport import gpu, gpu_kernel
from unpaired.match.transport.gpu import solve_batch
from unpaired.match.transport.problem import prepare

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
TIGHT = {"tol": 1e-9, "max_iter": 10_000, "max_seconds": 60.0}


@pytest.fixture(autouse=True)
def one_thread():
    """The problems are too small for two, and waiting for a busy core is slow."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, CUDA])])
def device(request):
    return request.param


def make(n, m, *, d=3, eps=1.0, cost="sqeuclidean", unbalanced=None, seed=0, weights=False, scale=1.0):
    rng = np.random.default_rng(seed)
    x, y = scale * rng.normal(size=(n, d)), scale * (rng.normal(size=(m, d)) + 0.3)
    a, b = (rng.exponential(size=k) ** 2 + 1e-4 if weights else np.ones(k) for k in (n, m))
    return prepare(x, y, a, b, eps=eps, cost=cost, unbalanced=unbalanced)[0]


def costs(problem):
    return cdist(problem.x, problem.y, "sqeuclidean" if problem.squared else "euclidean")


def plan(problem, answer):
    return np.exp(answer[0][:, None] + answer[1] - costs(problem))


def soft_min(values, axis):
    most = values.max(axis=axis, keepdims=True)
    return -np.log(np.exp(values - most).sum(axis=axis)) - most.squeeze(axis)


def log_scaling(problem, most=50_000):
    """Chizat et al. 2018 in the logarithm, until nothing moves."""
    c, power = costs(problem), problem.power(1.0)
    f, row, col = np.zeros(len(problem.a)), np.log(problem.a)[:, None], np.log(problem.b)
    for _ in range(most):
        old = f
        g = power * soft_min(f[:, None] - c + row, axis=0)
        f = power * soft_min(g - c + col, axis=1)
        if np.abs(f - old).max() < 1e-13:
            return np.exp(f[:, None] + g - c + row + col)
    pytest.fail("the oracle has not converged")


def error_of(problem, answer):
    p = plan(problem, answer)
    rows, cols = (np.abs(p.sum(axis=1 - k) - problem.targets(answer[k], k)).sum() for k in (0, 1))
    return rows + cols


MIXED = [
    make(30, 30),
    make(1, 7, seed=1),
    make(7, 1, seed=2),
    make(20, 55, seed=3, weights=True),
    make(60, 25, seed=4, d=40, eps=8.0),
    make(40, 40, seed=5, eps=0.5),
    make(3, 80, seed=6, eps=5.0),
    make(1, 1, seed=7),
]


# ------------------------------------------------------------------ the plan


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cost": "euclidean", "eps": 0.3},
        {"weights": True},
        {"weights": True, "cost": "euclidean"},
        {"eps": 50.0},
        {"d": 40, "eps": 8.0},
    ],
)
def test_the_plan_is_that_of_pot(device, options):
    problem = make(30, 45, **options)
    theirs = ot.bregman.sinkhorn_log(problem.a, problem.b, costs(problem), 1.0, numItermax=50_000, stopThr=1e-13)
    (answer,) = solve_batch([problem], device=device, **TIGHT)
    assert answer[4]
    np.testing.assert_allclose(plan(problem, answer), theirs, atol=1e-7 / len(problem.a))


@pytest.mark.parametrize("unbalanced", [0.01, 0.3, 10.0])
@pytest.mark.parametrize("cost", ["sqeuclidean", "euclidean"])
def test_a_penalty_gives_the_plan_of_log_scaling(device, unbalanced, cost):
    problem = make(40, 30, unbalanced=unbalanced, cost=cost, weights=True)
    (answer,) = solve_batch([problem], device=device, **TIGHT)
    assert answer[4]
    np.testing.assert_allclose(plan(problem, answer), log_scaling(problem), atol=1e-9)


def test_labels_of_many_sizes_each_have_their_plan_in_order(device):
    answers = list(solve_batch(MIXED, device=device, **TIGHT))
    for problem, answer in zip(MIXED, answers, strict=True):
        assert answer[0].shape == problem.a.shape
        assert answer[0].dtype == answer[1].dtype == np.float64
        np.testing.assert_allclose(plan(problem, answer), log_scaling(problem), atol=1e-8)


def test_repeated_and_identical_points(device):
    rng = np.random.default_rng(0)
    few = rng.normal(size=(6, 3))
    same = np.zeros((9, 3))
    for x, y in ((np.repeat(few, 5, axis=0), few), (few, few), (same, few), (same, same)):
        for cost in ("euclidean", "sqeuclidean"):
            problem, _, _ = prepare(x, y, np.ones(len(x)), np.ones(len(y)), eps=1.0, cost=cost, unbalanced=None)
            (answer,) = solve_batch([problem], device=device, **TIGHT)
            np.testing.assert_allclose(plan(problem, answer), log_scaling(problem), atol=1e-8)


@pytest.mark.parametrize("eps", [1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("cost", ["sqeuclidean", "euclidean"])
def test_a_small_eps_is_certified(device, eps, cost):
    problem = make(80, 80, eps=eps, cost=cost, seed=8)
    (answer,) = solve_batch([problem], device=device, **TIGHT)
    assert answer[4]
    assert answer[2] == pytest.approx(error_of(problem, answer), rel=0.1, abs=1e-9)


def test_a_small_eps_costs_what_exact_transport_costs(device):
    problem = make(80, 80, eps=1e-3, seed=9)
    (answer,) = solve_batch([problem], device=device, **TIGHT)
    least = ot.emd2(problem.a, problem.b, costs(problem))
    assert np.sum(plan(problem, answer) * costs(problem)) == pytest.approx(least, rel=5e-3)


# ------------------------------------------------------------------ the batch and the memory


@pytest.mark.parametrize("tol", [1e-4, 1e-7])
def test_what_shares_the_batch_does_not_matter(device, tol):
    options = {"tol": tol, "max_iter": 10_000, "max_seconds": 60.0, "device": device}
    together = list(solve_batch(MIXED, **options))
    assert len(gpu._buckets([(*p.shape, (3, True, math.inf)) for p in MIXED], 2**30)) == 1
    for problem, answer in zip(MIXED, together, strict=True):
        (alone,) = solve_batch([problem], **options)
        assert answer[4]
        assert alone[4]
        np.testing.assert_allclose(plan(problem, answer), plan(problem, alone), atol=1e-9)


@pytest.mark.parametrize("keep", ["costs", "double", "single", "nothing"])
def test_what_is_kept_does_not_matter(device, keep, monkeypatch):
    monkeypatch.setattr(gpu, "choose_keep", lambda *_: keep)
    monkeypatch.setattr(gpu, "tile_size", lambda _: 500)
    options = {"tol": 1e-5, "max_iter": 10_000, "max_seconds": 60.0, "device": device}
    for problem, answer in zip(MIXED, solve_batch(MIXED, **options), strict=True):
        assert answer[4]
        assert error_of(problem, answer) <= 1.001e-5
        np.testing.assert_allclose(plan(problem, answer), log_scaling(problem), atol=1e-6)


def test_hardly_any_memory_is_enough(device):
    few = [make(12, 15, seed=3, weights=True), make(1, 7), make(20, 9, d=40, eps=8.0)]
    for problem, answer in zip(few, solve_batch(few, device=device, fraction=1e-12, **TIGHT), strict=True):
        np.testing.assert_allclose(plan(problem, answer), log_scaling(problem), atol=1e-8)


@pytest.mark.gpu
@CUDA
@pytest.mark.parametrize("megabytes", [300, 80, 40, 10])
def test_the_memory_stays_within_the_fraction(megabytes):
    problem = make(2500, 2500)
    next(solve_batch([make(20, 20)], device="cuda", **TIGHT))  # the libraries take their own memory on first use
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    fraction = megabytes * 1e6 / free
    (answer,) = solve_batch([problem], tol=1e-4, max_iter=10_000, max_seconds=60.0, device="cuda", fraction=fraction)
    assert answer[4]
    assert torch.cuda.max_memory_allocated() - before <= megabytes * 1e6


def test_what_is_kept_fits_and_costs_no_tolerance():
    gb = 2**30
    assert [gpu_kernel.choose_keep(10**8, k * gb, 1e-4) for k in (4, 1.5, 0.8, 0.2)] == [
        "costs",
        "double",
        "single",
        "nothing",
    ]
    assert gpu_kernel.choose_keep(10**8, 0.8 * gb, 1e-6) == "nothing"
    for budget in (10**3, 10**6, 10**9, 10**11):
        keep = gpu_kernel.choose_keep(10**8, budget, 1e-4)
        tile = 8 * 4 * gpu_kernel.tile_size(budget)
        assert 10**8 * gpu_kernel.BYTES[keep] + tile <= max(budget, tile)
        assert tile <= budget / 4


def test_buckets_hold_every_label_once_and_fit():
    rng = np.random.default_rng(0)
    kinds = [(*rng.integers(1, 3000, 2), (12, bool(k % 2), math.inf)) for k in range(200)]
    for budget in (10**6, 10**9):
        buckets = gpu._buckets(kinds, budget)
        assert sorted(k for bucket in buckets for k in bucket) == list(range(200))
        for bucket in (b for b in buckets if len(b) > 1):
            n, m = np.max([kinds[k][:2] for k in bucket], axis=0)
            assert len({kinds[k][2] for k in bucket}) == 1
            assert 16 * len(bucket) * n * m <= budget / 2
            own = sum(kinds[k][0] * kinds[k][1] for k in bucket)
            assert len(bucket) * n * m <= max(1.5 * own, 2**20)


def test_two_thousand_small_labels_are_one_bucket():
    assert len(gpu._buckets([(50, 50, (12, False, math.inf))] * 2000, 2**31)) == 1


@pytest.mark.parametrize("squared", [False, True])
def test_costs_of_near_points_far_from_the_mean_are_exact(device, squared):
    rng = np.random.default_rng(0)
    for d, far in ((2, 3e2), (12, 3e4), (100, 3e2)):
        x = far * rng.normal(size=(20, d))
        y = np.concatenate([x[:10], x[10:] + 1e-4 * rng.normal(size=(10, d)), far * rng.normal(size=(15, d))])
        left, right = (torch.from_numpy(p)[None].to(device) for p in (x, y))
        near = gpu_kernel._near(left, right, squared=squared)
        ours = gpu_kernel._costs(left, right, near, squared=squared)[0].cpu().numpy()
        exact = cdist(x, y, "sqeuclidean" if squared else "euclidean")
        np.testing.assert_allclose(ours, exact, atol=3e-10, rtol=1e-14)


# ------------------------------------------------------------------ limits and options


def test_a_limit_of_passes_is_said_and_leaves_numbers(device):
    problem = make(100, 100, eps=1e-3)
    for most in (1, 20, 100):
        f, g, error, passes, converged = next(
            solve_batch([problem], tol=1e-9, max_iter=most, max_seconds=60.0, device=device)
        )
        assert not converged
        assert np.isfinite(f).all()
        assert np.isfinite(g).all()
        assert error == pytest.approx(error_of(problem, (f, g)), rel=1e-6)
        assert passes <= most + 40


def test_a_limit_of_time_is_said_and_leaves_numbers(device):
    problem = make(200, 200, eps=1e-4)
    start = time.perf_counter()
    (answer,) = solve_batch([problem], tol=1e-14, max_iter=10**9, max_seconds=0.05, device=device)
    assert time.perf_counter() - start < 20
    assert not answer[4]
    assert 1e-14 < answer[2] <= 2.5
    assert np.isfinite(answer[0]).all()


def test_no_labels_no_answers():
    assert list(solve_batch([], device="cpu", **TIGHT)) == []


@pytest.mark.parametrize("name", ["gpu", "meta", "cuda:99"])
def test_a_device_that_cannot_be_used_is_one_sentence(name):
    with pytest.raises(OptionError, match="device"):
        next(solve_batch([make(3, 3)], device=name, **TIGHT))
