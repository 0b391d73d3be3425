"""The two files of a model: there and back, with a recipe and a network, and what a killed or failed saving leaves."""

import errno
import os

import numpy as np
import pytest
import torch
from torch import nn

from unpaired.data.preprocess import Recipe
from unpaired.embed import model_folder
from unpaired.embed.model_folder import Kind
from unpaired.errors import DataError

KIND = Kind({"format": "a-format", "format_version": 2, "class": "Line"}, "a line", "Draw it again.")
FILES = ["model.json", "model.safetensors"]


class Killed(BaseException):
    """What ends the process."""


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def save(folder, value, kind=KIND):
    model_folder.write(folder, kind, {"x": np.full((2, 3), value)}, {"value": value}, force=True)


def read(folder, kind=KIND):
    return model_folder.read(folder, kind, lambda record, tensors: (record["value"], tensors["x"].tolist()))[0]


def test_a_network_and_recipes_come_back(tmp_path):
    net = nn.Linear(3, 2)
    recipes = [Recipe("scale", "why", {"pcs": 2}, {"mean": np.arange(6.0).reshape(2, 3).T}), None]
    tensors = model_folder.net_tensors(net)
    for at, recipe in enumerate(recipes):
        tensors |= model_folder.recipe_tensors(recipe, f"{at}/")
    told = [model_folder.recipe_record(r) for r in recipes]
    model_folder.write(tmp_path, KIND, tensors, {"recipes": told}, force=False)

    def make(record, tensors):
        found = (model_folder.read_recipe(r, tensors, f"{at}/") for at, r in enumerate(record["recipes"]))
        return model_folder.load_net(lambda: nn.Linear(3, 2), tensors), *found

    (again, recipe, none), record = model_folder.read(tmp_path, KIND, make)
    assert list(record)[:4] == ["format", "format_version", "class", "unpaired"]
    assert not again.training
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in net.state_dict().items())
    assert (recipe.name, recipe.reason, recipe.options) == ("scale", "why", {"pcs": 2})
    assert np.array_equal(recipe.arrays["mean"], recipes[0].arrays["mean"])
    assert none is None


def test_older_formats_are_read_and_newer_and_other_ones_are_not(tmp_path):
    for version in (1, 2, 3):
        save(tmp_path, version, Kind({**KIND.marks, "format_version": version}, "a line", ""))
        if version < 3:
            assert read(tmp_path)[0] == version
    with pytest.raises(DataError, match=r"format version 3\. This version reads up to 2"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"is not the record of a circle\. Draw it again"):
        read(tmp_path, Kind({**KIND.marks, "class": "Circle"}, "a circle", KIND.fix))


def stop(error):
    """Return what takes the place of ``os.fsync``: half of the file is on the disk, then it ends."""

    def half(handle):
        os.ftruncate(handle, 10)
        raise error

    return half


@pytest.mark.parametrize(
    ("error", "left"),
    [(Killed(), [*FILES, "model.safetensors.part"]), (OSError(errno.ENOSPC, "No space left on device"), FILES)],
    ids=["killed", "full"],
)
def test_a_saving_that_ends_early_leaves_the_last_model_and_nothing_for_good(tmp_path, monkeypatch, error, left):
    save(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", stop(error))
        with pytest.raises(type(error)):
            save(tmp_path, 2)
    assert names(tmp_path) == left
    assert read(tmp_path) == (1, [[1, 1, 1], [1, 1, 1]])
    save(tmp_path, 3)
    assert names(tmp_path) == FILES
    assert read(tmp_path)[0] == 3


def test_who_may_read_the_record_may_read_the_weights(tmp_path):
    save(tmp_path, 1)
    record, weights = ((tmp_path / name).stat().st_mode for name in FILES)
    assert record == weights
