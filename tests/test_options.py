"""Checks of options: one sentence that names the option, what is allowed, and what was given."""

import numpy as np
import pytest

from unpaired import options
from unpaired.errors import DataError, OptionError, Problem
from unpaired.seeds import named_rng, named_seed


@pytest.mark.parametrize("value", ["c", 3, None, ["a"]])
def test_choice(value):
    options.check_choice("x", "a", ("a", "b"))
    with pytest.raises(OptionError, match=r"^x must be one of a, b; got .*\.$"):
        options.check_choice("x", value, ("b", "a"))


@pytest.mark.parametrize("value", [0, 11, 1.0, "3", None, True, float("nan")])
def test_integer(value):
    options.check_integer("x", np.int64(3), low=1, high=10)
    with pytest.raises(OptionError, match=r"^x must be a whole number from 1 to 10; got .*\.$"):
        options.check_integer("x", value, low=1, high=10)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "a", None, 1.5])
def test_number(value):
    options.check_number("x", 0.5, above=0, high=1)
    with pytest.raises(OptionError, match=r"^x must be a finite number larger than 0 and at most 1; got .*\.$"):
        options.check_number("x", value, above=0, high=1)


@pytest.mark.parametrize("value", [-1, 2**32, 0.5])
def test_seed(value):
    options.check_seed(0)
    options.check_seed(2**32 - 1)
    with pytest.raises(OptionError, match="seed"):
        options.check_seed(value)


def test_problems_are_listed_errors_first():
    note = Problem("note", "a.csv", "It is small.")
    error = Problem("error", "a.csv", "It is empty.", "Write it again.")
    raised = DataError([note, error])
    assert str(raised).splitlines() == ["error: a.csv: It is empty. Write it again.", "note: a.csv: It is small."]
    assert raised.problems == (error, note)


def test_generators_depend_on_seed_and_names_alone():
    assert named_seed(0, "match", "a") == named_seed(0, "match", "a")
    assert len({named_seed(s, *n) for s in (0, 1) for n in (("a", "b"), ("b", "a"), ("ab",), ("a",))}) == 8
    assert named_rng(0, "a").random() == named_rng(0, "a").random()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        (2**40, 2**40),
        (np.int64(5), 5),
        ("500", 500),
        ("500B", 500),
        ("8GB", 8 * 10**9),
        ("8 gb", 8 * 10**9),
        ("8G", 8 * 10**9),
        ("8GiB", 8 * 2**30),
        ("1.5MB", 1_500_000),
        (" 2KiB ", 2048),
        ("1TB", 10**12),
    ],
)
def test_an_amount_of_memory_is_read_in_bytes(value, expected):
    assert options.to_bytes("memory", value) == expected


@pytest.mark.parametrize(
    "value", [0, -1, True, 1.5, None, "", "8XB", "GB", "-8GB", "8 G B", "0.1B", "0GB", "nan", "1e9"]
)
def test_what_is_no_amount_of_memory_is_refused_in_a_sentence(value):
    with pytest.raises(OptionError, match=r"^memory must be an amount of memory such as 8GB, .*; got .*\.$"):
        options.to_bytes("memory", value)
