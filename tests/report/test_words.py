"""Numbers and names as a person reads them."""

import pytest

from unpaired.report.words import DASH, count, duration, fixed, number, percent, quantity, setting, short_names

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (1.0, "1.00"),
        (2.495, "2.50"),
        (0.0139102, "0.0139"),
        (0.00021, "2.10e-4"),
        (3.2e-5, "3.20e-5"),
        (-0.5, "-0.500"),
        (178.9, "179"),
        (1797, "1,797"),
        (1.5e9, "1.50e9"),
        (None, DASH),
        (NAN, DASH),
        (float("inf"), DASH),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_number_with_two_digits():
    assert [number(v, 2) for v in (2.495, 26.3, 8.47e-5)] == ["2.5", "26", "8.5e-5"]


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "100 %"), (0.99999, "> 99.9 %"), (0.0684, "6.8 %"), (0.0, "0.0 %"), (None, DASH)]
)
def test_percent(value, text):
    assert percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.174, "0.17 s"), (3.41, "3.4 s"), (42.4, "42 s"), (125, "2 min 5 s"), (7300, "2 h 1 min"), (None, DASH)],
)
def test_duration(value, text):
    assert duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, DASH),
        ({}, DASH),
        ([], DASH),
        (NAN, DASH),
        (True, "yes"),
        (60.0, "60"),
        (1e-5, "1e-5"),
        (100000, "100000"),
        ({"rna": "mlp", "image": None}, f"rna: mlp, image: {DASH}"),
        ([1, 2.5], "1, 2.5"),
    ],
)
def test_setting(value, text):
    assert setting(value) == text


def test_counts_and_fractions():
    assert (quantity(1, "cell"), quantity(1797, "cell"), count(None)) == ("1 cell", "1,797 cells", DASH)
    assert (fixed(0.43673), fixed(None), fixed(NAN)) == ("0.437", DASH, DASH)


def test_short_names_keep_what_differs():
    names = [f"CRISPRi knock-down of {gene} (guide 1)" for gene in ("MYC", "TP53", "PTEN")]
    assert short_names(names) == ["MYC", "TP53", "PTEN"]


def test_short_names_leave_short_ones_alone():
    assert short_names(["a b", "a c", "a d"]) == ["a b", "a c", "a d"]


@pytest.mark.parametrize("names", [["x" * 60, "y"], ["same words again and again"] * 3, ["one name of many words"]])
def test_short_names_fit(names):
    shown = short_names(names)
    assert all(0 < len(s) <= 18 for s in shown)
    assert "…" in shown[0]
