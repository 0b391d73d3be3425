"""Temperature, calibration error and quality against other people's code and brute force."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from unpaired.embed.calibration import fit_temperature, quality, reliability

CLASSES = ("a", "b", "c", "d")


def judged(n=400, labels=4, sharpness=3.0, seed=0):
    """Logits that are ``sharpness`` times too sure, and labels drawn from the honest ones."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, labels)) * 1.5
    y = np.array([rng.choice(labels, p=p) for p in softmax(honest, axis=1)])
    return honest * sharpness, y


def cross_entropy(logits, y):
    return -log_softmax(logits, axis=1)[np.arange(len(y)), y].mean()


# ------------------------------------------------------------------ temperature


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 3.0])
def test_temperature_minimises_the_cross_entropy(sharpness):
    logits, y = judged(sharpness=sharpness)
    exact = minimize(lambda t: cross_entropy(logits / np.exp(t[0]), y), [0.0], tol=1e-10)
    assert fit_temperature(logits, y) == pytest.approx(np.exp(exact.x[0]), rel=1e-3)


def test_temperature_is_that_of_scikit_learn():
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    y = np.arange(600) % 4
    x = rng.normal(size=(600, 30)) + np.eye(30)[y]
    model = LogisticRegression(C=1.0, max_iter=5000).fit(x[:100], y[:100])
    theirs = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(x[100:], y[100:])
    (calibrated,) = theirs.calibrated_classifiers_
    beta = calibrated.calibrators[0].beta_  # they multiply
    logits = model.decision_function(x[100:])
    assert fit_temperature(logits, y[100:]) == pytest.approx(1 / beta, rel=2e-3)
    ours = softmax(logits / fit_temperature(logits, y[100:]), axis=1)
    np.testing.assert_allclose(ours, theirs.predict_proba(x[100:]), atol=1e-3)


def test_logits_three_times_too_sure_get_about_temperature_three():
    assert fit_temperature(*judged(n=5000, sharpness=3.0)) == pytest.approx(3.0, rel=0.1)


def test_temperature_does_not_depend_on_what_is_added_to_a_row():
    logits, y = judged()
    shift = np.random.default_rng(1).normal(size=(len(y), 1)) * 20
    assert fit_temperature(logits + shift, y) == pytest.approx(fit_temperature(logits, y), rel=1e-6)


@pytest.mark.parametrize("sign", [1, -1], ids=["always right", "always wrong"])
def test_temperature_stays_in_its_range_where_there_is_no_minimum(sign):
    y = np.arange(40) % 4
    temperature = fit_temperature(sign * 5 * np.eye(4)[y], y)
    assert 0.05 <= temperature <= 20


def test_temperature_makes_overconfident_logits_honest():
    logits, y = judged(n=3000)
    raw = reliability(softmax(logits, axis=1), y)[1]
    calibrated = reliability(softmax(logits / fit_temperature(logits, y), axis=1), y)[1]
    assert calibrated < 0.3 * raw


# ------------------------------------------------------------------ calibration error


@pytest.mark.parametrize("labels", [2, 4, 12])
def test_calibration_error_is_that_of_torchmetrics(labels):
    from torchmetrics.classification import MulticlassCalibrationError

    logits, y = judged(n=777, labels=labels, sharpness=2.0, seed=labels)
    p = softmax(logits, axis=1)
    theirs = MulticlassCalibrationError(num_classes=labels, n_bins=15, norm="l1")
    expected = float(theirs(torch.as_tensor(p), torch.as_tensor(y)))
    assert reliability(p, y)[1] == pytest.approx(expected, abs=1e-6)


def test_certain_and_right_has_no_calibration_error():
    y = np.arange(12) % 4
    assert reliability(np.eye(4)[y], y)[1] == 0


def test_certain_and_wrong_has_calibration_error_one():
    y = np.arange(12) % 4
    assert reliability(np.eye(4)[(y + 1) % 4], y)[1] == 1


def test_reliability_curve_is_that_of_brute_force():
    logits, y = judged(n=300)
    p = softmax(logits, axis=1)
    top, hit = p.max(axis=1), p.argmax(axis=1) == y
    curve, error = reliability(p, y)
    inside = [(top >= b / 15) & (top < (b + 1) / 15) if b < 14 else top >= b / 15 for b in range(15)]
    inside = [i for i in inside if i.any()]
    assert curve["cells"] == [int(i.sum()) for i in inside]
    np.testing.assert_allclose(curve["confidence"], [top[i].mean() for i in inside])
    np.testing.assert_allclose(curve["accuracy"], [hit[i].mean() for i in inside])
    assert error == pytest.approx(sum(i.mean() * abs(top[i].mean() - hit[i].mean()) for i in inside))


# ------------------------------------------------------------------ quality


@pytest.fixture
def numbers():
    logits, y = judged()
    return logits, y, quality(logits, y, temperature=2.5, classes=CLASSES)


def test_cross_entropy_is_that_of_the_calibrated_probabilities(numbers):
    logits, y, q = numbers
    assert q.cross_entropy == pytest.approx(-np.mean(np.log(softmax(logits / 2.5, axis=1)[np.arange(len(y)), y])))


def test_base_cross_entropy_is_that_of_the_frequencies(numbers):
    _, y, q = numbers
    share = np.bincount(y) / len(y)
    assert q.base_cross_entropy == pytest.approx(np.mean(-np.log(share[y])))


def test_accuracy_counts_the_likeliest_label(numbers):
    logits, y, q = numbers
    assert q.accuracy == pytest.approx(np.mean([row.argmax() == t for row, t in zip(logits, y, strict=True)]))


def test_base_accuracy_is_that_of_the_largest_label(numbers):
    _, y, q = numbers
    assert q.base_accuracy == pytest.approx(max(np.mean(y == t) for t in range(4)))


def test_accuracy_does_not_depend_on_the_temperature(numbers):
    logits, y, q = numbers
    assert quality(logits, y, temperature=0.3, classes=CLASSES).accuracy == q.accuracy


def test_both_calibration_errors_are_told_apart_by_the_temperature(numbers):
    logits, y, q = numbers
    assert q.calibration_error == pytest.approx(reliability(softmax(logits / 2.5, axis=1), y)[1])
    assert q.uncalibrated_error == pytest.approx(reliability(softmax(logits, axis=1), y)[1])
    assert q.temperature == 2.5


def test_numbers_of_a_label_are_those_of_its_cells(numbers):
    logits, y, q = numbers
    p = softmax(logits / 2.5, axis=1)
    for t, name in enumerate(CLASSES):
        own = y == t
        assert q.labels[name]["cells"] == own.sum()
        assert q.labels[name]["accuracy"] == pytest.approx(np.mean(p[own].argmax(axis=1) == t))
        assert q.labels[name]["cross_entropy"] == pytest.approx(-np.log(p[own, t]).mean())


def test_confusion_is_that_of_brute_force(numbers):
    logits, y, q = numbers
    guess = logits.argmax(axis=1)
    expected = [[np.mean(guess[y == t] == s) for s in range(4)] for t in range(4)]
    np.testing.assert_allclose(q.confusion, expected)


def test_rows_of_the_confusion_sum_to_one(numbers):
    np.testing.assert_allclose(np.sum(numbers[2].confusion, axis=1), 1)


def test_a_label_without_cells_is_left_out_of_the_labels_and_makes_nothing_nan():
    logits, y = judged(labels=4)
    y = np.where(y == 2, 1, y)
    q = quality(logits, y, temperature=1.0, classes=CLASSES)
    assert set(q.labels) == {"a", "b", "d"}
    assert np.isfinite([q.cross_entropy, q.base_cross_entropy, q.calibration_error]).all()
    assert np.isfinite(q.confusion).all()
