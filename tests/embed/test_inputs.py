"""What the classifiers are given."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from unpaired.data.preprocess import fit_recipe
from unpaired.data.types import Modality
from unpaired.embed.feed import Feed
from unpaired.embed.inputs import label_codes, new_inputs, read_inputs, standardise, trained_labels
from unpaired.errors import DataError


def test_standardised_features_have_mean_zero_and_mean_variance_one():
    x = np.random.default_rng(0).normal(size=(200, 4)) * [5, 1, 0.2, 3] + [1, 2, 3, 4]
    center, scale = standardise(x)
    out = (x - center) / scale
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-12)
    assert out.var(axis=0).mean() == pytest.approx(1)


def test_standardised_features_keep_their_relative_sizes():
    x = np.random.default_rng(0).normal(size=(200, 3)) * [9, 3, 1]
    center, scale = standardise(x)
    np.testing.assert_allclose(
        ((x - center) / scale).std(axis=0) / ((x - center) / scale).std(axis=0)[2], x.std(0) / x.std(0)[2]
    )


def test_features_that_never_vary_stay_finite():
    x = np.full((10, 3), 7.0)
    center, scale = standardise(x)
    assert np.array_equal((x - center) / scale, np.zeros((10, 3)))


def test_images_are_left_as_their_recipe_made_them():
    x = np.random.default_rng(0).normal(size=(3, 1, 4, 4)) + 5
    center, scale = standardise(x)
    assert np.array_equal((x - center) / scale, x)


def test_labels_with_two_cells_everywhere_are_trained_on(toy):
    data, _ = toy({"rna": (2, 9, 5), "image": (7, 2, 5)})
    assert trained_labels(data, folds=2) == (("a", "b", "c"), ())


@pytest.mark.parametrize("few", [0, 1])
def test_label_with_fewer_than_two_cells_in_one_modality_is_left_out_with_a_sentence(toy, few):
    data, _ = toy({"rna": (5, few, 5), "image": (5, 5, 5)})
    names, notes = trained_labels(data, folds=2)
    assert names == ("a", "c")
    (note,) = notes
    assert "'b'" in note
    assert f"{few} in rna" in note
    assert "image" not in note


def test_cells_without_a_label_count_for_no_label(toy):
    data, _ = toy({"rna": (5, 1, 5), "image": (5, 5, 5)}, unlabelled=8)
    assert trained_labels(data, folds=2)[0] == ("a", "c")


def test_a_class_without_cells_is_left_out(toy):
    data, _ = toy(5)
    names, notes = trained_labels(replace(data, classes=(*data.classes, "empty")), folds=2)
    assert names == data.classes
    assert "'empty'" in notes[0]


def test_fewer_than_two_usable_labels_are_an_error_of_the_data(toy):
    data, _ = toy({"rna": (5, 1, 0), "image": (5, 5, 5)})
    with pytest.raises(DataError, match="1 of 3 labels"):
        trained_labels(data, folds=2)


def test_label_with_fewer_cells_than_folds_is_trained_on_with_a_sentence(toy):
    data, _ = toy({"rna": (9, 3, 9), "image": (9, 5, 9)})
    names, (note,) = trained_labels(data, folds=5)
    assert names == ("a", "b", "c")
    assert note.startswith("rna: ")
    assert "'b' (3)" in note
    assert "5 folds" in note


def test_without_cross_fitting_no_label_has_too_few_cells_for_the_folds(toy):
    data, _ = toy(2)
    assert trained_labels(data, folds=1)[1] == ()


def test_labels_too_small_everywhere_are_named_in_one_sentence_however_many(toy):
    data, _ = toy((5, 5, *[1] * 30), labels=[f"gene{i}" for i in range(32)])
    names, notes = trained_labels(data, folds=5)
    assert names == ("gene0", "gene1")
    (note,) = notes
    assert "'gene2' (1 in rna, 1 in image)" in note
    assert "and 20 more" in note


# ------------------------------------------------------------------ inputs of the networks


def photographs(recipe="image", n=9, dtype=np.uint8, seed=0):
    """Bytes whose channels differ in brightness and contrast."""
    rng = np.random.default_rng(seed)
    X = (rng.integers(0, 80, size=(n, 3, 8, 6)) * np.array([1, 2, 3])[:, None, None]).astype(dtype)
    fitted = None if recipe is None else fit_recipe(recipe, X)
    return Modality("image", X, np.arange(n) % 2, np.array([f"image:{i}" for i in range(n)]), recipe=fitted)


def fed(inputs, cells):
    return Feed(inputs, "cpu")[torch.as_tensor(cells)].numpy()


@pytest.mark.parametrize("recipe", ["image", "none", None])
def test_images_of_bytes_give_what_their_features_are_in_canonical_order(recipe):
    modality = photographs(recipe)
    inputs, center, scale = read_inputs(modality)
    expected = modality.features[modality.order]
    np.testing.assert_allclose(inputs.dense(), (expected - center) / scale, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fed(inputs, [3, 0, 8]), expected[[3, 0, 8]], rtol=1e-5, atol=1e-5)
    assert inputs.shape == (9, 3, 8, 6)


@pytest.mark.parametrize("recipe", ["image", "none", None])
def test_images_of_bytes_are_neither_copied_nor_turned_into_numbers_before_a_batch_is_asked_for(recipe):
    modality = photographs(recipe)
    inputs, *_ = read_inputs(modality)
    feed = Feed(inputs, "cpu")
    assert inputs.values is modality.X
    assert feed.values.dtype == torch.uint8
    assert feed.values.data_ptr() == modality.X.ctypes.data
    assert "features" not in vars(modality)


def test_a_batch_of_images_changes_nothing_of_the_images():
    modality = photographs()
    before = modality.X.copy()
    fed(read_inputs(modality)[0], [0, 1])
    floats = photographs(None, dtype=np.float32)
    fed(read_inputs(floats)[0], [0, 1])
    assert np.array_equal(modality.X, before)
    assert np.array_equal(floats.X, photographs(None, dtype=np.float32).X)


def test_images_that_must_not_be_written_to_are_read_without_a_warning(recwarn):
    modality = photographs()
    modality.X.flags.writeable = False
    fed(read_inputs(modality)[0], [0])
    assert not recwarn.list


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_batches_of_images_lie_channels_last_for_every_member(dtype):
    x = Feed(read_inputs(photographs(dtype=dtype))[0], "cpu")[torch.tensor([[0, 1], [2, 3]])]
    assert x.shape == (2, 2, 3, 8, 6)
    assert x.dtype == torch.float32
    assert x[1].is_contiguous(memory_format=torch.channels_last)


def test_images_of_floats_are_what_their_recipe_makes_of_them():
    modality = photographs(dtype=np.float32)
    inputs, *_ = read_inputs(modality)
    assert np.array_equal(fed(inputs, np.arange(9)), modality.features[modality.order])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_new_images_are_standardised_by_the_recipe_of_those_learned_from(dtype):
    modality, other = photographs(dtype=dtype), photographs(dtype=dtype, n=5, seed=1)
    new = new_inputs(modality, other.X, np.array([4, 2]), np.zeros(1), 1.0)
    np.testing.assert_allclose(new.dense(), modality.transform(other.X)[[4, 2]], rtol=1e-5, atol=1e-5)


def test_tables_are_standardised_in_canonical_order(toy):
    modality = toy(6)[0]["rna"]
    inputs, center, scale = read_inputs(modality)
    expected = (modality.features - center) / scale
    np.testing.assert_allclose(inputs.dense(), expected[modality.order], atol=1e-6)
    np.testing.assert_allclose(fed(inputs, [[0, 5], [7, 2]]), expected[modality.order][[[0, 5], [7, 2]]], atol=1e-6)
    again = new_inputs(modality, modality.X, np.array([3, 1]), center, scale)
    np.testing.assert_allclose(again.dense(), expected[[3, 1]], atol=1e-6)


@pytest.mark.parametrize("modality", [photographs(), photographs(dtype=np.float32)], ids=["bytes", "floats"])
def test_readings_of_another_shape_are_refused(modality):
    with pytest.raises(DataError, match="image: its readings have the shape 3x8x5, and 3x8x6 where"):
        new_inputs(modality, modality.X[..., :5], np.arange(2), np.zeros(1), 1.0)


@pytest.mark.parametrize("cells", [np.array([4, 2]), np.arange(9) % 4 == 2], ids=["indices", "mask"])
def test_some_of_the_inputs_are_theirs(cells):
    inputs, *_ = read_inputs(photographs())
    assert np.array_equal(inputs.take(cells).dense(), inputs.dense()[cells])


def test_labels_that_are_not_trained_on_are_unknown(toy):
    modality = toy(4, unlabelled=3)[0]["rna"]
    codes = label_codes(modality, ("a", "b", "c"), ("c", "a"))
    assert np.array_equal(codes, np.array([1, -1, 0, -1])[modality.labels])
