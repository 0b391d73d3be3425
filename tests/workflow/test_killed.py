"""A training that is killed at a random moment: nothing half-written, and the same result when it is taken up again."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import unpaired as up
from unpaired.workflow.translate import TranslateOptions, translate

EPOCHS = 60
SCRIPT = """
import sys
from pathlib import Path
from unpaired.embed.checkpoint import Checkpoint
from unpaired.workflow.translate import TranslateOptions, translate
Checkpoint.__init__.__kwdefaults__["every"] = 0.0  # keep every epoch: the test has no minutes
translate(Path(sys.argv[1]), TranslateOptions(epochs=int(sys.argv[2]), members=2, device="cpu"))
"""


@pytest.fixture
def run(toy, tmp_path):
    """A run with test cells, on a problem that keeps improving for a while."""
    data, truth = toy(120, features=12, noise=0.5)
    train, known, held = up.hold_out(data, truth, fraction=0.2)
    matching = up.match_pairs(train, known, source="image", target="rna")
    return up.write_run(tmp_path / "run", train, up.features_embedding(train), matching, truth=known, held_out=held)


def files_of(folder):
    return sorted(p.relative_to(folder) for p in folder.rglob("*"))


@pytest.mark.slow
def test_a_killed_training_leaves_nothing_half_written_and_ends_as_if_it_had_not_been(run, tmp_path):
    whole = translate(
        shutil.copytree(run, tmp_path / "whole"), TranslateOptions(epochs=EPOCHS, members=2, device="cpu")
    )
    before = files_of(run)
    kept = run / "translations" / ".image-to-rna.checkpoint"
    moment = np.random.default_rng(int(time.time_ns() % 2**32)).uniform(0, 0.4)
    started = subprocess.Popen([sys.executable, "-c", SCRIPT, str(run), str(EPOCHS)], start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not kept.exists() and started.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(moment)
    finally:
        os.killpg(started.pid, signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL, "the training was over before it was killed: make it longer"
    left = set(files_of(run)) - set(before)
    assert {p.name.removesuffix(".part") for p in left} == {"translations", kept.name}

    again = translate(run, TranslateOptions(epochs=EPOCHS, members=2, device="cpu"))
    assert any("taken up again" in note for note in again.record["notes"]), (
        f"killed {moment:.3f} s after the first epoch"
    )
    assert again.record["training"]["history"] == pytest.approx(whole.record["training"]["history"], rel=1e-6)
    for part in ("train", "test"):
        one, other = again.record["scores"][part]["pairs"], whole.record["scores"][part]["pairs"]
        assert one["r2"] == pytest.approx(other["r2"], rel=1e-5)
    assert one["r2"] > 0.5
    assert not kept.exists()
    assert not [p for p in run.rglob("*") if p.name.endswith(".part")]


def test_a_training_is_not_lost_by_what_comes_after_it(run, monkeypatch):
    """Scoring fails; the second time the training is taken from the checkpoint, at its end."""
    chosen = TranslateOptions(epochs=3, members=2, device="cpu")
    whole = translate(shutil.copytree(run, run.with_name("whole")), chosen)

    def fail(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["unpaired.workflow.translate"], "score_translation", fail)
        with pytest.raises(MemoryError):
            translate(run, chosen)
    kept = run / "translations" / ".image-to-rna.checkpoint"
    assert [p.name for p in kept.parent.iterdir()] == [kept.name]
    monkeypatch.setattr("unpaired.translate.learning.Translation.loss", fail)  # a single step more would raise
    again = translate(run, chosen)
    assert again.record["training"]["history"] == whole.record["training"]["history"]
    assert again.record["scores"] == whole.record["scores"]
    assert not kept.exists()
