"""What counts as a warning about a translation."""

import pytest

from unpaired.report.translation import read_translations
from unpaired.report.translation_concerns import find_translation_concerns


@pytest.fixture
def good(saved):
    """A translation in which nothing is wrong, to be changed."""
    return saved.translation(
        {
            "test": (saved.pairs(["x", "y", "z"], 0.4), saved.distributions(["a", "b"])),
            "label": (saved.pairs(["x", "y", "z"], 0.2), saved.distributions(["c"])),
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
    good["scores"]["test"]["pairs"]["r2"] = r2
    found = warned(good)
    assert len(found) == wanted
    assert all("on test cells, R² is" in c.what and "Do not use" in c.advice for c in found)


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
