"""Tiny runs to report on: real data through the real rooms, a second or two each."""

import json
from dataclasses import replace

import numpy as np
import pytest

from unpaired.data.preprocess import prepare
from unpaired.data.types import Dataset, Modality, Truth
from unpaired.embed.embedding import features_embedding
from unpaired.embed.propensity import Propensity
from unpaired.evaluate.scores import score
from unpaired.match.neighbours import match_snn
from unpaired.match.transport import match_ot
from unpaired.run.write import write_run


def tiny_data(counts, other=None, *, notes=(), seed=0):
    """Two views of the same cells, ``counts`` of each label; ``other`` cells of them in the second modality."""
    rng = np.random.default_rng(seed)
    names = list(counts)
    y = np.repeat(np.arange(len(names)), list(counts.values()))
    latent = rng.normal(size=(len(y), 2))
    units = np.arange(len(y))
    modalities, truth = {}, {}
    for k, name in enumerate(("rna", "image")):
        kept = {n: (other or {}).get(n, counts[n]) if k else counts[n] for n in names}
        rows = np.concatenate([units[y == t][: kept[n]] for t, n in enumerate(names)])
        rows = rng.permutation(rows)
        center = rng.normal(scale=2.0, size=(len(names), 6))
        x = center[y[rows]] + latent[rows] @ rng.normal(size=(2, 6)) + rng.normal(scale=0.3, size=(len(rows), 6))
        ids = np.array([f"{name}:{i}" for i in range(len(rows))])
        modalities[name] = Modality(name, x.astype(np.float32), y[rows], ids)
        truth[name] = rows
    data = prepare(Dataset(modalities, tuple(names), None, tuple(notes)))
    return data, Truth(truth)


def make_run(out, data, truth=None, **options):
    """Match, score if the truth is given, and write."""
    propensity = Propensity(classifier="logistic", folds=3, repeats=2, seed=0).fit(data)
    space = propensity.transform(data)
    matching = match_ot(data, space, **options)
    source = out.parent / f"{out.name}.csv"
    source.write_text("id\n")
    return write_run(
        out,
        data,
        space,
        matching,
        truth=truth,
        scores=None if truth is None else score(matching, truth, data),
        propensity=propensity,
        options={"seed": 0},
        inputs=[source],
        timings={"matching": 65.0},
    )


@pytest.fixture(scope="session")
def known(tmp_path_factory):
    """A run with truth, in which nothing is wrong."""
    return make_run(tmp_path_factory.mktemp("known") / "run", *tiny_data({"a": 22, "b": 20, "c": 18}))


@pytest.fixture(scope="session")
def troubled(tmp_path_factory):
    """A run without truth: labels on one side only, labels of one cell, a cell without label, markup in the names."""
    counts = {"a": 22, "<script>alert(1)</script>": 20, "c": 18, "only rna": 5, "also only rna": 4, "one": 3, "uno": 3}
    data, _ = tiny_data(
        counts,
        {"only rna": 0, "also only rna": 0, "one": 1, "uno": 1},
        notes=("warning: memory:rna: a feature is <b>constant</b>.", "a plain remark."),
    )
    labels = data["rna"].labels.copy()
    labels[np.flatnonzero(labels == 0)[0]] = -1
    data = replace(data, modalities={**data.modalities, "rna": replace(data["rna"], labels=labels)})
    return make_run(tmp_path_factory.mktemp("troubled") / "run", data)


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """A run without classifiers, truth, options or inputs."""
    data, _ = tiny_data({"a": 22, "b": 20})
    space = features_embedding(data)
    return write_run(tmp_path_factory.mktemp("bare") / "run", data, space, match_snn(data, space, k=5))


@pytest.fixture
def record(known):
    """The record of the good run, to be changed."""
    return json.loads((known / "run.json").read_text())


@pytest.fixture
def scores(known):
    """The scores of the good run, to be changed."""
    return json.loads((known / "scores.json").read_text())


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """A run of 45 labels with names that are long and alike."""
    counts = {f"knock-down of GENE{i} (guide 1, day 3)": 4 for i in range(45)}
    return make_run(tmp_path_factory.mktemp("many") / "run", *tiny_data(counts))
