"""What matching will take, told from the sizes of the labels."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from unpaired.data.tables import Table
from unpaired.match.forecast import Forecast, forecast_ot


def table(name, counts):
    labels = [n for n, k in counts.items() for _ in range(k)]
    obs = pd.DataFrame({"label": [None if n == "?" else n for n in labels]})
    return Table(name, np.zeros((len(obs), 2)), obs, None, None, name)


@pytest.fixture
def asked(monkeypatch):
    calls = []

    def estimate(sizes, dim, **options):
        calls.append({"sizes": list(sizes), "dim": dim, **options})
        paths = ["small" if n * m < 100 else "dense" for n, m in sizes]
        return SimpleNamespace(seconds=(1.0, 3.0), memory=5 * 10**9, paths=paths)

    monkeypatch.setattr("unpaired.match.transport.estimate.estimate", estimate)
    return calls


TABLES = [table("rna", {"a": 30, "b": 4, "one": 1, "here": 9, "?": 3}), table("image", {"b": 5, "a": 20, "one": 7})]


def test_it_asks_about_the_labels_that_will_be_solved(asked):
    found = forecast_ot(TABLES, label="label", memory=10, jobs=2)
    assert asked == [{"sizes": [(30, 20), (4, 5)], "dim": 2, "memory": 10, "jobs": 2}]
    assert (found.source, found.target, found.labels) == ("rna", "image", 2)
    assert found.largest == {"label": "a", "source_cells": 30, "target_cells": 20}
    assert found.paths == {"dense": 1, "small": 1}


@pytest.mark.parametrize("sides", [{"source": "image"}, {"target": "rna"}, {"source": "image", "target": "rna"}])
def test_the_direction_can_be_turned(asked, sides):
    found = forecast_ot(TABLES, label="label", **sides)
    assert (found.source, found.target) == ("image", "rna")
    assert asked[0]["sizes"] == [(5, 4), (20, 30)]


def test_without_two_modalities_there_is_nothing_to_say(asked):
    assert forecast_ot([*TABLES, TABLES[0]], label="label") is None
    assert forecast_ot(TABLES[:1], label="label") is None


def test_without_a_common_label_it_says_so(asked):
    found = forecast_ot([table("rna", {"a": 3}), table("image", {"b": 3})], label="label")
    assert found.largest is None
    assert str(found).endswith("no label has two cells on both sides.")


def test_it_reads_as_one_line_and_as_json(asked):
    found = forecast_ot(TABLES, label="label")
    assert str(found) == (
        "matching rna -> image by optimal transport: about 1 to 3 s and 5.0 GB of memory; "
        "2 labels (1 dense, 1 small), the largest 'a' with 30 x 20 cells."
    )
    back = json.loads(json.dumps(found.to_dict()))
    assert back["seconds"] == [1.0, 3.0]
    assert back["memory"] == 5 * 10**9


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.01, 0.02, "0.01 to 0.02 s"),
        (0.5, 0.5, "0.5 s"),
        (30, 90, "30 to 90 s"),
        (60, 180, "1 to 3 min"),
        (300, 1500, "5 to 25 min"),
        (3600, 36000, "1 to 10 h"),
    ],
)
def test_times_are_written_in_a_unit_that_suits_them(low, high, text):
    one = Forecast("a", "b", 1, {"label": "x", "source_cells": 2, "target_cells": 2}, {"small": 1}, (low, high), 10)
    assert f"about {text} and 1 MB of memory; 1 label " in str(one)
