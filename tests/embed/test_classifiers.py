"""The classifiers: scikit-learn's own answers, fold by fold."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from unpaired.embed.classifiers import choose_classifier, fit_logistic, out_of_fold
from unpaired.embed.fit_network import fit_network
from unpaired.embed.folds import Split, make_splits
from unpaired.embed.inputs import Inputs

STRENGTHS = (0.001, 0.01, 0.1, 1.0)


def cells(labels=3, n=60, seed=0, signal=1.0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % labels
    return rng.normal(size=(n, 5)) + signal * np.eye(5)[y], y


def splits_of(y, *, folds=3, repeats=2):
    return make_splits(y, folds=folds, repeats=repeats, valid=0.1, rng=np.random.default_rng(0))


def test_images_get_the_convolutional_net():
    assert choose_classifier((10, 3, 32, 32), 10**6) == "conv"


def test_few_cells_get_logistic_regression_and_perceptron_and_many_a_perceptron_alone():
    assert choose_classifier((10**6, 5), 500) == "blend"  # it is the cells to learn from that count
    assert choose_classifier((10**6, 5), 10**6) == "mlp"


def test_out_of_fold_is_the_mean_over_the_models_of_a_repeat_that_hold_the_cell_out():
    rng = np.random.default_rng(0)
    held = rng.random((6, 9)) < 0.5
    held[[0, 3]] |= ~held[:3].any(axis=0), ~held[3:].any(axis=0)
    none = np.empty(0, dtype=int)
    splits = [Split(none, none, i // 3, h, none) for i, h in enumerate(held)]
    logits = rng.normal(size=(6, 9, 2))
    expected = [
        [logits[3 * r : 3 * r + 3, i][held[3 * r : 3 * r + 3, i]].mean(axis=0) for i in range(9)] for r in (0, 1)
    ]
    np.testing.assert_allclose(out_of_fold(logits, splits), expected)


@pytest.mark.parametrize("labels", [2, 3, 4])
def test_every_model_is_scikit_learns_on_the_cells_it_may_learn_from(labels):
    x, y = cells(labels)
    splits = splits_of(y)
    models = fit_logistic(x, y, splits, classes=labels, jobs=1)
    ours = models.logits(x)
    for m, split in enumerate(splits):
        rows = np.r_[split.train, split.valid]
        theirs = LogisticRegression(C=models.strength, max_iter=2000, tol=1e-5).fit(x[rows], y[rows])
        np.testing.assert_allclose(softmax(ours[m], axis=1), theirs.predict_proba(x), atol=1e-6)


@pytest.mark.parametrize("signal", [0.0, 0.6, 3.0])
def test_the_penalty_is_the_one_that_predicts_best_out_of_fold(signal):
    x, y = cells(signal=signal)
    splits = [s for s in splits_of(y) if s.repeat == 0]
    losses = []
    for strength in STRENGTHS:
        p = np.empty((len(y), 3))
        for split in splits:
            rows = np.flatnonzero(~split.held_out)
            p[split.held_out] = (
                LogisticRegression(C=strength, max_iter=2000).fit(x[rows], y[rows]).predict_proba(x[split.held_out])
            )
        losses.append(-np.log(p[np.arange(len(y)), y]).mean())
    assert fit_logistic(x, y, splits, classes=3, jobs=1).strength == STRENGTHS[int(np.argmin(losses))]


def test_the_penalty_is_not_chosen_by_cells_without_a_label():
    x, y = cells()
    more, unknown = np.vstack([x, 50 + x[:20]]), np.r_[y, np.full(20, -1)]
    splits = splits_of(unknown)
    strength = fit_logistic(more, unknown, splits, classes=3, jobs=1).strength
    known = [Split(s.train, s.valid, s.repeat, s.held_out[:60], s.judge) for s in splits]
    assert strength == fit_logistic(x, y, known, classes=3, jobs=1).strength


def test_images_are_flattened_for_logistic_regression():
    x, y = cells()
    images = np.repeat(x[:, None, None, :], 2, axis=2)
    flat = images.reshape(len(x), -1)
    one = fit_logistic(images, y, splits_of(y), classes=3, jobs=1)
    assert np.array_equal(one.logits(images), fit_logistic(flat, y, splits_of(y), classes=3, jobs=1).logits(flat))


def network(x, y, splits, *, epochs, kind="mlp"):
    inputs = Inputs(x.astype(np.float32), np.arange(len(x)))
    return fit_network(inputs, y, splits, kind=kind, classes=3, epochs=epochs, device="cpu", seed=0, progress=False)


def test_a_network_learns_what_is_easy():
    x, y = cells(signal=4.0)
    splits = splits_of(y, folds=2, repeats=1)
    scores = out_of_fold(network(x, y, splits, epochs=15).logits(x.astype(np.float32)), splits)[0]
    assert np.mean(scores.argmax(axis=1) == y) > 0.85
    assert -log_softmax(scores, axis=1)[np.arange(len(y)), y].mean() < 0.5 * np.log(3)


@pytest.mark.parametrize("kind", ["mlp", "published"])
def test_a_network_does_not_depend_on_the_cells_it_holds_out(kind):
    x, y = cells()
    split = splits_of(y)[0]
    poisoned = x.copy()
    poisoned[split.held_out] = np.nan
    one, two = (network(values, y, [split], epochs=2, kind=kind) for values in (x, poisoned))
    assert np.array_equal(one.logits(x.astype(np.float32)), two.logits(x.astype(np.float32)))


def test_a_network_remembers_how_its_training_went():
    x, y = cells()
    assert len(network(x, y, splits_of(y), epochs=3).history) == 3


def test_a_network_scores_the_cells_held_out_as_it_scores_all():
    x, y = cells()
    splits = splits_of(y)
    model = network(x, y, splits, epochs=2)
    inputs = Inputs(x.astype(np.float32), np.arange(len(x)))
    np.testing.assert_allclose(model.held_out(inputs, splits), out_of_fold(model.logits(inputs), splits), atol=1e-5)


def test_the_epochs_shown_are_those_of_the_history():
    x, y = cells()
    seen = []
    inputs = Inputs(x.astype(np.float32), np.arange(len(x)))
    options = {"kind": "mlp", "classes": 3, "epochs": 3, "device": "cpu", "seed": 0, "progress": False}
    model = fit_network(inputs, y, splits_of(y), **options, watch=lambda e, m: seen.append((e, m.history)))
    assert seen == [(e, model.history[: e + 1]) for e in range(3)]
