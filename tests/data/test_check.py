"""Every bad input gets a sentence that names what is wrong, and where."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from unpaired.data.build import tables_from_arrays
from unpaired.data.check import check_tables
from unpaired.data.tables import Table
from unpaired.errors import OptionError, Problem

N = 12


def table(name="rna", *, X=None, labels=None, ids=None, features=None, numbered=False, **columns):
    X = np.random.default_rng(len(name)).normal(size=(N, 5)).astype(np.float32) if X is None else X
    n = X.shape[0]
    labels = [["a", "b", "c"][i % 3] for i in range(n)] if labels is None else labels
    ids = [f"{name}{i}" for i in range(n)] if ids is None else ids
    obs = pd.DataFrame({"label": labels, **columns}, index=ids)
    names = np.array([f"{name}_f{j}" for j in range(X.shape[1])]) if features is None and X.ndim == 2 else features
    return Table(name, X, obs, names, None, f"{name}.h5ad", numbered)


def counts(n=N, p=6, seed=0):
    return np.random.default_rng(seed).poisson(30, size=(n, p)).astype(np.float32) * 40


def found(*tables, severity="error", label="label", **options):
    return [p for p in check_tables(tables, label=label, **options) if p.severity == severity]


def only(problems) -> Problem:
    assert len(problems) == 1, [str(p) for p in problems]
    return problems[0]


def test_good_tables_have_only_notes():
    problems = check_tables([table(), table("adt")], label="label")
    assert {p.severity for p in problems} == {"note"}
    assert "12 cells x 5 features; recipe 'scale' (real values" in str(problems[0])


# -------------------------------------------------------------------------------------------------------- modalities


def test_one_modality_is_too_few():
    assert "at least two modalities are needed; only 'rna' is given" in only(found(table())).what


def test_everything_is_reported_at_once():
    bad = table(X=np.full((N, 5), np.inf, dtype=np.float32), labels=[None] * N)
    worse = table("adt", X=np.zeros((N, 0), dtype=np.float32))
    texts = " ".join(str(p) for p in found(bad, worse))
    assert "infinite" in texts
    assert "all 12 cells are unlabelled" in texts
    assert "has 0 features" in texts


def test_errors_come_first():
    single = ["a"] * 6 + ["b"] * 5 + ["c"]
    severities = [p.severity for p in check_tables([table(labels=single), table("adt")], label="lable")]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)


@pytest.mark.parametrize("option", [{"missing": "mean"}, {"pairing": "both"}, {"recipes": "countz"}])
def test_unknown_options(option):
    with pytest.raises(OptionError, match="must be one of"):
        check_tables([table(), table("adt")], label="label", **option)


# ------------------------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("as_sparse", [False, True])
def test_nan_is_a_warning_that_states_the_policy(swap, as_sparse):
    X = table().X.copy()
    X[3, 2] = X[4, 1] = np.nan
    bad, good = table(X=sp.csr_matrix(X) if as_sparse else X), table("adt")
    problem = only(found(*((good, bad) if swap else (bad, good)), severity="warning"))
    assert problem.where == "rna.h5ad"
    assert "2 values of X (3.3 %) are missing (NaN), the first in cell 'rna3' at feature 'rna_f2'" in problem.what
    assert "median" in problem.fix


def test_nan_is_an_error_on_request():
    X = table().X.copy()
    X[3, 2] = np.nan
    problem = only(found(table(X=X), table("adt"), missing="error"))
    assert "cell 'rna3' at feature 'rna_f2'" in problem.what
    assert "missing='median'" in problem.fix


def test_nan_among_counts_cannot_be_filled():
    X = counts()
    X[0, 0] = np.nan
    problem = only(found(table(X=X), table("adt"), recipes={"rna": "counts"}))
    assert "recipe 'counts' is for counts" in problem.what
    assert "--recipe rna=scale" in problem.fix
    assert not found(table(X=X), table("adt"), recipes={"rna": "scale"})


def test_feature_and_cell_that_no_median_can_fill():
    X = table().X.copy()
    X[:, 1] = np.nan
    X[7, :3] = np.nan
    texts = [p.what for p in found(table(X=X), table("adt"))]
    assert "1 feature has no measured value at all, the first is 'rna_f1'." in texts
    assert "of 1 cell more than half of the values are missing, the first is 'rna7' (3 of 5)." in texts


def test_nan_in_images():
    images = np.ones((N, 1, 4, 4), dtype=np.float32)
    images[2, 0, 1, 3] = np.nan
    problem = only(found(table(X=images), table("adt")))
    assert "cell 'rna2' at feature pixel (0, 1, 3); images must be complete" in problem.what


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300])
def test_infinite_values_and_those_that_single_precision_makes_so(value):
    X = table().X.astype(np.float64)
    X[5, 4] = value
    problem = only(found(table(X=X), table("adt")))
    assert "1 value of X is infinite" in problem.what
    assert "cell 'rna5' at feature 'rna_f4'" in problem.what


def test_infinite_value_of_sparse_readings_in_any_format():
    X = np.zeros((N, 5))
    X[5, 4], X[:, 0] = np.inf, np.arange(N)
    for kind in ("csr", "csc", "coo", "lil", "dok"):
        assert (
            "cell 'rna5' at feature 'rna_f4'" in found(table(X=sp.coo_matrix(X).asformat(kind)), table("adt"))[0].what
        )


@pytest.mark.parametrize("recipe", ["counts", "peaks", "protein"])
def test_negative_values_matter_only_to_counts(recipe):
    X = counts()
    X[1, 2] = -1
    problem = only(found(table(X=X), table("adt"), recipes={"rna": recipe}))
    assert (
        f"1 value of X is negative, the first in cell 'rna1' at feature 'rna_f2', and recipe '{recipe}'" in problem.what
    )
    assert not found(table(X=X), table("adt"))


@pytest.mark.parametrize(
    ("X", "kind"),
    [
        (np.full((N, 2), 1.0, dtype=object), "Python objects (dtype object)"),
        (np.full((N, 2), "x"), "text (dtype <U1)"),
        (np.full((N, 2), 1j), "complex numbers (dtype complex128)"),
        (np.zeros((N, 2), dtype="datetime64[s]"), "dates (dtype datetime64[s])"),
    ],
)
def test_readings_that_are_no_numbers(X, kind):
    assert kind in only(found(table(X=X), table("adt"))).what


@pytest.mark.parametrize("shape", [(N,), (N, 3, 3), (N, 2, 2, 2, 2)])
def test_wrong_number_of_dimensions(shape):
    assert f"{len(shape)} dimension" in only(found(table(X=np.ones(shape), features=np.array([])), table("adt"))).what


@pytest.mark.parametrize(("shape", "what"), [((0, 5), "0 cells"), ((N, 0), "0 features")])
@pytest.mark.parametrize("kind", [np.zeros, sp.csr_matrix])
def test_nothing_to_read(shape, what, kind):
    assert f"has {what} (X is {shape[0]} x {shape[1]})" in " ".join(
        p.what for p in found(table(X=kind(shape)), table("adt"))
    )


def test_more_rows_than_labels():
    short = Table("rna", np.ones((N + 1, 2)), table().obs, None, None, "rna.h5ad")
    assert "X has 13 rows, but there are 12 labels or ids" in only(found(short, table("adt"))).what


def test_cells_without_counts_and_constant_features():
    X = counts()
    X[4] = 0
    X[:, 3] = 0
    for values in (X, sp.csr_matrix(X)):
        warning = only(found(table(X=values), table("adt"), severity="warning", recipes={"rna": "counts"}))
        assert "1 cell has no count at all, the first is 'rna4'" in warning.what
        notes = " ".join(p.what for p in found(table(X=values), table("adt"), severity="note"))
        assert "1 feature has the same value in all cells, the first is 'rna_f3'" in notes


def test_duplicate_ids_and_feature_names():
    ids = ["x", "x", "x", "y", "y", *"abcdefg"]
    bad = table(ids=ids, features=np.array(["g", "h", "g", "i", "j"]))
    first, second = found(table("adt"), bad)
    assert (first.where, first.what) == ("rna.h5ad", "2 ids occur more than once: 'x', 'y'.")
    assert (second.where, second.what) == ("rna.h5ad", "1 feature name occurs more than once: 'g'.")


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "uint16", "int64", "float16", ">f4", "float64", "longdouble"]
)
def test_all_real_types_are_fine(dtype):
    X = np.random.default_rng(0).integers(0, 2, size=(N, 5)).astype(dtype)
    X[0] = 1
    assert not found(table(X=X), table("adt", X=X[:, ::-1]))


# --------------------------------------------------------------------------------------------------------------- ids


def test_same_ids_are_noted_and_kept_apart():
    ids = [f"cell{i}" for i in range(N)]
    note = found(table(ids=ids), table("adt", ids=ids), severity="note")[-1]
    assert (
        "12 ids occur in several modalities ('cell0', 'cell1', 'cell10' (and 9 more)); they are kept apart" in note.what
    )
    assert "pairing='use'" in note.fix
    numbered = [table(n, ids=[str(i) for i in range(N)], numbered=True) for n in ("rna", "adt")]
    assert not any("several" in p.what for p in found(*numbered, severity="note"))


@pytest.mark.parametrize("pairing", ["use", "hide"])
def test_pairing_without_a_shared_id(pairing):
    problem = only(found(table(), table("adt"), pairing=pairing))
    assert f"pairing='{pairing}' needs cells with the same id" in problem.what
    assert "rna has 'rna0', 'rna1' (and 10 more); adt has 'adt0'" in problem.what


def test_pairing_by_row_numbers_is_a_warning_if_they_are_in_the_file_and_an_error_if_they_are_ours():
    rows = [str(i) for i in range(N)]
    pair = [table(n, ids=rows) for n in ("rna", "adt")]
    assert "the ids are the row numbers 0 to 11" in found(*pair, severity="warning", pairing="use")[0].what
    ours = tables_from_arrays({n: table(n).X for n in "ab"}, {n: table(n).obs["label"] for n in "ab"})
    assert "a, b without ids: rows are only numbered" in only(found(*ours, pairing="use")).what


def test_partners_with_different_labels():
    ids = [f"cell{i}" for i in range(N)]
    other = ["b", *table().obs["label"][1:]]
    warning = only(found(table(ids=ids), table("adt", ids=ids, labels=other), severity="warning", pairing="use"))
    assert "1 cell has different labels in different modalities: 'cell0'" in warning.what


def test_batch_column():
    good, bad = table(batch=["x"] * N), table("adt", batch=["x"] * (N - 1) + [None])
    assert "1 cell of 12 has no batch in 'batch'" in only(found(good, bad, severity="warning", batch="batch")).what
    problem = only(found(good, table("adt", batsh=["x"] * N), batch="batch"))
    assert problem.what == "has no column 'batch' (batch)."
    assert "Did you mean 'batsh'? There are these columns: 'label', 'batsh'." in problem.fix
