"""The first screen: what it says of a diagnosis, and that it says it once."""

import pytest

from unpaired.report.concerns import Concern, find_concerns
from unpaired.report.verdict import find_verdict, said_by_checks, without_said


def check(diagnosis, name, **changes):
    (found,) = [c for c in diagnosis["checks"] if c["name"] == name]
    found.update(changes)
    return found


def items_of(verdict):
    return {i.check["name"]: i for reason in verdict.reasons for i in reason.items}


@pytest.mark.parametrize(
    ("verdict", "title", "state"),
    [("use", "Use", "good"), ("average", "Average", "caution"), ("do not use", "Do not use", "bad")],
)
def test_every_verdict_has_its_badge(diagnosis, verdict, title, state):
    found = find_verdict(diagnosis | {"verdict": verdict, "sentence": "why."}, None, {}, [])
    assert (found.title, found.state, found.sentence) == (title, state, "why.")
    assert found.mark not in {"", "?"}


def test_every_check_is_shown_once(diagnosis):
    diagnosis["checks"].append(diagnosis["checks"][0] | {"name": "something new"})
    found = find_verdict(diagnosis, None, {}, [])
    shown = [i.check["name"] for reason in found.reasons for i in reason.items]
    assert sorted(shown) == sorted(c["name"] for c in diagnosis["checks"])
    assert found.reasons[-1].items[0].check["name"] == "something new"


def test_the_tally_names_what_is_not_good(diagnosis):
    for c in diagnosis["checks"]:
        c["state"] = "good"
    n = len(diagnosis["checks"])
    assert find_verdict(diagnosis, None, {}, []).tally == f"{n} of {n} checks are good."
    check(diagnosis, "partners", state="caution")
    check(diagnosis, "overlap", state="caution")
    check(diagnosis, "coverage", state="bad")
    check(diagnosis, "directions", state="unknown")
    tally = find_verdict(diagnosis, None, {}, []).tally
    assert tally == f"{n - 4} of {n} checks are good; bad: coverage; caution: overlap, partners; not known: directions."


def test_a_warning_that_a_check_says_is_not_said_again(diagnosis):
    said = Concern("warning", "10 cells have no partner.", "Why.", check="coverage")
    other = Concern("warning", "A feature is constant.")
    assert without_said([said, other], diagnosis) == [other]
    assert without_said([said, other], None) == [said, other]
    check(diagnosis, "coverage", state="unknown")
    assert without_said([said, other], diagnosis) == [said, other]
    assert not said_by_checks(other, diagnosis)


def test_advice_and_labels_go_with_the_check(diagnosis):
    concerns = [
        Concern("warning", "10 cells have no partner.", "Their label is unknown.", check="coverage"),
        Concern("warning", "2 labels not matched.", "image has none.", ("a", "b"), "coverage"),
        Concern("warning", "1 label did not converge.", "Raise eps.", ("d",), "convergence"),
        Concern("error", "1 label could not be matched.", "eps.", ("c",), "convergence"),
        Concern("warning", "The classifier is no better.", "It hardly tells.", check="label signal of rna"),
    ]
    items = items_of(find_verdict(diagnosis, None, {}, concerns))
    assert items["coverage"].added == (
        ("Their label is unknown.", ()),
        ("2 labels not matched. image has none.", ("a", "b")),
    )
    assert items["convergence"].added == (
        ("Raise eps.", ("d",)),
        ("1 label could not be matched. eps.", ("c",)),
    )
    assert items["label signal of rna"].added == (), "the check's own sentence says it"
    assert without_said(concerns, diagnosis) == []


def test_every_warning_of_a_run_is_on_the_page_somewhere(record, diagnosis):
    """A warning that was given to a check of another name would be lost."""
    names = {c["name"] for c in diagnosis["checks"]}
    for block in record["matching"]["blocks"]:
        block |= {"state": "failed", "advice": "x", "partners": 0.99 * block["target_cells"]}
    record["matching"]["coverage"]["source"] -= 1
    for quality in record["classifiers"].values():
        quality |= {"cross_entropy": 9.0, "calibration_error": 0.9}
    found = find_concerns(record, None)
    assert len(found) == 7
    assert {c.check for c in found} <= names


def test_expected_and_measured_are_compared_only_where_both_are_known(diagnosis, scores):
    assert find_verdict(diagnosis, None, {}, []).measured == ""
    assert find_verdict(diagnosis | {"expected": None}, scores, {}, []).measured == ""
    diagnosis["expected"] = {"trace_over_uniform": [1.0, 2.0, 4.0], "foscttm": [0.3, 0.4, 0.45]}
    scores |= {"trace_over_uniform": 5.04}
    scores["foscttm"]["mean"] = 0.41
    said = find_verdict(diagnosis, scores, {}, []).measured
    assert "2.0 times as likely as by the label alone (1.0 to 4.0) and FOSCTTM to be 0.40 (0.30 to 0.45)" in said
    assert said.endswith("5.0 times (better than expected) and 0.41 (as expected).")
    scores |= {"trace_over_uniform": 0.9}
    scores["foscttm"]["mean"] = 0.2
    assert find_verdict(diagnosis, scores, {}, []).measured.endswith(
        "0.90 times (worse than expected) and 0.20 (better than expected)."
    )


def test_without_confidence_and_expectation_there_is_no_picture_of_them(diagnosis):
    known = find_verdict(diagnosis, None, {"rna": [0.5], "image": [float("nan")]}, [])
    assert known.reasons[-1].title == "How sure is it of each cell?"
    assert "1 cell without a choice of partners is left out" in known.reasons[-1].caption
    bare = find_verdict(diagnosis | {"expected": None, "labels": {}}, None, {}, [])
    assert bare.picture is None
    titles = {r.title: r.picture for r in bare.reasons}
    assert "How sure is it of each cell?" not in titles
    assert titles["Do both see the same cells?"] is None
    assert titles["Does the matching decide?"] is None
    for c in diagnosis["checks"]:
        c["value"] = None
    assert find_verdict(diagnosis, None, {}, []).reasons[0].picture is None
