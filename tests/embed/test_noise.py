"""In which directions estimates of a cell's coordinates differ: the covariance between them, mean over the cells."""

from dataclasses import replace

import numpy as np
import pytest

from unpaired.data.types import Dataset
from unpaired.embed.propensity import Propensity

OPTIONS = {"classifier": "logistic", "folds": 3, "repeats": 3}


@pytest.fixture(scope="module")
def fitted(toy):
    data, _ = toy((15, 25, 20), spread=1.0, unlabelled=6)
    return data, Propensity(**OPTIONS).fit(data)


def spread(scores):
    """Covariance between ``(R, n, T)`` estimates of the same cells, one cell after the other."""
    return np.mean([np.cov(cell.T) for cell in np.swapaxes(scores, 0, 1)], axis=0)


@pytest.mark.parametrize("calibrate", [True, False])
def test_it_is_that_of_the_repeats_of_the_labelled_cells(toy, calibrate):
    data, _ = toy((15, 25, 20), spread=1.0, unlabelled=6)
    model = Propensity(**OPTIONS, calibrate=calibrate).fit(data)
    space = model.transform(data)
    for name, fit in model.fits_.items():
        known = data[name].labels >= 0
        scores = fit.logits[:, known]
        if calibrate:
            scores = scores / fit.quality.temperature
            scores = scores - scores.mean(axis=-1, keepdims=True)
        np.testing.assert_allclose(space.noise_covariance[name], spread(scores), rtol=1e-9, atol=1e-15)


def test_its_mean_on_the_diagonal_is_the_mean_noise_of_the_labelled_cells(fitted):
    data, model = fitted
    space = model.transform(data)
    for name in data:
        covariance, known = space.noise_covariance[name], data[name].labels >= 0
        assert np.trace(covariance) / 3 == pytest.approx(space.noise[name][known].mean())
        np.testing.assert_allclose(covariance, covariance.T, atol=1e-15)
        assert (np.linalg.eigvalsh(covariance) > -1e-12).all()
        np.testing.assert_allclose(covariance.sum(axis=0), 0, atol=1e-12)  # of coordinates that sum to zero


def test_of_new_cells_it_is_that_of_all_models(fitted, toy):
    _, model = fitted
    other, _ = toy(6, seed=5)
    space = model.transform(other)
    for name, fit in model.fits_.items():
        scores = fit.space(fit.models.logits((other[name].X - fit.center) / fit.scale))
        # Nine answers share what three do, and leave a third of what three leave in their mean.
        expected = (2 / 3 + 1 / 9) * spread(scores)
        np.testing.assert_allclose(space.noise_covariance[name], expected, rtol=1e-6)


def test_of_some_old_cells_and_some_new_it_is_the_mean_over_all(fitted, toy):
    data, model = fitted
    other, _ = toy(6, seed=5)
    old = data.take({n: np.flatnonzero(data[n].labels >= 0)[:10] for n in data})
    both = {}
    for name in data:
        one, two = old[name], other[name]
        X, labels = np.vstack([one.X, two.X]), np.r_[one.labels, two.labels]
        both[name] = replace(one, X=X, labels=labels, ids=np.array([f"{name}:{i}" for i in range(len(X))]))
    mixed = model.transform(Dataset(both, data.classes)).noise_covariance
    parts = [model.transform(d).noise_covariance for d in (old, other)]
    for name in data:
        np.testing.assert_allclose(mixed[name], (10 * parts[0][name] + 18 * parts[1][name]) / 28, rtol=1e-9, atol=1e-15)


def test_with_one_repeat_it_is_not_known(toy):
    data, _ = toy(10)
    assert Propensity(classifier="logistic", folds=2, repeats=1).fit(data).transform(data).noise_covariance is None


def test_only_cells_without_a_label_tell_nothing_of_it(fitted):
    data, model = fitted
    bare = data.take({n: np.flatnonzero(data[n].labels < 0) for n in data})
    space = model.transform(bare)
    assert all((space.noise[n] > 0).all() for n in bare)
    assert all(not space.noise_covariance[n].any() for n in bare)


def test_cells_of_a_label_of_one_side_are_answered_by_all_models_and_do_not_dilute_it(toy):
    labels = ("a", "b", "c")
    both, _ = toy({"rna": (30, 30, 150), "image": (30, 30, 0)}, labels=labels, spread=1.0)
    shared = both.take({n: np.flatnonzero(m.labels < 2) for n, m in both.modalities.items()})
    spaces = [Propensity(**OPTIONS).fit(d).transform(d) for d in (both, shared)]
    diluted, alone = (s.noise_covariance["rna"] for s in spaces)
    assert np.trace(diluted) == pytest.approx(np.trace(alone), rel=0.35)
    model = Propensity(**OPTIONS).fit(both)
    fit, own = model.fits_["rna"], both["rna"].labels
    assert np.array_equal(fit.trained, own < 2)
    scores = fit.space(fit.logits)
    np.testing.assert_allclose(diluted, spread(scores[:, own < 2]), rtol=1e-9)
    assert np.trace(spread(scores)) < 0.7 * np.trace(diluted)  # what it would be over all cells with a label
