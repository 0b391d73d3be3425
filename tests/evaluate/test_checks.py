"""Every check on both sides of its threshold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import unpaired as up
from unpaired.data.types import Dataset
from unpaired.evaluate import checks
from unpaired.evaluate.agreement import Agreement
from unpaired.evaluate.signal import Signal
from unpaired.evaluate.two_sample import LabelTest, TwoSampleTest
from unpaired.match.block import Status

NAMES = ("rna", "image")
GOOD = Signal(explained=0.4, p_value=0.005, calibration_error=0.02, temperature=1.1, cells=300)


def numbers(check):
    return check.value, check.state


# ------------------------------------------------------------------ signal and calibration


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, "good"),
        ({"explained": 0.05, "p_value": 0.01}, "good"),
        ({"explained": 0.049}, "caution"),
        ({"p_value": 0.015}, "bad"),
        ({"explained": 0.0}, "bad"),
        ({"explained": -0.2}, "bad"),
    ],
)
def test_labels_need_signal(change, state):
    found = replace(GOOD, **change)
    (check,) = checks.signal({"rna": found})
    assert numbers(check) == (found.explained, state)
    assert check.name == "label signal of rna"
    assert f"{max(0, found.explained):.0%}" in check.sentence
    assert ("no signal in rna" in check.sentence) == (state == "bad")
    assert ("little signal in rna" in check.sentence) == (state == "caution")
    assert check.details == {"p_value": found.p_value, "cells": 300}


def test_without_scores_the_signal_is_unknown_and_calibration_is_no_question():
    assert [numbers(c) for c in checks.signal({"rna": None, "image": GOOD})] == [(None, "unknown"), (0.4, "good")]
    assert [c.name for c in checks.calibration({"rna": None, "image": GOOD})] == ["calibration of image"]


@pytest.mark.parametrize(("error", "state"), [(0.1, "good"), (0.101, "caution")])
def test_probabilities_need_calibration(error, state):
    (check,) = checks.calibration({"rna": replace(GOOD, calibration_error=error)})
    assert numbers(check) == (error, state)
    assert ("distorted" in check.sentence) == (state == "caution")


# ------------------------------------------------------------------ the same distribution


def agreement(distance, spread, p=(0.005, 0.5, 0.01, *[0.3] * 5)):
    tests = {str(i): LabelTest(distance, v, (9, 9)) for i, v in enumerate(p)}
    return Agreement(TwoSampleTest(distance, min(p, default=1.0), tests), spread)


@pytest.mark.parametrize(
    ("distance", "spread", "state"),
    [
        (0.3, 0.3, "good"),
        (-0.02, None, "good"),
        (0.31, 0.9, "caution"),
        (0.31, None, "caution"),
        (0.7, 0.15, "caution"),
        (0.1, 0.29, "caution"),
        (0.71, 0.9, "bad"),
        (0.71, None, "bad"),
        (0.1, 0.14, "bad"),
    ],
)
def test_scores_need_to_be_alike(distance, spread, state):
    check = checks.alike(agreement(distance, spread), NAMES)
    assert numbers(check) == (distance, state)
    assert check.details["labels_that_differ"] == 2
    assert check.details["labels"] == 8
    assert "2 of 8 labels differ" in check.sentence
    assert f"energy distance {distance:.2f}" in check.sentence
    assert ("cannot be compared" if spread is None else f"spreads {spread:.2f}") in check.sentence


@pytest.mark.parametrize("spread", [0.0, 0.2, 0.9])
def test_the_spreads_of_few_labels_are_told_and_not_judged(spread):
    for distance, state in ((0.3, "good"), (0.31, "caution"), (0.71, "bad")):
        check = checks.alike(agreement(distance, spread, p=[0.3] * 7), NAMES)
        assert numbers(check) == (distance, state)
        assert f"spreads {spread:.2f}" in check.sentence
        assert check.details["spread"] == spread


def test_without_a_label_to_compare_it_is_unknown():
    check = checks.alike(Agreement(TwoSampleTest(float("nan"), float("nan"), {}), None), NAMES)
    assert numbers(check) == (None, "unknown")


# ------------------------------------------------------------------ directions


def within(scored, directions, *, seed=0):
    """A space of six dimensions in which the cells of a label differ in so many directions, and labels in all."""
    data, _, space = scored(400, labels=6, seed=seed)
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0][:, :directions]
    arrays = {
        n: 9 * rng.normal(size=(6, 6))[data[n].labels] + rng.normal(size=(len(data[n]), directions)) @ basis.T
        for n in NAMES
    }
    return data, replace(space, arrays=arrays)


@pytest.mark.parametrize(("directions", "state"), [(1, "caution"), (3, "good"), (6, "good")])
def test_directions_are_those_within_labels(scored, directions, state):
    data, space = within(scored, directions)
    check = checks.labels(data, space, NAMES)
    assert check.value == pytest.approx(directions, rel=0.02)
    assert check.state == state
    assert f"about {directions} direction{'' if directions == 1 else 's'}:" in check.sentence


def test_the_modality_with_fewer_directions_decides(scored):
    data, wide = within(scored, 5)
    narrow = within(scored, 2)[1]
    check = checks.labels(data, replace(wide, arrays={**wide.arrays, "image": narrow["image"]}), NAMES)
    assert check.value == pytest.approx(2, rel=0.02)
    assert check.details["rank_rna"] == pytest.approx(5, rel=0.02)
    assert check.details["rank_image"] == check.value
    assert check.details["dims"] == 6


def test_all_cells_in_one_place_have_no_direction(scored):
    data, _, space = scored(10)
    flat = replace(space, arrays={n: np.zeros_like(space[n]) for n in NAMES}, space="latent")
    check = checks.labels(data, flat, NAMES)
    assert numbers(check) == (0, "caution")
    assert "a space of 6 dimensions" in check.sentence
    single = scored(1)
    assert checks.labels(*single[::2], NAMES).value == 0


# ------------------------------------------------------------------ overlap


@pytest.mark.parametrize(
    ("rna", "image", "value", "state"),
    [
        ((30, 30), (30, 30), 1.0, "good"),
        ((30, 10), (300, 100), 1.0, "good"),
        ((60, 20), (20, 20), 2.0, "good"),
        ((70, 10), (10, 10), 4.0, "caution"),
        ((30, 1), (30, 1), 1.0, "caution"),
    ],
)
def test_labels_should_be_as_frequent_on_both_sides(toy, rna, image, value, state):
    data, _ = toy({"rna": rna, "image": image}, labels=("a", "b"), unlabelled=7)
    check = checks.overlap(data, NAMES)
    assert check.value == pytest.approx(value)
    assert check.state == state
    assert check.details["smallest_label"] == min(*rna, *image)
    assert ("b makes up 4.0 times" in check.sentence) == (value == 4)


def test_absent_labels_are_not_compared(toy):
    data, _ = toy({"rna": (30, 30, 0), "image": (30, 0, 30)})
    check = checks.overlap(replace(data, classes=(*data.classes, "empty")), NAMES)
    assert check.details["labels_shared"] == 1
    assert numbers(check) == (1, "caution")
    assert "The smallest label has 30 cells" in check.sentence
    assert "2 labels are in one modality only" in check.sentence


def test_without_a_shared_label_there_is_no_overlap(toy):
    data, _ = toy({"rna": (30, 0), "image": (0, 30)}, labels=("a", "b"))
    check = checks.overlap(data, NAMES)
    assert check.sentence == "No label has cells in both modalities."
    assert numbers(check) == (None, "bad")
    assert check.details == {"smallest_label": 0, "labels_shared": 0}
    nobody = Dataset({n: replace(m, labels=np.full(len(m), -1)) for n, m in data.modalities.items()}, data.classes)
    assert checks.overlap(nobody, NAMES).state == "bad"


# ------------------------------------------------------------------ partners, coverage, convergence


def weighed(matching, weights):
    """The matching with other weights, label by label; ``None`` keeps them."""
    blocks = (b if w is None else replace(b, weights=w) for b, w in zip(matching.blocks, weights, strict=True))
    return replace(matching, blocks=tuple(blocks))


def found_partners(matching):
    return {b.label: b.effective_partners()[b.sums(1) > 0] for b in matching.matched}


@pytest.mark.parametrize(("partners", "state"), [(1, "good"), (8, "good"), (10, "caution")])
def test_a_coupling_should_decide(toy, partners, state):
    data, _ = toy(10, labels=("a",))
    near = (np.arange(10)[:, None] - np.arange(10)) % 10 < partners
    matching = weighed(up.match_uniform(data), [near.astype(float)])
    check = checks.partners(matching, found_partners(matching))
    assert check.value == pytest.approx(partners / 10)
    assert check.state == state
    assert f"between {partners} of 10 candidates" in check.sentence
    assert ("says little" in check.sentence) == (state == "caution")


def test_partners_are_a_mean_over_cells_that_have_some(toy):
    data, _ = toy({"rna": (4, 6, 5), "image": (4, 10, 1)})
    hard = sp.csr_matrix(np.eye(4) * [1, 1, 0, 0])  # two cells without a partner: not two that are sure
    matching = weighed(up.match_uniform(data), [hard, None, None])
    check = checks.partners(matching, found_partners(matching))
    assert check.details["effective"] == pytest.approx((2 * 1 + 6 * 10) / 8)
    assert check.details["candidates"] == pytest.approx((2 * 4 + 6 * 10) / 8)


def test_without_a_choice_partners_are_unknown(toy):
    data, _ = toy({"rna": (4, 5), "image": (1, 0)}, labels=("a", "b"))
    matching = up.match_uniform(data)
    assert numbers(checks.partners(matching, found_partners(matching))) == (None, "unknown")


@pytest.mark.parametrize(
    ("image", "unlabelled", "value", "state"),
    [((10, 10), 0, 1.0, "good"), ((10, 10), 2, 20 / 22, "good"), ((10, 0), 0, 0.5, "caution"), ((0, 0), 1, 0.0, "bad")],
)
def test_the_matching_should_cover_the_data(toy, image, unlabelled, value, state):
    data, _ = toy({"rna": (10, 10), "image": image}, labels=("a", "b"), unlabelled=unlabelled)
    check = checks.coverage(up.match_uniform(data))
    assert check.value == pytest.approx(value)
    assert check.state == state
    assert len(check.details["left_out"]) == image.count(0)


@pytest.mark.parametrize(
    ("states", "state", "labels"),
    [
        (("ok", "ok", "too_small"), "good", []),
        (("ok", "not_converged", "ok"), "caution", ["b"]),
        (("not_converged", "ok", "failed"), "bad", ["a", "c"]),
        (("absent", "failed", "absent"), "bad", ["b"]),
    ],
)
def test_the_solver_should_arrive(toy, states, state, labels):
    data, _ = toy(5)
    matching = up.match_uniform(data)
    blocks = tuple(
        replace(b, status=Status(s, "why", e), weights=None if s in ("failed", "absent") else b.weights)
        for b, s, e in zip(matching.blocks, states, (0.25, 0.5, float("nan")), strict=True)
    )
    check = checks.convergence(replace(matching, blocks=blocks))
    assert check.state == state
    assert check.details["labels"] == labels
    errors = [e for s, e in zip(states, (0.25, 0.5), strict=False) if s not in ("failed", "absent")]
    assert check.value == max(errors, default=None)
    assert ("marginals off" in check.sentence) == bool(errors)
    assert check.sentence.startswith(
        f"{len(labels)} of 3 labels did not converge" if labels else "All labels converged"
    )


def test_where_no_marginals_were_asked_for_there_was_nothing_to_converge(toy):
    data, truth = toy(5)
    check = checks.convergence(up.match_pairs(data, truth))
    assert numbers(check) == (None, "good")
    assert check.sentence.startswith("There was nothing to converge")
