"""The data that come with the package."""

import numpy as np
from sklearn.datasets import load_digits

import unpaired as up


def test_the_halves_put_together_are_the_digits():
    data, truth = up.examples.digits(seed=3)
    assert truth is not None
    partner = truth.partners("left", "right")
    whole = np.concatenate(
        [data["left"].X.reshape(-1, 8, 4), data["right"].X[partner].reshape(-1, 8, 4)], axis=2
    )  # fmt: skip
    expected = load_digits().images
    order = np.lexsort(expected.reshape(len(expected), -1).T)
    found = np.lexsort(whole.reshape(len(whole), -1).T)
    assert np.array_equal(whole[found], expected[order])
    names = np.array(data.classes)
    assert np.array_equal(names[data["left"].labels][found], load_digits().target.astype(str)[order])


def test_the_pairing_can_be_hidden_used_or_left_out():
    hidden, truth = up.examples.digits()
    used, none = up.examples.digits(pairing="use")
    assert hidden.pairs is None
    assert truth is not None
    assert none is None
    assert np.array_equal(used.pairs.partners("left", "right"), np.arange(1797))
    assert up.examples.digits(pairing="none")[0].pairs is None
