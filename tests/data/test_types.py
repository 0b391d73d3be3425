"""The core types: names, directions, subsets, partners, and cells told by what was measured."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import unpaired as up
from unpaired.data.content import row_keys
from unpaired.errors import OptionError

X = np.random.default_rng(0).poisson(1.0, size=(30, 5)).astype(np.float32) + np.arange(30)[:, None]


def three():
    labels = ["s", "t"] * 15
    return up.Dataset.from_arrays(
        {n: X + i for i, n in enumerate("abc")},
        dict.fromkeys("abc", labels),
        ids={n: [f"x{i}" for i in range(30)] for n in "abc"},
        pairing="use",
        recipes="none",
    )


def test_two_modalities_need_no_naming_and_three_do():
    data = three()
    two = up.Dataset({n: data[n] for n in "ab"}, data.classes)
    assert two.direction() == ("a", "b")
    assert two.direction(target="a") == ("b", "a")
    assert two.direction(source="b") == ("b", "a")
    assert data.direction("c", "a") == ("c", "a")
    with pytest.raises(OptionError, match="name the source and the target"):
        data.direction("c")
    with pytest.raises(OptionError, match="must differ"):
        data.direction("c", "c")
    with pytest.raises(OptionError, match="a, b, c"):
        data.direction("a", "d")


def test_what_a_dataset_says_of_itself():
    data = three()
    assert list(data) == ["a", "b", "c"]
    assert len(data) == 3
    assert repr(data) == "Dataset(a 30x5, b 30x5, c 30x5; 2 labels; paired)"
    assert data.code("t") == 1
    with pytest.raises(OptionError, match="modality must be one of a, b, c"):
        data["z"]


def test_a_subset_keeps_everything_aligned():
    data = three()
    rows = np.array([7, 3, 20])
    part = data.take({"b": rows})
    assert np.array_equal(part["b"].X, data["b"].X[rows])
    assert part["b"].ids.tolist() == data["b"].ids[rows].tolist()
    assert len(part["a"]) == 30
    assert part.pairs.partners("b", "a").tolist() == rows.tolist()


def test_partners_are_minus_one_where_unknown():
    truth = up.Truth({"a": np.array([4, -1, 2]), "b": np.array([2, 9, -1, 4])})
    assert truth.partners("a", "b").tolist() == [3, -1, 0]
    assert truth.partners("b", "a").tolist() == [2, -1, -1, 0]


def test_keys_tell_readings_apart_and_modalities_too():
    keys = row_keys(X, salt="a")
    assert len(np.unique(keys)) == 30
    assert not np.isin(keys, row_keys(X, salt="b")).any()
    order = np.random.default_rng(1).permutation(30)
    assert np.array_equal(row_keys(X[order], salt="a"), keys[order])
    assert row_keys(np.vstack([X[0], X[0]]), salt="a").tolist() == [keys[0], keys[0]]


def test_sparse_keys_do_not_depend_on_how_the_matrix_is_stored():
    dense = X * (X > 3)
    csr = sp.csr_matrix(dense)
    assert np.array_equal(row_keys(csr, salt="a"), row_keys(sp.csr_matrix(dense.astype(np.float64)), salt="a"))
    assert np.array_equal(row_keys(csr[::-1], salt="a"), row_keys(csr, salt="a")[::-1])


def test_the_canonical_order_is_that_of_the_readings():
    a = three()["a"]
    order = np.random.default_rng(1).permutation(30)
    shuffled = a.take(order)
    assert np.array_equal(a.X[a.order], shuffled.X[shuffled.order])
