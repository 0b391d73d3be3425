"""What counts as a warning about a translation."""

import json

import pytest

from unpaired.report.translation import read_translations
from unpaired.report.translation_concerns import find_translation_concerns


@pytest.fixture
def good(saved):
    """A translation in which nothing is wrong, to be changed."""
    return saved.translation(
        {
            "test": (saved.pairs(["x", "y", "z"], 0.4), saved.distributions(["a", "b"])),
            "label": (saved.pairs(["x", "y", "z"], 0.2) | {"r2_of_label": None}, saved.distributions(["c"])),
        }
    )


@pytest.fixture
def warned(saved, tmp_path):
    """The warnings of a record."""

    def find(record):
        saved.put(tmp_path, record)
        return find_translation_concerns(read_translations(tmp_path))

    return find


def test_a_good_translation_has_none(good, warned):
    assert warned(good) == []


@pytest.mark.parametrize(("r2", "wanted"), [(0.001, 0), (0.0, 1), (-0.3, 1), (None, 0)])
def test_a_model_that_knows_nothing(good, warned, r2, wanted):
    good["scores"]["test"]["pairs"] |= {"r2": r2, "r2_of_label": -0.1}
    found = warned(good)
    assert len(found) == wanted
    assert all("on test cells, R² is" in c.what and "Do not use" in c.advice for c in found)


@pytest.mark.parametrize(
    ("r2", "of_label", "wanted"), [(0.4, 0.399, 0), (0.4, 0.4, 1), (0.4, 0.55, 1), (0.4, None, 0), (None, 0.4, 0)]
)
def test_a_model_that_knows_no_more_than_the_label(good, warned, r2, of_label, wanted):
    good["scores"]["test"]["pairs"] |= {"r2": r2, "r2_of_label": of_label}
    found = warned(good)
    assert len(found) == wanted
    for c in found:
        assert c.what.endswith(
            f"on test cells, R² is 0.400: predicting the mean of the cell's label is no worse ({of_label:.3f})."
        )
        assert "within a label" in c.advice


def test_worse_than_nothing_is_said_and_not_also_worse_than_the_label(good, warned):
    good["scores"]["test"]["pairs"] |= {"r2": -0.1, "r2_of_label": 0.5}
    (found,) = warned(good)
    assert "predicting their mean is no worse" in found.what


def test_a_held_out_label_is_judged_by_a_mean_that_no_model_knows(good, warned):
    good["scores"]["label"]["pairs"]["r2"] = -0.2
    (found,) = warned(good)
    assert (
        "on cells of held-out labels, R² is -0.200: predicting the mean of these very cells is no worse" in found.what
    )
    assert "Do not use" not in found.advice


@pytest.mark.parametrize(("by_cells", "wanted"), [(4.99, 0), (5.0, 1), (6.0, 1), (None, 0)])
def test_a_distance_no_better_than_the_baseline(good, warned, by_cells, wanted):
    d = good["scores"]["test"]["distributions"]
    d["by_cells"]["kl_gaussian"], d["baseline_by_cells"]["kl_gaussian"] = by_cells, 5.0
    found = warned(good)
    assert len(found) == wanted
    assert all("on test cells, the predicted cells of a label are no nearer" in c.what for c in found)
    assert all("baseline 5.00" in c.what and "KL, Gaussian" in c.what for c in found)
    assert all("means spread less than cells" in c.advice for c in found)


def spoil(part, *metrics):
    for key in metrics:
        part["distributions"]["by_cells"][key], part["distributions"]["baseline_by_cells"][key] = 60.0, 50.0


def test_that_only_the_kl_is_no_better_is_said_once_of_all_parts(good, warned, saved):
    good["scores"]["train"] = json.loads(json.dumps(good["scores"]["test"]))
    spoil(good["scores"]["train"], "kl_gaussian", "kl_neighbours")
    spoil(good["scores"]["label"], "kl_gaussian")
    (found,) = warned(good)
    assert found.what == (
        "Translation of rna to image: on cells of held-out labels and on training cells, the predicted cells of a "
        "label are no nearer to the measured ones than cells of other labels are, by the KL alone: on cells of "
        "held-out labels, KL, Gaussian (60.0, baseline 50.0)."
    )
    assert "means spread less than cells" in found.advice


def test_of_three_parts_the_numbers_are_those_of_the_test_cells(good, warned):
    good["scores"]["train"] = json.loads(json.dumps(good["scores"]["test"]))
    for part in good["scores"].values():
        spoil(part, "kl_gaussian", "kl_neighbours")
    good["scores"]["test"]["distributions"]["by_cells"]["kl_gaussian"] = 70.0
    (found,) = warned(good)
    assert "image: on test cells, on cells of held-out labels and on training cells, the predicted" in found.what
    assert found.what.endswith(
        "alone: on test cells, KL, Gaussian (70.0, baseline 50.0); KL, neighbours (60.0, baseline 50.0)."
    )


@pytest.mark.parametrize(("metric", "lost"), [("l2", True), ("wasserstein", False), ("energy", False)])
def test_where_more_than_the_kl_is_no_better_each_part_has_its_own(good, warned, metric, lost):
    good["scores"]["train"] = json.loads(json.dumps(good["scores"]["test"]))
    for part in good["scores"].values():
        spoil(part, "kl_gaussian")
    for part in ("test", "train"):
        spoil(good["scores"][part], metric)
    test, train, rest = warned(good)
    for found, place in ((test, "on test cells"), (train, "on training cells")):
        assert found.what.startswith(f"Translation of rna to image: {place}, the predicted cells")
        assert found.what.count("(60.0, baseline 50.0)") == 2
        assert ("does not tell the labels apart" in found.advice) == lost
    assert rest.what.startswith("Translation of rna to image: on cells of held-out labels, the predicted cells")
    assert rest.what.endswith("by the KL alone: KL, Gaussian (60.0, baseline 50.0).")


def test_means_no_better_than_the_baseline_are_worse(good, warned):
    d = good["scores"]["test"]["distributions"]
    d["by_cells"] = {k: 2 * v for k, v in d["baseline_by_cells"].items()}
    (found,) = warned(good)
    assert found.what.count("baseline") == 5
    assert "does not tell the labels apart" in found.advice


def test_without_a_baseline_nothing_is_said_of_it(good, warned):
    d = good["scores"]["label"]["distributions"]
    d["baseline_by_cells"] = dict.fromkeys(d["baseline_by_cells"])
    assert warned(good) == []


def test_what_the_scores_do_not_cover(good, warned):
    good["scores"]["test"]["pairs"] |= {"pairs": 70, "features": 2}
    coverage = good["scores"]["test"]["distributions"]["coverage"]
    coverage |= {"labels_total": 3, "metrics": {**coverage["metrics"], "energy": 1}}
    (found,) = warned(good)
    assert found.what.endswith(
        "on test cells, the scores cover 70 of 80 true pairs, 2 of 3 features, 2 of 3 labels, "
        "1 of 2 compared labels by Energy distance."
    )
    assert "its cell of rna has a prediction" in found.advice
    assert "said under the scores" in found.advice


def test_pairs_alone_that_are_not_covered(good, warned):
    good["scores"]["test"]["pairs"]["pairs"] = 79
    (found,) = warned(good)
    assert found.what.endswith("the scores cover 79 of 80 true pairs.")
    assert "said under the scores" not in found.advice


def test_notes_are_sorted_by_their_first_word(good, warned):
    good["notes"] = ["plain", "warning: w.", "error: e.", "warning: w."]
    assert [(c.severity, c.what) for c in warned(good)] == [
        ("warning", "Translation of rna to image: w."),
        ("error", "Translation of rna to image: e."),
    ]


@pytest.mark.parametrize("parts", [{}, {"test": (None, None)}])
def test_nothing_scored(saved, warned, parts):
    (found,) = warned(saved.translation(parts))
    assert "nothing could be scored" in found.what
