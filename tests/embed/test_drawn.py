"""What the codes of drawn partners have in common, beyond chance."""

import numpy as np
import pytest

from unpaired.embed.drawn import _shuffled, common_covariance, within_labels

D = 6


def cells(rng, n, shared, labels=4):
    """Codes of n cells of either side, the first ``shared`` of their directions common, with offsets of the labels."""
    of = np.sort(rng.integers(0, labels, n))
    truth = rng.normal(size=(n, D))
    x, y = truth.copy(), truth + rng.normal(size=(n, D))
    y[:, shared:] = rng.normal(size=(n, D - shared))
    return (x + 3 * of[:, None], y - 2 * of[:, None]), (of, of)


def pairs_of(rng, labels, draws=8):
    """Partners as they are, repeated: as certain as can be."""
    at = np.repeat(np.arange(len(labels)), draws)
    return np.stack([at, at])


def test_it_is_the_covariance_within_labels_of_true_partners():
    rng = np.random.default_rng(0)
    codes, labels = cells(rng, 4000, 2)
    found = common_covariance(codes, labels, pairs_of(rng, labels[0]), np.random.default_rng(1))
    wanted = np.zeros((D, D))
    wanted[:2, :2] = np.eye(2)
    np.testing.assert_allclose(found, wanted, atol=0.1)


@pytest.mark.parametrize("n", [40, 400])
def test_random_partners_have_nothing_in_common_but_one_time_in_twenty(n):
    nothing = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        codes, labels = cells(rng, n, D)
        shuffled = np.lexsort((rng.random(n), labels[0]))
        pairs = np.stack([np.arange(n), shuffled])
        nothing += not common_covariance(codes, labels, pairs, rng).any()
    assert nothing >= 34


def test_labels_of_two_cells_are_as_good_as_large_ones():
    rng = np.random.default_rng(0)
    (x, y), _ = cells(rng, 3000, D, labels=1)
    labels = np.arange(3000) // 2
    found = common_covariance((x, y), (labels, labels), pairs_of(rng, labels), np.random.default_rng(1))
    np.testing.assert_allclose(np.diag(found), 1, atol=0.15)  # uncorrected 0.5


def test_chance_is_taken_off():
    """Weak truth over few cells: without the shuffles' share the largest correlation comes out too large."""
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, labels = rng.normal(size=(60, D)), np.zeros(60, dtype=int)
        y = 0.6 * x + 0.8 * rng.normal(size=(60, D))  # correlations 0.6
        c = common_covariance((x, y), (labels, labels), pairs_of(rng, labels), rng)
        found.append(np.linalg.norm(c, 2))
    assert 0.3 < np.median(found) < 0.82  # 0.6 and its error over 60 cells; without it 0.9


def test_a_shuffle_stays_within_its_label():
    labels = np.array([2, 0, 1, 0, 2, 2, -1, 1])
    for seed in range(5):
        other = _shuffled(labels, np.random.default_rng(seed))
        assert sorted(other) == list(range(8))
        np.testing.assert_array_equal(labels[other], labels)


def test_cells_count_as_often_as_they_were_drawn():
    """A label's mean is that of its pairs, not of its cells."""
    rng = np.random.default_rng(0)
    codes, labels = cells(rng, 400, D)
    pairs = pairs_of(rng, labels[0])
    twice = np.concatenate([pairs, pairs[:, :800]], axis=1)
    weights = np.bincount(twice[0], minlength=400).astype(float)
    centred = within_labels(codes[0], labels[0], weights)
    for t in range(4):
        np.testing.assert_allclose(weights[labels[0] == t] @ centred[labels[0] == t], 0, atol=1e-8)
    found = common_covariance(codes, labels, twice[:, np.lexsort(twice[::-1])], np.random.default_rng(1))
    assert np.abs(np.diag(found) - 1).max() < 0.4


def test_cells_without_a_partner_and_flat_codes_do_no_harm():
    rng = np.random.default_rng(0)
    (x, y), (a, b) = cells(rng, 400, D)
    alone = np.full(100, -1)
    more = (np.vstack([x, 1e6 * np.ones((100, D))]), y), (np.concatenate([a, alone]), b)
    pairs = pairs_of(rng, a)
    np.testing.assert_allclose(
        common_covariance(*more, pairs, np.random.default_rng(1)),
        common_covariance((x, y), (a, b), pairs, np.random.default_rng(1)),
        atol=1e-9,
    )
    assert not common_covariance((np.ones_like(x), y), (a, b), pairs, rng).any()
