"""Recipes: what auto chooses and why, what each computes, and that a fitted one can be used on new readings."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA

import unpaired as up
from unpaired.data.preprocess import RECIPES, choose, fit_recipe, parse_recipe, prepare
from unpaired.errors import OptionError

RNG = np.random.default_rng(0)
COUNTS = RNG.negative_binomial(1, 0.2, size=(60, 400)).astype(np.float32) * (RNG.random((60, 400)) < 0.3)
TAGS = RNG.poisson(np.exp(RNG.normal(2, 2, size=(60, 15)))).astype(np.float32)
REAL = RNG.normal(size=(60, 6)).astype(np.float32)
IMAGES = RNG.random((20, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("x", "options", "name", "word"),
    [
        (COUNTS, {}, "counts", "gene expression"),
        (sp.csr_matrix(COUNTS), {}, "counts", "gene expression"),
        (TAGS, {}, "protein", "antibody"),
        (REAL, {}, "scale", "real values"),
        (IMAGES, {}, "image", "images"),
        (np.log1p(np.tile(COUNTS, 2)), {}, "scale:pcs=50", "50 principal components"),
        (RNG.integers(0, 7, size=(60, 30)).astype(float), {}, "scale", "none above 6"),
        (RNG.integers(300, 900, size=(60, 30)).astype(float), {}, "scale", "long tail"),
        (COUNTS, {"feature_names": np.array([f"chr1:{i}-{i + 500}" for i in range(400)])}, "peaks", "intervals"),
        (COUNTS, {"feature_types": np.array(["Peaks"] * 400)}, "peaks", "'Peaks'"),
        (COUNTS, {"feature_types": np.array(["Antibody Capture"] * 400)}, "protein", "'Antibody Capture'"),
        (COUNTS, {"feature_types": np.array(["GEX"] * 399 + ["ADT"])}, "counts", "gene expression"),
        (np.where(RNG.random((60, 6)) < 0.1, np.nan, REAL), {}, "scale", "real values"),
    ],
)
def test_auto_looks_chooses_and_says_why(x, options, name, word):
    chosen, reason = choose(x, **options)
    assert chosen == name
    assert word in reason


def test_counts_is_log_normalised_pca():
    recipe = fit_recipe("counts:pcs=5", COUNTS)
    logged = np.log1p(COUNTS / COUNTS.sum(1, keepdims=True) * 1e4)
    expected = PCA(5, svd_solver="full").fit_transform(logged)
    assert np.allclose(np.abs(recipe.transform(COUNTS)), np.abs(expected), atol=1e-3)
    assert np.allclose(recipe.transform(sp.csr_matrix(COUNTS)), recipe.transform(COUNTS), atol=1e-4)


def test_counts_is_blind_to_depth():
    recipe = fit_recipe("counts:pcs=5", COUNTS)
    deeper = COUNTS * np.arange(1, 61)[:, None]
    assert np.allclose(recipe.transform(deeper), recipe.transform(COUNTS), atol=1e-3)


def test_counts_can_keep_only_the_most_variable_features():
    recipe = fit_recipe("counts:pcs=5,hvg=50", COUNTS)
    variance = np.log1p(COUNTS / COUNTS.sum(1, keepdims=True) * 1e4).var(0)
    assert set(recipe.arrays["keep"]) == set(np.argsort(-variance)[:50])


def test_a_cell_without_counts_has_finite_features():
    empty = COUNTS.copy()
    empty[3] = 0
    for name in ("counts:pcs=5", "peaks:components=5", "protein"):
        assert np.isfinite(fit_recipe(name, empty).transform(empty)).all()


def test_protein_is_the_centred_log_ratio():
    features = fit_recipe("protein", TAGS).transform(TAGS)
    clr = np.log1p(TAGS) - np.log1p(TAGS).mean(1, keepdims=True)
    assert np.allclose(features, np.clip((clr - clr.mean(0)) / clr.std(0), -10, 10), atol=1e-4)


def test_peaks_drops_the_component_that_follows_depth():
    depth = np.geomspace(1, 30, 60)
    x = RNG.poisson(depth[:, None] * 0.1 * (1 + (np.arange(200) < 100) * (np.arange(60) % 2)[:, None]), size=(60, 200))
    features = fit_recipe("peaks:components=5", x).transform(x)
    correlations = [abs(np.corrcoef(f, np.log1p(x.sum(1)))[0, 1]) for f in features.T]
    assert features.shape[1] == 5
    assert max(correlations) < 0.7
    dropped = fit_recipe("peaks:components=5", x).arrays["dropped"]
    assert dropped.tolist() == [0]


def test_scale_standardises_clips_and_leaves_constant_features_at_zero():
    x = REAL.copy()
    x[:, 2] = 7
    x[0, 0] = 1e6
    features = fit_recipe("scale", x).transform(x)
    assert np.abs(features[:, 2]).max() == 0
    assert features.max() <= 10
    assert np.allclose(features[:, 1], (x[:, 1] - x[:, 1].mean()) / x[:, 1].std(), atol=1e-5)


def test_scale_can_project_on_principal_components():
    features = fit_recipe("scale:pcs=3", REAL).transform(REAL)
    z = (REAL - REAL.mean(0)) / REAL.std(0)
    assert np.allclose(np.abs(features), np.abs(PCA(3, svd_solver="full").fit_transform(z)), atol=1e-4)


def test_image_standardises_each_channel():
    features = fit_recipe("image", IMAGES).transform(IMAGES)
    assert features.shape == IMAGES.shape
    assert np.allclose(features.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    assert np.allclose(features.std(axis=(0, 2, 3)), 1, atol=1e-4)


def test_none_is_none():
    assert np.array_equal(fit_recipe("none", REAL).transform(REAL), REAL)
    assert np.array_equal(fit_recipe("none", sp.csr_matrix(REAL)).transform(sp.csr_matrix(REAL)), REAL)


def test_missing_values_take_the_median_of_the_training_cells():
    x = REAL.copy()
    x[:5, 1] = np.nan
    recipe = fit_recipe("none", x, missing=True)
    assert np.allclose(recipe.transform(x)[:5, 1], np.median(REAL[5:, 1]))
    new = np.full((1, 6), np.nan, dtype=np.float32)
    assert np.allclose(recipe.transform(new)[0], np.nanmedian(x, axis=0))


@pytest.mark.parametrize("name", RECIPES)
def test_new_readings_go_through_the_fitted_recipe_row_by_row(name):
    x = IMAGES if name == "image" else TAGS if name == "protein" else COUNTS
    recipe = fit_recipe(name, x[:15])
    features = recipe.transform(x)
    assert features.dtype == np.float32
    assert np.allclose(recipe.transform(x[16:18]), features[16:18], atol=1e-4)


def test_a_recipe_is_fitted_on_the_training_cells_only():
    data = up.Dataset.from_arrays({"a": REAL, "b": TAGS}, {n: ["s", "t"] * 30 for n in "ab"}, recipes="none")
    changed = REAL.copy()
    changed[40:] *= 100
    other = up.Dataset.from_arrays({"a": changed, "b": TAGS}, {n: ["s", "t"] * 30 for n in "ab"}, recipes="none")
    train = {"a": np.arange(40)}
    one, two = (prepare(d, recipes="scale", train=train)["a"] for d in (data, other))
    assert np.allclose(one.recipe.arrays["mean"], two.recipe.arrays["mean"])
    assert np.allclose(one.features[:40], two.features[:40], atol=1e-6)


def test_recipes_are_chosen_by_modality():
    data = up.Dataset.from_arrays({"a": REAL, "b": TAGS}, {n: ["s", "t"] * 30 for n in "ab"}, recipes={"b": "scale"})
    assert (data["a"].recipe.name, data["b"].recipe.name) == ("scale", "scale")
    assert data["b"].recipe.reason == "asked for"


@pytest.mark.parametrize(
    ("spec", "word"),
    [("magic", "recipe must be one of"), ("counts:pca=5", "option of recipe"), ("counts:pcs=many", "whole number")],
)
def test_a_wrong_recipe_is_one_sentence(spec, word):
    with pytest.raises(OptionError, match=word):
        parse_recipe(spec)


@pytest.mark.parametrize("spec", ["counts:pcs=3", "protein", "scale:pcs=2"])
def test_a_recipe_says_how_it_was_asked_for(spec):
    recipe = fit_recipe(spec, np.random.default_rng(0).poisson(3, size=(20, 6)).astype(np.float32))
    assert parse_recipe(recipe.spec)[0] == parse_recipe(spec)[0]
    assert parse_recipe(spec)[1].items() <= parse_recipe(recipe.spec)[1].items()


def test_a_recipe_that_does_not_fit_the_shape_is_refused():
    with pytest.raises(OptionError, match="image"):
        fit_recipe("image", REAL)
    with pytest.raises(OptionError, match="dimensions"):
        fit_recipe("scale", IMAGES)


def test_features_do_not_depend_on_the_order_of_the_rows():
    labels = {n: ["s", "t"] * 30 for n in "ab"}
    order = RNG.permutation(60)
    one = up.Dataset.from_arrays({"a": COUNTS, "b": REAL}, labels)
    two = up.Dataset.from_arrays({"a": COUNTS[order], "b": REAL}, {**labels, "a": np.array(labels["a"])[order]})
    assert np.array_equal(one["a"].features[order], two["a"].features)
