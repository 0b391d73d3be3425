"""Tables: medians and quartiles over seeds, failures and missing extras said where the figure would be."""

import csv

import numpy as np

from unpaired.bench.tables import Column, markdown, summaries, write_csv, write_markdown

COLUMNS = (Column("mse", "MSE ↓", lambda r: r["v"], 2), Column("other", "other", lambda r: r.get("w"), 1))
TITLES = {"b": "method B", "a": "method A", "gone": "gone"}


def results():
    out = [{"case": "one", "method": "a", "seed": s, "v": float(v), "w": None} for s, v in enumerate([1, 2, 3, 4, 9])]
    out += [
        {"case": "one", "method": "b", "seed": 0, "v": 5.0, "w": 2.0},
        {"case": "one", "method": "b", "seed": 1, "failed": "no | luck"},
    ]
    return [*out, {"case": "two", "method": "a", "seed": 0, "failed": "not at all"}]


def test_medians_and_quartiles_are_numpys():
    (own,) = [s for s in summaries(results(), COLUMNS) if (s.case, s.method, s.metric) == ("one", "a", "mse")]
    assert own.quartiles == (3.0, 2.0, 4.0)
    assert own.values == (1.0, 2.0, 3.0, 4.0, 9.0)
    assert own.failed == (0, "")


def test_the_table_says_what_there_is_and_what_there_is_not():
    found = summaries(results(), COLUMNS, published={("a", "mse"): "2.5"})
    text = markdown(found, COLUMNS, TITLES, {"gone": "it is not installed"})
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[0] == "| method | seeds | MSE ↓ | other |"
    assert lines[2] == r"| method B | 1 | 5.00, 1 failed | 2.0, 1 failed |"
    assert lines[3] == "| method A | 5 | 3.00 (2.00, 4.00) [2.5] | none |"
    assert lines[4] == "| gone | 0 | it is not installed |  |"
    assert "### one" in text
    assert "| method A | 0 | not at all [2.5] | not at all |" in text  # the figure is of one column
    assert "| method B" not in text.split("### two")[1]


def test_a_value_that_does_not_exist_is_no_failure():
    some = [{"case": "c", "method": "a", "seed": s, "v": v} for s, v in enumerate([1.0, None, 2.0])]
    found = summaries(some, COLUMNS[:1])
    assert (found[0].by_seed, found[0].failed, found[0].empty) == ({0: 1.0, 2: 2.0}, (0, ""), 1)
    assert "| method A | 2 | 1.50 (1.25, 1.75), 1 without |" in markdown(found, COLUMNS[:1], TITLES, {})


def test_a_reason_cannot_break_the_table():
    found = summaries([{"case": "c", "method": "a", "seed": 0, "failed": "x | y\nz"}], COLUMNS)
    assert r"| method A | 0 | x \| y z |  |" in markdown(found, COLUMNS, TITLES, {})


def test_the_csv_holds_every_cell(tmp_path):
    found = summaries(results(), COLUMNS)
    rows = list(csv.DictReader(write_csv(tmp_path, found).open(encoding="utf-8")))
    assert len(rows) == len(found) == 6
    row = next(r for r in rows if r["method"] == "a" and r["metric"] == "mse" and r["case"] == "one")
    assert np.allclose([float(row[k]) for k in ("median", "q1", "q3")], [3, 2, 4])
    lost = next(r for r in rows if r["case"] == "two" and r["metric"] == "mse")
    absent = list(csv.DictReader(write_csv(tmp_path, found, {"gone": "not installed"}).open(encoding="utf-8")))[-1]
    assert (absent["method"], absent["seeds"], absent["why"]) == ("gone", "0", "not installed")
    assert (lost["median"], lost["seeds"], lost["failed"], lost["why"]) == ("", "0", "1", "not at all")


def test_the_markdown_is_written_whole(tmp_path):
    path = write_markdown(tmp_path, "A title", "| x |")
    assert path.read_text(encoding="utf-8").startswith("# A title\n")
    assert path.read_text(encoding="utf-8").endswith("| x |")
