"""The shrunken covariance against scikit-learn's, and the divergence of two against the dense formula."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from unpaired.evaluate.gaussians import Gaussian, divergence


def normal(n, p, seed=0):
    return np.random.default_rng(seed).normal(size=(n, p))


def dense(fitted):
    own = fitted.vectors @ np.diag(fitted.values) @ fitted.vectors.T
    beyond = 0 if fitted.whole else fitted.rest * (np.eye(len(own)) - fitted.vectors @ fitted.vectors.T)
    return own + beyond


@pytest.mark.parametrize(("n", "p"), [(3, 2), (5, 50), (40, 6), (30, 30), (20, 1)])
def test_the_covariance_is_that_of_scikit_learn(n, p):
    x = normal(n, p) * np.linspace(0.1, 4, p) + 100
    np.testing.assert_allclose(dense(Gaussian.of(x)), ledoit_wolf(x)[0], atol=1e-9)


@pytest.mark.parametrize(("n", "p"), [(5, 50), (40, 6), (20, 20)])
def test_the_determinant_counts_every_direction(n, p):
    fitted = Gaussian.of(normal(n, p))
    assert fitted.log_determinant == pytest.approx(np.linalg.slogdet(dense(fitted))[1], abs=1e-8)


@pytest.mark.parametrize(("n", "m"), [(5, 7), (60, 7), (7, 60), (60, 70)])
def test_the_divergence_is_the_dense_one_whichever_side_is_of_low_rank(n, m):
    p = 20
    one, other = Gaussian.of(normal(n, p) * np.arange(1, p + 1)), Gaussian.of(normal(m, p, seed=1) + 0.5)
    s1, s2, d = dense(one), dense(other), one.mean - other.mean
    logs = np.linalg.slogdet(s2)[1] - np.linalg.slogdet(s1)[1]
    expected = (np.trace(np.linalg.solve(s2, s1)) + d @ np.linalg.solve(s2, d) - p + logs) / 2
    assert divergence(one, other) == pytest.approx(expected, rel=1e-9)
    assert divergence(one, one) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "x",
    [
        np.ones((4, 3)),
        np.ones((3, 9)),
        normal(2, 3),  # two cells: the shrinkage is zero
        normal(2, 3)[:, :2],
    ],
)
def test_what_cannot_be_inverted_says_so(x):
    assert Gaussian.of(x).singular
    assert not Gaussian.of(normal(3, 3)).singular
    assert not Gaussian.of(normal(2, 1)).singular
