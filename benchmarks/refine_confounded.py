"""A factor inside the labels that both instruments see: the cell's own, or drawn for each reading anew.

    python benchmarks/refine_confounded.py [PICTURE.png]

Every label shifts the factor, by the same amount in both modalities. "shared": a cell has one value in both, so that
it is one more thing that tells the partner. "independent": each reading has a value of its own (what a technical
factor does), so that matching by it is wrong, and nothing without truth can tell the one from the other.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import unpaired as up
from unpaired.bench.matching import in_latents

STRENGTHS = (0.0, 1.0, 2.0)
_SIZE = 0.35  # of a factor of strength 1: its standard deviation over that of all features together


def confounded(kind: str, strength: float, seed: int = 0) -> tuple[up.Dataset, up.Truth]:
    """Return a screen whose features have one more factor."""
    data, truth = up.simulate.screen(cells=50, seed=seed)
    rng = np.random.default_rng(99 + seed)
    of_label = rng.normal(size=len(data.classes))
    own = rng.normal(size=max(int(u.max()) for u in truth.units.values()) + 1)
    arrays, labels = {}, {}
    for name in data.direction():
        x = data[name].flat_features.astype(float)
        x = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0).mean())
        factor = own[truth.units[name]] if kind == "shared" else rng.normal(size=len(x))
        load = rng.normal(size=x.shape[1])
        load *= _SIZE * np.sqrt(x.var(axis=0).sum()) / np.linalg.norm(load)
        arrays[name] = (x + strength * (factor + of_label[data[name].labels])[:, None] * load).astype(np.float32)
        labels[name] = [data.classes[t] for t in data[name].labels]
    return up.Dataset.from_arrays(arrays, labels, recipes="none"), truth


def judged(matching: up.Matching, truth: up.Truth, data: up.Dataset) -> dict[str, float]:
    """Return trace over uniform, FOSCTTM in the latents, and latent MSE over that of the uniform coupling."""
    found = up.score(matching, truth, in_latents(data, truth))
    u = found.unweighted
    return {
        "trace / uniform": u["trace_over_uniform"],
        "FOSCTTM": (u["foscttm_source"] + u["foscttm_target"]) / 2,
        "latent MSE / uniform": u["latent_mse"] / found.uniform["latent_mse"],
    }


def main() -> None:
    """Print a line a screen; draw FOSCTTM before and after where a file is named."""
    found: dict[str, list[Any]] = {"shared": [], "independent": []}
    for kind, lines in found.items():
        for strength in STRENGTHS:
            data, truth = confounded(kind, strength)
            space = up.Propensity(classifier="logistic", seed=0).fit(data).transform(data)
            first = up.match_ot(data, space)
            told = up.refine(data, first, embedding=space)[1]
            if not told.made_by.options["refine"]["kept"]:
                told = up.refine(data, first, embedding=space, rounds=4)[1]
            before, after = (judged(m, truth, data) for m in (first, told))
            refined = told.made_by.options["refine"]
            lines.append((before["FOSCTTM"], after["FOSCTTM"]))
            text = ", ".join(f"{k} {before[k]:.2f} -> {after[k]:.2f}" for k in before)
            verdict = f"verdict {refined['verdict']}, asked {refined['asked']}, kept {refined['kept']}"
            print(f"{kind} {strength:g}: {verdict}; {text}", flush=True)
    if len(sys.argv) > 1:
        picture(found, sys.argv[1])


def picture(found: dict[str, list[Any]], file: str) -> None:
    """Draw FOSCTTM by the strength of the factor."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (kind, values) in zip(axes, found.items(), strict=True):
        for line, name, colour in zip(np.array(values).T, ("before", "after"), ("#777777", "#0072b2"), strict=True):
            ax.plot(STRENGTHS, line, marker="o", color=colour, label=name)
        title = "the cell's own, in both readings" if kind == "shared" else "drawn for each reading anew"
        ax.set(title=title, xlabel="strength of the factor")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("FOSCTTM in the latents (lower is better)")
    axes[0].legend(frameon=False)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
