"""The shared space and what can make one."""

from dataclasses import replace

import numpy as np
import pytest

from unpaired.embed.embedding import Embedder, features_embedding
from unpaired.embed.propensity import Propensity
from unpaired.errors import OptionError


def test_features_serve_as_a_space_as_they_are(toy):
    data, _ = toy(4)
    space = features_embedding(data)
    for name in data:
        np.testing.assert_array_equal(space[name], data[name].X)
        assert space[name].dtype == np.float64
    assert space.space == "feature"
    assert space.noise is None
    assert len(space.dims) == space["rna"].shape[1]


def test_features_of_different_numbers_cannot_be_a_space(toy):
    data, _ = toy(4)
    image = replace(data["image"], X=data["image"].X[:, :3])
    with pytest.raises(ValueError, match=r"rna: 6, image: 3"):
        features_embedding(replace(data, modalities={**data.modalities, "image": image}))


def test_every_error_of_the_room_is_one_of_the_packages_own(toy):
    data, _ = toy(4)
    image = replace(data["image"], X=data["image"].X[:, :3])
    with pytest.raises(OptionError):
        features_embedding(replace(data, modalities={**data.modalities, "image": image}))


def test_propensity_is_an_embedder():
    assert isinstance(Propensity(), Embedder)
