"""Every kind of file goes in and comes out as the same data set; what cannot be read is named."""

import json

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from unpaired.data.detect import detect_kind
from unpaired.data.read import read, read_h5ad, read_h5mu, read_npz, read_table
from unpaired.errors import DataError, OptionError

N = 12
IDS = [f"cell{i}" for i in range(N)]
LABELS = ["a", "b", "c"] * 4
READINGS = {
    "rna": np.random.default_rng(0).normal(size=(N, 5)).astype(np.float32),
    "adt": np.random.default_rng(1).normal(size=(N, 3)).astype(np.float32),
}


def objects(**columns):
    out = {}
    for name, X in READINGS.items():
        obs = pd.DataFrame({"label": LABELS, **columns}, index=IDS)
        var = pd.DataFrame(index=[f"{name}_f{j}" for j in range(X.shape[1])])
        readings = sp.csr_matrix(X) if name == "rna" else X
        out[name] = anndata.AnnData(readings, obs=obs, var=var, layers={"double": readings * 2})
    return out


def frame(name, **columns):
    X = pd.DataFrame(READINGS[name], columns=[f"{name}_f{j}" for j in range(READINGS[name].shape[1])])
    return pd.concat([pd.DataFrame({"cell": IDS, "label": LABELS, **columns}), X], axis=1)


@pytest.fixture
def h5ad(tmp_path):
    for name, adata in objects().items():
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    return [tmp_path / "rna.h5ad", tmp_path / "adt.h5ad"]


@pytest.fixture
def h5mu(tmp_path):
    both = mudata.MuData(
        {n: anndata.AnnData(a.X, obs=a.obs[[]], var=a.var, layers=a.layers) for n, a in objects().items()}
    )
    both.obs["label"] = LABELS
    both.write(tmp_path / "both.h5mu")
    both.write_zarr(tmp_path / "both.zarr")
    return tmp_path / "both.h5mu"


def arrays():
    features = {f"{n}_features": np.array([f"{n}_f{j}" for j in range(X.shape[1])]) for n, X in READINGS.items()}
    return {**READINGS, **features, "label": np.array(LABELS), "sample_id": np.array(IDS)}


def npz(path, *, drop=(), **more):
    np.savez(path, **{k: a for k, a in {**arrays(), **more}.items() if k not in drop})
    return path


def check_same(data):
    assert data.classes == ("a", "b", "c")
    for name, X in READINGS.items():
        got = data[name].X.toarray() if sp.issparse(data[name].X) else data[name].X
        np.testing.assert_array_equal(got, X)
        assert data[name].ids.tolist() == [f"{name}:{i}" for i in IDS]
        assert data[name].feature_names.tolist() == [f"{name}_f{j}" for j in range(X.shape[1])]
        assert [data.classes[c] for c in data[name].labels] == LABELS


def message(*files, **options):
    with pytest.raises(DataError) as caught:
        read(*files, **{"label": "label", **options})
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------- round trips


def test_h5ad(h5ad):
    check_same(read_h5ad(*h5ad, label="label")[0])
    assert list(read_h5ad(*h5ad[::-1], label="label")[0]) == ["adt", "rna"]


def test_h5mu_and_zarr(h5mu):
    check_same(read_h5mu(h5mu, label="label")[0])
    check_same(read_h5mu(h5mu.with_suffix(".zarr"), label="label")[0])


def test_zarr_of_anndata(tmp_path):
    for name, adata in objects().items():
        adata.write_zarr(tmp_path / f"{name}.zarr")
    check_same(read(tmp_path / "rna.zarr", tmp_path / "adt.zarr", label="label")[0])


def test_npz(tmp_path):
    check_same(read_npz(npz(tmp_path / "x.npz"))[0])


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_text(tmp_path, separator):
    files = [tmp_path / f"{n}.txt" for n in READINGS]
    for name, file in zip(READINGS, files, strict=True):
        frame(name).to_csv(file, sep=separator, index=False)
    check_same(read_table(*files, label="label")[0])


def test_parquet_with_and_without_an_index(tmp_path):
    frame("rna").to_parquet(tmp_path / "rna.parquet")
    frame("adt").set_index("cell").rename_axis(None).to_parquet(tmp_path / "adt.parquet")
    check_same(read_table(tmp_path / "rna.parquet", tmp_path / "adt.parquet", label="label")[0])


def test_any_mixture(tmp_path, h5mu, h5ad):
    frame("adt").to_csv(tmp_path / "adt.csv", index=False)
    check_same(read(h5ad[0], tmp_path / "adt.csv", label="label", pairing="use")[0])
    both = read(h5mu, f"table={tmp_path / 'adt.csv'}", label="label")[0]
    assert list(both) == ["rna", "adt", "table"]


def test_files_of_an_older_anndata(tmp_path):
    """In files from before anndata 0.7 the tables are structured arrays."""
    import h5py

    for name, X in READINGS.items():
        obs = np.array(
            [(i.encode(), a.encode()) for i, a in zip(IDS, LABELS, strict=True)],
            dtype=[("index", "S9"), ("label", "S1")],
        )
        var = np.array([(f"{name}_f{j}".encode(),) for j in range(X.shape[1])], dtype=[("index", "S9")])
        with h5py.File(tmp_path / f"{name}.h5ad", "w") as file:
            file["X"], file["obs"], file["var"] = X, obs, var
    check_same(read_h5ad(tmp_path / "rna.h5ad", tmp_path / "adt.h5ad", label="label")[0])


def test_ids_and_labels_of_other_types(tmp_path):
    kinds = [pd.array([1, 2, None] * 4, dtype="Int64"), pd.Categorical(["1", "2", None] * 4)]
    for (name, adata), column in zip(objects().items(), kinds, strict=True):
        adata.obs["number"] = column
        adata.obs_names = [str(i) for i in range(N)]
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    data, _ = read_h5ad(tmp_path / "rna.h5ad", tmp_path / "adt.h5ad", label="number")
    assert data.classes == ("1", "2")
    assert data["rna"].labels.tolist() == data["adt"].labels.tolist() == [0, 1, -1] * 4


def test_labels_with_a_slash_or_markup(tmp_path):
    names = ["a/b", "<script>", "β-estradiol"] * 4
    for name, adata in objects(strange=names).items():
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    data, _ = read_h5ad(tmp_path / "rna.h5ad", tmp_path / "adt.h5ad", label="strange")
    assert data.classes == ("<script>", "a/b", "β-estradiol")


def test_layer_and_batch(tmp_path):
    for name, adata in objects(plate=["p1", "p2"] * 6).items():
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    files = [tmp_path / "rna.h5ad", tmp_path / "adt.h5ad"]
    data, _ = read_h5ad(*files, label="label", layer="double", batch="plate")
    np.testing.assert_array_equal(data["adt"].X, 2 * READINGS["adt"])
    assert data["adt"].batch.tolist() == ["p1", "p2"] * 6
    assert message(*files, layer="duble").count("has no layer 'duble'. Did you mean 'double'?") == 2


# ------------------------------------------------------------------------------------------------------------- names


def test_a_name_can_be_given_and_must_be_unique(tmp_path, h5ad):
    (tmp_path / "other").mkdir()
    copy = h5ad[0].rename(tmp_path / "other" / "adt.h5ad")
    with pytest.raises(OptionError, match=r"two modalities are named 'adt'.*name one as NAME=PATH") as caught:
        read(copy, h5ad[1], label="label")
    assert str(copy) in str(caught.value)
    check_same(read(f"rna={copy}", h5ad[1], label="label")[0])
    check_same(read(f"rna={copy}", f"adt={h5ad[1]}", label="label")[0])


def test_a_path_with_an_equals_sign(h5ad):
    odd = h5ad[0].rename(h5ad[0].with_name("a=b.h5ad"))
    assert list(read(str(odd), h5ad[1], label="label")[0]) == ["a=b", "adt"]


def test_a_layer_that_no_file_can_have(tmp_path):
    with pytest.raises(OptionError, match="layer needs an h5ad, h5mu or zarr file"):
        read(npz(tmp_path / "x.npz"), label="label", layer="counts")


def test_modalities_are_chosen_among_files_of_one_each(tmp_path, h5ad):
    third = tmp_path / "third.h5ad"
    third.write_bytes(h5ad[0].read_bytes())
    assert list(read(*h5ad, third, label="label", modalities=["rna", "third"])[0]) == ["rna", "third"]
    with pytest.raises(OptionError, match="protein"):
        read(*h5ad, label="label", modalities=["rna", "protein"])


@pytest.mark.parametrize("suffix", [".h5mu", ".zarr"])
def test_modalities_are_chosen_and_ordered(h5mu, h5ad, suffix):
    file = h5mu.with_suffix(suffix)
    assert list(read_h5mu(file, label="label", modalities=["adt", "rna"])[0]) == ["adt", "rna"]
    assert list(read(file, f"second={h5ad[0]}", label="label", modalities=["adt", "second"])[0]) == ["adt", "second"]
    assert list(read(f"first={file}", f"2={h5ad[0]}", label="label", modalities=["adt", "2"])[0]) == ["first", "2"]
    with pytest.raises(OptionError, match=r"modality 'rnaa' does not exist. Did you mean 'rna'"):
        read(file, label="label", modalities=["rnaa"])
    with pytest.raises(OptionError, match="'first' cannot name them all"):
        read(f"first={file}", label="label")


# -------------------------------------------------------------------------------------------------------- wrong files


def test_every_unreadable_file_is_reported_at_once(tmp_path, h5ad):
    (tmp_path / "empty.h5ad").touch()
    (tmp_path / "table.h5ad").write_text("a,b\n1,2\n")
    (tmp_path / "cut.h5ad").write_bytes(h5ad[0].read_bytes()[:4000])
    (tmp_path / "folder").mkdir()
    bad = [tmp_path / f for f in ("empty.h5ad", "table.h5ad", "cut.h5ad", "folder", "rnb.h5ad")]
    text = message(*bad, h5ad[0])
    assert text.count("error:") == 5
    assert f"{bad[0]}: is empty (0 bytes). Copy or download it again." in text
    assert f"{bad[1]}: is a text file (it starts with 'a,b'), not what its name's ending .h5ad says." in text
    assert f"{bad[2]}: is a truncated HDF5 file: its end is missing." in text
    assert f"{bad[3]}: is a directory, but not a zarr store" in text
    assert f"{bad[4]}: does not exist. Did you mean 'rna.h5ad'" in text


def test_other_content_than_the_name_says(tmp_path, h5ad):
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    (tmp_path / "x.csv.gz").write_bytes(b"\x1f\x8b\x08\x00rest")
    (tmp_path / "x.bin").write_bytes(bytes(range(256)))
    (tmp_path / "x.parquet").write_bytes(b"PAR1" + b"x" * 50)
    (tmp_path / "x.npz").write_bytes(npz(tmp_path / "whole.npz").read_bytes()[:-100])
    expected = {
        "x.npy": "is a single numpy array",
        "x.csv.gz": "is compressed by gzip. Unpack it first",
        "x.bin": "is of no known kind. Known are h5ad",
        "x.parquet": "is a truncated parquet file",
        "x.npz": "is a damaged zip archive",
    }
    text = message(*(tmp_path / f for f in expected))
    for name, what in expected.items():
        assert f"{tmp_path / name}: {what}" in text
    assert detect_kind(h5ad[0].rename(tmp_path / "odd.csv")) == "h5ad"


def test_hdf5_and_zarr_without_a_data_set(tmp_path):
    import h5py
    import zarr

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["matrix"] = np.ones(3)
    zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    text = message(tmp_path / "x.h5", tmp_path / "x.zarr")
    assert "x.h5: is an HDF5 file, but neither AnnData nor MuData (its root holds matrix)." in text
    assert "x.zarr: is a zarr store, but neither AnnData nor MuData." in text


def test_damage_within_a_file_is_one_sentence(tmp_path, h5ad):
    import h5py

    with h5py.File(h5ad[0], "a") as file:
        file["X"].attrs["encoding-type"] = "no-such-thing"
    text = message(*h5ad)
    assert f"{h5ad[0]}: is damaged, or written in an unknown way" in text
    assert "\n" not in text


def test_front_doors_say_where_to_go(tmp_path, h5ad, h5mu):
    text = [
        (lambda: read_h5ad(h5mu, h5ad[0], label="label"), "is a file of kind h5mu, not h5ad. Use read_h5mu or read."),
        (lambda: read_h5mu(h5ad[0], label="label"), "is a file of kind h5ad, not h5mu or zarr. Use read_h5ad or read."),
        (lambda: read_npz(h5ad[0]), "is a file of kind h5ad, not npz."),
        (lambda: read_table(npz(tmp_path / "x.npz"), label="label"), "is a file of kind npz, not csv or parquet."),
    ]
    for call, what in text:
        with pytest.raises(DataError) as caught:
            call()
        assert what in str(caught.value)


def test_unreadable_permissions(h5ad, monkeypatch):
    def refuse(*_args, **_options):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.open", refuse)
    assert "may not be read by this user" in message(*h5ad)


def test_no_file_at_all():
    with pytest.raises(OptionError, match="at least one file"):
        read(label="label")


def test_one_modality_alone(h5ad):
    assert "at least two modalities are needed; only 'rna' is given" in message(h5ad[0])


def test_mistyped_label(h5ad):
    assert message(*h5ad, label="lable").count("has no column 'lable' (label). Did you mean 'label'?") == 2


def test_zarr_of_both_formats(tmp_path, h5mu):
    names = {p.name for p in h5mu.with_suffix(".zarr").iterdir()}
    assert names & {"zarr.json", ".zgroup"}
    if ".zgroup" in names:
        assert json.loads((h5mu.with_suffix(".zarr") / ".zgroup").read_text())["zarr_format"] == 2


def test_without_a_label_all_cells_have_one(tmp_path):
    for name in "ab":
        pd.DataFrame({"id": ["x", "y", "z"], "f": [1.5, 2, 3], "g": [0.5, 1, 4]}).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    data, truth = read(tmp_path / "a.csv", tmp_path / "b.csv", label=None, pairing="use")
    assert data.classes == ("all cells",)
    assert truth is None
    for modality in data.modalities.values():
        assert modality.labels.tolist() == [0, 0, 0]
    assert data.pairs.partners("a", "b").tolist() == [0, 1, 2]
    assert data.notes == ()
