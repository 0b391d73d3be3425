"""Logistic regression and perceptron together: the mean of the two, each at its own temperature."""

import numpy as np
import pytest

from unpaired.embed.classifiers import Blend, Linear, Network
from unpaired.embed.inputs import new_inputs
from unpaired.embed.propensity import Propensity

OPTIONS = {"folds": 3, "repeats": 2, "epochs": 3, "device": "cpu", "seed": 4}


@pytest.fixture(scope="module")
def three(toy):
    data, _ = toy((15, 25, 20), spread=1.0, unlabelled=6)
    return data, *(Propensity(classifier=c, **OPTIONS).fit(data) for c in ("blend", "logistic", "mlp"))


def test_the_two_are_those_that_are_learned_alone(three):
    data, blend, linear, network = three
    for name in data:
        models = blend.fits_[name].models
        assert (type(models), type(models.linear), type(models.network)) == (Blend, Linear, Network)
        alone = [m.fits_[name] for m in (linear, network)]
        assert models.temperatures == pytest.approx([f.quality.temperature for f in alone])
        assert np.array_equal(models.linear.weight, alone[0].models.weight)
        np.testing.assert_allclose(models.network.history, alone[1].models.history)


def test_the_cells_learned_from_get_the_mean_of_what_the_two_say_out_of_fold(three):
    data, blend, linear, network = three
    for name in data:
        one, two = (m.fits_[name] for m in (linear, network))
        mean = (one.logits / one.quality.temperature + two.logits / two.quality.temperature) / 2
        np.testing.assert_allclose(blend.fits_[name].logits, mean, atol=1e-6)
        assert blend.fits_[name].quality.cells == one.quality.cells


def test_new_cells_get_the_mean_of_what_all_models_say(three, toy):
    data, blend, linear, network = three
    other, _ = toy(7, seed=5)
    space = blend.transform(other)
    for name in data:
        fit, modality = blend.fits_[name], other[name]
        x = new_inputs(fit.modality, modality.X, np.arange(len(modality)), fit.center, fit.scale)
        parts = (m.fits_[name] for m in (linear, network))
        said = sum(f.models.logits(x) / f.quality.temperature for f in parts) / 2
        np.testing.assert_allclose(fit.models.logits(x), said, atol=1e-6)
        mean = said.mean(axis=0) / fit.quality.temperature - fit.log_prior
        np.testing.assert_allclose(space[name], mean - mean.mean(axis=1, keepdims=True), atol=1e-6)


def test_neither_outshouts_the_other(three):
    """However large the raw logits of one, both have the same say."""
    data, blend, *_ = three
    for name in data:
        models = blend.fits_[name].models
        x = blend.fits_[name].modality.features
        lin, net = models.linear.logits(x), models.network.logits(x)
        louder = Blend(
            Linear(10 * models.linear.weight, 10 * models.linear.bias, models.linear.strength),
            models.network,
            (10 * models.temperatures[0], models.temperatures[1]),
        )
        np.testing.assert_allclose(louder.logits(x), models.logits(x), atol=1e-6)
        assert lin.shape == net.shape == models.logits(x).shape


def test_with_one_fold_each_is_judged_by_the_cells_that_it_did_not_learn_from(toy):
    data, _ = toy(40, spread=1.0)
    options = OPTIONS | {"folds": 1, "repeats": 1}
    blend, linear, network = (Propensity(classifier=c, **options).fit(data) for c in ("blend", "logistic", "mlp"))
    for name in data:
        expected = [m.fits_[name].quality.temperature for m in (linear, network)]
        assert blend.fits_[name].models.temperatures == pytest.approx(expected)
        assert blend.validation_[name].cells == linear.validation_[name].cells == 24


def test_the_epochs_shown_are_those_of_the_perceptron(toy):
    seen = []
    Propensity(classifier="blend", **OPTIONS).fit(toy(8)[0], watch=lambda s: seen.append((s.modality, s.epoch)))
    assert seen == [(n, e) for n in ("rna", "image") for e in range(3)]
