"""Cells whose scores are known, couplings made by hand, and ranks by two loops."""

import json
from dataclasses import replace

import numpy as np
import pytest

import unpaired as up
from unpaired.data.types import Dataset, Modality, Truth
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.match.block import Block, Status
from unpaired.match.matching import Matching

NAMES = ("rna", "image")


def make_scored(counts=60, *, labels=6, apart=1.5, error=0.1, alike=True, unlabelled=0, seed=0):
    """Return ``(data, truth, embedding)``: scores are log densities of a latent state under Gaussian labels.

    ``counts`` is cells a label: one number, one a label, or modality name -> either; cell i of a label is the same cell
    on both sides. Every label has its own centre and its own spread in each of three latents. ``error`` is the standard
    deviation of the scores' noise. ``alike=False``: the two modalities have nothing in common but the labels' names.
    Every side is shuffled on its own.
    """
    rng = np.random.default_rng(seed)
    per = {n: np.broadcast_to(counts[n] if isinstance(counts, dict) else counts, labels) for n in NAMES}
    most = np.maximum(*per.values())
    code = np.r_[np.repeat(np.arange(labels), most), np.full(unlabelled, -1)]
    drawn = np.r_[code[: most.sum()], rng.integers(labels, size=unlabelled)]
    place = np.concatenate([*(np.arange(n) for n in most), np.full(unlabelled, -1)])
    made, units, arrays = {}, {}, {}
    for i, name in enumerate(NAMES):
        if i == 0 or not alike:
            centres = apart * rng.normal(size=(labels, 3))
            widths = np.exp(0.5 * rng.normal(size=(labels, 3)))
            latent = centres[drawn] + widths[drawn] * rng.normal(size=(len(code), 3))
        scores = -0.5 * (((latent[:, None] - centres) / widths) ** 2).sum(axis=2) - np.log(widths).sum(axis=1)
        scores += error * rng.normal(size=scores.shape)
        X = (latent @ rng.normal(size=(3, 5)) + 0.05 * rng.normal(size=(len(code), 5))).astype(np.float32)
        rows = rng.permutation(np.flatnonzero(place < per[name][drawn]))
        made[name] = Modality(name, X[rows], code[rows], np.array([f"{name}:{k}" for k in range(len(rows))]))
        units[name], arrays[name] = rows, (scores - scores.mean(axis=1, keepdims=True))[rows]
    classes = tuple(f"label {t}" for t in range(labels))
    noise = {n: np.full(len(m), error**2) for n, m in made.items()}
    space = Embedding(arrays, "logit", noise, classes, Provenance("test", {}))
    return Dataset(made, classes), Truth(units), space


@pytest.fixture(scope="session")
def scored():
    """Factory of data sets with known scores; see :func:`make_scored`."""
    return make_scored


def make_coupled(data, weights=None, *, shape=0.3):
    """A matching of what ``weights(rows, cols)`` gives for every label; of soft weights at random by default."""
    rng = np.random.default_rng(0)
    blocks = []
    for code, label in enumerate(data.classes):
        rows, cols = (np.flatnonzero(data[n].labels == code) for n in NAMES)
        own = rng.gamma(shape, size=(len(rows), len(cols))) + 1e-9 if weights is None else weights(rows, cols)
        blocks.append(Block(label, rows, cols, own, Status("ok")))
    return Matching(*NAMES, tuple(len(data[n]) for n in NAMES), tuple(blocks), Provenance("test", {}))


@pytest.fixture(scope="session")
def coupled():
    """Factory of matchings; see :func:`make_coupled`."""
    return make_coupled


def brute_ranks(weights, y):
    """``(rows, candidates)`` share of the others that are nearer to the row's mean than each; ties one half."""
    y, out = y.astype(float), np.empty(weights.shape)
    for i, row in enumerate(weights):
        d = ((row @ y / row.sum() - y) ** 2).sum(axis=1)
        for j, own in enumerate(d):
            others = np.delete(d, j)
            out[i, j] = np.mean(others < own - 1e-9) + 0.5 * np.mean(np.abs(others - own) <= 1e-9)
    return out


@pytest.fixture(scope="session")
def ranks():
    """Ranks by two loops; see :func:`brute_ranks`."""
    return brute_ranks


def round_readings(data):
    """The data with coarse readings: many candidates at exactly the same distance."""
    coarse = {n: replace(m, X=np.round(m.X / 2) * 2) for n, m in data.modalities.items()}
    return replace(data, modalities=coarse)


@pytest.fixture(scope="session")
def rounded():
    """Readings with ties; see :func:`round_readings`."""
    return round_readings


@pytest.fixture(scope="session")
def diagnosed():
    """Factory of data, truth, space, matching, and what is said of it."""

    def make(**options):
        data, truth, space = make_scored(**{"counts": 80, "labels": 12, "error": 0.2, **options})
        matching = up.match_ot(data, space)
        return data, truth, space, matching, up.diagnose(data, space, matching)

    return make


@pytest.fixture(scope="session")
def good(diagnosed):
    """Data, truth, space, matching and diagnosis of scores that have nearly all in common."""
    return diagnosed()


def checked(diagnosis):
    """The diagnosis as it is written, after what every diagnosis must be able to do."""
    text = json.dumps(diagnosis.to_dict(), allow_nan=False)
    shown = str(diagnosis)
    assert shown.splitlines()[0] == f"{diagnosis.verdict.upper()}: {diagnosis.sentence}"
    assert len(shown.splitlines()) == 1 + len(diagnosis.checks)
    for check in diagnosis.checks:
        assert f"{check.name}: {check.sentence}" in shown
        assert diagnosis[check.name] is check
    assert "nan" not in shown
    assert len({c.name for c in diagnosis.checks}) == len(diagnosis.checks)
    return json.loads(text)


@pytest.fixture(scope="session")
def said():
    """What a diagnosis writes; see :func:`checked`."""
    return checked
