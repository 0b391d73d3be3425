"""Files to a choice of classifiers: the same as on data in memory, and a file that is whole or not there."""

from __future__ import annotations

import json
import sys

import pytest

import unpaired
from unpaired.embed.tune import tune
from unpaired.errors import DataError, OutputError, Problem
from unpaired.workflow import TuneOptions
from unpaired.workflow import tune as tune_files

TRY_REFINE = sys.modules["unpaired.workflow.tune"]._try_refine
OPTIONS = {"label": "perturbation", "folds": 2, "device": "cpu", "seed": 2}


@pytest.fixture(autouse=True)
def _short(monkeypatch, one_thread):
    """Networks learn for four epochs by default."""
    monkeypatch.setattr("unpaired.embed.fit_network.default_epochs", lambda *_, **__: 4)
    monkeypatch.setattr(sys.modules["unpaired.workflow.tune"], "_try_refine", lambda *_: None)


@pytest.fixture
def _refined(monkeypatch, _short):
    monkeypatch.setattr(sys.modules["unpaired.workflow.tune"], "_try_refine", TRY_REFINE)


def numbers(trials):
    return [(t.modality, t.classifier, t.epochs, t.status, t.cross_entropy) for t in trials]


def test_files_give_what_the_data_give(files):
    names = [str(f) for f in files]
    found = tune_files(names, TuneOptions(**OPTIONS))
    data, _ = unpaired.read(*names, label="perturbation", seed=2)
    expected = tune(data, folds=2, device="cpu", seed=2)
    assert found.choice == expected.choice
    assert numbers(found.trials) == numbers(expected.trials)


def test_the_minutes_are_the_time_of_the_trials(files, monkeypatch):
    asked = []
    work = sys.modules["unpaired.workflow.tune"]
    monkeypatch.setattr(work, "tune_classifiers", lambda *_, **how: asked.append(how))
    with pytest.raises(AttributeError):  # nothing was found
        tune_files([str(f) for f in files], TuneOptions(**OPTIONS, minutes=3, jobs=2))
    assert asked[0].items() >= {"seconds": 180, "folds": 2, "device": "cpu", "jobs": 2, "seed": 2}.items()


def test_what_fails_leaves_no_file(files, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("unpaired.embed.tune.fit_modality", fail)
    with pytest.raises(MemoryError):
        tune_files([str(f) for f in files], TuneOptions(**OPTIONS), out=tmp_path / "tune.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image.h5ad", "rna.h5ad"]


def test_a_file_that_appears_meanwhile_is_not_replaced(files, tmp_path, monkeypatch):
    out = tmp_path / "tune.json"
    work = sys.modules["unpaired.workflow.tune"]

    def slow(*arguments, **options):
        out.write_text("somebody's")
        return tune(*arguments, **options)

    monkeypatch.setattr(work, "tune_classifiers", slow)
    with pytest.raises(OutputError):
        tune_files([str(f) for f in files], TuneOptions(**OPTIONS), out=out)
    assert out.read_text() == "somebody's"


def test_notes_of_the_data_are_kept(files, tmp_path):
    tune_files([str(f) for f in files], TuneOptions(**OPTIONS, max_cells_per_label=9), out=tmp_path / "tune.json")
    notes = json.loads((tmp_path / "tune.json").read_text())["notes"]
    assert any("max_cells_per_label=9" in note for note in notes)


@pytest.mark.usefixtures("_refined")
def test_what_is_left_of_the_time_goes_into_a_refinement(files, tmp_path, monkeypatch):
    asked = []
    work = sys.modules["unpaired.workflow.tune"]

    def refine(data, matching, *, embedding, seconds, **options):
        asked.append((seconds, options["seed"]))
        return unpaired.refine(data, matching, embedding=embedding, rounds=1, seed=options["seed"])

    monkeypatch.setattr("unpaired.embed.contrastive._PASSES", 1)
    monkeypatch.setattr(work, "refine", refine)
    found = tune_files([str(f) for f in files], TuneOptions(**OPTIONS, minutes=9), out=tmp_path / "tune.json")
    assert found.refine["status"] == "tried"
    assert found.refine["rounds"] == 1
    assert "1 round was asked for" in found.refine["sentence"]
    ((seconds, seed),) = asked
    assert 0 < seconds < 540 - found.seconds
    assert seed == 2
    assert json.loads((tmp_path / "tune.json").read_text())["refine"] == dict(found.refine)


@pytest.mark.usefixtures("_refined")
def test_without_time_for_it_the_choice_stands(files, monkeypatch):
    names = [str(f) for f in files]
    work = sys.modules["unpaired.workflow.tune"]
    monkeypatch.setattr(work, "match_ot", lambda *a, **o: pytest.fail("there was no time"))
    none = tune_files(names, TuneOptions(**OPTIONS, minutes=1e-6)).refine
    assert none["status"] == "not tried"
    assert "No time was left" in none["sentence"]


@pytest.mark.usefixtures("_refined")
@pytest.mark.parametrize("error", [DataError([Problem("error", "it", "no label has pairs.")]), MemoryError()])
def test_a_refinement_that_fails_takes_nothing_of_the_choice(files, tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(sys.modules["unpaired.workflow.tune"], "match_ot", fail)
    found = tune_files([str(f) for f in files], TuneOptions(**OPTIONS), out=tmp_path / "tune.json")
    assert found.refine["status"] == "failed"
    assert ("no label has pairs" if isinstance(error, DataError) else "MemoryError") in found.refine["sentence"]
    assert json.loads((tmp_path / "tune.json").read_text())["choice"] == found.to_dict()["choice"]


def test_what_was_chosen_is_written_before_the_refinement(files, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["unpaired.workflow.tune"], "_try_refine", stopped)
    with pytest.raises(KeyboardInterrupt):
        tune_files([str(f) for f in files], TuneOptions(**OPTIONS), out=tmp_path / "tune.json")
    assert json.loads((tmp_path / "tune.json").read_text())["choice"]
