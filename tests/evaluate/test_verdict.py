"""The verdict on data whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import unpaired as up
from unpaired.evaluate import diagnose as module
from unpaired.evaluate.diagnose import FOSCTTM
from unpaired.evaluate.expected import Expected

NAMES = ("rna", "image")


def test_scores_of_the_same_cells_can_be_used(good, said):
    data, truth, _, matching, diagnosis = good
    assert diagnosis.verdict == "use"
    assert {c.name: c.state for c in diagnosis.checks if c.state == "bad"} == {}
    low, _, high = diagnosis.expected.trace_over_uniform
    true = up.score(matching, truth, data).unweighted["trace_over_uniform"]
    assert true > 5
    assert low <= true <= 2 * high
    assert said(diagnosis)["verdict"] == "use"


def test_scores_of_other_cells_are_worth_averages(diagnosed, said):
    data, truth, _, matching, diagnosis = diagnosed(alike=False, seed=3)
    assert diagnosis.verdict == "average"
    assert diagnosis["same distribution"].state == "bad"
    assert up.score(matching, truth, data).unweighted["trace_over_uniform"] < 1.5
    said(diagnosis)


def test_a_uniform_matching_is_worth_averages(good):
    data, _, space, _, _ = good
    diagnosis = up.diagnose(data, space, up.match_uniform(data))
    assert diagnosis.verdict == "average"
    assert diagnosis["partners"].state == "caution"
    assert diagnosis.evidence.trace_over_uniform == pytest.approx(1)
    assert diagnosis.evidence.foscttm == pytest.approx(0.5)


@pytest.mark.parametrize("sides", [NAMES, ("image",)])
def test_shuffled_labels_are_not_to_be_used(scored, sides, said):
    data, _, space = scored(80, labels=5)
    rng = np.random.default_rng(0)
    wrong = {n: replace(data[n], labels=rng.permutation(data[n].labels)) for n in sides}
    data = replace(data, modalities={**data.modalities, **wrong})
    diagnosis = up.diagnose(data, space, up.match_ot(data, space))
    assert diagnosis.verdict == "do not use"
    assert diagnosis.sentence == diagnosis[f"label signal of {sides[0]}"].sentence
    for name in NAMES:
        assert diagnosis[f"label signal of {name}"].state == ("bad" if name in sides else "good")
    said(diagnosis)


@pytest.mark.parametrize("mixed", [False, True])
def test_so_are_scores_that_were_learned_of_shuffled_labels(toy, mixed):
    data, _ = toy(40)
    rng = np.random.default_rng(1)
    if mixed:
        data = replace(
            data, modalities={n: replace(m, labels=rng.permutation(m.labels)) for n, m in data.modalities.items()}
        )
    space = up.Propensity(classifier="logistic", repeats=2).fit(data).transform(data)
    diagnosis = up.diagnose(data, space, up.match_ot(data, space))
    assert (diagnosis.verdict == "do not use") == mixed


@pytest.mark.parametrize(
    ("trace", "foscttm", "verdict"),
    [
        ((1.01, 2.0), FOSCTTM, "use"),
        ((1.01, 1.99), 0.1, "average"),
        ((1.0, 50.0), 0.1, "average"),
        ((9.0, 50.0), FOSCTTM + 1e-3, "average"),
    ],
)
def test_both_expectations_have_to_be_worth_it(good, monkeypatch, trace, foscttm, verdict):
    data, _, space, matching, _ = good
    told = Expected((*trace, 2e3), (0.0, foscttm, 0.5))
    monkeypatch.setattr(module, "expect", lambda _: told)
    diagnosis = up.diagnose(data, space, matching)
    assert (diagnosis.verdict, diagnosis.expected) == (verdict, told)
    assert f"FOSCTTM {foscttm:.2f} (0.00 to 0.50" in diagnosis.sentence


@pytest.mark.parametrize(
    "match", [up.match_random, lambda d: up.match_pairs(d, up.Pairs({n: np.arange(960) for n in NAMES}))]
)
def test_of_couplings_that_claim_what_they_like_nothing_is_expected(good, match):
    data, _, space, _, _ = good
    diagnosis = up.diagnose(data, space, match(data))
    assert diagnosis.evidence.foscttm == 0
    assert diagnosis.expected is None
    assert (diagnosis.verdict, "nothing is expected" in diagnosis.sentence) == ("average", True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, True),
        ({"cost": "euclidean", "eps": 0.05}, True),
        ({"cost": "sqeuclidean", "eps": 0.05}, False),
        ({"cost": "euclidean", "eps": 0.5}, False),
        ({"eps": "0.05*median"}, False),
    ],
)
def test_the_rule_is_for_the_couplings_that_it_was_learned_of(scored, options, told):
    data, _, space = scored(10, labels=4)
    matching = up.match_ot(data, space, **options)
    assert (up.diagnose(data, space, matching).expected is not None) == told
    other = replace(matching, made_by=replace(matching.made_by, method="read_matching"))
    assert up.diagnose(data, space, other).expected is None
    assert up.diagnose(data, replace(space, space="latent"), matching).expected is None


def test_matches_of_half_the_cells_are_not_to_be_used(scored):
    data, _, space = scored({"rna": 80, "image": [80] * 5 + [0] * 7}, labels=12, error=0.2)
    diagnosis = up.diagnose(data, space, up.match_ot(data, space))
    assert diagnosis["coverage"].value < 0.5
    assert diagnosis.expected.trace_over_uniform[0] > 2
    assert diagnosis.verdict == "average"
    assert "over 5 of 12 labels" in diagnosis.sentence


def test_nothing_matched_is_not_to_be_used(scored, said):
    data, _, space = scored({"rna": [20, 20, 0, 0], "image": [0, 0, 20, 20]}, labels=4)
    diagnosis = up.diagnose(data, space, up.match_uniform(data))
    assert diagnosis.verdict == "do not use"
    assert diagnosis["coverage"].state == "bad"
    assert diagnosis.expected is diagnosis.evidence is None
    assert said(diagnosis)["expected"] is None
