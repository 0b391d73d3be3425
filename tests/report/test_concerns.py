"""What counts as a warning."""

import pytest

from unpaired.report.concerns import find_concerns, mean_partners, plain_notes


def spoil(record, label, **changes):
    for block in record["matching"]["blocks"]:
        if block["label"] == label:
            block.update(changes)


def test_a_good_run_has_none(record, scores):
    assert find_concerns(record, scores) == []
    assert find_concerns(record, None) == []


def test_labels_that_did_not_converge_share_a_line(record):
    off = "the marginals are off by {} after {} iterations; raise eps."
    spoil(record, "a", state="not_converged", advice=off.format("1.2e-03", 50), marginal_error=1.2e-3)
    spoil(record, "b", state="not_converged", advice=off.format("3.4e-02", 100), marginal_error=3.4e-2)
    (found,) = find_concerns(record, None)
    assert found.labels == ("a", "b")
    assert found.what == "2 labels did not converge."
    assert found.advice == "For example, b: the marginals are off by 3.4e-02 after 100 iterations; raise eps."


def test_advice_that_differs_by_a_name_stays_apart(record):
    spoil(record, "a", state="absent", advice="rep1 has no cell of this label.")
    spoil(record, "b", state="absent", advice="rep2 has no cell of this label.")
    assert [c.labels for c in find_concerns(record, None)] == [("a",), ("b",)]


def test_errors_come_first(record):
    record["notes"] = ["warning: w", "error: e", "a remark", "note: another", "warning: w"]
    spoil(record, "c", state="failed", advice="eps = 0.1 is too small.")
    found = find_concerns(record, None)
    assert [(c.severity, c.what) for c in found] == [
        ("error", "e"),
        ("error", "1 label could not be matched."),
        ("warning", "w"),
    ]
    assert plain_notes(record) == ["a remark", "another"]


@pytest.mark.parametrize(("loss", "wanted"), [(1.0, 0), (1.1, 1), (2.0, 1), (None, 1)])
def test_a_classifier_must_beat_the_frequencies(record, loss, wanted):
    record["classifiers"]["rna"] |= {"cross_entropy": loss, "base_cross_entropy": 1.1}
    found = find_concerns(record, None)
    assert len(found) == wanted
    assert all("classifier of rna is no better" in c.what for c in found)
    assert all(c.check == "label signal of rna" for c in found)


@pytest.mark.parametrize(("error", "wanted"), [(0.1, 0), (0.11, 1), (None, 0)])
def test_probabilities_must_be_honest(record, error, wanted):
    record["classifiers"]["image"]["calibration_error"] = error
    found = find_concerns(record, None)
    assert len(found) == wanted
    assert all("0.11" in c.what and "image" in c.what for c in found)
    assert all(c.check == "calibration of image" for c in found)


def test_cells_without_partner(record):
    record["matching"]["coverage"] |= {"source": 57}
    (found,) = find_concerns(record, None)
    assert found.what == "3 of 60 cells of rna (5.0 %) have no partner."
    assert found.check == "coverage"


def test_scores_of_some_pairs(record, scores):
    scores["coverage"] |= {"pairs": 58}
    (found,) = find_concerns(record, scores)
    assert "3 of 3 labels and 58 of 60 true pairs" in found.what


@pytest.mark.parametrize(("gain", "foscttm"), [(1.0, 0.3), (2.0, 0.5)])
def test_a_matching_no_better_than_the_label(record, scores, gain, foscttm):
    scores["trace_over_uniform"] = gain
    scores["foscttm"]["mean"] = foscttm
    (found,) = find_concerns(record, scores)
    assert "no better than the label alone" in found.what


def test_an_undecided_matching(record):
    for block in record["matching"]["blocks"]:
        block["partners"] = 0.95 * block["target_cells"]
    (found,) = find_concerns(record, None)
    assert "says little beyond the label" in found.what
    assert found.check == "partners"


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"state": "absent", "advice": "a"}, "coverage"),
        ({"state": "too_small", "advice": "a"}, "coverage"),
        ({"state": "not_converged", "advice": "a", "marginal_error": 0.1}, "convergence"),
        ({"state": "failed", "advice": "a"}, "convergence"),
    ],
    ids=lambda v: v if isinstance(v, str) else v["state"],
)
def test_a_warning_of_a_label_names_the_check_that_says_it(record, changes, check):
    spoil(record, "a", **changes)
    assert [c.check for c in find_concerns(record, None)] == [check]


def test_what_no_check_says_names_none(record, scores):
    record["notes"] = ["warning: w"]
    scores["coverage"] |= {"pairs": 58}
    scores["trace_over_uniform"] = 0.9
    assert [c.check for c in find_concerns(record, scores)] == ["", "", ""]


def test_mean_partners_is_over_matched_cells():
    blocks = [
        {"partners": 2.0, "source_cells": 30, "target_cells": 10},
        {"partners": 6.0, "source_cells": 10, "target_cells": 50},
        {"partners": None, "source_cells": 99, "target_cells": 0},
    ]
    assert mean_partners(blocks) == (3.0, 20.0)
    assert mean_partners(blocks[2:]) is None
