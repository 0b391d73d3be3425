"""The picture of a space: which cells are drawn, by UMAP where there is one, else by principal components."""

import sys
from types import ModuleType

import numpy as np
import pytest

from unpaired.run import plane


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {"rna": rng.normal(size=(50, 5)), "adt": rng.normal(size=(30, 5))}


def test_without_umap_it_is_principal_components_of_all(arrays, monkeypatch):
    monkeypatch.setattr(plane, "find_spec", lambda _: None)
    xy, method = plane.in_plane(arrays, seed=0)
    assert method == "PCA"
    assert {n: a.shape for n, a in xy.items()} == {"rna": (50, 2), "adt": (30, 2)}
    together = np.concatenate(list(arrays.values()))
    values = np.linalg.svd(together - together.mean(0), compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(np.concatenate(list(xy.values())), axis=0), values[:2])


def test_with_umap_it_is_asked_once_for_all_modalities_by_cosine(arrays, monkeypatch):
    asked = []

    class UMAP:
        def __init__(self, **options):
            asked.append(options)

        def fit_transform(self, x):
            return x[:, :2]

    module = ModuleType("umap")
    module.UMAP = UMAP
    monkeypatch.setitem(sys.modules, "umap", module)
    monkeypatch.setattr(plane, "find_spec", lambda _: object())
    xy, method = plane.in_plane(arrays, seed=2**32 - 1)
    assert method == "UMAP"
    (options,) = asked
    assert options["metric"] == "cosine"
    assert 0 <= options["random_state"] < 2**31
    np.testing.assert_array_equal(xy["adt"], arrays["adt"][:, :2])


def test_of_many_cells_some_are_drawn_by_the_seed(arrays, monkeypatch):
    monkeypatch.setattr(plane, "find_spec", lambda _: None)
    monkeypatch.setattr(plane, "MOST", 20)
    drawn = [np.isfinite(np.concatenate(list(plane.in_plane(arrays, seed=s)[0].values()))[:, 0]) for s in (0, 0, 1)]
    assert [d.sum() for d in drawn] == [20, 20, 20]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()
