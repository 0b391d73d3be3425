"""Files to a choice of classifiers: the same as on data in memory, and a file that is whole or not there."""

from __future__ import annotations

import json
import sys

import pytest

import unpaired
from unpaired.embed.tune import tune
from unpaired.errors import OutputError
from unpaired.workflow import TuneOptions
from unpaired.workflow import tune as tune_files

OPTIONS = {"label": "perturbation", "folds": 2, "device": "cpu", "seed": 2}


@pytest.fixture(autouse=True)
def _short(monkeypatch, one_thread):
    """Networks learn for four epochs by default."""
    monkeypatch.setattr("unpaired.embed.fit_network.default_epochs", lambda *_, **__: 4)


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
