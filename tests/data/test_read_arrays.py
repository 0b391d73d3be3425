"""The conventions of npz, text and parquet files, and what breaks them."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from unpaired.data.load import load_tables
from unpaired.data.read import read, read_npz, read_table
from unpaired.errors import DataError, OptionError

N = 12
IDS = [f"cell{i}" for i in range(N)]
LABELS = ["a", "b", "c"] * 4
RNA = np.random.default_rng(0).normal(size=(N, 5))
ADT = np.random.default_rng(1).normal(size=(N, 3))


def npz(path, **arrays):
    np.savez(path, **{"rna": RNA, "adt": ADT, "label": np.array(LABELS), **arrays})
    return path


def message(function, *files, **options):
    with pytest.raises(DataError) as caught:
        function(*files, **options)
    return str(caught.value)


def csv(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def adt(tmp_path):
    table = pd.DataFrame(ADT, columns=["p", "q", "r"]).assign(label=LABELS, id=IDS)
    table.to_csv(tmp_path / "adt.csv", index=False)
    return tmp_path / "adt.csv"


# --------------------------------------------------------------------------------------------------------------- npz


def test_rows_without_ids_are_never_pairs(tmp_path):
    data, _ = read_npz(npz(tmp_path / "x.npz"))
    assert data["rna"].ids[0] == "rna:0"
    assert "without ids" in message(read_npz, tmp_path / "x.npz", pairing="use")


@pytest.mark.parametrize("key", ["ids", "sample_id"])
def test_common_ids_make_pairs(tmp_path, key):
    data, truth = read_npz(npz(tmp_path / "x.npz", **{key: np.array(IDS)}), pairing="hide")
    assert sorted(data["rna"].ids) == sorted(f"rna:{i}" for i in IDS)
    assert (truth.partners("rna", "adt") >= 0).all()


def test_own_ids_and_labels_come_before_the_common_ones(tmp_path):
    own = {"adt_ids": np.array(IDS[::-1]), "adt_label": np.array(LABELS[::-1]), "sample_id": np.array(IDS)}
    data, _ = read_npz(npz(tmp_path / "x.npz", **own), pairing="use")
    assert data.pairs.partners("rna", "adt").tolist() == list(range(N - 1, -1, -1))
    assert [data.classes[c] for c in data["adt"].labels] == LABELS[::-1]


def test_modalities_of_different_lengths(tmp_path):
    file = npz(tmp_path / "x.npz", adt=ADT[:9], adt_label=np.array(LABELS[:9]), sample_id=np.array(IDS))
    data, _ = read_npz(file)
    assert (len(data["rna"]), len(data["adt"])) == (12, 9)
    assert data["adt"].ids[0] == "adt:0"
    text = message(read_npz, npz(tmp_path / "x.npz", adt=ADT[:9]))
    assert "x.npz:adt: array 'label' has 12 entries, but 'adt' has 9 rows. Write 'adt_label'" in text


def test_named_label_batch_bytes_and_byte_order(tmp_path):
    file = npz(tmp_path / "x.npz", digit=np.arange(N, dtype=">i4") % 3, day=np.array([b"mon", b"tue"] * 6))
    data, _ = read_npz(file, label="digit", batch="day")
    assert data.classes == ("0", "1", "2")
    assert data["rna"].batch[:2].tolist() == ["mon", "tue"]
    assert "has no column 'digits' (label). Did you mean 'digit'?" in message(read_npz, file, label="digits")


def test_images_and_features(tmp_path):
    images = np.random.default_rng(0).normal(size=(N, 2, 4, 4))
    file = npz(tmp_path / "x.npz", image=images, rna_features=np.array(list("vwxyz")))
    data, _ = read_npz(file, modalities=["image", "rna"])
    assert data["image"].X.shape == (N, 2, 4, 4)
    assert data["image"].X.dtype == np.float32
    assert data["image"].recipe.name == "image"
    assert data["rna"].feature_names.tolist() == list("vwxyz")
    wrong = npz(tmp_path / "x.npz", rna_features=np.array(list("abc")))
    assert "array 'rna_features' has 3 entries, but 'rna' has 5 columns" in message(read_npz, wrong)


def test_python_objects_are_refused(tmp_path):
    file = npz(tmp_path / "x.npz", label=np.array(LABELS, dtype=object), rna=RNA.astype(object))
    text = message(read_npz, file)
    assert "array 'label' holds Python objects, which could run code when read" in text
    assert "array 'rna' holds Python objects" in text
    data, _ = read_npz(npz(tmp_path / "y.npz", extra=np.array([{"a": 1}], dtype=object)))  # not needed, not read
    assert list(data) == ["rna", "adt"]


def test_arrays_of_other_dimensions(tmp_path):
    text = message(read_npz, npz(tmp_path / "x.npz", stack=np.ones((N, 4, 4)), version=np.array(3)))
    assert "array 'stack' has 3 dimensions; a table has 2, and images have 4" in text
    assert list(read_npz(tmp_path / "x.npz", modalities=["rna", "adt"])[0]) == ["rna", "adt"]


def test_npz_without_a_table(tmp_path):
    sp.save_npz(tmp_path / "sparse.npz", sp.csr_matrix(RNA))
    np.savez(tmp_path / "flat.npz", label=np.ones(3))
    assert "is one sparse matrix written by scipy.sparse.save_npz" in message(read_npz, tmp_path / "sparse.npz")
    assert "holds no array of 2 dimensions (its arrays: 'label')" in message(read_npz, tmp_path / "flat.npz")
    with pytest.raises(OptionError, match=r"modality 'atac' does not exist. There are these modalities: 'rna', 'adt'"):
        read_npz(npz(tmp_path / "x.npz"), modalities=["atac"])


# -------------------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize("name", ["id", "sample_id", "Cell", "barcode", "index", ""])
def test_ids_of_a_text_file(tmp_path, adt, name):
    rows = "\n".join(f"{i},{a},1.5,{k}" for k, (i, a) in enumerate(zip(IDS, LABELS, strict=True)))
    file = csv(tmp_path / "rna.csv", f"{name},label,x,y\n{rows}\n")
    data, _ = read_table(file, adt, label="label", pairing="use")
    assert data["rna"].ids[0] == "rna:cell0"
    assert data["rna"].feature_names.tolist() == ["x", "y"]


def test_row_names_as_r_writes_them(tmp_path, adt):
    rows = "\n".join(f'"{i}"\t"{a}"\t1.5\t{k}' for k, (i, a) in enumerate(zip(IDS, LABELS, strict=True)))
    data, _ = read_table(csv(tmp_path / "rna.tsv", f'"label"\t"x"\t"y"\n{rows}\n'), adt, label="label", pairing="use")
    assert data["rna"].ids[0] == "rna:cell0"
    assert data["rna"].X[3].tolist() == [1.5, 3.0]


def test_an_unnamed_column_of_row_numbers_beside_the_ids_is_left_out(tmp_path, adt):
    table = pd.DataFrame({"barcode": IDS, "label": LABELS, "x": range(N)})
    table.to_csv(tmp_path / "rna.csv")
    assert read_table(tmp_path / "rna.csv", adt, label="label")[0]["rna"].feature_names.tolist() == ["x"]
    table.set_axis([f"other{i}" for i in range(N)]).to_csv(tmp_path / "rna.csv")
    assert "its first column has no name, and 'barcode' looks like ids" in message(
        read_table, tmp_path / "rna.csv", adt, label="label"
    )
    table.assign(cell=IDS).to_csv(tmp_path / "rna.csv", index=False)
    assert "columns 'barcode', 'cell' all look like ids" in message(
        read_table, tmp_path / "rna.csv", adt, label="label"
    )


def test_missing_values_are_missing_in_numbers_and_names_in_labels(tmp_path, adt):
    cells = ["1", "NA", "nan", "", "NaN", *"2345678"]
    names = ["a", "NA", "", "b", "c", *(["a", "b", "c"] * 3)[:7]]
    rows = "\n".join(f"{n},{c},{k}.5,1" for k, (n, c) in enumerate(zip(names, cells, strict=True)))
    data, _ = read_table(csv(tmp_path / "rna.csv", f"label,x,y,z\n{rows}\n"), adt, label="label")
    assert np.flatnonzero(np.isnan(data["rna"].X[:, 0])).tolist() == [1, 2, 3, 4]
    assert data.classes == ("NA", "a", "b", "c")
    assert (data["rna"].labels == -1).sum() == 1
    assert any("1 cell carries the label 'NA', which is taken as a name" in n for n in data.notes)


def test_columns_that_are_no_numbers(tmp_path, adt):
    table = pd.DataFrame({"label": LABELS, "x": [1.0] * 5 + ["high"] * 7, "day": ["mon"] * N, "y": range(N)})
    for column in range(15):
        table[f"text{column}"] = "t"
    table.to_csv(tmp_path / "rna.csv", index=False)
    text = message(read_table, tmp_path / "rna.csv", adt, label="label")
    assert "rna.csv: column 'x' has 'high' in row 6 (7 values not a number). Drop it, or name it as" in text
    assert "column 'day' has 'mon' in row 1 (12 values not a number)" in text
    assert "7 more columns are not numbers: 'text8'" in text
    assert "'y'" not in text
    assert "'day'" not in message(read_table, tmp_path / "rna.csv", label="label", batch="day")


def test_mistyped_label_of_a_text_file(tmp_path, adt):
    text = message(read_table, adt, label="lable")
    assert "has no column 'lable'. Did you mean 'label'? There are these columns: 'p', 'q', 'r', 'label', 'id'" in text
    assert text.count("error:") == 1


def test_duplicate_columns(tmp_path, adt):
    rows = "\n".join(f"{a},1,{k}" for k, a in enumerate(LABELS))
    assert "1 feature name occurs more than once: 'x'" in message(
        read_table, csv(tmp_path / "rna.csv", f"label,x,x\n{rows}\n"), adt, label="label"
    )
    assert "has 2 columns named 'label'" in message(
        read_table, csv(tmp_path / "rna.csv", f"label,label,x\n{rows}\n"), adt, label="label"
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("label,x\na,1\nb\n", "line 3 has 1 cell, but the header has 2 columns"),
        ("label,x\na,1\nb,2,3\n", "line 3 has 3 cells, but the header has 2 columns"),
        ("label,x\n", "has a header, but no rows"),
    ],
)
def test_ragged_or_empty_text(tmp_path, adt, text, what):
    assert f"rna.csv: {what}" in message(read_table, csv(tmp_path / "rna.csv", text), adt, label="label")


def test_semicolons_decimal_commas_and_a_byte_order_mark(tmp_path, adt):
    rows = "\n".join(f"{i};{a};{k},5" for k, (i, a) in enumerate(zip(IDS, LABELS, strict=True)))
    data, _ = read_table(csv(tmp_path / "rna.csv", f"\ufeffid;label;x\n{rows}\n"), adt, label="label", pairing="use")
    assert data["rna"].X[:3, 0].tolist() == [0.5, 1.5, 2.5]


def test_quoted_and_unicode_labels(tmp_path, adt):
    rows = "\n".join(f'"{a}, high µ",{k}' for k, a in enumerate(LABELS))
    table = load_tables([csv(tmp_path / "rna.csv", f"label,x\n{rows}\n")], label="label")[0]
    assert table.obs["label"].iloc[0] == "a, high µ"


def test_parquet_of_nullable_columns(tmp_path, adt):
    table = pd.DataFrame(
        {"label": pd.Categorical(LABELS), "x": pd.array([1, None] * 6, dtype="Int64"), "y": [True] * N}
    )
    table.assign(z=np.float32(0.5)).to_parquet(tmp_path / "rna.parquet")
    X = load_tables([tmp_path / "rna.parquet"], label="label")[0].X
    np.testing.assert_array_equal(X[:2], [[1, 1, 0.5], [np.nan, 1, 0.5]])
    table["when"] = pd.Timestamp("2020-01-01")
    table.to_parquet(tmp_path / "rna.parquet")
    assert "column 'when' has '2020-01-01 00:00:00' in row 1" in message(
        read_table, tmp_path / "rna.parquet", adt, label="label"
    )


def test_whole_numbers_in_text_and_in_arrays_are_one_label(tmp_path):
    pd.DataFrame({"label": np.arange(N) % 3, "x": range(N)}).to_csv(tmp_path / "a.csv", index=False)
    np.savez(tmp_path / "b.npz", b=ADT, label=np.arange(N) % 3 + 0.0)
    data, _ = read(tmp_path / "a.csv", tmp_path / "b.npz", label="label")
    assert data.classes == ("0", "1", "2")
