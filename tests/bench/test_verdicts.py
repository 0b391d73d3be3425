"""Whether our method is the best, case by case, and what is said of it."""

import numpy as np
import pytest

from unpaired.bench.tables import Summary
from unpaired.bench.verdicts import verdict_text, verdicts

TITLES = {"ps+ot": "PS+OT (ours)", "scot": "SCOT, per label", "uniform": "uniform coupling"}
PAIRS = [300, 300, 200]


def of(case, method, *values, labels=3, failed=(0, "")):
    return [
        Summary(case, method, "foscttm", dict(enumerate(values)), failed),
        Summary(case, method, "labels", {0: float(labels)} if values else {}, failed),
    ]


FOUND = [
    *of("a x", "ps+ot", 0.30, 0.31), *of("a x", "scot", 0.40),
    *of("b x", "ps+ot", 0.305, 0.31), *of("b x", "scot", 0.30),
    *of("c x", "ps+ot", 0.40, 0.41), *of("c x", "scot", 0.30),
    *of("d x", "ps+ot", 0.29, 0.50, 0.5), *of("d x", "scot", 0.30),
    *of("e x", "ps+ot", 0.40), *of("e x", "scot", 0.30, labels=2),
    *of("f x", "ps+ot", 0.20, labels=2), *of("f x", "scot", 0.30),
    *of("g x", "ps+ot", failed=(1, "it diverged.")), *of("g x", "scot", 0.30),
    *of("h x", "ps+ot", 0.29, failed=(2, "it diverged.")), *of("h x", "scot", 0.30),
    *of("i x", "ps+ot", failed=(3, "it diverged.")), *of("i x", "scot", failed=(3, "so did it.")),
    *of("b y", "ps+ot", 0.498), *of("b y", "uniform", 0.5),
]  # fmt: skip


@pytest.fixture
def found():
    return {v.case: v for v in verdicts(FOUND, dict.fromkeys((s.case for s in FOUND), PAIRS))}


def test_it_knows_best_noise_and_worse_and_who_is_scored_on_less(found):
    assert {case: v.state for case, v in found.items()} == {
        "a x": "best",
        "b x": "within noise of the best",
        "c x": "worse than the best",
        "d x": "worse than the best",  # one lucky seed is no tie
        "e x": "best",  # the rival is scored on fewer labels
        "f x": "scored on fewer labels",  # ours is
        "g x": "failed",
        "h x": "failed",  # all but one lucky seed
        "i x": "failed",  # as all did
        "b y": "best",
    }


def test_noise_is_that_of_a_mean_over_labels(found):
    rng = np.random.default_rng(0)
    drawn = np.mean([rng.random((4000, n)).mean(axis=1) for n in PAIRS], axis=0)
    assert found["a x"].noise == pytest.approx(drawn.std(), rel=0.05)


def test_where_no_method_beats_the_label_alone_it_is_said(found):
    assert [case for case, v in found.items() if v.chance] == ["b y"]


def test_a_case_without_a_result_of_ours_counts(found):
    text = verdict_text(list(found.values()), FOUND, TITLES)
    assert "in 4 of 10 pairs of modalities, and in all pairs of 3 of 9 data sets; in 1 of the pairs no method" in text
    assert "| b y | best (nobody beats the label alone) | PS+OT (ours) | 0.000 |" in text
    assert "| g x | failed | SCOT, per label |  |" in text
    assert "| i x | failed |  |  |  | 0 |" in text
    assert "Without a result somewhere: PS+OT (ours), SCOT, per label." in text


def test_without_ours_there_is_nothing_to_say():
    rivals = [s for s in FOUND if s.method != "ps+ot"]
    assert verdict_text(verdicts(rivals, dict.fromkeys((s.case for s in rivals), PAIRS)), rivals, TITLES) == ""
