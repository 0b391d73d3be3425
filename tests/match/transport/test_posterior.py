"""Weighted directions: the posterior of the partner where it is known, and what must not change it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from unpaired.data.types import Dataset, Modality
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import OptionError
from unpaired.match.transport import match_ot
from unpaired.match.transport.posterior import EPS, weigh

TIGHT = {"tol": 1e-9, "max_iter": 100_000, "keep": 1.0}
MADE = Provenance("by hand", {})
TRUTH = np.array([[2.0, 0.6, 0.1], [0.6, 1.0, -0.2], [0.1, -0.2, 0.5]])
NOISE = {
    "left": np.array([[0.4, 0.1, 0.0], [0.1, 0.3, 0.1], [0.0, 0.1, 0.9]]),
    "right": np.array([[0.2, 0.0, 0.1], [0.0, 0.8, 0.0], [0.1, 0.0, 0.3]]),
}


def held(points, labels, **more):
    """``(data, embedding)`` of the coordinates and labels; readings are drawn, and say nothing of them."""
    rng = np.random.default_rng(9)
    made = {
        n: Modality(n, rng.normal(size=(len(x), 3)).astype(np.float32), labels[n], np.arange(len(x)).astype(str))
        for n, x in points.items()
    }
    classes = tuple("abc"[: max(int(y.max()) for y in labels.values()) + 1])
    dims = tuple(f"dimension {i}" for i in range(next(iter(points.values())).shape[1]))
    return Dataset(made, classes), Embedding(points, "logit", more.pop("noise", None), dims, MADE, **more)


def root(covariance):
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values)) @ vectors.T


def exactly(covariance, counts, rng):
    """Cells of some labels, each somewhere else, whose covariance within labels is the one given and no other."""
    x = np.concatenate([y - y.mean(0) for y in (rng.normal(size=(n, len(covariance))) for n in counts)])
    x = x @ np.linalg.inv(root(x.T @ x / (len(x) - len(counts)))) @ root(covariance)
    labels = np.repeat(np.arange(len(counts)), counts)
    return x + rng.normal(scale=3, size=(len(counts), len(covariance)))[labels], labels


def known(counts=(25, 30), seed=0, **covariances):
    """Two modalities of one truth with known noise, or with total covariances as they are given."""
    rng = np.random.default_rng(seed)
    drawn = {n: exactly(covariances.get(n, TRUTH + NOISE[n]), counts, rng) for n in NOISE}
    return held({n: x for n, (x, _) in drawn.items()}, {n: y for n, (_, y) in drawn.items()}, noise_covariance=NOISE)


def drawn(counts=(40, 25), seed=0):
    """Two modalities of one truth with known noise, as drawn: their covariances are not quite those."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = rng.normal(scale=3, size=(len(counts), 3))
    truth = centres[labels] + rng.normal(size=(len(labels), 3)) @ root(TRUTH)
    points = {n: truth + rng.normal(size=truth.shape) @ root(NOISE[n]) for n in NOISE}
    return held(points, dict.fromkeys(NOISE, labels), noise_covariance=NOISE)


def canonical(a, b, c):
    return np.linalg.svd(np.linalg.inv(root(a)) @ c @ np.linalg.inv(root(b)), compute_uv=False)


def moved(space, **change):
    return replace(space, arrays={n: change[n](x) if n in change else x for n, x in space.arrays.items()})


def centred(p):
    """Logarithm of a coupling, but for factors of rows and columns."""
    v = np.log(p)
    return v - v.mean(0) - v.mean(1, keepdims=True) + v.mean()


# ------------------------------------------------------------------ the posterior


def test_correlations_are_those_of_one_truth_with_known_noise():
    data, space = drawn((20_000, 30_000))
    weighting = weigh(data, space, "left", "right")
    expected = canonical(TRUTH + NOISE["left"], TRUTH + NOISE["right"], TRUTH)
    np.testing.assert_allclose(weighting.correlations, expected, atol=0.02)
    assert np.array_equal(weighting.assumed, weighting.correlations)
    for n, noise in NOISE.items():
        assert weighting.noise[n] == pytest.approx(np.trace(noise) / np.trace(TRUTH + noise), rel=0.02)


def test_the_coupling_has_the_odds_of_the_posterior():
    data, space = known()
    weighting = weigh(data, space, "left", "right")
    a, b = (TRUTH + NOISE[n] for n in ("left", "right"))
    np.testing.assert_allclose(weighting.correlations, canonical(a, b, TRUTH), rtol=1e-9)
    both = multivariate_normal(np.zeros(6), np.block([[a, TRUTH], [TRUTH, b]]))
    for block in match_ot(data, weighting.apply(data, space), eps=EPS, **TIGHT).blocks:
        x, y = (space[n][at] for n, at in (("left", block.rows), ("right", block.cols)))
        pairs = np.concatenate(np.broadcast_arrays((x - x.mean(0))[:, None], (y - y.mean(0))[None]), axis=2)
        odds = np.exp(both.logpdf(pairs))  # what depends on x or on y alone is taken up by the marginals
        np.testing.assert_allclose(centred(block.dense()), centred(odds), atol=1e-6)


def test_of_two_truths_that_differ_the_covariance_is_their_geometric_mean():
    other = np.diag([0.5, 3.0, 1.0])
    data, space = known(right=other + NOISE["right"])
    mean = np.real(np.linalg.inv(root(TRUTH)) @ root(root(TRUTH) @ other @ root(TRUTH)) @ root(TRUTH)).T
    np.testing.assert_allclose(mean @ mean, TRUTH @ other, atol=1e-9)
    expected = canonical(TRUTH + NOISE["left"], other + NOISE["right"], mean)
    np.testing.assert_allclose(weigh(data, space, "left", "right").correlations, expected, rtol=1e-8)


def test_without_a_covariance_the_noise_is_the_same_in_every_direction():
    data, space = drawn()
    rng = np.random.default_rng(1)
    each = {n: rng.random(len(data[n])) for n in data}
    even = {n: each[n].mean() * np.eye(3) for n in data}
    one = weigh(data, replace(space, noise=each, noise_covariance=None), "left", "right")
    two = weigh(data, replace(space, noise=None, noise_covariance=even), "left", "right")
    np.testing.assert_allclose(one.correlations, two.correlations, rtol=1e-9)
    assert one.correlations != pytest.approx(weigh(data, space, "left", "right").correlations, rel=0.01)


def test_cells_without_a_label_are_placed_and_decide_nothing():
    data, space = drawn()
    labels = {n: np.r_[data[n].labels, [-1] * 5] for n in data}
    more = {n: np.r_[space[n], 50 * np.ones((5, 3))] for n in data}
    other, wide = held(more, labels, noise_covariance=NOISE)
    one, two = weigh(data, space, "left", "right"), weigh(other, wide, "left", "right")
    np.testing.assert_allclose(one.correlations, two.correlations, rtol=1e-9)
    assert np.isfinite(two.apply(data, wide)["left"]).all()


def test_correlations_are_sorted_below_one_and_make_the_information():
    data, space = drawn()
    for noise in (NOISE, {n: np.zeros((3, 3)) for n in NOISE}):
        weighting = weigh(data, replace(space, noise_covariance=noise), "left", "right")
        r = weighting.correlations
        assert (np.diff(r) <= 0).all()
        assert ((r > 0) & (r < 1)).all()
        assert weighting.information == pytest.approx(-0.5 * np.log(1 - r**2).sum())
        told = weighting.told()
        assert (told["directions"], told["correlations"]) == (len(r), r.tolist())


def test_even_where_nothing_is_noise_no_direction_is_wholly_sure():
    data, space = known(left=TRUTH, right=TRUTH)
    weighting = weigh(data, replace(space, noise_covariance=None, noise=None), "left", "right")
    np.testing.assert_allclose(weighting.correlations, 0.98)
    assert match_ot(data, weighting.apply(data, space), eps=EPS).coverage.labels == 2


# ------------------------------------------------------------------ what the coupling shows


def test_auto_matches_the_weighted_space_at_two(full):
    data, space = drawn()
    matching = match_ot(data, space, tol=1e-6)
    weighting = weigh(data, space, "left", "right", lambda some, rough: match_ot(some, rough, eps=2.0, tol=1e-2))
    again = match_ot(data, weighting.apply(data, space), eps=2.0, tol=1e-6)
    assert np.array_equal(full(matching), full(again))
    options = matching.made_by.options
    assert (options["eps"], options["eps_from"], options["weighting"]) == (2.0, "noise", weighting.told())


def test_the_first_coupling_is_averaged_with_the_assumptions():
    data, space = known()
    asked = []

    def by_order(some, rough):  # the i-th cell of a label with the i-th, whatever the space says
        asked.append(rough)
        own = match_ot(some, rough, eps=2.0)
        blocks = (replace(b, weights=np.eye(len(b.rows)) / len(b.rows)) for b in own.blocks)
        return replace(own, blocks=tuple(blocks))

    weighting = weigh(data, space, "left", "right", by_order)
    assumed, seen = weigh(data, space, "left", "right").apply(data, space), np.zeros((3, 3))
    np.testing.assert_allclose(np.sort(asked[0]["left"], axis=0), np.sort(assumed["left"], axis=0))
    for code in (0, 1):
        left, right = (m.order[m.labels[m.order] == code] for m in data.modalities.values())
        x, y = space["left"][left], space["right"][right]
        seen += (x - x.mean(0)).T @ (y - y.mean(0)) / (len(data["left"]) - 2)
    a, b = (TRUTH + NOISE[n] for n in ("left", "right"))
    np.testing.assert_allclose(weighting.correlations, canonical(a, b, (TRUTH + seen) / 2), rtol=1e-8)
    np.testing.assert_allclose(weighting.assumed, canonical(a, b, TRUTH), rtol=1e-8)


def test_the_first_coupling_is_of_some_cells_of_a_large_label_spread_over_it():
    data, space = drawn((700, 40))
    sizes = []

    def couple(some, rough):
        sizes.append([np.bincount(some[n].labels).tolist() for n in some])
        assert {n: len(rough[n]) for n in some} == {n: len(some[n]) for n in some}
        return match_ot(some, rough, eps=2.0, tol=1e-2)

    weighting = weigh(data, space, "left", "right", couple)
    assert sizes == [[[300, 40], [300, 40]]]
    assert np.abs(weighting.correlations - weighting.assumed).max() < 0.2


# ------------------------------------------------------------------ what changes nothing


def turned(data, space, how):
    """The matching of the space with its coordinates, and its noise, in other directions of other lengths."""
    noise = {n: how.T @ c @ how for n, c in space.noise_covariance.items()}
    arrays = {n: space[n] @ how for n in data}
    return match_ot(data, replace(space, arrays=arrays, noise_covariance=noise), **TIGHT)


@pytest.mark.parametrize("make", [drawn, known])
def test_turning_the_space_with_its_noise_changes_nothing(make, full):
    data, space = make()
    how, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    np.testing.assert_allclose(full(turned(data, space, how)), full(match_ot(data, space, **TIGHT)), atol=1e-8)


def test_of_one_truth_any_invertible_change_of_coordinates_changes_nothing(full):
    data, space = known()
    how = np.array([[3.0, 1.0, 0.0], [0.0, 0.5, 2.0], [1.0, 0.0, 1.0]])
    np.testing.assert_allclose(full(turned(data, space, how)), full(match_ot(data, space, **TIGHT)), atol=1e-8)


def test_reordered_rows_give_the_same_bits_reordered(full):
    data, space = drawn()
    order = np.random.default_rng(3).permutation(len(data["right"]))
    other = replace(data, modalities={**data.modalities, "right": data["right"].take(order)})
    one, two = match_ot(data, space), match_ot(other, moved(space, right=lambda y: y[order]))
    assert np.array_equal(full(one)[:, order], full(two))
    assert one.made_by.options == two.made_by.options


def test_one_modality_may_be_shifted_label_by_label(full):
    data, space = drawn()
    shift = np.array([[5.0, -3.0, 1.0], [-2.0, 0.0, 8.0]])[data["left"].labels]
    one, two = (match_ot(data, s, **TIGHT) for s in (space, moved(space, left=lambda x: x + shift)))
    np.testing.assert_allclose(full(one), full(two), atol=1e-4)  # the first, rough couplings differ a little
    assert abs(full(one) - full(two)).sum() < 0.01


def test_turning_source_and_target_around_transposes_the_matching(full):
    data, space = drawn()
    one, two = match_ot(data, space, **TIGHT), match_ot(data, space, source="right", target="left", **TIGHT)
    assert abs(full(one) - full(two).T).sum() < 0.02 * full(one).sum()
    assumed = [weigh(data, space, *d).correlations for d in (("left", "right"), ("right", "left"))]
    np.testing.assert_allclose(*assumed, rtol=1e-9)


# ------------------------------------------------------------------ where little or nothing is known


def test_without_any_noise_auto_is_refused_and_one_of_the_two_is_enough():
    data, space = drawn()
    with pytest.raises(OptionError, match="eps='auto' needs the embedding's noise"):
        match_ot(data, replace(space, noise_covariance=None))
    isotropic = replace(space, noise_covariance=None, noise={n: np.ones(65) for n in data})
    assert match_ot(data, isotropic).coverage.labels == 2


@pytest.mark.parametrize(
    "bad", [{"noise": np.full(65, np.nan)}, {"noise_covariance": np.full((3, 3), np.inf)}], ids=str
)
def test_noise_that_is_not_finite_is_refused(bad):
    data, space = drawn()
    good = {"noise": np.ones(65), "noise_covariance": np.eye(3)}
    known = {kind: {"left": good[kind], "right": value} for kind, value in bad.items()}
    with pytest.raises(OptionError, match="the noise of 'right' in the embedding is not 3 x 3 finite numbers; give"):
        match_ot(data, replace(space, **{"noise_covariance": None, **known}))


def test_a_coordinate_that_is_not_finite_is_refused():
    data, space = drawn()
    with pytest.raises(OptionError, match="the embedding of 'left' is not finite in 65 cells"):
        match_ot(data, moved(space, left=lambda x: x * np.nan))


@pytest.mark.parametrize("flat", [("left",), ("left", "right")])
def test_where_a_modality_does_not_vary_every_partner_is_as_likely(flat):
    data, space = drawn()
    matching = match_ot(data, moved(space, **dict.fromkeys(flat, np.ones_like)), keep=1.0)
    for block in matching.blocks:
        assert block.status.state == "ok"
        np.testing.assert_allclose(block.dense(), 1 / (len(block.rows) * len(block.cols)))
    told = matching.made_by.options["weighting"]
    assert (told["directions"], told["correlations"], told["information"]) == (0, [], 0.0)


@pytest.mark.parametrize("options", [{}, {"memory": 1}, {"unbalanced": 1.0}], ids=str)
def test_where_all_is_noise_every_partner_is_as_likely(options):
    data, space = drawn()
    noisy = replace(space, noise_covariance={n: 100 * c for n, c in NOISE.items()})
    matching = match_ot(data, noisy, keep=1.0, **options)
    assert matching.coverage.labels == 2
    for block in matching.blocks:
        np.testing.assert_allclose(block.dense(), block.dense()[0, 0])
    assert matching.made_by.options["weighting"]["noise_share"]["left"] > 1


def test_noise_larger_than_the_spread_of_one_modality_leaves_little_to_go_by():
    data, space = known()
    noise = {"left": 100 * NOISE["left"], "right": NOISE["right"]}
    assert (weigh(data, replace(space, noise_covariance=noise), "left", "right").correlations < 0.1).all()


def test_fewer_cells_than_dimensions():
    rng = np.random.default_rng(4)
    points = {n: rng.normal(size=(4, 12)) for n in NOISE}
    data, space = held(points, dict.fromkeys(NOISE, np.array([0, 0, 1, 1])), noise={n: np.full(4, 0.1) for n in NOISE})
    matching = match_ot(data, space, keep=1.0)
    assert [b.status.state for b in matching.blocks] == ["ok", "ok"]
    assert all(np.isfinite(b.dense()).all() for b in matching.blocks)
    assert matching.made_by.options["weighting"]["directions"] <= 2  # each side spans a plane


def test_a_direction_that_one_modality_lacks_has_no_weight():
    data, space = drawn()
    weighting = weigh(data, moved(space, left=lambda x: x * [1, 0, 1]), "left", "right")
    assert len(weighting.correlations) == 2
    for n in data:
        np.testing.assert_allclose(weighting.maps[n][1], 0, atol=1e-9)


def test_coordinates_that_sum_to_zero_have_one_direction_less():
    data, space = drawn()
    both = moved(space, **dict.fromkeys(NOISE, lambda x: x - x.mean(1, keepdims=True)))
    weighting = weigh(data, both, "left", "right")
    assert len(weighting.correlations) == 2
    np.testing.assert_allclose(weighting.maps["left"].sum(0), 0, atol=1e-9)


def test_one_label_is_enough():
    data, space = drawn((60,))
    assert len(match_ot(data, space).made_by.options["weighting"]["correlations"]) == 3


def test_labels_of_single_cells_have_nothing_to_weigh():
    data, space = drawn((1, 1))
    matching = match_ot(data, space)
    assert [b.status.state for b in matching.blocks] == ["too_small", "too_small"]
    assert matching.made_by.options["weighting"]["directions"] == 0


def test_with_drawn_partners_directions_are_theirs_and_strengths_between_both_bounds():
    data, space = drawn()
    within = {}
    for n in data:
        x = space[n].copy()
        for t in range(len(data.classes)):
            x[data[n].labels == t] -= x[data[n].labels == t].mean(axis=0)
        within[n] = x.T @ x / (len(x) - len(data.classes))
    assumed = weigh(data, space, "left", "right")
    roots = [np.linalg.cholesky(within[n]) for n in ("left", "right")]
    for strength in (0.1, 0.5):
        one = np.zeros((3, 3))
        one[0, 0] = strength  # one direction of each side, and the others nothing
        weighting = weigh(data, space, "left", "right", drawn=roots[0] @ one @ roots[1].T)
        (found,) = weighting.correlations
        assert strength < found < max(strength, assumed.correlations[0])
        most = found**2 / strength  # what the assumptions say of that direction
        assert 0 < most <= assumed.correlations[0] + 1e-9
    none = weigh(data, space, "left", "right", drawn=np.zeros((3, 3)))
    assert len(none.correlations) == 0
    assert none.information == 0
