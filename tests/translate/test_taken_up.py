"""A translator whose training was stopped: taken up where it was, and only where it is the same training."""

from dataclasses import replace

import numpy as np
import pytest

import unpaired as up
from unpaired.embed.checkpoint import Checkpoint
from unpaired.translate.learning import Translation
from unpaired.translate.translator import Translator

TAKEN_UP = "the training was taken up again where it had been interrupted."
WAYS = [{}, {"loss": "mse"}, {"loss": "barycentric"}, {"network": "published"}, {"space": "raw", "head": "nb"}]


class Killed(Exception):
    """Stands for whatever ends a process."""


def small(**options):
    return Translator(**({"members": 2, "epochs": 12} | options))


def assert_same(one, other, X):
    assert one.history_ == other.history_
    first, second = one.predict(X), other.predict(X)
    assert np.array_equal(first.mean, second.mean)
    assert np.array_equal(first.spread, second.spread)


@pytest.fixture
def data(toy):
    """Two modalities of counts."""
    counts, _ = toy(20)
    rng = np.random.default_rng(0)
    sides = {n: replace(m, X=rng.poisson(np.exp(m.X / 3)).astype(np.float32)) for n, m in counts.modalities.items()}
    return up.prepare(replace(counts, modalities=sides), recipes="none")


@pytest.fixture
def stopped(monkeypatch, tmp_path):
    """Stop a training after some epochs, with its file written at every epoch; return the file."""
    monkeypatch.setitem(Checkpoint.__init__.__kwdefaults__, "every", 0.0)

    def stop(model, data, matching, *, after):
        def batches(self, epoch, own=Translation.batches):
            if epoch == after:
                raise Killed
            yield from own(self, epoch)

        with monkeypatch.context() as patch:
            patch.setattr(Translation, "batches", batches)
            with pytest.raises(Killed):
                model.fit(data, matching, checkpoint=tmp_path / "file")
        return tmp_path / "file"

    return stop


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("after", [1, 9])
def test_a_stopped_training_that_is_taken_up_gives_the_same_bits(data, stopped, options, after):
    matching = up.match_uniform(data)
    file = stopped(small(**options), data, matching, after=after)
    model = small(**options).fit(data, matching, checkpoint=file)
    assert_same(model, small(**options).fit(data, matching), data["rna"].X)
    assert model.notes_ == (TAKEN_UP,)
    assert [f.name for f in file.parent.iterdir()] == ["file"]


def test_a_training_that_is_kept_is_the_same_as_one_that_is_not(data, tmp_path, monkeypatch):
    matching = up.match_uniform(data)
    kept = small().fit(data, matching, checkpoint=tmp_path / "file")
    assert_same(kept, small().fit(data, matching), data["rna"].X)
    assert kept.notes_ == ()


def test_a_training_that_was_at_its_end_is_not_done_again(data, tmp_path, monkeypatch):
    matching = up.match_uniform(data)
    first = small().fit(data, matching, checkpoint=tmp_path / "file")
    monkeypatch.setattr(Translation, "batches", None)
    assert_same(small().fit(data, matching, checkpoint=tmp_path / "file"), first, data["rna"].X)


CHANGES = {
    "seed": {"seed": 1},
    "loss": {"loss": "mse"},
    "epochs": {"epochs": 13},
    "network": {"network": "published"},
    "space": {"space": "raw"},
    "head": {"space": "raw", "head": "nb"},
    "members": {"members": 3},
    "matching": {},
    "cells": {},
    "recipe": {},
    "numbers of the recipe": {},
    "direction": {},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_training_of_anything_else_is_not_taken_up(data, stopped, change):
    matching = up.match_random(data, seed=0)
    scaled = {"rna": "none", "image": "scale"}
    if change == "numbers of the recipe":
        data = up.prepare(data, recipes=scaled)
    file = stopped(small(), data, matching, after=2)
    if change == "matching":  # with the same marginals
        matching = up.match_random(data, seed=1)
    if change == "cells":
        moved = replace(data["image"], X=data["image"].X + 1)
        data = replace(data, modalities=dict(data.modalities) | {"image": moved})
    if change == "recipe":
        data = up.prepare(data, recipes=scaled)
    if change == "numbers of the recipe":
        data = up.prepare(data, recipes=scaled, train={"image": np.arange(30)})
    source = "image" if change == "direction" else "rna"
    model = small(**CHANGES[change]).fit(data, matching, source=source, checkpoint=file)
    assert model.notes_ == ()
    assert_same(model, small(**CHANGES[change]).fit(data, matching, source=source), data[source].X)


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x00" * 1000, "cut", "turned"])
def test_a_damaged_file_does_no_harm(data, stopped, content):
    matching = up.match_uniform(data)
    file = stopped(small(), data, matching, after=2)
    whole = file.read_bytes()
    if content == "cut":
        content = whole[:-10]
    if content == "turned":
        content = whole[:-10] + bytes([whole[-10] ^ 1]) + whole[-9:]
    file.write_bytes(content)
    model = small().fit(data, matching, checkpoint=file)
    assert model.notes_ == ()
    assert_same(model, small().fit(data, matching), data["rna"].X)
