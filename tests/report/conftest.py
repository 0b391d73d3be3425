"""Tiny runs to report on: real data through the real rooms, a second or two each."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from unpaired.data.preprocess import prepare
from unpaired.data.types import Dataset, Modality, Truth
from unpaired.embed.embedding import features_embedding
from unpaired.embed.propensity import Propensity
from unpaired.evaluate.confidence import confidence, selective_risk
from unpaired.evaluate.diagnose import diagnose
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
    """Match, diagnose, score if the truth is given, and write, as ``unpaired align`` does."""
    propensity = Propensity(classifier="logistic", folds=3, repeats=2, seed=0).fit(data)
    space = propensity.transform(data)
    matching = match_ot(data, space, **options)
    sure = confidence(matching, data)
    source = out.parent / f"{out.name}.csv"
    source.write_text("id\n")
    return write_run(
        out,
        data,
        space,
        matching,
        truth=truth,
        scores=None if truth is None else score(matching, truth, data),
        selective_risk=None if truth is None else selective_risk(matching, truth, data, sure=sure),
        diagnosis=diagnose(data, space, matching, sure=sure),
        confidence=sure,
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


@pytest.fixture(scope="session")
def older(known, tmp_path_factory):
    """The good run as it was written before there was a diagnosis."""
    run = tmp_path_factory.mktemp("older") / "run"
    shutil.copytree(known, run)
    (run / "diagnosis.json").unlink()
    scores = json.loads((run / "scores.json").read_text())
    del scores["selective_risk"]
    (run / "scores.json").write_text(json.dumps(scores))
    with h5py.File(run / "aligned.h5mu", "a") as store:
        for name in ("rna", "image"):
            del store[f"mod/{name}/obs/unpaired_confidence"]
    return run


@pytest.fixture
def record(known):
    """The record of the good run, to be changed."""
    return json.loads((known / "run.json").read_text())


@pytest.fixture
def scores(known):
    """The scores of the good run, to be changed."""
    return json.loads((known / "scores.json").read_text())


@pytest.fixture
def diagnosis(known):
    """The diagnosis of the good run, to be changed."""
    return json.loads((known / "diagnosis.json").read_text())


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """A run of 45 labels with names that are long and alike."""
    counts = {f"knock-down of GENE{i} (guide 1, day 3)": 4 for i in range(45)}
    return make_run(tmp_path_factory.mktemp("many") / "run", *tiny_data(counts))


METRICS = ("l2", "wasserstein", "kl_gaussian", "kl_neighbours", "energy")


def sample_pairs(features, level, *, cells=80, seed=0):
    """Scores by true pairs as a translation saves them; R² of the features falls off evenly around ``level``."""
    rng = np.random.default_rng(seed)
    r2 = dict(zip(features, np.linspace(level + 0.3, level - 0.3, len(features)).round(6).tolist(), strict=True))
    scatter = []
    for name in [features[i] for i in sorted({0, len(features) // 2, len(features) - 1})]:
        measured = rng.normal(size=cells)
        predicted = 0.5 * measured + rng.normal(scale=0.4, size=cells)
        scatter.append(
            {"feature": name, "r2": r2[name], "measured": measured.tolist(), "predicted": predicted.tolist()}
        )
    return {
        "pairs": cells,
        "pairs_total": cells,
        "r2": level,
        "r2_of_label": level - 0.2,
        "mse": 1 - level,
        "mse_of_mean": 1.0,
        "pearson": 0.61,
        "features": len(features),
        "features_total": len(features),
        "per_feature": {n: {"r2": v, "pearson": 0.5} for n, v in r2.items()},
        "left_out": {},
        "scatter": scatter,
    }


def sample_distributions(labels, *, cells=30, gain=0.5, seed=0):
    """Distances by label as a translation saves them: predicted cells at about ``gain`` times the baseline's."""
    rng = np.random.default_rng(seed)
    per_label = {}
    for label in labels:
        base = dict(zip(METRICS, (rng.uniform(0.8, 1.2, 5) * [4, 5, 9, 7, 2]).tolist(), strict=True))
        own = {k: v * gain * rng.uniform(0.9, 1.1) for k, v in base.items()}
        size = {"predicted_cells": cells, "measured_cells": cells + 2, "compared": [cells + 2, cells]}
        per_label[label] = {**size, **own, "baseline": base}
    means = {k: float(np.mean([s[k] for s in per_label.values()])) for k in METRICS}
    base = {k: float(np.mean([s["baseline"][k] for s in per_label.values()])) for k in METRICS}
    return {
        "per_label": per_label,
        "by_cells": means,
        "by_inverse_cells": {k: 1.1 * v for k, v in means.items()},
        "baseline_by_cells": base,
        "baseline_by_inverse_cells": {k: 1.1 * v for k, v in base.items()},
        "coverage": {
            "labels": len(labels),
            "labels_total": len(labels),
            "left_out": {},
            "metrics": dict.fromkeys(METRICS, len(labels)),
        },
    }


def sample_translation(scores, *, source="rna", target="image", **changes):
    """The contents of a ``translation.json``; ``scores``: part -> (pairs or None, distributions or None)."""
    record = {
        "format": "unpaired-translation",
        "format_version": 1,
        "unpaired": "0.2.0",
        "created": "2026-02-03T04:05:06+00:00",
        "versions": {"numpy": "2.3.4", "torch": "2.9.1"},
        "source": source,
        "target": target,
        "space": "features",
        "options": {"loss": "unbiased", "head": "gaussian", "hidden": 256, "device": "cpu", "seed": 0},
        "asked": {"loss": "unbiased", "device": "auto"},
        "notes": [],
        "matching": {"method": "match_ot", "sha256": None},
        "training": {"history": [1.0, 0.7, 0.55, 0.5, 0.48, 0.485, 0.49], "seconds": 12.3, "members": 5},
        "cells": {"train": 120, "test": 80, "label": 40},
        "outputs": {"model.safetensors": "ab" * 32, "predicted.h5ad": "cd" * 32},
        "scores": {
            part: {
                "source": source,
                "target": target,
                "space": "features",
                "pairs": pairs,
                "distributions": distributions,
            }
            for part, (pairs, distributions) in scores.items()
        },
    }
    return record | changes


def put_translation(run, record):
    """Write a translation's record to its place in a run."""
    folder = run / "translations" / f"{record['source']}-to-{record['target']}"
    folder.mkdir(parents=True)
    (folder / "translation.json").write_text(json.dumps(record, allow_nan=False))
    return folder


@pytest.fixture(scope="session")
def saved():
    """Makers of what a translation saves."""
    return SimpleNamespace(
        pairs=sample_pairs, distributions=sample_distributions, translation=sample_translation, put=put_translation
    )
