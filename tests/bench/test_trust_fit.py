"""The rule of the expected quality: learned as it was made, and judged on data sets that it never saw."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from unpaired.bench.trust_fit import Judged, _ends, _shift, judge, learn
from unpaired.evaluate import expected
from unpaired.evaluate.expected import CEILING, Evidence, Rule, expect, features, share

RULE = Rule(-1.5, -0.6, 1.2, -0.5, -0.5, 0.5)
QUALITIES = ("trace", "foscttm")


def simulated(sets=8, each=10, error=0.0, own=0.0, seed=0):
    """``(results, groups)`` of measured qualities by the rule, with errors of each result and of each data set."""
    rng = np.random.default_rng(seed)
    results, groups = [], []
    for i in range(sets):
        off = own * rng.normal()
        for _ in range(each):
            evidence = Evidence(
                float(np.exp(rng.uniform(4, 7))),
                float(rng.uniform(0.02, 0.2)),
                float(rng.uniform(0, 1.2)),
                float(rng.uniform(0, 1)),
                noise_known=bool(rng.random() < 0.5),
                labels=9,
                labels_total=10,
            )
            part, by = share(evidence, RULE), np.exp(off + error * rng.normal())
            measured = {
                "trace_over_uniform": 1 + part * (evidence.trace_over_uniform - 1) * by,
                "foscttm": {"mean": 0.5 - part * (0.5 - evidence.foscttm) * by},
            }
            results.append({"diagnosis": {"evidence": asdict(evidence)}, "measured": measured})
            groups.append(f"set {i}")
    return results, groups


def coefficients(rule):
    return [rule.constant, rule.distance, rule.spread, rule.blind]


# ------------------------------------------------------------------ learning


def test_coefficients_are_found_again():
    rng = np.random.default_rng(1)
    x = np.c_[np.ones(400), rng.uniform(size=(400, 2)), rng.random(400) < 0.5]
    y = x @ coefficients(RULE) + 0.05 * rng.normal(size=400)
    np.testing.assert_allclose(learn(x, y, np.repeat(np.arange(4), 100)), coefficients(RULE), atol=0.03)


def test_a_data_set_counts_by_the_square_root_of_its_results():
    x = np.zeros((101, 4))
    x[:, 0] = 1
    y, owners = np.r_[np.ones(100), 0.0], np.array(["many"] * 100 + ["one"])
    np.testing.assert_allclose(learn(x, y, owners), [10 / 11, 0, 0, 0], atol=1e-12)


def test_what_never_varied_has_no_coefficient():
    x = np.c_[np.ones(20), np.linspace(0, 1, 20), np.zeros((20, 2))]
    found = learn(x, x @ [1.0, 2.0, 0.0, 0.0], np.array(["a", "b"] * 10))
    np.testing.assert_allclose(found, [1, 2, 0, 0], atol=0.1)
    assert (found[2:] == 0).all()


@pytest.mark.parametrize("what", QUALITIES)
def test_results_made_by_a_rule_give_the_rule_and_predict_themselves(what):
    found = judge(*simulated(), what)
    assert coefficients(found.rule) == pytest.approx(coefficients(RULE), abs=0.03)
    np.testing.assert_allclose(found.predicted, found.measured, rtol=0.05)
    assert found.rule.low == pytest.approx(0, abs=0.05)
    assert found.rule.high == pytest.approx(0, abs=0.05)
    assert found.spearman > 0.99


def test_no_more_is_predicted_than_can_be_claimed():
    results, groups = simulated()
    for r in results:
        r["measured"] = {"trace_over_uniform": 1e6, "foscttm": {"mean": 0.0}}
    evidence = [Evidence(**r["diagnosis"]["evidence"]) for r in results]
    claims = {"trace": [e.trace_over_uniform - 1 for e in evidence], "foscttm": [0.5 - e.foscttm for e in evidence]}
    for what, claim in claims.items():
        predicted = judge(results, groups, what).predicted - (what == "trace")
        assert (predicted <= CEILING * np.array(claim) + 1e-9).all()
        assert (predicted > 0.9 * np.array(claim)).all()


# ------------------------------------------------------------------ judging


@pytest.mark.parametrize("what", QUALITIES)
def test_no_data_set_is_used_for_its_own_prediction(what):
    results, groups = simulated(error=0.3)
    before = judge(results, groups, what)
    for r, g in zip(results, groups, strict=True):
        if g == "set 3":
            r["measured"] = {"trace_over_uniform": 1.1, "foscttm": {"mean": 0.49}}
    after = judge(results, groups, what)
    own = before.owners == "set 3"
    for name in ("predicted", "low", "high"):
        one, two = getattr(before, name), getattr(after, name)
        np.testing.assert_array_equal(one[own], two[own], err_msg=name)
        assert (one[~own] != two[~own]).all(), name
    assert after.rule != before.rule
    assert (after.measured[own] != before.measured[own]).all()


@pytest.mark.parametrize("what", QUALITIES)
def test_the_order_of_the_results_says_nothing(what):
    results, groups = simulated(error=0.3)
    perm = np.random.default_rng(2).permutation(len(groups))
    one = judge(results, groups, what)
    two = judge([results[i] for i in perm], [groups[i] for i in perm], what)
    np.testing.assert_allclose(two.predicted, one.predicted[perm], rtol=1e-9)
    np.testing.assert_allclose(two.low, one.low[perm], rtol=1e-9)
    assert asdict(two.rule) == pytest.approx(asdict(one.rule), rel=1e-9)


@pytest.mark.parametrize("what", QUALITIES)
@pytest.mark.parametrize(("error", "own"), [(0.3, 0.0), (0.15, 0.25)])
def test_intervals_hold_as_many_as_they_should(what, error, own):
    found = judge(*simulated(sets=30, each=30, error=error, own=own), what)
    assert set(found.covered) == {f"set {i}" for i in range(30)}
    assert np.mean(list(found.covered.values())) == pytest.approx(0.96, abs=0.03)
    assert (found.low < found.predicted).all()
    assert (found.predicted < found.high).all()


def test_every_data_set_counts_alike_where_the_interval_ends():
    errors, owners = np.r_[np.zeros(1000), -3.0, 3.0], np.array(["many"] * 1000 + ["low", "high"])
    np.testing.assert_allclose(_ends(errors, owners), [-3, 3])
    np.testing.assert_allclose(_ends(errors, np.array(["one"] * 1002)), [0, 0], atol=1e-9)
    even = np.linspace(-1, 1, 201)
    np.testing.assert_allclose(_ends(even, np.array(["a"] * 201)), [-0.96, 0.96], atol=0.01)
    np.testing.assert_allclose(_ends(even[::-1], np.arange(201)), [-0.96, 0.96], atol=0.01)


def test_the_interval_is_the_one_that_a_user_is_told(monkeypatch):
    rule = replace(RULE, low=-0.4, high=0.7)
    for name in ("TRACE", "FOSCTTM"):
        monkeypatch.setattr(expected, name, rule)
    evidence = Evidence(50.0, 0.2, 0.3, 0.5, noise_known=True, labels=3, labels_total=3)
    told = expect(evidence)
    assert np.exp(np.dot(coefficients(rule), features(evidence))) == pytest.approx(share(evidence, rule))
    ends = [_shift(np.array([told.trace_over_uniform[1]]), e, "trace")[0] for e in (rule.low, rule.high)]
    assert told.trace_over_uniform[::2] == pytest.approx(ends)
    ends = [0.5 - _shift(np.array([0.5 - told.foscttm[1]]), e, "foscttm")[0] for e in (rule.high, rule.low)]
    assert told.foscttm[::2] == pytest.approx(ends)


def test_some_results_can_be_taken_and_coverage_is_by_data_set():
    owners = np.array(["a", "a", "a", "b", "b"])
    ends = {"low": np.array([0.0, 2, 0, 1, 9]), "high": np.array([2.0, 3, 1, 2, 9])}
    judged = Judged(np.arange(5.0), np.ones(5), **ends, owners=owners, rule=RULE)
    assert judged.covered == {"a": pytest.approx(2 / 3), "b": 0.5}
    some = judged.take(np.array([0, 4]))
    assert some.covered == {"a": 1.0, "b": 0.0}
    assert some.predicted.tolist() == [0, 4]
    assert some.rule is RULE
