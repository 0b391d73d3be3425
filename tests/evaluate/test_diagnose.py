"""What must not change a diagnosis, and data that must not break it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import unpaired as up
from unpaired.data.types import Dataset
from unpaired.errors import OptionError
from unpaired.evaluate.confidence import confidence
from unpaired.match.block import Status

NAMES = ("rna", "image")


def turned(space, perm):
    arrays = {n: space[n][perm[n]] for n in NAMES}
    return replace(space, arrays=arrays, noise={n: space.noise[n][perm[n]] for n in NAMES})


# ------------------------------------------------------------------ what must not change it


@pytest.mark.parametrize("side", [*NAMES, None])
def test_the_order_of_the_rows_changes_not_a_bit(good, side):
    data, _, space, _, diagnosis = good
    rng = np.random.default_rng(0)
    perm = {n: rng.permutation(960) if side in (n, None) else np.arange(960) for n in NAMES}
    other, there = data.take(perm), turned(space, perm)
    assert up.diagnose(other, there, up.match_ot(other, there)).to_dict() == diagnosis.to_dict()


def test_the_names_of_the_cells_change_nothing(good):
    data, _, space, matching, diagnosis = good
    named = {n: replace(m, ids=m.ids[::-1].copy()) for n, m in data.modalities.items()}
    assert up.diagnose(replace(data, modalities=named), space, matching).to_dict() == diagnosis.to_dict()


def test_source_and_target_can_be_exchanged(good):
    data, _, space, matching, diagnosis = good
    back = up.diagnose(data, space, matching.transpose)
    assert (back.source, back.target) == ("image", "rna")
    assert back.verdict == diagnosis.verdict
    assert back.evidence.distance == pytest.approx(diagnosis.evidence.distance, abs=1e-9)
    assert back.evidence.spread == pytest.approx(diagnosis.evidence.spread, abs=1e-9)
    assert back.evidence.foscttm == pytest.approx(diagnosis.evidence.foscttm, abs=1e-9)
    assert back.expected.trace_over_uniform == pytest.approx(diagnosis.expected.trace_over_uniform, rel=0.3)


def test_the_order_of_the_modalities_in_the_data_says_nothing(good):
    data, _, space, matching, diagnosis = good
    swapped = replace(data, modalities={n: data[n] for n in NAMES[::-1]})
    space = replace(space, arrays={n: space[n] for n in NAMES[::-1]})
    assert up.diagnose(swapped, space, matching).to_dict() == diagnosis.to_dict()


def test_a_third_modality_is_not_looked_at(good):
    data, _, space, matching, diagnosis = good
    more = replace(data, modalities={**data.modalities, "third": replace(data["rna"].take(np.arange(5)), name="third")})
    assert up.diagnose(more, space, matching).to_dict() == diagnosis.to_dict()


def test_the_seed_changes_p_values_alone_and_those_little(diagnosed):
    data, _, space, matching, one = diagnosed(counts=30, labels=5, error=1.5)
    other = up.diagnose(data, space, matching, seed=1)
    assert other.verdict == one.verdict
    assert (other.evidence, other.expected) == (one.evidence, one.expected)
    changed = 0
    for a, b in zip(one.checks, other.checks, strict=True):
        assert (a.value, a.state) == (b.value, b.state)
        changed += a != b
    ps = [(one.labels[c].p_value, other.labels[c].p_value) for c in one.labels]
    np.testing.assert_allclose(*np.transpose(ps), atol=0.15)
    assert changed or any(a != b for a, b in ps)
    assert up.diagnose(data, space, matching).to_dict() == one.to_dict()


def test_confidence_that_is_known_need_not_be_found_again(good, monkeypatch):
    data, _, space, matching, diagnosis = good
    sure = confidence(matching, data)
    monkeypatch.setattr("unpaired.evaluate.diagnose.confidence", lambda *_: pytest.fail("it was known"))
    assert up.diagnose(data, space, matching, sure=sure).to_dict() == diagnosis.to_dict()


def test_nothing_that_is_given_is_changed(scored):
    data, _, space = scored(20)
    matching = up.match_uniform(data)
    before = {n: (data[n].X.copy(), data[n].labels.copy(), space[n].copy()) for n in NAMES}
    up.diagnose(data, space, matching)
    for n, (X, labels, places) in before.items():
        assert np.array_equal(data[n].X, X)
        assert np.array_equal(data[n].labels, labels)
        assert np.array_equal(space[n], places)


# ------------------------------------------------------------------ spaces


def test_a_space_of_features_is_judged_without_a_signal(good, said):
    data, *_ = good
    space = up.features_embedding(data)
    diagnosis = up.diagnose(data, space, up.match_ot(data, space, eps="0.05*median"))
    assert [diagnosis[f"label signal of {n}"].state for n in NAMES] == ["unknown"] * 2
    assert not any(c.name.startswith("calibration") for c in diagnosis.checks)
    assert diagnosis.evidence.spread == 0
    assert "spreads cannot be compared" in diagnosis["same distribution"].sentence
    assert (diagnosis.verdict, diagnosis.expected) == ("average", None)
    said(diagnosis)


def test_a_space_that_does_not_know_its_noise_is_believed_less(good):
    data, _, space, matching, diagnosis = good
    blind = up.diagnose(data, replace(space, noise=None), matching)
    assert (diagnosis.evidence.noise_known, blind.evidence.noise_known) == (True, False)
    assert blind.expected.trace_over_uniform[1] < diagnosis.expected.trace_over_uniform[1]
    covariance = {n: 0.04 * np.eye(12) for n in NAMES}
    assert up.diagnose(data, replace(space, noise=None, noise_covariance=covariance), matching).evidence.noise_known


# ------------------------------------------------------------------ odd data


def test_labels_of_every_kind_are_told_of(scored, said):
    counts = {"rna": [30, 1, 30, 0, 1, 2, 30], "image": [30, 30, 1, 30, 1, 2, 30]}
    data, _, space = scored(counts, labels=7, unlabelled=12)
    data = replace(data, classes=(*data.classes, "empty"))
    matching = up.match_ot(data, space)
    failed = replace(matching.blocks[0], weights=None, status=Status("failed", "why"))
    late = replace(matching.blocks[6], status=replace(matching.blocks[6].status, state="not_converged"))
    matching = replace(matching, blocks=(failed, *matching.blocks[1:6], late))
    diagnosis = up.diagnose(data, space, matching)
    told = diagnosis.labels
    assert list(told) == list(data.classes[:7])
    assert [t.cells for t in told.values()] == list(zip(counts["rna"], counts["image"], strict=True))
    assert [t.distance is not None for t in told.values()] == [True, False, False, False, False, True, True]
    assert [t.claimed_foscttm is not None for t in told.values()] == [False] * 5 + [True] * 2
    assert [t.partners is None for t in told.values()] == [True, False, False, True, False, False, False]
    assert told["label 1"].partners == pytest.approx(30)
    assert told["label 2"].partners == pytest.approx(1)
    assert diagnosis["convergence"].state == "bad"
    assert diagnosis["convergence"].details["labels"] == ["label 0", "label 6"]
    assert set(diagnosis["coverage"].details["left_out"]) == {"label 0", "label 3"}
    said(diagnosis)


def test_single_cells_are_worth_averages(scored, said):
    counts = {"rna": [40, 40, 1, 1], "image": [1, 1, 40, 40]}
    data, _, space = scored(counts, labels=4, apart=4.0)
    diagnosis = up.diagnose(data, space, up.match_ot(data, space))
    assert diagnosis.verdict == "average"
    assert diagnosis.expected is None
    assert "nothing can be said of single cells" in diagnosis.sentence
    said(diagnosis)


def test_a_label_whose_coupling_is_empty_is_told_of(scored, said):
    data, _, space = scored(20, labels=5)
    matching = up.match_uniform(data)
    empty = replace(matching.blocks[2], weights=sp.csr_matrix((20, 20)))
    matching = replace(matching, blocks=(*matching.blocks[:2], empty, *matching.blocks[3:]))
    diagnosis = up.diagnose(data, space, matching)
    assert diagnosis.labels["label 2"].partners is diagnosis.labels["label 2"].claimed_foscttm is None
    assert diagnosis.labels["label 1"].partners == pytest.approx(20)
    said(diagnosis)


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_scores_and_features_without_variance_do_not_break_it(scored, value, said):
    data, _, space = scored(15, labels=5)
    data = replace(data, modalities={n: replace(m, X=np.full_like(m.X, value)) for n, m in data.modalities.items()})
    space = replace(space, arrays={n: np.full_like(space[n], value) for n in NAMES})
    diagnosis = up.diagnose(data, space, up.match_random(data))
    assert diagnosis.verdict == "do not use"
    assert diagnosis.evidence.foscttm == pytest.approx(0.5)
    assert diagnosis.evidence.spread == 0
    said(diagnosis)


def test_scores_as_far_as_unbounded_logits_go_do_not_break_it(scored, said):
    data, _, space = scored(15, labels=5)
    far = replace(space, arrays={n: 1e6 * space[n] for n in NAMES})
    with np.errstate(all="raise", under="ignore"):
        said(up.diagnose(data, far, up.match_uniform(data)))


# ------------------------------------------------------------------ refusals


def cut(data, space, matching, what):
    few = {n: np.arange(len(data[n]) - (n == "image")) for n in NAMES}
    if what == "data":
        data = data.take(few)
    elif what == "space":
        space = turned(space, few)
    elif what == "matching":
        matching = up.match_uniform(data.take(few))
    elif what == "a modality of the space":
        space = replace(space, arrays={"rna": space["rna"]})
    return data, space, matching


@pytest.mark.parametrize("what", ["data", "space", "matching", "a modality of the space"])
def test_what_does_not_belong_together_is_refused_in_a_sentence(good, what):
    with pytest.raises(OptionError, match=r"cells of 'image', the data .* give those that belong together"):
        up.diagnose(*cut(*(good[i] for i in (0, 2, 3)), what))


def test_a_modality_that_the_data_lack_is_refused(good):
    data, _, space, matching, _ = good
    alone = Dataset({"rna": data["rna"]}, data.classes)
    with pytest.raises(OptionError, match="modality must be one of rna; got 'image'"):
        up.diagnose(alone, space, matching)


def test_coordinates_that_are_none_are_refused(good):
    data, _, space, matching, _ = good
    wrong = space["rna"].copy()
    wrong[3, 1] = np.nan
    with pytest.raises(OptionError, match="'rna' is not finite in 1 cells, the first in row 3"):
        up.diagnose(data, replace(space, arrays={**space.arrays, "rna": wrong}), matching)


@pytest.mark.parametrize("seed", [-1, 1.5, None])
def test_a_seed_that_is_none_is_refused(good, seed):
    data, _, space, matching, _ = good
    with pytest.raises(OptionError, match="seed must be"):
        up.diagnose(data, space, matching, seed=seed)


def test_a_check_that_there_is_not_is_refused(good):
    with pytest.raises(OptionError, match=r"check must be one of .*coverage.*; got 'covering'"):
        good[-1]["covering"]


def test_it_is_short_where_it_is_only_named(good):
    assert repr(good[-1]) == "Diagnosis(rna -> image: 'use')"


def test_data_in_another_order_than_the_matching_are_refused(toy):
    data, _ = toy(12, labels=tuple("abcd"))
    space = up.Propensity(classifier="logistic", folds=2, repeats=2).fit(data).transform(data)
    matching = up.match_ot(data, space)
    order = np.arange(len(data["rna"]))[::-1]
    turned = data.take({"rna": order})
    arrays = {"rna": space["rna"][order], "image": space["image"]}
    with pytest.raises(OptionError, match="have other labels in the data: give the data set that was matched"):
        up.diagnose(turned, replace(space, arrays=arrays), matching)
