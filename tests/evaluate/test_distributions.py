"""Each distance against a closed form and against its own brute force, and what it does at the edges."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.special import erf, ndtri
from sklearn.covariance import ledoit_wolf

from unpaired.errors import OptionError
from unpaired.evaluate import distributions
from unpaired.evaluate.distributions import energy_distance, kl_gaussian, kl_neighbours, l2_of_means, wasserstein

METRICS = (l2_of_means, wasserstein, kl_gaussian, kl_neighbours, energy_distance)
every = pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.__name__)


def normal(n, p, *, shift=0.0, scale=1.0, seed=0):
    return shift + scale * np.random.default_rng(seed).normal(size=(n, p))


def quantiles(n):
    """The n cells that stand for a standard Gaussian in one dimension without its noise."""
    return ndtri((np.arange(n) + 0.5) / n)[:, None]


def kl_of(mean_1, cov_1, mean_2, cov_2):
    """The textbook's KL(N1 || N2)."""
    inverse, d = np.linalg.inv(cov_2), mean_2 - mean_1
    logs = np.linalg.slogdet(cov_2)[1] - np.linalg.slogdet(cov_1)[1]
    return (np.trace(inverse @ cov_1) + d @ inverse @ d - len(d) + logs) / 2


# ---------------------------------------------------------------------------------------------------- closed forms


def test_l2_of_two_gaussians_is_the_distance_of_their_means():
    n, p, shift = 40_000, 9, 0.5
    value = l2_of_means(normal(n, p), normal(n, p, shift=shift, seed=1)).value
    assert value == pytest.approx(np.sqrt(p) * shift, abs=4 * np.sqrt(2 / n))


def test_wasserstein_of_a_shifted_sample_is_the_shift():
    """Moving every point by one vector is optimal, whatever the sample: an exact closed form, also in 5 dimensions."""
    x, shift = normal(400, 5), np.array([0.3, -0.2, 0.0, 1.0, 0.1])
    assert wasserstein(x, x + shift).value == pytest.approx(np.linalg.norm(shift), rel=1e-9)


def test_wasserstein_of_two_gaussians_in_one_dimension():
    """W1 of N(0, 1) and N(mu, s): the mean of |mu + (s - 1) Z|, a folded Gaussian."""
    mu, s = 0.5, 2.0
    ratio = mu / (s - 1)
    closed = (s - 1) * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + mu * erf(ratio / np.sqrt(2))
    assert wasserstein(quantiles(1500), mu + s * quantiles(1500)).value == pytest.approx(closed, rel=2e-3)


def test_gaussian_kl_of_two_gaussians():
    rng = np.random.default_rng(0)
    p, n = 4, 40_000
    a, b = (np.eye(p) + 0.3 * rng.normal(size=(p, p)) for _ in range(2))
    mean = np.array([0.5, 0.0, -0.3, 0.2])
    closed = kl_of(np.zeros(p), a.T @ a, mean, b.T @ b)
    assert kl_gaussian(normal(n, p) @ a, normal(n, p, seed=1) @ b + mean).value == pytest.approx(closed, rel=0.03)


@pytest.mark.parametrize(("p", "shift", "scale"), [(1, 1.0, 1.0), (1, 0.5, 2.0), (3, 0.5, 1.0)])
def test_neighbours_kl_of_two_gaussians(p, shift, scale):
    closed = p * (np.log(scale) + (1 + shift**2) / (2 * scale**2) - 0.5)
    values = [
        kl_neighbours(normal(1500, p, seed=i), normal(1000, p, shift=shift, scale=scale, seed=90 + i)).value
        for i in range(3)
    ]
    assert np.mean(values) == pytest.approx(closed, abs=0.08)


@pytest.mark.parametrize(("shift", "scale"), [(1.0, 1.0), (0.5, 2.0)])
def test_energy_distance_of_two_gaussians_in_one_dimension(shift, scale):
    """Twice the integral of the squared difference of the two distribution functions (Szekely and Rizzo)."""
    t = np.linspace(-15, 15, 20_001)
    one, other = ((1 + erf((t - m) / (s * np.sqrt(2)))) / 2 for m, s in ((0, 1), (shift, scale)))
    closed = 2 * float(np.sum((one - other) ** 2)) * (t[1] - t[0])
    assert energy_distance(quantiles(1500), shift + scale * quantiles(1500)).value == pytest.approx(closed, rel=5e-3)


# ----------------------------------------------------------------------------------------------------- brute force


def brute_energy(x, y):
    def mean(a, b):
        return np.mean([np.linalg.norm(u - v) for u in a for v in b])

    return 2 * mean(x, y) - mean(x, x) - mean(y, y)


def brute_neighbours(x, y, k):
    total = 0.0
    for u in x:
        own = sorted(d for v in x if (d := np.linalg.norm(u - v)) > 0)
        other = sorted(d for v in y if (d := np.linalg.norm(u - v)) > 0)
        nth = min(k, len(own), len(other)) - 1
        total += x.shape[1] * np.log(other[nth] / own[nth]) + np.log(len(other) / len(own))
    return total / len(x)


@pytest.mark.parametrize(("n", "m", "p"), [(13, 13, 3), (11, 17, 1), (2, 5, 4), (6, 2, 2)])
def test_every_distance_equals_its_brute_force(n, m, p):
    x, y = normal(n, p), normal(m, p, shift=0.4, seed=1)
    assert l2_of_means(x, y).value == pytest.approx(np.linalg.norm(sum(x) / n - sum(y) / m))
    assert energy_distance(x, y).value == pytest.approx(brute_energy(x, y), abs=1e-12)
    for k in (1, 5):
        assert kl_neighbours(x, y, k=k).value == pytest.approx(brute_neighbours(x, y, k), abs=1e-9)


@pytest.mark.parametrize(("n", "m", "p"), [(40, 40, 3), (12, 8, 2), (15, 10, 1), (2, 3, 5)])
def test_wasserstein_equals_the_best_assignment(n, m, p):
    """Copies of the cells make both sides as large as their least common multiple: then it is an assignment."""
    x, y = normal(n, p), normal(m, p, shift=0.4, seed=1)
    size = np.lcm(n, m)
    cost = cdist(np.repeat(x, size // n, axis=0), np.repeat(y, size // m, axis=0))
    assert wasserstein(x, y).value == pytest.approx(cost[linear_sum_assignment(cost)].mean(), rel=1e-9)


@pytest.mark.parametrize(("n", "m", "p"), [(50, 30, 3), (200, 40, 1), (10, 12, 30), (8, 60, 20), (20, 20, 20)])
def test_gaussian_kl_equals_the_textbook_formula_with_the_covariances_of_scikit_learn(n, m, p):
    x, y = normal(n, p) * np.arange(1, p + 1), normal(m, p, shift=0.4, seed=1)
    expected = kl_of(x.mean(0), ledoit_wolf(x)[0], y.mean(0), ledoit_wolf(y)[0])
    assert kl_gaussian(x, y).value == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("chunk", [1, 50, 10**6])
def test_chunks_of_any_size_give_the_same(monkeypatch, chunk):
    x, y = normal(23, 3), normal(31, 3, shift=0.5, seed=1)
    y[:5] = x[:5]
    whole = [metric(x, y).value for metric in METRICS]
    monkeypatch.setattr(distributions, "_CHUNK", chunk)
    assert [metric(x, y).value for metric in METRICS] == pytest.approx(whole, abs=1e-12)


# ------------------------------------------------------------------------------------------------------ properties


@every
@pytest.mark.parametrize(("n", "p"), [(2, 1), (30, 1), (30, 6), (8, 40)])
def test_identical_samples_are_at_distance_zero(metric, n, p):
    x = normal(n, p).astype(np.float32)
    assert metric(x, x.copy()).value == pytest.approx(0, abs=1e-9)


def test_identical_samples_far_from_the_origin_are_at_distance_zero():
    """Rounding of |x|^2 + |y|^2 - 2 x.y must not make distances of nothing."""
    x = normal(60, 5, shift=1e6)
    values = [metric(x, x[::-1]).value for metric in METRICS]
    assert values == pytest.approx([0] * 5, abs=1e-6)
    assert kl_neighbours(x, x).value == 0
    y = x + 0.5
    assert wasserstein(x, y).value == pytest.approx(0.5 * np.sqrt(5), rel=1e-6)


@every
def test_distances_grow_with_the_shift(metric):
    x, y = normal(150, 3), normal(120, 3, seed=1)
    values = [metric(x, y + shift).value for shift in (0.0, 1.0, 2.0, 4.0)]
    assert np.all(np.diff(values) > 0.1)


@every
def test_the_order_of_the_rows_changes_nothing(metric):
    rng = np.random.default_rng(5)
    x, y = normal(70, 4), normal(50, 4, shift=0.3, seed=1)
    shuffled = metric(x[rng.permutation(70)], y[rng.permutation(50)]).value
    assert shuffled == pytest.approx(metric(x, y).value, rel=1e-9)


def test_kl_takes_the_mean_over_the_measured_cells():
    """Which comes first matters: a narrow cloud in a wide one, and one of two clouds (log 2) against both of them."""
    narrow, wide = normal(1000, 2, scale=0.5), normal(1000, 2, seed=1)
    assert kl_gaussian(narrow, wide).value == pytest.approx(0.636, abs=0.1)
    assert kl_gaussian(wide, narrow).value == pytest.approx(1.614, abs=0.2)
    one, both = normal(500, 2), np.vstack([normal(500, 2, seed=1), normal(500, 2, shift=8, seed=2)])
    assert kl_neighbours(one, both).value == pytest.approx(np.log(2), abs=0.15)
    assert kl_neighbours(both, one).value > 2


@every
def test_what_was_compared_is_returned(metric):
    assert metric(normal(7, 2), normal(5, 2, seed=1)).compared == (7, 5)


@every
def test_readings_in_single_precision_are_compared_in_double(metric):
    x, y = normal(40, 3).astype(np.float32), normal(40, 3, shift=0.5, seed=1).astype(np.float32)
    assert metric(x, y).value == pytest.approx(metric(x.astype(float), y.astype(float)).value, rel=1e-12)


# ----------------------------------------------------------------------------------------------------------- edges


def test_cells_that_are_on_both_sides_are_no_neighbours():
    """A measured cell among the predicted ones must not make the densities look alike, nor infinite."""
    x, y = normal(100, 2), normal(120, 2, shift=0.5, seed=1)
    both = np.vstack([y, x[:20]])
    assert kl_neighbours(x, both, k=3).value == pytest.approx(brute_neighbours(x, both, 3), abs=1e-9)
    assert kl_neighbours(np.vstack([x, x]), y).value == pytest.approx(
        brute_neighbours(np.vstack([x, x]), y, 5), abs=1e-9
    )


def test_a_sample_without_neighbours_has_no_neighbours_kl():
    x, same = normal(6, 3), np.zeros((4, 3))
    for measured, predicted, side in ((x, same, "predicted"), (same, x, "measured")):
        found = kl_neighbours(measured, predicted)
        assert found.value is None
        assert side in found.why


def test_constant_features_add_nothing_to_the_gaussian_kl():
    x, y = normal(40, 3), normal(50, 3, shift=0.4, seed=1)
    wider = (np.hstack([v, np.full((len(v), 5), 2.5)]) for v in (x, y))
    assert kl_gaussian(*wider).value == pytest.approx(kl_gaussian(x, y).value, rel=1e-9)


def test_a_feature_that_is_constant_on_one_side_is_kept():
    x, y = normal(40, 3), normal(50, 3, seed=1)
    x[:, 0] = 0
    assert np.isfinite(kl_gaussian(x, y).value)
    assert kl_gaussian(x, y).value > kl_gaussian(x[:, 1:], y[:, 1:]).value


def test_a_covariance_that_cannot_be_inverted_gives_no_number():
    x, flat = normal(40, 3), np.ones((10, 3))
    assert kl_gaussian(flat, flat).value == 0
    for measured, predicted, side in ((x, flat, "predicted"), (flat, x, "measured"), (x, x[:2], "predicted")):
        found = kl_gaussian(measured, predicted)
        assert found.value is None
        assert found.why.startswith(f"the {side} cells")


@pytest.mark.parametrize("n", [1, 2])
@every
def test_one_or_two_cells_give_a_number_or_a_reason(metric, n):
    found = metric(normal(n, 3), normal(n, 3, seed=1))
    assert (found.value is None) == bool(found.why)


@pytest.mark.parametrize(("n", "m"), [(2300, 40), (40, 2300), (2100, 2050)])
def test_of_more_cells_a_part_is_compared_whatever_their_order(n, m):
    x, y = normal(n, 2), normal(m, 2, shift=0.5, seed=1)
    found = wasserstein(x, y)
    assert found.compared == (min(n, 2000), min(m, 2000))
    if min(n, m) < 2000:  # otherwise it takes seconds
        assert wasserstein(x[::-1], y[::-1]).value == pytest.approx(found.value, rel=1e-9)
        assert wasserstein(x, y, seed=1).value != found.value


def test_more_cells_than_the_limit_that_are_identical_are_at_distance_zero():
    x = normal(90, 3)
    assert wasserstein(x, x[::-1], most=30).value == pytest.approx(0, abs=1e-12)


def test_a_transport_that_is_not_solved_gives_no_number(monkeypatch, recwarn):
    monkeypatch.setattr(distributions, "_PIVOTS", 3)
    found = wasserstein(normal(60, 3), normal(60, 3, shift=1, seed=1))
    assert found.value is None
    assert "not solved" in found.why
    assert "numItermax" in found.why
    assert not recwarn.list


def test_sparse_readings_have_means():
    x, y = normal(7, 4), normal(9, 4, seed=1)
    found = l2_of_means(sp.csr_matrix(x), sp.csr_array(y))
    assert found.value == pytest.approx(l2_of_means(x, y).value)


@every
@pytest.mark.parametrize(
    ("measured", "predicted", "words"),
    [
        (np.zeros((3, 2)), np.zeros((3, 3)), r"\(3, 2\) and \(3, 3\)"),
        (np.zeros((0, 2)), np.zeros((3, 2)), r"\(0, 2\)"),
        (np.zeros(3), np.zeros((3, 1)), r"\(3,\)"),
        (np.zeros((3, 2)), np.full((3, 2), np.nan), "predicted readings must be finite"),
    ],
)
def test_readings_that_do_not_fit_are_refused(metric, measured, predicted, words):
    with pytest.raises(OptionError, match=words):
        metric(measured, predicted)


@pytest.mark.parametrize(("metric", "option"), [(wasserstein, "most"), (kl_neighbours, "k")])
def test_options_that_are_not_positive_are_refused(metric, option):
    with pytest.raises(OptionError, match=option):
        metric(normal(5, 2), normal(5, 2), **{option: 0})


def test_the_solver_comes_without_a_tensor_framework():
    code = (
        "import os, sys, numpy as np; from unpaired.evaluate.distributions import wasserstein\n"
        "os.environ['POT_BACKEND_DISABLE_JAX'] = 'mine'; before = dict(os.environ)\n"
        "assert 'ot' not in sys.modules\n"
        "assert wasserstein(np.zeros((2, 1)), np.ones((2, 1))).value == 1\n"
        "assert 'ot' in sys.modules and 'torch' not in sys.modules and dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
