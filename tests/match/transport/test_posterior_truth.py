"""Truth is what is not noise; what partners share is what the totals are measured in; bits do not depend on rows."""

from dataclasses import replace

import numpy as np
import pytest

from unpaired.data.types import Dataset, Modality
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import OptionError
from unpaired.match.block import Block, Status
from unpaired.match.matching import Matching
from unpaired.match.transport import match_ot
from unpaired.match.transport.posterior import _Shape, weigh

NAMES = ("left", "right")
MADE = Provenance("by hand", {})


def held(points, labels, **more):
    """``(data, embedding)`` of coordinates and labels; readings are drawn, and say nothing of them."""
    rng = np.random.default_rng(9)
    made = {
        n: Modality(n, rng.normal(size=(len(x), 3)).astype(np.float32), labels, np.arange(len(x)).astype(str))
        for n, x in points.items()
    }
    classes = tuple(f"label {i}" for i in range(labels.max() + 1))
    dims = tuple(f"dimension {i}" for i in range(points["left"].shape[1]))
    return Dataset(made, classes), Embedding(points, "logit", more.pop("noise", None), dims, MADE, **more)


def power(covariance, exponent):
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * values**exponent) @ vectors.T


def exactly(covariance, labels, rng):
    """Cells whose covariance within labels is the one given and no other."""
    x = rng.normal(size=(len(labels), len(covariance)))
    for code in np.unique(labels):
        x[labels == code] -= x[labels == code].mean(0)
    own = x.T @ x / (len(x) - labels.max() - 1)
    return x @ power(own, -0.5) @ power(covariance, 0.5)


def spread(seed, d=4):
    """A covariance with axes of its own, of widths over three decades."""
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(d, d)))
    return (axes * 10 ** rng.uniform(-2, 1, d)) @ axes.T


# ------------------------------------------------------------------ truth


@pytest.mark.parametrize("seed", range(20))
def test_truth_is_never_more_than_the_total_nor_less_than_none(seed):
    total, noise = spread(2 * seed), spread(2 * seed + 1)
    assert not np.allclose(total @ noise, noise @ total)
    truth = _Shape(total, noise).truth
    np.testing.assert_allclose(truth, truth.T, atol=1e-12)
    tiny = 1e-9 * np.trace(total)
    assert np.linalg.eigvalsh(truth).min() > 0
    assert np.linalg.eigvalsh(total - truth).min() > -tiny


@pytest.mark.parametrize("seed", range(5))
def test_where_noise_is_a_part_of_the_total_truth_is_the_rest(seed):
    truth, noise = spread(2 * seed), spread(2 * seed + 1)
    np.testing.assert_allclose(_Shape(truth + noise, noise).truth, truth, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6])
@pytest.mark.parametrize(("part", "below"), [(1.0, 0.01), (0.9, 0.11), (5.0, 0.01)])
@pytest.mark.parametrize("couple", [None, lambda some, rough: match_ot(some, rough, eps=2.0, tol=1e-2)])
def test_a_direction_that_is_all_noise_has_next_to_no_weight_however_little_it_varies(scale, part, below, couple):
    total, noise = np.diag([2.0, 1.0, scale]), np.diag([0.4, 0.2, part * scale])
    labels, rng = np.repeat([0, 1], 100), np.random.default_rng(0)
    truth = exactly(total - np.diag([0.4, 0.2, 0]), labels, rng)  # of the two; the third is drawn on each side
    points = {n: truth + exactly(np.diag([0.4, 0.2, 1e-12]), labels, rng) for n in NAMES}
    points = {n: np.c_[x[:, :2], exactly(total, labels, rng)[:, 2]] for n, x in points.items()}
    data, space = held(points, labels, noise_covariance=dict.fromkeys(NAMES, noise))
    weighting = weigh(data, space, *NAMES, couple)
    r = weighting.correlations
    assert (r[:2] > 0.7).all()
    if couple is None:
        assert (r[2:] < below).all()
    assert (r[2:] < 0.4).all()  # of what a coupling shows by chance, half


# ------------------------------------------------------------------ what partners share


def ordered(some, rough):
    """A coupling of the i-th cell of a label with the i-th."""
    blocks = []
    for code, label in enumerate(some.classes):
        rows, cols = (np.flatnonzero(some[n].labels == code) for n in NAMES)
        blocks.append(Block(label, rows, cols, np.eye(len(rows)) / len(rows), Status("ok")))
    return Matching(*NAMES, tuple(len(some[n]) for n in NAMES), tuple(blocks), MADE)


def paired(points, labels):
    """``(data, embedding)`` in which the i-th cells of a label in canonical order have the i-th coordinates of it."""
    data, space = held(points, labels)
    arrays = {}
    for n in NAMES:
        order = data[n].order
        arrays[n] = np.empty_like(points[n])
        arrays[n][order[np.argsort(labels[order], kind="stable")]] = points[n]
    return data, replace(space, arrays=arrays)


def small(counts, covariance, seed=0):
    """True pairs in labels of so many cells."""
    rng, d = np.random.default_rng(seed), len(covariance) // 2
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = 5 * rng.normal(size=(len(counts), 1))
    both = rng.normal(size=(len(labels), 2 * d)) @ power(covariance, 0.5) + centres[labels]
    return paired({"left": both[:, :d], "right": both[:, d:]}, labels)


@pytest.mark.parametrize("counts", [(2,) * 3000, (3,) * 2000, (5,) * 1000, (2, 3, 5) * 700])
def test_of_true_pairs_in_small_labels_the_covariance_between_is_not_less(counts):
    within = np.array([[1.0, 0.0, 0.6, 0.1], [0.0, 1.0, 0.1, 0.4], [0.6, 0.1, 1.0, 0.0], [0.1, 0.4, 0.0, 1.0]])
    data, space = small(counts, within)
    seen = np.linalg.svd(within[:2, 2:], compute_uv=False)
    # Without noise the first guess is one; the mean of that and of what is seen is found again.
    found = weigh(data, space, *NAMES, ordered).correlations
    np.testing.assert_allclose(2 * found - 1, seen, atol=0.06)


def test_a_label_counts_by_all_its_cells_not_by_those_that_were_coupled():
    labels = np.repeat([0, 1], [1200, 300])  # of the first a quarter is coupled
    x = np.random.default_rng(1).normal(size=(1500, 1))
    data, space = paired(dict.fromkeys(NAMES, x), labels)

    def second_alone(some, rough):  # of the first label the coupling shows no partner, of the second all of them
        first, second = ordered(some, rough).blocks
        assert first.weights.shape == second.weights.shape == (300, 300)
        return replace(ordered(some, rough), blocks=(replace(first, weights=np.full((300, 300), 1 / 300**2)), second))

    # The first guess is 1; of the second label partners' covariance is the variance, of the first there is none.
    first, second = ((own.var(ddof=1), len(own) - 1) for own in (x[:1200], x[1200:]))
    part = second[0] * second[1] / (first[0] * first[1] + second[0] * second[1])
    assert weigh(data, space, *NAMES, second_alone).correlations == pytest.approx([(1 + part) / 2], rel=1e-6)


def test_without_a_coupling_the_assumptions_stand():
    rng = np.random.default_rng(2)
    noise = {n: np.full(60, 0.3) for n in NAMES}
    data, space = held({n: rng.normal(size=(60, 3)) for n in NAMES}, np.repeat([0, 1], 30), noise=noise)

    def none(some, rough):
        own = ordered(some, rough)
        return replace(own, blocks=tuple(replace(b, weights=None, status=Status("failed", "")) for b in own.blocks))

    alone, found = weigh(data, space, *NAMES), weigh(data, space, *NAMES, none)
    assert len(alone.correlations) == 3
    assert np.array_equal(found.correlations, alone.correlations)
    assert weigh(data, space, *NAMES, ordered).correlations != pytest.approx(alone.correlations, abs=0.05)


# ------------------------------------------------------------------ rows, and refusals


def test_of_thousands_of_cells_too_the_order_of_the_rows_changes_not_a_bit():
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(50), 67)
    truth = 2 * rng.normal(size=(len(labels), 11))
    points = {n: truth + rng.normal(size=truth.shape) for n in NAMES}
    data, space = held(points, labels, noise={n: np.ones(len(labels)) for n in NAMES})
    perm = {n: rng.permutation(len(labels)) for n in NAMES}
    turned = {"arrays": {n: space[n][perm[n]] for n in NAMES}, "noise": {n: space.noise[n][perm[n]] for n in NAMES}}
    other, there = data.take(perm), replace(space, **turned)
    weighting = weigh(data, space, *NAMES)
    again = weigh(other, there, *NAMES)
    for n in NAMES:
        assert np.array_equal(weighting.maps[n], again.maps[n])
        assert np.array_equal(weighting.apply(data, space)[n][perm[n]], again.apply(other, there)[n])
    one, two = match_ot(data, space, tol=1e-2), match_ot(other, there, tol=1e-2)
    for a, b in zip(one.blocks, two.blocks, strict=True):
        at = [
            np.argsort(i)[np.searchsorted(np.sort(i), perm[n][j])]
            for n, i, j in (("left", a.rows, b.rows), ("right", a.cols, b.cols))
        ]
        assert np.array_equal(a.dense()[np.ix_(*at)], b.dense())


@pytest.mark.parametrize(
    "wrong", [np.eye(2), np.ones(3), np.array(0.1), np.eye(3) * np.nan, np.eye(3)[:, :2]], ids=lambda w: str(w.shape)
)
def test_noise_that_is_no_covariance_of_the_space_is_one_sentence(wrong):
    rng = np.random.default_rng(4)
    points = {n: rng.normal(size=(20, 3)) for n in NAMES}
    data, space = held(points, np.repeat([0, 1], 10), noise_covariance={"left": np.eye(3), "right": wrong})
    with pytest.raises(OptionError, match=r"^the noise of 'right' in the embedding is not 3 x 3 finite numbers; give"):
        match_ot(data, space)


def test_two_widths_are_not_one_space():
    rng = np.random.default_rng(5)
    points = {"left": rng.normal(size=(20, 3)), "right": rng.normal(size=(20, 4))}
    data, space = held(points, np.repeat([0, 1], 10))
    with pytest.raises(OptionError, match="3 dimensions of 'left', 4 of 'right': it is not one space"):
        weigh(data, space, *NAMES)
