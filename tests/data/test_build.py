"""Tables become a data set: converted, matched by the names of labels, pairs used or hidden, nothing modified."""

import hashlib
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from unpaired.data.build import build_dataset, tables_from_arrays
from unpaired.data.scan import readings
from unpaired.data.tables import split_mudata, table_from_anndata
from unpaired.data.types import Dataset
from unpaired.errors import DataError, OptionError

N = 40


def arrays(n=N, seed=0):
    rng = np.random.default_rng(seed)
    return {"rna": rng.normal(size=(n, 5)).astype(np.float32), "adt": rng.normal(size=(n, 3)).astype(np.float32)}


def labels(n=N):
    return {
        "rna": np.array(["a", "b", "c", "d"])[np.arange(n) % 4],
        "adt": np.array(["a", "b", "c", "d"])[np.arange(n) % 4],
    }


def ids(n=N):
    return {name: [f"cell{i}" for i in range(n)] for name in ("rna", "adt")}


def build(X=None, y=None, names=None, batch=None, **options):
    tables = tables_from_arrays(X or arrays(), y or labels(), ids=names, batch=batch)
    options = {"label": "label", "recipes": "none", **options}
    return build_dataset(tables, batch=None if batch is None else "batch", **options)


# ------------------------------------------------------------------------------------------------------------ arrays


def layouts():
    base = np.random.default_rng(0).integers(0, 2, size=(N, 5))
    base[0] = 1
    dense = {d: base.astype(d) for d in ("bool", "int8", "int16", "uint16", "float16", "float64", ">f4", ">i2")}
    sparse = {f: sp.coo_matrix(base.astype(np.int16)).asformat(f) for f in ("csr", "csc", "coo", "lil", "dok", "bsr")}
    frozen = base.astype(np.float32)
    frozen.flags.writeable = False
    odd = {"fortran": np.asfortranarray(base), "negative strides": base[::-1][::-1], "read-only": frozen}
    odd |= {
        "table": pd.DataFrame(base),
        "matrix": np.asmatrix(base),
        "csr_array": sp.csr_array(base),
        "list": base.tolist(),
    }
    return base, dense | sparse | odd


@pytest.mark.parametrize("layout", list(layouts()[1]))
def test_any_layout_gives_the_same_readings(layout):
    base, made = layouts()
    data, _ = build({"rna": made[layout], "adt": arrays()["adt"]})
    X = data["rna"].X
    assert X.dtype == np.float32
    if sp.issparse(X):
        assert X.format == "csr"
        assert X.has_canonical_format
        X = X.toarray()
    else:
        assert X.flags.c_contiguous
        assert X.dtype.isnative
    np.testing.assert_array_equal(X, base)


def test_what_is_right_already_is_not_copied():
    X = arrays()
    assert np.shares_memory(build(X)[0]["rna"].X, X["rna"])
    rows = sp.random(N, 5, density=0.5, format="csr", dtype=np.float32)
    assert np.shares_memory(readings(rows).data, rows.data)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo"])
def test_a_messy_sparse_matrix_is_tidied_in_a_copy(kind):
    row, column, value = (
        np.array([0, 0, 1, 1, 2]),
        np.array([2, 0, 1, 1, 0]),
        np.array([1, 2, 3, 4, 0], dtype=np.float32),
    )
    if kind == "coo":
        messy = sp.coo_matrix((value, (row, column)), shape=(3, 3))
    else:
        messy = sp.csr_matrix((value, column, [0, 2, 4, 5]), shape=(3, 3))
        messy = messy if kind == "csr" else sp.csc_matrix((messy.data, messy.indices, messy.indptr), shape=(3, 3))
    before = pickle.dumps({k: v for k, v in vars(messy).items() if isinstance(v, np.ndarray)})
    tidy = readings(messy)
    assert before == pickle.dumps({k: v for k, v in vars(messy).items() if isinstance(v, np.ndarray)})
    assert tidy.has_canonical_format
    assert (tidy.data != 0).all()
    np.testing.assert_array_equal(tidy.toarray(), messy.toarray())


def test_small_integers_do_not_overflow():
    doubled = sp.coo_matrix((np.array([100, 100], dtype=np.int8), ([0, 0], [0, 0])), shape=(1, 1))
    assert readings(doubled)[0, 0] == 200


def test_64_bit_indices():
    rows = sp.random(6, 5, density=0.5, format="csr", dtype=np.float32)
    rows.indices, rows.indptr = rows.indices.astype(np.int64), rows.indptr.astype(np.int64)
    np.testing.assert_array_equal(readings(rows).toarray(), rows.toarray())


def test_masked_values_are_missing():
    X = np.ma.masked_array(arrays()["rna"], mask=np.eye(N, 5, dtype=bool))
    data, _ = build({"rna": X, "adt": arrays()["adt"]}, recipes="scale")
    assert np.isnan(data["rna"].X).sum() == 5
    assert np.isfinite(data["rna"].features).all()


def test_sparse_readings_with_missing_values_are_filled():
    X = sp.csr_matrix(np.where(np.eye(N, 5) > 0, np.nan, arrays()["rna"]))
    data, _ = build({"rna": X, "adt": arrays()["adt"]}, recipes="scale")
    assert np.isfinite(data["rna"].features).all()


def test_wrong_lengths_are_reported_together():
    with pytest.raises(DataError) as caught:
        tables_from_arrays(arrays(), {"rna": ["a"] * 3, "adt": np.ones((N, 2))}, ids={"rna": ["x"]})
    text = str(caught.value)
    assert "memory:rna: X has 40 rows, but labels has the shape (3,)" in text
    assert "memory:rna: X has 40 rows, but ids has the shape (1,)" in text
    assert "memory:adt: X has 40 rows, but labels has the shape (40, 2)" in text
    with pytest.raises(DataError, match="memory:adt: has no labels"):
        tables_from_arrays(arrays(), {"rna": labels()["rna"]})


def test_arguments_that_are_no_mappings():
    with pytest.raises(OptionError, match="labels must map the names of modalities to arrays; got list"):
        tables_from_arrays(arrays(), ["a"] * N)
    with pytest.raises(OptionError, match=r"ids names the modality 'rnb'. Did you mean 'rna'"):
        tables_from_arrays(arrays(), labels(), ids={"rnb": []})


def test_a_series_is_taken_by_position():
    column = pd.Series(labels()["rna"], index=range(N, 0, -1))
    data, _ = build(y={"rna": column, "adt": labels()["adt"]})
    assert [data.classes[c] for c in data["rna"].labels] == labels()["rna"].tolist()


# ------------------------------------------------------------------------------------------------------------ labels


@pytest.mark.parametrize("swap", [False, True])
def test_labels_are_matched_by_name_not_by_code(swap):
    one = pd.Categorical(labels()["rna"], categories=["d", "c", "b", "a"])
    y = {"rna": one, "adt": labels()["adt"]}
    X = arrays()
    if swap:
        X, y = dict(reversed(X.items())), dict(reversed(y.items()))
    data, _ = build(X, y)
    assert data.classes == ("a", "b", "c", "d")
    assert list(data) == list(X)
    np.testing.assert_array_equal(data["rna"].labels, data["adt"].labels)


def test_numbers_and_their_text_are_one_label():
    data, _ = build(y={"rna": np.arange(N) % 4, "adt": [str(i % 4) for i in range(N)]})
    assert data.classes == ("0", "1", "2", "3")
    np.testing.assert_array_equal(data["rna"].labels, data["adt"].labels)


def test_unknown_labels_and_unused_categories():
    column = pd.Categorical([None, *labels()["rna"][1:]], categories=["a", "b", "c", "d", "ghost"])
    data, _ = build(y={"rna": column, "adt": ["", *labels()["adt"][1:]]})
    assert data.classes == ("a", "b", "c", "d")
    assert data["rna"].labels[0] == data["adt"].labels[0] == -1
    assert sum("1 cell of 40 has no label" in n for n in data.notes) == 2


def test_ids_carry_the_modality_and_equal_ids_are_no_pairs():
    data, truth = build(names=ids())
    assert data["rna"].ids[:2].tolist() == ["rna:cell0", "rna:cell1"]
    assert data.pairs is None
    assert truth is None
    assert build()[0]["adt"].ids[0] == "adt:0"


def test_batch_names():
    batch = {"rna": [1, 2] * 20, "adt": ["x", None] * 20}
    data, _ = build(batch=batch)
    assert data["rna"].batch[:2].tolist() == ["1", "2"]
    assert data["adt"].batch[:2].tolist() == ["x", "unknown"]


def test_errors_raise_with_all_problems():
    with pytest.raises(DataError) as caught:
        build({"rna": arrays()["rna"] * np.inf, "adt": arrays()["adt"]}, {"rna": ["a"] * N, "adt": ["b"] * N})
    assert [p.severity for p in caught.value.problems][:2] == ["error", "error"]


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295; got -1"),
        ({"pairing": "yes"}, "pairing must be one of hide, none, use"),
        ({"missing": "zero"}, "missing must be one of error, median"),
        ({"max_cells_per_label": 0}, "max_cells_per_label must be a whole number of at least 1"),
        ({"recipes": {"rnaa": "scale"}}, "recipes names the modality 'rnaa'. Did you mean 'rna'"),
        ({"recipes": {"rna": "log"}}, "recipe must be one of"),
        ({"label": 3}, "label must be the name of a column; got 3"),
    ],
)
def test_options_are_checked_before_the_data(option, text):
    with pytest.raises(OptionError, match="^" + text.replace(".", r"\.")):
        build({"rna": arrays()["rna"] * np.inf, "adt": arrays()["adt"]}, **option)


def test_names_of_modalities():
    with pytest.raises(OptionError, match="without a slash; got 'a/b', 'adt'"):
        build({"a/b": arrays()["rna"], "adt": arrays()["adt"]}, {"a/b": labels()["rna"], "adt": labels()["adt"]})


# ----------------------------------------------------------------------------------------------------------- objects


def anndatas():
    rng = np.random.default_rng(0)
    out = {}
    for name, p in (("rna", 6), ("adt", 4)):
        obs = pd.DataFrame({"label": pd.Categorical(labels()[name])}, index=ids()[name])
        X = sp.csc_matrix(rng.poisson(20, size=(N, p)).astype(np.int32)) if name == "rna" else rng.normal(size=(N, p))
        out[name] = AnnData(X, obs=obs, layers={"double": X * 2}, uns={"key": {"a": [1, 2]}})
    return out


def fingerprint(adata):
    parts = [adata.X, adata.layers["double"]]
    parts = [[p.data, p.indices, p.indptr] if sp.issparse(p) else [p] for p in parts]
    content = [a.tobytes() + str(a.dtype).encode() for part in parts for a in part]
    content += [pickle.dumps([adata.obs, adata.var, adata.uns]), str(type(adata.X)).encode()]
    return hashlib.sha256(b"".join(content)).hexdigest()


def test_objects_of_the_user_are_not_modified():
    objects = anndatas()
    before = {n: fingerprint(a) for n, a in objects.items()}
    data = Dataset.from_anndata(label="label", pairing="use", **objects)
    _ = data["rna"].features, data["adt"].features, data["rna"].order
    both = MuData({n: a.copy() for n, a in anndatas().items()})
    inside = {n: fingerprint(both[n]) for n in both.mod}
    Dataset.from_mudata(both, label="label")
    assert before == {n: fingerprint(a) for n, a in objects.items()}
    assert inside == {n: fingerprint(both[n]) for n in both.mod}


def test_layers_and_views():
    objects = anndatas()
    data = Dataset.from_anndata(label="label", layer="double", **{n: a[::2] for n, a in objects.items()})
    np.testing.assert_array_equal(data["rna"].X.toarray(), 2 * objects["rna"].X.toarray()[::2])
    with pytest.raises(DataError, match=r"memory:rna: has no layer 'duble'. Did you mean 'double'"):
        Dataset.from_anndata(label="label", layer="duble", **objects)
    with pytest.raises(DataError, match=r"memory:rna: has no X. Name a layer: 'double'"):
        table_from_anndata(AnnData(layers={"double": np.ones((2, 2))}), name="rna")
    with pytest.raises(OptionError, match="modality 'rna' must be an AnnData object; got ndarray"):
        table_from_anndata(np.ones((2, 2)), name="rna")


def test_backed_object(tmp_path):
    import anndata

    for name, adata in anndatas().items():
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    backed = {n: anndata.read_h5ad(tmp_path / f"{n}.h5ad", backed="r") for n in ("rna", "adt")}
    data = Dataset.from_anndata(label="label", **backed)
    np.testing.assert_array_equal(data["rna"].X.toarray(), anndatas()["rna"].X.toarray())


def mudata_with_common_labels():
    """Return an object whose labels stand only in the common obs; adt lacks four cells and has another order."""
    objects = {n: AnnData(a.X, obs=a.obs[[]]) for n, a in anndatas().items()}
    objects["adt"] = objects["adt"][list(range(N - 1, 3, -1))].copy()
    both = MuData(objects)
    known = dict(zip(ids()["rna"], labels()["rna"], strict=True))
    both.obs["label"] = [known[c] for c in both.obs_names]
    return both


def test_common_labels_reach_every_modality():
    parts = split_mudata(mudata_with_common_labels())
    for part in parts.values():
        assert part.obs["label"].tolist() == ["abcd"[int(c.removeprefix("cell")) % 4] for c in part.obs_names]
    assert "label" not in mudata_with_common_labels()["rna"].obs


def test_common_labels_with_a_stale_map_are_found_by_name():
    both = mudata_with_common_labels()
    both.mod["adt"] = both.mod["adt"][:10].copy()
    part = split_mudata(both)["adt"]
    assert part.obs["label"].tolist() == ["abcd"[int(c.removeprefix("cell")) % 4] for c in part.obs_names]


def test_prefixed_columns_of_the_common_obs():
    both = mudata_with_common_labels()
    del both.obs["label"]
    both.obs["adt:label"] = [f"adt {c}" for c in both.obs_names]
    both.obs["rna:label"] = [f"rna {c}" for c in both.obs_names]
    parts = split_mudata(both)
    assert parts["rna"].obs["label"].tolist() == [f"rna {c}" for c in parts["rna"].obs_names]
    assert parts["adt"].obs["label"].tolist() == [f"adt {c}" for c in parts["adt"].obs_names]
    with pytest.raises(OptionError, match=r"modality 'rn' does not exist. Did you mean 'rna'"):
        split_mudata(both, ["rn"])
