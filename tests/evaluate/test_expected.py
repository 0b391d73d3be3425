"""The prediction of quality: what its rule says, and what no rule may say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unpaired.evaluate import expected as module
from unpaired.evaluate.confidence import Claim
from unpaired.evaluate.expected import MARGIN, Evidence, Rule, collect, expect, features, share

LEARNED = (module.TRACE, module.FOSCTTM)
# The rules are learned anew with every bench: these tests have their own, of the same signs.
TRACE = Rule(-1.5, -0.4, 2.0, -0.9, -0.7, 0.8)
FOSCTTM = Rule(-1.2, -0.2, 1.5, -0.4, -0.6, 0.4)
CLAIM = Evidence(
    trace_over_uniform=20.0, foscttm=0.1, distance=0.2, spread=0.5, noise_known=True, labels=6, labels_total=6
)

evidence = st.builds(
    Evidence,
    trace_over_uniform=st.floats(0.5, 1e5),
    foscttm=st.floats(0, 0.9),
    distance=st.floats(-0.5, 2),
    spread=st.floats(0, 1),
    noise_known=st.booleans(),
    labels=st.just(6),
    labels_total=st.just(6),
)


@pytest.fixture(autouse=True)
def rules(monkeypatch):
    """Rules of these tests."""
    monkeypatch.setattr(module, "TRACE", TRACE)
    monkeypatch.setattr(module, "FOSCTTM", FOSCTTM)


@pytest.mark.parametrize("rule", [TRACE, FOSCTTM])
def test_the_share_is_the_rule(rule):
    far = replace(CLAIM, distance=0.7, spread=0.2, noise_known=False)
    wanted = np.exp(rule.constant + rule.distance * 0.7 + rule.spread * 0.2 + rule.blind)
    assert share(far, rule) == pytest.approx(min(1.05, wanted))
    assert wanted < 1.05


def test_only_a_share_of_the_gain_is_believed():
    found = expect(CLAIM)
    gain, lead = share(CLAIM, TRACE) * 19, share(CLAIM, FOSCTTM) * 0.4
    assert found.trace_over_uniform == pytest.approx([(1 + gain) * np.exp(e) for e in (TRACE.low, 0, TRACE.high)])
    steps = (FOSCTTM.high, 0, FOSCTTM.low)
    ends = [0.5 - min(0.5, lead + e * (lead + MARGIN if e else 0)) for e in steps]
    assert found.foscttm == pytest.approx(ends)
    assert 0 < ends[0] < ends[1] < ends[2] < 0.5


def test_an_error_may_leave_less_than_chance():
    low, mid, high = expect(replace(CLAIM, foscttm=0.499)).foscttm
    assert low < mid < 0.5 < high < 0.5 + MARGIN


def test_the_rules_as_they_were_learned_have_the_signs_that_they_should():
    for rule in LEARNED:
        assert rule.distance <= 0 <= rule.spread
        assert rule.blind <= 0
        assert rule.low < 0 < rule.high
        assert rule.low > -1  # of FOSCTTM the interval would turn around


@settings(max_examples=300, deadline=None)
@given(evidence)
def test_intervals_hold_their_point_and_stay_where_they_can_be(found):
    trace, foscttm = expect(found).trace_over_uniform, expect(found).foscttm
    assert 0 < trace[0] <= trace[1] <= trace[2]
    assert 0 <= foscttm[0] <= foscttm[1] <= 0.5
    assert foscttm[1] <= foscttm[2] < 0.5 + MARGIN
    assert all(type(v) is float for v in (*trace, *foscttm))


@settings(max_examples=300, deadline=None)
@given(evidence)
def test_nothing_is_expected_that_the_coupling_does_not_claim(found):
    told = expect(found)
    assert 1 <= told.trace_over_uniform[1] <= 1 + 1.05 * max(0, found.trace_over_uniform - 1) + 1e-9
    assert 0.5 - told.foscttm[1] <= 1.05 * max(0, 0.5 - found.foscttm) + 1e-12


@settings(max_examples=200, deadline=None)
@given(
    evidence, st.sampled_from(["trace_over_uniform", "foscttm", "distance", "spread", "noise_known"]), st.floats(0, 1)
)
def test_better_evidence_never_promises_less(found, what, by):
    better = {
        "trace_over_uniform": found.trace_over_uniform * (1 + by),
        "foscttm": found.foscttm * (1 - by),
        "distance": found.distance - by,
        "spread": min(1.0, found.spread + by),
        "noise_known": True,
    }[what]
    less, more = expect(found), expect(replace(found, **{what: better}))
    assert (np.array(more.trace_over_uniform) >= np.array(less.trace_over_uniform) - 1e-9).all()
    assert (np.array(more.foscttm) <= np.array(less.foscttm) + 1e-12).all()


@pytest.mark.parametrize("what", ["trace_over_uniform", "foscttm", "distance", "spread", "noise_known"])
def test_every_piece_of_evidence_counts(what):
    worse = {"trace_over_uniform": 5.0, "foscttm": 0.3, "distance": 0.6, "spread": 0.1, "noise_known": False}
    less, more = expect(replace(CLAIM, **{what: worse[what]})), expect(CLAIM)
    gain = more.trace_over_uniform[1] > less.trace_over_uniform[1]
    lead = more.foscttm[1] < less.foscttm[1]
    assert (gain, lead) == (what != "foscttm", what != "trace_over_uniform")


def test_the_share_has_a_ceiling(monkeypatch):
    sure = replace(TRACE, constant=5.0)
    assert share(CLAIM, sure) == 1.05
    monkeypatch.setattr(module, "FOSCTTM", replace(FOSCTTM, constant=5.0))
    assert expect(replace(CLAIM, foscttm=0.0)).foscttm[:2] == (0, 0)


def test_distances_count_from_none_to_far():
    assert features(replace(CLAIM, distance=-0.1)) == features(replace(CLAIM, distance=0.0)) == (1.0, 0.0, 0.5, 0.0)
    assert features(replace(CLAIM, distance=1.9)) == features(replace(CLAIM, distance=1.2)) == (1.0, 1.2, 0.5, 0.0)
    assert features(replace(CLAIM, noise_known=False))[3] == 1.0


def test_labels_are_collected_alike():
    claims = {"a": Claim(10.0, 0.1, 0.3), "b": Claim(2.0, 0.4, 0.4)}
    found = collect(claims, 0.1, 0.6, noise_known=True, labels_total=5)
    assert found == Evidence(6.0, pytest.approx(0.3), 0.1, 0.6, noise_known=True, labels=2, labels_total=5)


def test_spreads_that_cannot_be_compared_are_not_alike():
    assert collect({"a": Claim(2.0, 0.1, 0.1)}, 0.1, None, noise_known=False, labels_total=1).spread == 0


def test_nothing_is_collected_of_nothing():
    assert collect({}, 0.1, 0.6, noise_known=True, labels_total=1) is None
    assert collect({"a": Claim(2.0, 0.1, 0.1)}, float("nan"), 0.6, noise_known=True, labels_total=1) is None


def test_what_claims_nothing_is_expected_to_be_chance():
    found = expect(replace(CLAIM, trace_over_uniform=0.9, foscttm=0.6))
    assert found.trace_over_uniform[1] == 1
    assert found.foscttm == pytest.approx((0.5 - FOSCTTM.high * MARGIN, 0.5, 0.5 - FOSCTTM.low * MARGIN))
