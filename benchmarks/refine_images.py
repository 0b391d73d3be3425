"""Rounds of a refinement on pictures: two views of the same scenes, as large and as many as in the preset cpu.

    python benchmarks/refine_images.py --seed 0 --rounds 3 [--space SPACE.npz]

One line for the first matching and one a round. The space is kept in a file where one is named: its networks take most
of the time.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import unpaired as up
from unpaired.bench.matching import in_latents
from unpaired.embed.embedding import Provenance
from unpaired.match.refine import Work, rounds_of


def said(title: str, matching: up.Matching, truth: up.Truth, judge: Any) -> str:
    """Return the scores as a line."""
    u = up.score(matching, truth, judge).unweighted
    foscttm = (u["foscttm_source"] + u["foscttm_target"]) / 2
    return (
        f"{title}: latent MSE {u['latent_mse']:.4f}, trace / uniform {u['trace_over_uniform']:.1f}, "
        f"FOSCTTM {foscttm:.3f}"
    )


def space_of(learn: up.Dataset, test: up.Dataset, seed: int, file: Path | None) -> up.Embedding:
    """Fit the classifiers, or read what they said."""
    if file is None or not file.exists():
        space = up.Propensity(folds=3, repeats=2, epochs=14, seed=seed, device="cpu").fit(learn).transform(test)
        if file is not None:
            parts = {"arrays": space.arrays, "noise": space.noise, "covariance": space.noise_covariance}
            np.savez(file, **{f"{part} {n}": x for part, of in parts.items() for n, x in (of or {}).items()})
        return space
    with np.load(file) as kept:
        found = {part: {n: kept[f"{part} {n}"] for n in test} for part in ("arrays", "noise", "covariance")}
    dims = tuple(str(i) for i in range(next(iter(found["arrays"].values())).shape[1]))
    made_by = Provenance("Propensity", {"folds": 3, "repeats": 2, "epochs": 14, "seed": seed})
    return up.Embedding(found["arrays"], "logit", found["noise"], dims, made_by, found["covariance"])


def main() -> None:
    """Print a line a round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--space", type=Path)
    parser.add_argument("--pictures", type=Path, default=Path("pictures"), help="folder where they are kept")
    a = parser.parse_args()
    learn, _ = up.simulate.interventional_images(5000, size=64, seed=1, cache=a.pictures)
    test, truth = up.simulate.interventional_images(3000, size=64, seed=2, cache=a.pictures)
    test = replace(test, modalities={n: replace(m, recipe=learn[n].recipe) for n, m in test.modalities.items()})
    start = time.perf_counter()
    space = space_of(learn, test, a.seed, a.space)
    print(f"classifiers: {time.perf_counter() - start:.0f} s", flush=True)
    first = up.match_ot(test, space)
    judge, diagnosis = in_latents(test, truth), up.diagnose(test, space, first, seed=a.seed)
    check = diagnosis["same distribution"]
    print(f"verdict {diagnosis.verdict}, same distribution {check.state}", flush=True)
    print(said("first", first, truth, judge), flush=True)
    work = Work(test, test.direction(), {"jobs": 1}, space, a.seed, "cpu", progress=False, folder=None)
    for _, matching, told in islice(rounds_of(work, first), a.rounds):
        line = said(f"round {told.round}", matching, truth, judge)
        print(
            f"{line}; weight {told.weight:.2f}, agreement {told.agreement:.2f}, change {told.change:.3f}, "
            f"{told.seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
