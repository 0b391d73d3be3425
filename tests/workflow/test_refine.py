"""Refinement by its front door, and as a part of align."""

import json
import logging
import sys
from dataclasses import replace

import numpy as np
import pytest

import unpaired as up
from unpaired import workflow
from unpaired.embed import contrastive
from unpaired.errors import OptionError, OutputError
from unpaired.run.read import read_run
from unpaired.workflow import refine as refine_module


@pytest.fixture(autouse=True)
def _short(monkeypatch, one_thread):
    monkeypatch.setattr(contrastive, "_TABLES", replace(contrastive._TABLES, steps=20))


@pytest.fixture(scope="module")
def weak():
    """Digits: their matching is no better than average."""
    data, _ = up.examples.digits(pairing="hide")
    space = up.Propensity(classifier="logistic", folds=3, repeats=2, seed=0).fit(data).transform(data)
    return data, space, up.match_ot(data, space)


def align(tmp_path, arrays, **options):
    np.savez(tmp_path / "both.npz", **arrays)
    chosen = workflow.AlignOptions(classifier="logistic", folds=3, pairing="hide", **{"repeats": 2, **options})
    return workflow.align([str(tmp_path / "both.npz")], tmp_path / "run", chosen)


def test_auto_does_not_begin_where_the_verdict_is_not_use(weak):
    data, space, matching = weak
    found, same = up.refine(data, matching, embedding=space)
    told = same.made_by.options["refine"]
    assert found is space
    assert same.blocks is matching.blocks
    assert (told["kept"], told["rounds"], told["verdict"]) == (0, [], "average")
    assert "'average'" in told["sentence"]
    assert told["first"]["information"] > 0
    assert 1 < told["first"]["partners"] < 180


@pytest.mark.parametrize(
    ("verdict", "alike", "spread", "begins"),
    [
        ("use", "bad", 0.0, True),
        ("use", "good", None, True),
        ("average", "good", None, True),
        ("average", "caution", 0.0, True),
        ("average", "bad", 0.2, True),
        ("average", "bad", 0.04, False),
        ("average", "bad", None, False),
        ("average", "unknown", None, False),
        ("do not use", "good", 0.2, False),
    ],
)
def test_where_auto_begins(weak, verdict, alike, spread, begins):
    data, space, matching = weak
    said = up.diagnose(data, space, matching)
    of = {"state": alike, "details": {"spread": spread}}
    checks = tuple(replace(c, **of) if c.name == "same distribution" else c for c in said.checks)
    why = refine_module._why_not(replace(said, verdict=verdict, checks=checks))
    assert (why is None) == begins
    assert begins or f"'{verdict}'" in why


def test_rounds_that_are_asked_for_are_made_and_told(weak):
    data, space, matching = weak
    found, new = up.refine(data, matching, embedding=space, rounds=1)
    told = new.made_by.options["refine"]
    assert told["kept"] == 1
    assert told["rounds"][0]["round"] == 1
    assert 0 < told["rounds"][0]["change"] < 1
    assert found.space == "latent"
    assert not np.allclose(new.pull(data["right"].features), matching.pull(data["right"].features))
    json.dumps(told)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"rounds": 0}, "rounds"),
        ({"rounds": "many"}, "rounds must be"),
        ({"rounds": True}, "rounds"),
        ({"seed": -1}, "seed"),
        ({"device": "tpu"}, "device"),
        ({"jobs": 0}, "jobs"),
        ({"seconds": 0}, "seconds"),
        ({"folder": __file__}, "is a file"),
    ],
)
def test_options_are_checked(weak, options, why):
    data, space, matching = weak
    with pytest.raises(OptionError, match=why):
        up.refine(data, matching, embedding=space, **options)


def test_what_does_not_belong_together_is_refused_with_a_diagnosis_too(weak):
    data, space, matching = weak
    given = {"rounds": 1, "diagnosis": up.diagnose(data, space, matching)}
    silent = replace(space, noise=None, noise_covariance=None)
    with pytest.raises(OptionError, match="noise"):
        up.refine(data, matching, embedding=silent, **given)
    right = data["right"]
    fewer = replace(data, modalities={**data.modalities, "right": right.take(np.arange(len(right) - 9))})
    other = replace(data, modalities={**data.modalities, "right": right.take(np.arange(len(right))[::-1])})
    for wrong, why in ((fewer, "belong together"), (other, "other labels")):
        with pytest.raises(OptionError, match=why):
            up.refine(wrong, matching, embedding=space, **given)


def test_another_matching_is_refused(weak):
    data, space, _ = weak
    for other in (up.match_uniform(data), up.match_ot(data, space, eps=0.5)):
        with pytest.raises(OptionError, match="eps='auto'"):
            up.refine(data, other, embedding=space)
    _, refined = up.refine(data, up.match_ot(data, space), embedding=space)
    with pytest.raises(OptionError, match="refined already"):
        up.refine(data, refined, embedding=space)
    weights = np.linspace(1, 2, len(data["left"]))
    for other in (up.match_ot(data, space, unbalanced=1.0), up.match_ot(data, space, source_weights=weights)):
        with pytest.raises(OptionError, match="uniform marginals"):
            up.refine(data, other, embedding=space)


def test_align_writes_scores_and_reports_the_refined_matching(arrays, tmp_path):
    result = align(tmp_path, arrays, refine=2)
    back = read_run(result.path)
    told = result.matching.made_by.options["refine"]
    assert told["kept"] == 2
    assert back.matching.made_by.options["refine"]["kept"] == 2
    assert back.embedding.space == "logit"  # the space that it began with
    again = up.match_ot(back.data, back.refined, source=back.matching.source, target=back.matching.target, eps=2.0)
    features = back.data[back.matching.target].flat_features
    np.testing.assert_allclose(again.pull(features), back.matching.pull(features), atol=0.02)
    record = json.loads((result.path / "run.json").read_text())
    assert record["seconds"]["refining"] > 0
    assert result.scores.unweighted["foscttm_source"] == pytest.approx(
        up.score(back.matching, back.truth, back.data).unweighted["foscttm_source"], abs=1e-6
    )
    import mudata

    mdata = mudata.read_h5mu(result.path / "aligned.h5mu")
    assert mdata["x"].obsm["X_unpaired_refined"].shape[0] == 60
    assert 'id="refinement"' in (result.path / "report.html").read_text()
    assert not (tmp_path / "run.refine").exists()


def test_a_run_that_was_not_refined_has_no_such_space(arrays, tmp_path):
    assert read_run(align(tmp_path, arrays).path).refined is None


def test_what_else_lies_where_rounds_wait_stays(arrays, tmp_path):
    (tmp_path / "run.refine").mkdir()
    (tmp_path / "run.refine" / "notes.txt").write_text("mine")
    align(tmp_path, arrays, refine=1)
    assert [p.name for p in (tmp_path / "run.refine").iterdir()] == ["notes.txt"]


def test_rounds_of_a_longer_refinement_are_taken_away_too(arrays, tmp_path):
    (tmp_path / "run.refine").mkdir()
    for name in ("round-7.safetensors", "round-8.safetensors.part"):
        (tmp_path / "run.refine" / name).write_bytes(b"")
    align(tmp_path, arrays, refine=1)
    assert not (tmp_path / "run.refine").exists()


def test_a_file_in_the_place_of_the_rounds_is_said_before_the_work(arrays, tmp_path):
    (tmp_path / "run.refine").write_text("mine")
    with pytest.raises(OutputError, match=r"run\.refine"):
        align(tmp_path, arrays, refine=1)
    assert (tmp_path / "run.refine").read_text() == "mine"


@pytest.mark.parametrize("rounds", ["off", 1])
def test_a_run_can_be_written_where_one_stands(arrays, tmp_path, monkeypatch, rounds):
    (tmp_path / "here").mkdir()
    np.savez(tmp_path / "both.npz", **arrays)
    monkeypatch.chdir(tmp_path / "here")
    chosen = workflow.AlignOptions(classifier="logistic", folds=3, repeats=2, refine=rounds)
    workflow.align([str(tmp_path / "both.npz")], ".", chosen)
    assert (tmp_path / "here" / "report.html").exists()
    assert not (tmp_path / "here.refine").exists()


def test_align_keeps_finished_rounds_where_it_was_stopped(arrays, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="unpaired")
    monkeypatch.setattr(logging.getLogger("unpaired"), "propagate", True)
    plain = refine_module.refine_rounds

    def killed(*given, **options):
        plain(*given, **{**options, "rounds": 1})
        raise KeyboardInterrupt

    monkeypatch.setattr(refine_module, "refine_rounds", killed)
    with pytest.raises(KeyboardInterrupt):
        align(tmp_path, arrays, refine=2)
    assert [p.name for p in (tmp_path / "run.refine").iterdir()] == ["round-1.safetensors"]
    assert f"kept in {tmp_path / 'run.refine'} until the run is written" in caplog.text
    monkeypatch.setattr(refine_module, "refine_rounds", plain)
    taught = []
    encode = contrastive.encode
    monkeypatch.setattr(contrastive, "encode", lambda *a, **o: taught.append(1) or encode(*a, **o))
    align(tmp_path, arrays, refine=2)
    assert len(taught) == 1


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"refine": "always"}, "auto, off or a whole number of at least 1; got 'always'"),
        ({"refine": 0}, "refine"),
        ({"refine": "auto", "repeats": 1}, "raise repeats, or leave out refine"),
        ({"refine": 2, "method": "snn"}, "match ot"),
        ({"refine": "auto", "eps": 0.1}, "eps auto"),
        ({"refine": "auto", "unbalanced": 1.0}, "unbalanced"),
    ],
)
def test_what_cannot_be_refined_is_said_before_the_work(arrays, tmp_path, monkeypatch, options, why):
    monkeypatch.setattr(sys.modules["unpaired.workflow.align"], "read_files", lambda *a: pytest.fail("began to read"))
    with pytest.raises(OptionError, match=why):
        align(tmp_path, arrays, **options)
