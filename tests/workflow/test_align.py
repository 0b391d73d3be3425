"""What align finds beside the matching: whether it can be believed."""

import json

import numpy as np
import pytest

import unpaired as up
from unpaired import workflow
from unpaired.evaluate.confidence import confidence, selective_risk
from unpaired.run.read import read_run


def align(tmp_path, arrays, **options):
    np.savez(tmp_path / "both.npz", **arrays)
    chosen = workflow.AlignOptions(classifier="logistic", folds=3, repeats=2, **options)
    return workflow.align([str(tmp_path / "both.npz")], tmp_path / "run", chosen)


def test_the_diagnosis_is_of_the_matching_as_it_is_written(arrays, tmp_path):
    result = align(tmp_path, arrays, seed=3)
    back = read_run(result.path)
    again = up.diagnose(back.data, back.embedding, back.matching, seed=3)
    assert back.diagnosis["verdict"] == result.diagnosis.verdict == again.verdict
    assert result.diagnosis.evidence.foscttm == pytest.approx(again.evidence.foscttm, abs=1e-6)
    sure = confidence(back.matching, back.data)
    for name, values in sure.values.items():
        assert back.confidence[name] == pytest.approx(values, abs=1e-5, nan_ok=True)
    assert (result.scores, result.selective_risk) == (None, None)


def test_where_the_truth_is_known_confidence_is_judged_by_it(arrays, tmp_path):
    result = align(tmp_path, arrays, pairing="hide")
    back = read_run(result.path)
    wanted = selective_risk(back.matching, back.truth, back.data)
    assert result.selective_risk.area == pytest.approx(wanted.area, abs=1e-6)
    assert json.loads((result.path / "scores.json").read_text())["selective_risk"]["cells"] == 60


def test_truth_that_cannot_score_judges_no_confidence_either(arrays, tmp_path):
    """One known pair in every label: there is nothing to rank, and the run is written all the same."""
    names = {f"{n}_ids": np.array([f"{'' if i % 20 == 0 else n}{i}" for i in range(60)]) for n in ("x", "y")}
    result = align(tmp_path, {k: v for k, v in arrays.items() if k != "sample_id"} | names, pairing="hide")
    assert (result.scores, result.selective_risk) == (None, None)
    back = read_run(result.path)
    assert back.scores is None
    assert back.diagnosis["verdict"] == result.diagnosis.verdict
