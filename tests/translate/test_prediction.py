"""What is predicted of a modality, and what its columns are called, for every recipe."""

import numpy as np
import pytest
import scipy.sparse as sp

from unpaired.data.preprocess import fit_recipe
from unpaired.data.types import Modality
from unpaired.embed.embedding import Provenance
from unpaired.translate.prediction import SPACES, Prediction, feature_labels, target_values

N, P = 20, 7
GENES = np.array([f"gene{i}" for i in range(P)])
COLUMNS = {  # recipe -> names of its features; None: those of the readings
    "counts": [f"PC{i}" for i in range(1, P)],
    "counts:pcs=3": ["PC1", "PC2", "PC3"],
    "counts:pcs=2,hvg=4": ["PC1", "PC2"],
    "peaks": [f"LSI{i}" for i in range(1, P - 1)],
    "protein": None,
    "scale": None,
    "scale:pcs=3": ["PC1", "PC2", "PC3"],
    "none": None,
}


def counts():
    return np.random.default_rng(0).poisson(3, size=(N, P)).astype(np.float32)


def modality(X, recipe=None, *, names=None, missing=False):
    fitted = None if recipe is None else fit_recipe(recipe, X, missing=missing)
    n = X.shape[0]
    ids = np.array([f"rna:{i}" for i in range(n)])
    return Modality("rna", X, np.zeros(n, dtype=int), ids, feature_names=names, recipe=fitted)


@pytest.fixture(params=["dense", "csr"])
def readings(request):
    return sp.csr_matrix(counts()) if request.param == "csr" else counts()


@pytest.mark.parametrize("recipe", [*COLUMNS, None])
def test_features_are_the_recipes_and_have_its_names(readings, recipe):
    rna = modality(readings, recipe, names=GENES)
    values = target_values(rna, "features")
    assert np.array_equal(values, rna.features)
    assert values.dtype == np.float32
    expected = COLUMNS.get(recipe)
    assert list(feature_labels(rna, "features")) == (list(GENES) if expected is None else expected)
    assert len(feature_labels(rna, "features")) == values.shape[1]


@pytest.mark.parametrize("recipe", [*COLUMNS, None])
def test_raw_values_are_the_readings_as_measured(readings, recipe):
    rna = modality(readings, recipe, names=GENES)
    values = target_values(rna, "raw")
    if sp.issparse(readings):
        assert values is readings  # neither copied nor made dense
    else:
        assert np.array_equal(values, counts())
    assert list(feature_labels(rna, "raw")) == list(GENES)


@pytest.mark.parametrize("recipe", ["protein", "scale", "none", None])
def test_without_names_columns_are_numbered_under_the_modalitys_name(readings, recipe):
    assert list(feature_labels(modality(readings, recipe), "features")) == [f"rna {i}" for i in range(P)]


@pytest.mark.parametrize("recipe", COLUMNS)
def test_without_names_raw_columns_are_numbered_and_components_are_not(readings, recipe):
    rna = modality(readings, recipe)
    assert list(feature_labels(rna, "raw")) == [f"rna {i}" for i in range(P)]
    if COLUMNS[recipe] is not None:
        assert list(feature_labels(rna, "features")) == COLUMNS[recipe]


def test_a_scaling_to_fewer_components_than_readings_is_named_by_what_it_gives():
    """With as many components as readings or more, "scale" leaves the readings apart."""
    assert list(feature_labels(modality(counts(), f"scale:pcs={P}", names=GENES), "features")) == list(GENES)


@pytest.mark.parametrize("recipe", ["scale", "protein", "none", "counts", "scale:pcs=3"])
def test_missing_values_are_filled_as_the_recipe_does(recipe):
    X = counts()
    X[[0, 3, 3, 11], [2, 0, 5, 2]] = np.nan
    before = X.copy()
    rna = modality(X, recipe, missing=True)
    medians = np.nanmedian(X, axis=0)
    raw, features = (target_values(rna, s) for s in ("raw", "features"))
    filled = np.where(np.isnan(X), medians, X)
    np.testing.assert_allclose(raw, filled)
    assert np.array_equal(features, rna.recipe.transform(filled.astype(np.float32)))
    assert np.isfinite(raw).all()
    assert np.isfinite(features).all()
    assert np.array_equal(X, before, equal_nan=True)
    assert feature_labels(rna, "raw").shape == (P,)


@pytest.mark.parametrize("recipe", ["image", "none", None])
def test_images_are_flattened_row_by_row(recipe):
    X = np.random.default_rng(1).normal(size=(5, 2, 3, 4)).astype(np.float32)
    image = modality(X, recipe)
    raw, features = (target_values(image, s) for s in ("raw", "features"))
    assert np.array_equal(raw[:, (1 * 3 + 2) * 4 + 3], X[:, 1, 2, 3])
    assert np.array_equal(raw, X.reshape(5, 24))
    assert np.array_equal(features, image.features.reshape(5, 24))
    for space in SPACES:
        assert list(feature_labels(image, space)) == [f"rna {i}" for i in range(24)]


def test_names_of_something_else_than_the_columns_are_not_given_to_them():
    """Of images, say, the names may be those of the channels."""
    X = np.ones((5, 2, 3, 4), dtype=np.float32)
    for space in SPACES:
        assert list(feature_labels(modality(X, names=np.array(["dna", "actin"])), space))[:2] == ["rna 0", "rna 1"]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("recipe", [*COLUMNS, "image", None])
def test_no_cells_have_values_and_names_too(readings, recipe, space):
    X = np.ones((4, 2, 3, 4), dtype=np.float32) if recipe == "image" else readings
    whole = modality(X, recipe)
    none = whole.take(np.arange(0))
    assert target_values(none, space).shape == (0, target_values(whole, space).shape[1])
    assert np.array_equal(feature_labels(none, space), feature_labels(whole, space))


def test_names_are_found_also_where_the_first_cell_is_empty():
    X = counts()
    X[0] = 0
    for readings in (X, sp.csr_matrix(X)):
        assert list(feature_labels(modality(readings, "counts:pcs=2"), "features")) == ["PC1", "PC2"]


@pytest.mark.parametrize(("rows", "shown"), [([0, 1, 2], "3 cells"), ([1], "1 of 3 cells"), ([], "0 of 3 cells")])
def test_a_prediction_says_in_one_line_what_it_is(rows, shown):
    mean = np.zeros((len(rows), 2), dtype=np.float32)
    made_by = Provenance("Translator", {})
    found = Prediction("rna", "image", "raw", np.array(rows), 3, mean, mean, np.array(["a", "b"]), made_by)
    assert repr(found) == f"Prediction(rna -> image: {shown} x 2 raw; Translator)"
