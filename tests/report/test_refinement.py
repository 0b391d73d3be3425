"""The refinement on the page."""

import json
import shutil

import numpy as np
import pytest

from unpaired.report.page import write_report
from unpaired.report.refinement import round_curve

ROUNDS = [
    {
        "round": 1,
        "seconds": 2.0,
        "loss": 3.1,
        "weight": 0.5,
        "information": 1.2,
        "agreement": 0.6,
        "change": 0.9,
        "kept": True,
    },
    {
        "round": 2,
        "seconds": 2.5,
        "loss": 3.0,
        "weight": 0.25,
        "information": 1.4,
        "agreement": 0.5,
        "change": 0.95,
        "kept": False,
    },
]


def record(rounds, kept, sentence):
    return {"asked": "auto", "kept": kept, "sentence": sentence, "verdict": "use", "seed": 0, "device": "cpu"} | {
        "first": {"information": 1.0, "partners": 5.0},
        "rounds": rounds,
    }


@pytest.fixture
def page(known, tmp_path):
    """Write the page of a run whose record has a refinement."""

    def of(refine, **of_blocks):
        run = shutil.copytree(known, tmp_path / "run")
        file = run / "run.json"
        told = json.loads(file.read_text())
        for block in told["matching"]["blocks"]:
            block.update(of_blocks)
        if refine is not None:
            told["matching"]["options"]["refine"] = refine
        file.write_text(json.dumps(told))
        text = write_report(run, out=tmp_path / "page.html").read_text()
        shutil.rmtree(run)
        return text

    return of


def test_a_page_without_refinement_has_no_word_of_it(page):
    assert 'id="refinement"' not in page(None)


def test_rounds_are_told_and_the_verdict_is_said_to_be_of_the_first_matching(page):
    text = page(record(ROUNDS, 1, "Round 2 was undone: because."))
    assert "in 1 round." in text
    assert "Round 2 was undone: because." in text
    assert text.count("undone</td>") == 1
    assert "This is said of the matching by propensity scores" in text
    assert "a cause of error that both modalities share within a label" in text
    assert "mean of two log odds" in text
    assert "Information and agreement, round by round" in text


def test_checks_of_the_first_matching_hide_no_warning_of_the_refined_one(page):
    off = {"state": "not_converged", "marginal_error": 0.3, "advice": "Raise max_iter."}

    def warned(text):
        return "3 labels did not converge." in text[text.index('id="warnings"') : text.index('id="data"')]

    assert warned(page(record(ROUNDS, 1, "because."), **off))
    assert not warned(page(record(ROUNDS, 0, "because."), **off))  # the check of convergence says it
    assert not warned(page(record(ROUNDS, 1, "because.")))


def test_scores_of_a_refined_matching_are_not_held_against_what_was_expected_before(page):
    texts = {kept: page(record(ROUNDS, kept, "because.")) for kept in (0, 1)}
    for kept, text in texts.items():
        assert ('id="measured"' in text) == (kept == 0)
        assert ("diamond: measured by the true pairs" in text) == (kept == 0)
        assert ("The checks here are of the matching that" in text) == (kept == 1)
        assert "times</b> as likely" in text


def test_what_was_not_begun_says_why_and_shows_no_curve(page):
    text = page(record([], 0, "Not begun: the verdict is average."))
    assert "The matching was not refined." in text
    assert "Not begun: the verdict is average." in text
    assert "Information and agreement, round by round" not in text
    assert "This is said of the matching by propensity scores" not in text


def test_the_curve_begins_with_the_first_matching_and_leaves_undone_rounds_hollow():
    ax = round_curve(1.0, ROUNDS)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [1.0, 1.2, 1.4])
    faces = ax.collections[0].get_facecolors()
    assert (faces[2][:3] == 1).all()
    assert not (faces[1][:3] == 1).all()
    (other,) = (a for a in ax.figure.axes if a is not ax)
    np.testing.assert_allclose(other.lines[0].get_ydata(), [0.6, 0.5])


def test_ensembles_that_disagree_stay_on_the_curve():
    ax = round_curve(1.0, [{**r, "agreement": -0.2} for r in ROUNDS])
    (other,) = (a for a in ax.figure.axes if a is not ax)
    assert other.get_ylim()[0] < -0.2
