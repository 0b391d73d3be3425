"""What the codes of drawn partners have in common, beyond chance."""

import numpy as np
import pytest

from unpaired.embed.drawn import common_covariance

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


@pytest.mark.parametrize("n", [40, 400, 4000])
def test_random_partners_have_next_to_nothing_in_common(n):
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        codes, labels = cells(rng, n, D)
        shuffled = np.lexsort((rng.random(n), labels[0]))
        pairs = np.stack([np.arange(n), shuffled])
        found.append(np.linalg.norm(common_covariance(codes, labels, pairs[:, np.lexsort(pairs[::-1])], rng), 2))
    assert np.median(found) < 2 / np.sqrt(n)


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
