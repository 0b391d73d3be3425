"""The first two rooms together: what the labels' propensities know about the cells reaches the matching."""

import numpy as np
import pytest

from unpaired.embed.propensity import Propensity
from unpaired.match.neighbours import match_snn
from unpaired.match.null import match_uniform
from unpaired.match.transport import match_ot


@pytest.fixture(scope="module")
def screen(toy):
    data, truth = toy(25, labels=tuple("abcdefgh"), spread=1.0, noise=0.2, unlabelled=5)
    return data, truth, Propensity(classifier="logistic", folds=3, repeats=2).fit(data).transform(data)


def error(matching, data, truth):
    known = data["rna"].labels >= 0
    return np.mean((matching.pull(truth.latents["image"]) - truth.latents["rna"])[known] ** 2)


def test_transport_in_the_propensity_space_comes_closer_than_knowing_the_label(screen):
    data, truth, space = screen
    assert error(match_ot(data, space, tol=1e-3), data, truth) < 0.5 * error(match_uniform(data), data, truth)


def test_neighbours_in_the_propensity_space_find_partners_more_often_than_chance(screen):
    data, truth, space = screen
    rows = match_snn(data, space).to_sparse("rows").toarray()
    partner = truth.partners("rna", "image")
    known = np.flatnonzero(data["rna"].labels >= 0)
    assert rows[known, partner[known]].mean() > 3 / 25
