"""Neither the order of the rows nor the names of the cells can influence a matching."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unpaired.match.neighbours import match_snn
from unpaired.match.null import match_random, match_uniform
from unpaired.match.transport import match_ot
from unpaired.match.transport.solution import Plan

MATCHERS = {
    "ot": match_ot,
    "ot, soft": lambda data, space: match_ot(data, space, unbalanced=2.0),
    "ot, plain": lambda data, space: match_ot(data, space, eps=0.3, cost="euclidean"),
    "ot, as potentials": lambda data, space: match_ot(data, space, eps=5.0, keep=1.0, memory=1),
    "snn": lambda data, space: match_snn(data, space, k=2),
    "snn, cosine": lambda data, space: match_snn(data, space, metric="cosine"),
    "uniform": lambda data, _: match_uniform(data),
    "random": lambda data, _: match_random(data, seed=3),
}


def moved(data, space, rows, *, rename):
    """The same cells with the rows of the given modalities in another order, their names with them or new."""
    other = data.take(rows)
    if rename:
        made = {
            n: replace(m, ids=np.array([f"{n}:new{i}" for i in range(len(m))])) for n, m in other.modalities.items()
        }
        other = replace(other, modalities=made)
    arrays = {n: a[rows[n]] if n in rows else a for n, a in space.arrays.items()}
    noise = {n: v[rows[n]] if n in rows else v for n, v in space.noise.items()}
    return other, replace(space, arrays=arrays, noise=noise)


@pytest.mark.parametrize("matcher", MATCHERS.values(), ids=MATCHERS)
@settings(max_examples=5, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    sides=st.sampled_from([("left",), ("right",), ("left", "right")]),
    rename=st.booleans(),
)
def test_reordered_rows_give_the_same_bits_reordered(problem, full, matcher, seed, sides, rename):
    rng = np.random.default_rng(seed)
    data, space = problem(
        {"left": (9, 6), "right": (5, 10)}, noise={"left": rng.random(17), "right": 0.2}, unlabelled=2, seed=seed
    )
    rows = {n: rng.permutation(len(data[n])) for n in sides}
    whole = full(matcher(data, space))
    expected = whole[np.ix_(rows.get("left", np.arange(17)), rows.get("right", np.arange(17)))]
    assert np.array_equal(full(matcher(*moved(data, space, rows, rename=rename))), expected)


@pytest.mark.parametrize("matcher", MATCHERS.values(), ids=MATCHERS)
def test_cells_of_one_label_do_not_influence_the_coupling_of_another(problem, matcher):
    data, space = problem({"left": (9, 6), "right": (5, 10)}, noise={"left": 0.3, "right": 0.2})
    rng = np.random.default_rng(0)
    arrays = {n: np.where((data[n].labels == 1)[:, None], rng.normal(size=a.shape), a) for n, a in space.arrays.items()}
    one, two = (matcher(data, s).blocks[0] for s in (space, replace(space, arrays=arrays)))
    assert np.array_equal(one.dense(), two.dense())


def test_without_room_for_the_entries_a_coupling_is_kept_as_potentials(problem):
    data, space = problem({"left": (9, 6), "right": (5, 10)}, noise={"left": 0.3, "right": 0.2})
    assert all(isinstance(b.weights, Plan) for b in MATCHERS["ot, as potentials"](data, space).blocks)
