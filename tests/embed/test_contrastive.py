"""Encoders taught by soft pairs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import unpaired as up
from unpaired.embed import contrast_learning, contrastive
from unpaired.embed.contrastive import REPEATS, encode
from unpaired.errors import DataError

NAMES = ("left", "right")


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(contrastive, "_TABLES", replace(contrastive._TABLES, steps=60))


def make(seed=0, n=240, *, images=False):
    """Two readings of one latent in two labels, and the true pairs; the right rows are in another order."""
    rng = np.random.default_rng(seed)
    latent, labels = rng.normal(size=(n, 3)), np.array(["a", "b"])[np.arange(n) % 2]
    order = rng.permutation(n)
    left = (latent @ rng.normal(size=(3, 12)) + 0.3 * rng.normal(size=(n, 12))).astype(np.float32)
    right = (latent[order] @ rng.normal(size=(3, 9)) + 0.3 * rng.normal(size=(n, 9))).astype(np.float32)
    if images:
        left = np.repeat(left[:, None, :1, None], 32, axis=2).repeat(32, axis=3) + np.zeros((n, 1, 32, 32), np.float32)
    data = up.Dataset.from_arrays(
        {"left": left, "right": right}, {"left": labels, "right": labels[order]}, recipes="none"
    )
    return data, np.stack([order, np.arange(n)])  # row order[k] of the left is row k of the right


def rank(encoded, data, pairs):
    """Mean share of the other cells of the label whose product with a code is larger than the partner's."""
    x, y = (encoded.embedding[n] for n in NAMES)
    labels, out = data["right"].labels, []
    for t in range(2):
        i, j = pairs[0][labels == t], pairs[1][labels == t]
        product = (x[i] - x[i].mean(axis=0)) @ (y[j] - y[j].mean(axis=0)).T
        out.append((product > product.diagonal()[:, None]).mean())
    return np.mean(out)


def test_codes_of_cells_that_no_encoder_saw_find_the_partner():
    data, pairs = make()
    encoded = encode(data, NAMES, pairs.repeat(4, axis=1), seed=0, device="cpu")
    assert rank(encoded, data, pairs) < 0.15
    assert min(encoded.loss) < 2.8  # log 64 = 4.16 by chance


def test_a_side_without_differences_is_one_sentence():
    data, pairs = make()
    flat = {n: np.ones_like(data[n].X) if n == "right" else data[n].X for n in NAMES}
    labels = {n: np.array(data.classes)[data[n].labels] for n in NAMES}
    with pytest.raises(DataError, match="different readings"):
        encode(up.Dataset.from_arrays(flat, labels, recipes="none"), NAMES, pairs, seed=0, device="cpu")


def test_pairs_at_random_teach_nothing():
    data, pairs = make()
    rng, labels = np.random.default_rng(1), data["right"].labels
    drawn = pairs.copy()
    for t in range(2):
        drawn[0][labels == t] = rng.permutation(drawn[0][labels == t])
    encoded = encode(data, NAMES, drawn.repeat(4, axis=1), seed=0, device="cpu")
    assert 0.4 < rank(encoded, data, pairs) < 0.6
    assert 0.4 < rank(encoded, data, drawn) < 0.6  # nor are those that were drawn known by heart
    assert min(encoded.loss) > 4.0


def test_images_have_encoders_too(monkeypatch):
    monkeypatch.setattr(contrastive, "_IMAGES", replace(contrastive._IMAGES, steps=10, group=8))
    data, pairs = make(n=60, images=True)
    encoded = encode(data, NAMES, pairs.repeat(4, axis=1), seed=0, device="cpu")
    assert encoded.codes["left"].shape == (REPEATS, 60, contrastive._CODE)
    assert np.isfinite(encoded.embedding["left"]).all()


def test_no_member_learns_from_a_cell_that_it_codes():
    data, pairs = make()
    sides = [contrastive._Side.of(data, n, rows, 5, 0) for n, rows in zip(NAMES, pairs, strict=True)]
    learn, valid = contrastive._own_pairs(sides)
    assert len(learn) == 5 * REPEATS
    for at, (own, aside) in enumerate(zip(learn, valid, strict=True)):
        for side, cells in zip(sides, ((own.source, aside.source), (own.target, aside.target)), strict=True):
            held_out = side.splits[at].held_out
            assert held_out.any()
            assert not any(held_out[c].any() for c in cells)
        assert not set(own.source) & set(aside.source)
        assert len(own.source) > len(aside.source) > 0
    for side in sides:  # and every cell is coded once a repeat
        count = sum(s.held_out.astype(int) for s in side.splits)
        assert (count == REPEATS).all()


def test_the_order_of_one_sides_rows_changes_nothing_but_the_order():
    data, pairs = make()
    order = np.random.default_rng(2).permutation(len(data["left"]))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    turned = replace(data, modalities={"left": data["left"].take(order), "right": data["right"]})
    one = encode(data, NAMES, pairs, seed=0, device="cpu")
    other = encode(turned, NAMES, np.stack([place[pairs[0]], pairs[1]])[:, ::-1], seed=0, device="cpu")
    np.testing.assert_array_equal(one.codes["left"][:, order], other.codes["left"])
    np.testing.assert_array_equal(one.codes["right"], other.codes["right"])


def test_a_seed_is_a_result():
    data, pairs = make()
    codes = [encode(data, NAMES, pairs, seed=s, device="cpu").codes["left"] for s in (3, 3, 4)]
    np.testing.assert_array_equal(codes[0], codes[1])
    assert not np.allclose(codes[0], codes[2])


def test_a_candidate_that_stands_twice_is_no_alternative_to_itself():
    logits = torch.tensor([[2.0, 5.0, 1.0], [0.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
    twice = contrast_learning._cross_entropy(logits[None], torch.tensor([[7, 7, 8]]))
    wanted = [np.log(np.exp(2) + np.exp(1)) - 2, np.log(np.exp(3) + 1) - 3, np.log(2 + np.e) - 1]
    assert float(twice) == pytest.approx(np.mean(wanted))


def test_members_are_laid_on_each_other_by_rotations():
    data, pairs = make()
    encoded = encode(data, NAMES, pairs.repeat(4, axis=1), seed=0, device="cpu")
    one, other = encoded.codes["left"]
    assert np.corrcoef(one[:, :3].ravel(), other[:, :3].ravel())[0, 1] > 0.5
    for spread in encoded.embedding.noise_covariance.values():
        assert (np.linalg.eigvalsh(spread) > -1e-12).all()


def test_what_cannot_be_learned_from_is_said():
    data, _ = make()
    with pytest.raises(DataError, match="no label has pairs"):
        encode(data, NAMES, np.zeros((2, 0), dtype=np.int64), seed=0, device="cpu")
