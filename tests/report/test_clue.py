"""What the page of a run of clue warns of, and its curve of the loss."""

import pytest

from unpaired.report.clue import find_clue_concerns
from unpaired.report.prediction_plots import training_curve


def record(**training):
    return {"notes": [], "training": {"history": [3.0, 2.0, 2.5], "burn_in": 0, "epoch": 2} | training}


def latent(**more):
    given = {"source": "rna", "target": "adt", "cells": 100, "matching_score": 0.3, "matching_score_chance": 0.01}
    return given | {"foscttm_source": 0.1, "foscttm_target": 0.1} | more


def imputation(**more):
    return {"source": "rna", "target": "adt", "r2": 0.4, "coverage": 0.93} | more


def whats(told, *, places=(), imputed=()):
    return [c.what for c in find_clue_concerns(told, {"latent": places, "imputation": imputed})]


def test_a_run_that_is_fine_has_no_warning():
    assert whats(record(), places=[latent()], imputed=[imputation()]) == []


def test_what_could_not_be_judged_is_no_warning():
    assert whats(record(), imputed=[imputation(r2=None, coverage=None)]) == []


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({"places": [latent(foscttm_source=0.5, foscttm_target=0.48)]}, "hardly lie nearer"),
        ({"imputed": [imputation(r2=-0.1)]}, "no nearer to what was measured than the mean"),
        ({"imputed": [imputation(coverage=0.5)]}, "50.0 % of the readings lie within 1.96 spreads, where 95 % should"),
    ],
)
def test_what_is_no_better_than_chance_or_too_sure_is_said(found, sentence):
    (what,) = whats(record(), **found)
    assert sentence in what


@pytest.mark.parametrize(
    "found",
    [
        latent(matching_score=0.015),  # near neighbours are mistaken, and yet all are near
        latent(cells=2, matching_score=0.75, matching_score_chance=0.5),
        latent(cells=19, foscttm_source=0.45, foscttm_target=0.45),
    ],
)
def test_a_low_matching_score_and_few_cells_are_no_sign_of_chance(found):
    assert whats(record(), places=[found]) == []


def test_a_training_that_ended_too_early_and_the_notes_are_warnings():
    assert whats(record(epoch=3)) == ["The loss still fell when the training ended."]
    assert whats(record() | {"notes": ["warning: few cells.", "a note."]}) == ["few cells."]


def test_the_lowest_loss_is_not_sought_in_the_burn_in():
    ax = training_curve([1.0, 5.0, 3.0, 4.0], burn_in=2)
    (point,) = ax.collections[-1].get_offsets().tolist()
    assert point == [3.0, 3.0]
    assert "burn-in" in [t.get_text() for t in ax.texts]
    (first,) = training_curve([1.0, 5.0, 3.0, 4.0]).collections[-1].get_offsets().tolist()
    assert first == [1.0, 1.0]
