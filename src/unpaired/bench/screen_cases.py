"""The screens of the bench: one case is one option of the simulation changed, one seed is one screen drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from unpaired.bench.matching import Problem, in_latents
from unpaired.bench.methods import Budget
from unpaired.data.simulate import screen
from unpaired.data.split import hold_out, take_truth
from unpaired.data.types import Array, Dataset, Truth
from unpaired.seeds import named_rng

__all__ = ["BASE", "KNOBS", "PARTS", "PRESETS", "Knob", "Preset", "World", "cases_of", "parts_of", "world"]

BASE = "screen"
"""The case in which nothing is violated."""

PARTS: Mapping[str, str] = {"in": "in distribution", "out": "out of distribution"}
"""Cells of labels that were learned from, and of labels that were not."""

_LIBRARY = 1e4  # counts that a cell is scaled to before the logarithm
_FEWEST = 0.5  # of the cells that a label may have: labels are not equally large


@dataclass(frozen=True)
class Knob:
    """An option of :func:`unpaired.simulate.screen` that is turned until the method breaks.

    Attributes
    ----------
    option
        Its name there.
    short
        Its name in the names of cases.
    title
        What it is, for a plot.
    kept
        The value at which nothing is violated.
    """

    option: str
    short: str
    title: str
    kept: float

    def case(self, value: float) -> str:
        """Return the name of the case with a value."""
        shown = str(int(value)) if self.option == "batches" else f"{value:.2f}"
        return BASE if value == self.kept else f"{self.short}={shown}"


KNOBS: Mapping[str, Knob] = {
    k.option: k
    for k in (
        Knob("violate_a1", "a1", "(A1) violated: the label moves the noise", 0.0),
        Knob("violate_a2", "a2", "(A2) violated: share the image does not see", 0.0),
        Knob("guide_efficiency", "efficiency", "guide efficiency", 1.0),
        Knob("batches", "batches", "batches", 1.0),
    )
}


@dataclass(frozen=True)
class Preset:
    """How much is done.

    Attributes
    ----------
    cells
        Of the largest label; the smallest has half.
    perturbations
        Perturbed genes that are learned from; the control is one label more.
    held
        Perturbations that are held out wholly; may be none.
    genes, features
        Columns of the two modalities.
    fraction
        Fraction of every other label that is held out.
    members, epochs
        Networks of a translator, and its epochs.
    knobs
        Option -> its values beside the one at which nothing is violated.
    budget
        Of the methods.
    """

    cells: int
    perturbations: int
    held: int
    genes: int
    features: int
    fraction: float
    members: int
    epochs: int | None
    knobs: tuple[tuple[str, tuple[float, ...]], ...]
    budget: Budget


_ALL = (
    ("violate_a1", (0.25, 0.5, 0.75, 1.0)),
    ("violate_a2", (0.25, 0.5, 0.75, 1.0)),
    ("guide_efficiency", (0.75, 0.5, 0.25)),
    ("batches", (3.0,)),
)
# Of experiment 3 are that the classifier has two layers, that the VAE has no modality classifier (beta 0), and its
# largest rate. Optimisers, weight decay, schedules, widths and epochs are ours: this is not its recipe.
_TWO_LAYERS: dict[str, Any] = {"published_classifier": "mlp", "vae_rate": 1e-3, "vae_published_beta": 0.0}
PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(
        cells=14,
        perturbations=4,
        held=1,
        genes=40,
        features=64,
        fraction=0.3,
        members=1,
        epochs=3,
        knobs=(("violate_a1", (1.0,)), ("violate_a2", (1.0,))),
        budget=Budget(repeats=2, epochs=3, published_epochs=2, vae_epochs=2, vae_hidden=32, **_TWO_LAYERS),
    ),
    "cpu": Preset(
        cells=100,
        perturbations=24,
        held=3,
        genes=200,
        features=1024,
        fraction=0.2,
        members=1,
        epochs=None,
        knobs=_ALL,
        budget=Budget(published_epochs=60, vae_epochs=40, vae_hidden=256, **_TWO_LAYERS),
    ),
    "paper": Preset(
        cells=500,
        perturbations=24,
        held=3,
        genes=200,
        features=1024,
        fraction=0.2,
        members=5,
        epochs=None,
        knobs=_ALL,
        budget=Budget(published_epochs=250, vae_epochs=250, **_TWO_LAYERS),
    ),
}


@dataclass(frozen=True, eq=False)
class World:
    """One screen, cut into what is learned from and what is judged by.

    Attributes
    ----------
    problem
        The cells that are learned from and matched.
    learn
        The same cells, with the logarithms of the genes for readings: what a translator predicts.
    parts
        Key of :func:`parts_of` -> cells held out, with such readings, and who is whose partner among them.
    """

    problem: Problem
    learn: Dataset
    parts: Mapping[str, tuple[Dataset, Truth | None]]


def parts_of(preset: Preset) -> dict[str, str]:
    """Return those of :data:`PARTS` that a screen has: without a perturbation held out, the first alone."""
    return {part: title for part, title in PARTS.items() if preset.held or part != "out"}


def cases_of(preset: Preset) -> dict[str, dict[str, float]]:
    """Return case -> the options in which its screen differs."""
    found: dict[str, dict[str, float]] = {BASE: {}}
    for option, values in preset.knobs:
        found |= {KNOBS[option].case(v): {option: v} for v in values}
    return found


@lru_cache(maxsize=1)
def world(case: str, seed: int, preset: Preset) -> World:
    """Draw the screen of a case; the last one is kept, since its units of work come one after another."""
    changed: dict[str, Any] = dict(cases_of(preset)[case])
    if "batches" in changed:
        changed["batches"] = int(changed["batches"])
    data, truth = screen(
        cells=preset.cells,
        perturbations=preset.perturbations + preset.held,
        genes=preset.genes,
        features=preset.features,
        seed=seed,
        **changed,
    )
    data, truth = _uneven(data, truth, preset.cells, seed)
    genes = [name for name in data.classes if name != "control"]
    labels = genes[len(genes) - preset.held :]
    train, own, held = hold_out(data, truth, labels=labels, fraction=preset.fraction, seed=seed)
    assert own is not None
    kept = {"in": held.take("test"), "out": held.take("label")}
    return World(
        problem=Problem(train, train, own, in_latents(train, own), preset.budget),
        learn=_in_log_genes(train),
        parts={part: (_in_log_genes(kept[part][0]), kept[part][1]) for part in parts_of(preset)},
    )


def _uneven(data: Dataset, truth: Truth, cells: int, seed: int) -> tuple[Dataset, Truth]:
    """Leave labels of unequal size, or all averages over labels would be the same."""
    name = next(iter(data))
    units, labels = truth.units[name], data[name].labels
    kept = [_some(np.sort(units[labels == code]), cells, seed, label) for code, label in enumerate(data.classes)]
    rows = {n: np.flatnonzero(np.isin(of, np.concatenate(kept))) for n, of in truth.units.items()}
    left = take_truth(truth, rows)
    assert left is not None
    return data.take(rows), left


def _some(units: Array, cells: int, seed: int, label: str) -> Array:
    rng = named_rng(seed, "bench", "screen", label)
    return rng.permutation(units)[: round(cells * rng.uniform(_FEWEST, 1))]


def _in_log_genes(data: Dataset) -> Dataset:
    """Return the data set whose genes are read as log(1 + counts of 10,000): the published target, not embeddings."""
    genes = data["rna"]
    counts = np.asarray(genes.X, dtype=np.float64)
    scaled = counts * (_LIBRARY / np.maximum(counts.sum(axis=1, keepdims=True), 1.0))
    logged = replace(genes, X=np.log1p(scaled).astype(np.float32), recipe=None)
    return replace(data, modalities={**data.modalities, "rna": logged})
