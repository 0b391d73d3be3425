"""Cells that were held out: kept in the run apart from all that learned, and read back as they were."""

from __future__ import annotations

import json

import mudata
import numpy as np
import pytest

import unpaired as up
from unpaired.data.split import hold_out
from unpaired.embed.embedding import Provenance
from unpaired.errors import DataError
from unpaired.files import write_json


def written(out, data, truth=None, **options):
    train, known, held = hold_out(data, truth, **options)
    rng = np.random.default_rng(0)
    space = {n: rng.normal(size=(len(train[n]), 2)) for n in train}
    embedding = up.Embedding(space, "latent", None, ("0", "1"), Provenance("by hand", {}))
    return up.write_run(out, train, embedding, up.match_uniform(train), truth=known, held_out=held), held


def readings(kind):
    rng = np.random.default_rng(0)
    X = {"rna": rng.poisson(3, size=(40, 8)), "image": rng.normal(size=(40, 2, 3, 3))}
    if kind == "sparse":
        import scipy.sparse as sp

        X = {"rna": sp.csr_matrix(X["rna"]), "image": rng.normal(size=(40, 5))}
    y = [*"abcd"] * 10
    ids = {n: [f"cell {i}" for i in range(40)] for n in X}
    data = up.Dataset.from_arrays(
        X, dict.fromkeys(X, y), ids=ids, batch=dict.fromkeys(X, ["x", "y"] * 20), pairing="use"
    )
    return up.hide_pairing(data)


def pairs(data, truth):
    return {(data["rna"].ids[i], data["image"].ids[j]) for i, j in enumerate(truth.partners("rna", "image")) if j >= 0}


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_they_read_back_as_they_were(tmp_path, kind):
    data, truth = readings(kind)
    path, held = written(tmp_path / "run", data, truth, labels=["b"], fraction=0.2)
    run = up.read_run(path)
    back = run.held_out
    assert (back.labels, back.fraction, back.counts) == (("b",), 0.2, held.counts)
    assert back.data.classes == held.data.classes == ("a", "b", "c", "d")
    for name in data:
        one, two = held.data[name], back.data[name]
        assert two.ids.tolist() == one.ids.tolist()
        assert np.array_equal(two.labels, one.labels)
        assert two.batch.tolist() == one.batch.tolist()
        assert np.array_equal(two.features, one.features)
        assert type(two.X) is type(one.X)
        assert two.X.shape == one.X.shape
        assert back.part[name].tolist() == held.part[name].tolist()
        assert two.recipe is run.data[name].recipe
        assert run.data[name].recipe.options == data[name].recipe.options
    assert pairs(back.data, back.truth) == pairs(held.data, held.truth)
    assert run.data.classes == ("a", "c", "d")
    assert not set(run.data["rna"].ids) & set(back.data["rna"].ids)


def test_latents_and_unlabelled_cells_are_kept(toy, tmp_path):
    data, truth = toy(unlabelled=3)
    path, held = written(tmp_path / "run", data, truth, labels=["a"], fraction=0.3)
    back = up.read_run(path)
    for name in data:
        assert np.array_equal(back.held_out.truth.latents[name], held.truth.latents[name])
        assert (back.data[name].labels == -1).sum() == 3


def test_a_modality_without_such_cells_stays_empty(toy, tmp_path):
    data, _ = toy({"rna": (9, 8, 7), "image": (9, 8, 0)})
    path, _ = written(tmp_path / "run", data, labels=["c"])
    back = up.read_run(path).held_out
    assert back.truth is None
    assert back.counts == {"rna": {"test": 0, "label": 7}, "image": {"test": 0, "label": 0}}
    assert back.data["image"].flat_features.shape == (0, 6)
    label, _ = back.take("label")
    assert (len(label["rna"]), len(label["image"])) == (7, 0)


def test_the_record_says_how_many_they_are(toy, tmp_path):
    data, truth = toy()
    path, _ = written(tmp_path / "run", data, truth, labels=["c"], fraction=0.25)
    record = json.loads((path / "run.json").read_text())
    assert record["held_out"] == {
        "labels": ["c"],
        "fraction": 0.25,
        "classes": ["a", "b", "c"],
        "cells": {n: {"test": 10, "label": 20} for n in data},
    }
    assert record["classes"] == ["a", "b"]
    assert {"held_out.h5mu", "truth_held_out.csv", "latents_held_out.safetensors"} <= set(record["outputs"])
    with mudata.set_options(pull_on_update=False):
        plain = mudata.read_h5mu(path / "held_out.h5mu")
    assert plain["rna"].obs["part"].value_counts().to_dict() == {"label": 20, "test": 10}


def test_a_changed_file_is_noticed(toy, tmp_path):
    path, _ = written(tmp_path / "run", *toy(), fraction=0.25)
    (path / "truth_held_out.csv").write_text("rna,image\n")
    with pytest.raises(DataError, match=r"truth_held_out\.csv: was changed"):
        up.read_run(path)


def test_a_run_that_held_nothing_out_has_none(toy, tmp_path):
    data, _ = toy()
    space = {n: np.arange(len(data[n]))[:, None] / 9.0 for n in data}
    embedding = up.Embedding(space, "latent", None, ("0",), Provenance("by hand", {}))
    path = up.write_run(tmp_path / "run", data, embedding, up.match_uniform(data))
    record = json.loads((path / "run.json").read_text())
    assert record["held_out"] is None
    assert up.read_run(path).held_out is None
    assert not (path / "held_out.h5mu").exists()
    del record["held_out"]
    write_json(path / "run.json", record | {"format_version": 2})  # before there was such a thing
    assert up.read_run(path).held_out is None
