"""Labels are matched by name; whatever stands in the way of that is named."""

import numpy as np
import pandas as pd
import pytest

from unpaired.data.build import tables_from_arrays
from unpaired.data.check import check_tables
from unpaired.data.labels import names_of, near_duplicates


def found(rna, adt, *more, severity="error", label="label"):
    labels = dict(zip(("rna", "adt", "atac"), (rna, adt, *more), strict=False))
    arrays = {n: np.random.default_rng(0).normal(size=(len(v), 3)) for n, v in labels.items()}
    tables = tables_from_arrays(arrays, labels)
    return [p for p in check_tables(tables, label=label) if p.severity == severity]


def text(problems):
    return " | ".join(str(p) for p in problems)


# ------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ([1, 2, 1], ["1", "2", "1"]),
        ([1.0, np.nan, 2.5], ["1", None, "2.5"]),
        (["1", "1.0", " "], ["1", "1.0", None]),
        (["a", None, ""], ["a", None, None]),
        (pd.array([1, None, 3], dtype="Int64"), ["1", None, "3"]),
        (pd.array(["x", None, "NA"], dtype="string"), ["x", None, "NA"]),
        (pd.Categorical(["b", None, "a"], categories=["z", "b", "a"]), ["b", None, "a"]),
        (pd.Categorical([2.0, 1.0, np.nan]), ["2", "1", None]),
        (np.array([b"x", b"\xc3\xa9", b""]), ["x", "é", None]),
        (np.array([1, 2, 3], dtype=">i4"), ["1", "2", "3"]),
        (np.array([1, np.nan, 0.1], dtype=np.float32), ["1", None, "0.1"]),
        (pd.Categorical(np.array([1, np.nan, 0.1], dtype=np.float32)), ["1", None, "0.1"]),
        ([True, False, True], ["True", "False", "True"]),
        (["β-estradiol", "a/b", "<script>"], ["β-estradiol", "a/b", "<script>"]),
        (pd.to_datetime(["2020-01-01", None, "2020-01-02"]), ["2020-01-01 00:00:00", None, "2020-01-02 00:00:00"]),
    ],
)
def test_names_of_any_type(column, names):
    assert names_of(column).tolist() == names


def test_near_duplicates():
    groups = near_duplicates(["DMSO", "dmso", " DMSO", "1", "1.0", "10", "TP53", "p53", "a b", "a  b"])
    assert groups == [(" DMSO", "DMSO", "dmso"), ("1", "1.0"), ("a  b", "a b")]


# ------------------------------------------------------------------------------------------------------------ column


@pytest.mark.parametrize("label", ["lable", "Label", "labels"])
def test_mistyped_column(label):
    problems = found(["a", "b"], ["a", "b"], label=label)
    assert [p.where for p in problems] == ["memory:rna", "memory:adt"]
    assert problems[0].what == f"has no column '{label}' (label)."
    assert problems[0].fix == "Did you mean 'label'? There are these columns: 'label'."


def test_column_without_values():
    assert "column 'label' has no value: all 2 cells are unlabelled" in text(found([None, np.nan], ["a", "b"]))


def test_cells_without_label_are_counted():
    problem = found(["a", "b", None, ""], ["a", "b"], severity="warning")[0]
    assert "2 cells of 4 have no label in 'label': scored, never trained on, not matched." in str(problem)


# ------------------------------------------------------------------------------------------------------------ shared


@pytest.mark.parametrize("swap", [False, True])
def test_no_shared_label_shows_both_sides(swap):
    sides = (["a", "b"], ["x", "y"])
    message = text(found(*(sides[::-1] if swap else sides)))
    assert "no label is shared by name by all modalities" in message
    first, second = ("'x', 'y'", "'a', 'b'") if swap else ("'a', 'b'", "'x', 'y'")
    assert f"rna has {first}; adt has {second}" in message


@pytest.mark.parametrize(("one", "other"), [([1, 2], ["1", "2"]), ([1.0, 2.0], [1, 2]), ([1.0, 2.0], ["1", "2"])])
def test_whole_numbers_are_one_label_whatever_their_type(one, other):
    assert not found(one, other)
    assert not found(other, one)


@pytest.mark.parametrize(
    ("one", "other", "pair"),
    [
        ([1, 2], ["1.0", "2.0"], "'1' = '1.0'"),
        (["DMSO", "Taxol"], ["dmso", "taxol"], "'DMSO' = 'dmso'"),
        (["a ", "b "], ["a", "b"], "'a' = 'a '"),
    ],
)
def test_labels_that_miss_each_other_by_a_slip(one, other, pair):
    problem = found(one, other)[0]
    assert "no label is shared" in problem.what
    assert "write them alike" in problem.fix
    assert pair in problem.fix


def test_one_shared_label_is_too_few():
    message = text(found(["a", "b"], ["a", "c"]))
    assert "only the label 'a' is shared by name by all modalities, where at least 2 are needed" in message


def test_three_modalities_must_share_two_labels():
    assert "no label is shared by name by all" in text(found(["a", "b"], ["b", "c"], ["c", "a"]))
    assert not found(["a", "b"], ["b", "a", "c"], ["c", "a", "b"])


def test_one_sided_labels_are_named_and_counted():
    warnings = found(["a", "b", "x", "x", "y"], ["a", "b", "z"], severity="warning")
    assert "memory:rna: 2 labels with 3 cells do not occur in adt: 'x', 'y'; these cells are not matched" in text(
        warnings
    )
    assert "memory:adt: 1 label with 1 cell does not occur in rna: 'z'; these cells are not matched" in text(warnings)


def test_only_ten_of_many_labels_are_named():
    many = [f"g{i:02}" for i in range(30)]
    message = text(found(["a", "b", *many], ["a", "b"], severity="warning"))
    assert "30 labels with 30 cells do not occur in adt: 'g00', 'g01'" in message
    assert "'g09' (and 20 more)" in message
    assert "'g10'" not in message


# ------------------------------------------------------------------------------------------------------------- sizes


def test_labels_of_a_single_cell():
    assert "1 label has a single cell: 'b'" in text(found(["a", "a", "b"], ["a", "a", "b", "b"], severity="warning"))


def test_unequal_sizes_within_and_between_modalities():
    message = text(found(["a"] * 100 + ["b"] * 2, ["a"] * 4 + ["b"] * 4, severity="warning"))
    assert "memory:rna: the labels' sizes are very unequal: 100 cells of 'a', 2 of 'b'" in message
    assert "in rna and adt some labels have very unequal numbers of cells: 'a: 100 and 4'" in message


# ------------------------------------------------------------------------------------------------------------- slips


def test_near_duplicates_are_a_warning():
    message = text(found(["a", "b", "DMSO", "dmso"], ["a", "b", "DMSO"], severity="warning"))
    assert "differ only in case, spacing or a decimal zero, and are taken as different: 'DMSO' = 'dmso'" in message


@pytest.mark.parametrize("name", ["NA", "nan", "None", "N/A"])
def test_names_that_look_like_missing_values(name):
    message = text(found(["a", "b", name], ["a", "b"], severity="warning"))
    assert f"1 cell carries the label '{name}', which is taken as a name." in message


def test_unused_categories_are_noted():
    column = pd.Categorical(["a", "b"], categories=["a", "b", "ghost"])
    assert "1 category has no cell and is left out: 'ghost'" in text(found(column, ["a", "b"], severity="note"))
