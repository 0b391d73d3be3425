"""Where eps comes from."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from unpaired import match_ot
from unpaired.errors import OptionError
from unpaired.match.transport.epsilon import check_eps, resolve_eps


def test_so_many_times_the_median_cost_within_labels(problem):
    data, embedding = problem({"left": (30, 20), "right": (25, 40)})
    pooled = []
    for code in range(2):
        x, y = (embedding[n][data[n].labels == code] for n in ("left", "right"))
        pooled.append(cdist(x, y).ravel())
    value, origin = resolve_eps(data, embedding, "0.05*median", "euclidean", "left", "right")
    assert origin == "median"
    assert value == pytest.approx(0.05 * np.median(np.concatenate(pooled)))
    matching = match_ot(data, embedding, eps="0.05*median", cost="euclidean")
    assert matching.made_by.options["eps"] == pytest.approx(value)
    assert matching.made_by.options["eps_from"] == "median"


@pytest.mark.parametrize(
    "eps", ["median", "0*median", "-1*median", "x*median", "0.05*mean", "0.05*median2", "nan*median"]
)
def test_words_that_mean_nothing_are_refused(eps):
    with pytest.raises(OptionError, match=r"0\.05\*median"):
        check_eps(eps, "euclidean")


def test_identical_places_have_no_median(problem):
    data, embedding = problem(points={"left": np.zeros((5, 2)), "right": np.zeros((6, 2))})
    with pytest.raises(OptionError, match="median cost within a label is 0"):
        match_ot(data, embedding, eps="0.1*median")
