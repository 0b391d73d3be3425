"""Benchmark of the diagnosis beside the matching that it judges; README.md says what it needs and how long it takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from machine import CORES, Memory, median, save, short, table, timed, warn_if_busy

import unpaired as up
from unpaired.data.types import Dataset
from unpaired.embed.embedding import Embedding, Provenance


def make(cells: int, labels: int, features: int, seed: int) -> tuple[Dataset, Embedding]:
    """Return two modalities of so many cells, and scores of as many dimensions as there are labels.

    The truth has 20 directions; each side adds noise of its own, of which the space knows the covariance.
    """
    rng = np.random.default_rng(seed)
    codes = np.arange(cells) % labels
    loads = rng.normal(size=(20, labels))
    of_label = 3 * np.eye(labels)
    truth = rng.normal(size=(cells, 20))
    arrays, readings, noise, spread = {}, {}, {}, {}
    for name in ("one", "two"):
        order = rng.permutation(cells) if name == "two" else np.arange(cells)
        scores = truth[order] @ loads
        scores += of_label[codes[order]]
        scores += rng.normal(size=scores.shape)
        scores -= scores.mean(axis=1, keepdims=True)
        arrays[name], noise[name], spread[name] = scores, np.ones(cells), np.eye(labels) - 1 / labels
        readings[name] = (truth[order] @ rng.normal(size=(20, features))).astype(np.float32), codes[order]
    data = Dataset.from_arrays(
        {n: x for n, (x, _) in readings.items()},
        {n: [f"label {c:04d}" for c in y] for n, (_, y) in readings.items()},
        recipes="none",
    )
    return data, Embedding(arrays, "logit", noise, data.classes, Provenance("simulated", {}), spread)


def show(*, cells: int, labels: int, features: int, rounds: int, seed: int) -> str:
    """Time matching and diagnosis in turn, keep the rows and return the table."""
    busy = warn_if_busy()
    small = make(2000, 20, features, seed)  # so that all is compiled
    up.diagnose(*small, up.match_ot(*small, jobs=CORES))
    data, space = make(cells, labels, features, seed)
    seconds: dict[str, list[float]] = {"match": [], "diagnose": []}
    peaks: dict[str, list[float]] = {"match": [], "diagnose": []}

    def measure(step: str, work: Callable[[], Any]) -> Any:
        memory = Memory()
        taken, result = timed(work)
        seconds[step].append(taken)
        peaks[step].append(memory.added() / 1e9)
        return result

    for _ in range(rounds):
        matching = measure("match", lambda: up.match_ot(data, space, jobs=CORES))
        measure("diagnose", lambda m=matching: up.diagnose(data, space, m))
    size = {"cells": cells, "labels": labels, "features": features, "seed": seed, "rounds": rounds, "busy": busy}
    save(f"diagnose_{cells}_{labels}", {**size, "seconds": seconds, "peak_gb": peaks})
    rows = [[step, short(median(own)), f"{max(peaks[step]):.2f} GB"] for step, own in seconds.items()]
    ratio = median(seconds["diagnose"]) / median(seconds["match"])
    return f"{table(['step', 'seconds', 'memory added'], rows)}\n\nDiagnosis over matching: {ratio:.2f}"


def main() -> None:
    """Run the show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=1000)
    parser.add_argument("--features", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    print(show(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
