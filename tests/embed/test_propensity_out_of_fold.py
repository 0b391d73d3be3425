"""The promise that everything rests on: no cell is scored by a model that has seen it."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from unpaired.data.types import Dataset, Modality
from unpaired.embed.propensity import Propensity


def modality(name, X, labels):
    ids = np.array([f"{name}:{i}" for i in range(len(X))])
    return Modality(name, np.asarray(X, dtype=np.float32), np.asarray(labels), ids)


def memorable(n=60, classes=3, seed=0):
    """Random labels, and a feature of its own for every cell: all can be memorised, nothing can be learned."""
    rng = np.random.default_rng(seed)
    made = {}
    for name in ("rna", "image"):
        X = 3 * np.eye(n) + 0.01 * rng.normal(size=(n, n))
        made[name] = modality(name, X, rng.permutation(np.arange(n) % classes))
    return Dataset(made, tuple("abc"[:classes]))


def inputs(fit, X):
    return (X - fit.center) / fit.scale


def model_of(fit, folds):
    """For every repeat and cell, the one model whose logits were taken (as index into all models)."""
    every = fit.models.logits(inputs(fit, fit.modality.features))
    every = every.reshape(len(fit.logits), folds, *every.shape[1:])
    return np.isclose(every, fit.logits[:, None], atol=1e-9).all(axis=-1)


@pytest.fixture(scope="module")
def fitted(toy):
    data, _ = toy((13, 17, 10), spread=0.7, unlabelled=5)
    return data, Propensity(classifier="logistic", folds=4, repeats=2, seed=1).fit(data)


def test_random_labels_cannot_be_told_out_of_fold_though_every_model_knows_its_own_cells_by_heart():
    data = memorable()
    model = Propensity(classifier="logistic", folds=5, repeats=3).fit(data)
    for name, fit in model.fits_.items():
        y = data[name].labels
        every = fit.models.logits(inputs(fit, data[name].X))
        by_heart = np.mean(every.argmax(axis=-1) == y)  # each model has seen four fifths of the cells
        assert by_heart > 0.75
        assert np.mean(fit.logits.mean(axis=0).argmax(axis=1) == y) < 0.45
        assert model.validation_[name].accuracy < 0.45
        assert np.mean(model.transform(data)[name].argmax(axis=1) == y) < 0.45


@pytest.mark.parametrize("classifier", ["mlp", "blend"])
def test_random_labels_cannot_be_told_by_a_network_out_of_fold(classifier):
    data = memorable(n=90)
    model = Propensity(classifier=classifier, folds=3, repeats=1, epochs=12, device="cpu").fit(data)
    for name, fit in model.fits_.items():
        assert np.mean(fit.logits[0].argmax(axis=1) == data[name].labels) < 0.5


def test_a_labelled_cells_logits_are_those_of_exactly_one_model_of_each_repeat(fitted):
    data, model = fitted
    for name, fit in model.fits_.items():
        known = data[name].labels >= 0
        assert np.all(model_of(fit, 4).sum(axis=1)[:, known] == 1)


def test_the_model_that_scores_a_cell_was_learned_without_all_the_cells_it_scores(fitted):
    data, model = fitted
    for name, fit in model.fits_.items():
        X, y = inputs(fit, data[name].X).astype(np.float64), data[name].labels
        scored = model_of(fit, 4).reshape(8, -1)
        for m in range(8):
            learned = (y >= 0) & ~scored[m]
            anew = LogisticRegression(C=fit.models.strength, max_iter=2000, tol=1e-5).fit(X[learned], y[learned])
            np.testing.assert_allclose(fit.models.weight[m], anew.coef_.T, atol=2e-3)
            np.testing.assert_allclose(fit.models.bias[m], anew.intercept_, atol=2e-3)


def test_a_cell_of_a_known_place_gets_the_same_coordinates_whatever_its_own_label_says(fitted):
    data, model = fitted
    relabelled = {n: replace(m, labels=(m.labels + 1) % 3) for n, m in data.modalities.items()}
    one, two = model.transform(data), model.transform(replace(data, modalities=relabelled))
    assert all(np.array_equal(one[n], two[n]) for n in data)


def test_a_cell_without_a_label_is_scored_by_all_models(fitted):
    data, model = fitted
    for name, fit in model.fits_.items():
        unknown = data[name].labels < 0
        every = fit.models.logits(inputs(fit, data[name].X[unknown])).reshape(2, 4, 5, 3).mean(axis=1)
        np.testing.assert_allclose(fit.logits[:, unknown], every, atol=1e-9)


def test_new_cells_get_the_average_of_all_models(fitted, toy):
    _, model = fitted
    other, _ = toy(6, seed=5)
    space = model.transform(other)
    for name, fit in model.fits_.items():
        every = fit.models.logits(inputs(fit, other[name].X)).mean(axis=0)
        expected = every / fit.quality.temperature - fit.log_prior
        np.testing.assert_allclose(space[name], expected - expected.mean(axis=1, keepdims=True), atol=1e-9)


def test_any_rows_of_the_training_data_get_the_same_coordinates_row_by_row(fitted):
    data, model = fitted
    whole = model.transform(data)
    rng = np.random.default_rng(0)
    rows = {n: rng.permutation(len(data[n]))[:11] for n in data}
    part = model.transform(data.take(rows))
    for name in data:
        assert np.array_equal(part[name], whole[name][rows[name]])
        assert np.array_equal(part.noise[name], whole.noise[name][rows[name]])


def test_known_and_new_cells_can_be_transformed_together(fitted, toy):
    data, model = fitted
    other, _ = toy(6, seed=5)
    mixed = {}
    for name in data:
        X = np.vstack([other[name].X[:4], data[name].X[:7], other[name].X[4:]])
        mixed[name] = modality(name, X, np.full(len(X), -1))
    space = model.transform(Dataset(mixed, data.classes))
    known, new = model.transform(data), model.transform(other)
    for name in data:
        np.testing.assert_allclose(space[name][4:11], known[name][:7], atol=1e-12)
        np.testing.assert_allclose(np.delete(space[name], np.s_[4:11], axis=0), new[name], atol=1e-9)


def test_a_reading_that_occurs_twice_is_not_scored_by_a_model_that_has_learned_it():
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(40) % 2)
    X = 3 * np.eye(40)
    made = {n: modality(n, np.vstack([X, X]), np.r_[y, y]) for n in ("rna", "image")}
    model = Propensity(classifier="logistic", folds=4, repeats=2).fit(Dataset(made, ("a", "b")))
    assert all(q.accuracy < 0.7 for q in model.validation_.values())


def test_a_cell_without_a_label_is_not_scored_by_a_model_that_has_learned_its_reading():
    data = memorable(n=30, classes=2)
    made = {}
    for name, m in data.modalities.items():
        made[name] = modality(name, np.vstack([m.X, m.X[:20]]), np.r_[m.labels, np.full(20, -1)])
    model = Propensity(classifier="logistic", folds=3, repeats=2).fit(Dataset(made, data.classes))
    for fit in model.fits_.values():
        np.testing.assert_allclose(fit.logits[:, 30:], fit.logits[:, :20], atol=1e-9)


@pytest.mark.parametrize("repeats", [1, 2])
@pytest.mark.parametrize("classifier", ["logistic", "mlp"])
def test_with_one_fold_the_quality_is_judged_on_cells_that_no_model_has_learned(classifier, repeats):
    data = memorable(n=90)
    model = Propensity(classifier=classifier, folds=1, repeats=repeats, epochs=10, device="cpu").fit(data)
    assert all(q.accuracy <= 0.67 for q in model.validation_.values())
