"""What the classifiers are given."""

from dataclasses import replace

import numpy as np
import pytest

from unpaired.embed.inputs import standardise, trained_labels
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
