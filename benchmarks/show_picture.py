"""The picture of the docs: error of the marginals against seconds, for us and for the peers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ours
from machine import CORES, median, save, timed, warn_if_busy
from peers import BY_NAME, Peer
from problems import STRENGTHS, Pair, trained

OURS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
STEPS = (10, 30, 100, 300, 1000, 3000, 10_000)
SCALINGS = (0.5, 0.7, 0.9, 0.95)
PLAIN = (
    "POT sinkhorn_log",
    "POT sinkhorn",
    "POT sinkhorn, torch f64",
    "OTT dense f64",
    "OTT Anderson f64",
    "OTT online f32",
)
_FLOOR = 3e-12  # where the exact solver is drawn: its marginals are right to the last digit


def show(
    *, budget: float = 100.0, repeats: int = 5, out: str = "docs/images/transport.png", name: str = "transport_picture"
) -> str:
    """Measure the curves, keep them, and draw them."""
    import torch

    torch.set_num_threads(CORES)
    busy, curves = warn_if_busy(), []
    for strength, factor in STRENGTHS.items():
        pair = trained(strength=factor)[0]
        made = {"unpaired": _ours(pair, repeats)}
        for solver in (s for s in PLAIN if BY_NAME[s].here):
            made[solver] = _steps(BY_NAME[solver], pair, budget)
        made["geomloss"] = _geomloss(pair, budget)
        made["POT emd (exact)"] = [(_exact(pair, repeats), 0.0)]
        curves += [
            {"strength": strength, "solver": solver, "seconds": [p[0] for p in points], "error": [p[1] for p in points]}
            for solver, points in made.items()
        ]
        print(f"{strength}: " + ", ".join(f"{s} to {p[-1][1]:.0e}" for s, p in made.items()), flush=True)
    content = {"show": "picture", "cells": 1700, "seed": 0, "busy": busy, "curves": curves}
    save(name, content)
    return draw(curves, Path(out))


def _ours(pair: Pair, repeats: int) -> list[tuple[float, float]]:
    points = []
    for tol in OURS:
        ours.solve(*pair, tol=tol, jobs=CORES)
        runs = [timed(lambda tol=tol: ours.solve(*pair, tol=tol, jobs=CORES)) for _ in range(repeats)]
        points.append((median(seconds for seconds, _ in runs), ours.error(*pair, runs[0][1])))
    return points


def _steps(peer: Peer, pair: Pair, budget: float) -> list[tuple[float, float]]:
    """Return seconds and error after more and more iterations, as long as one run stays within the budget."""
    points: list[tuple[float, float]] = []
    for steps in STEPS:
        if points and points[-1][0] * 3.5 > budget:
            break
        run = peer.make(*pair, steps, 0.0)
        if steps == STEPS[0]:
            run()
        seconds, outcome = timed(run)
        points.append((seconds, outcome.error(*pair)))
        if points[-1][1] < 1e-9:
            break
    return points


def _geomloss(pair: Pair, budget: float) -> list[tuple[float, float]]:
    from peers import geomloss

    points: list[tuple[float, float]] = []
    for scaling in SCALINGS:
        if points and points[-1][0] * 3 > budget:
            break
        seconds, outcome = timed(geomloss(scaling)(*pair, 0, 0.0))
        points.append((seconds, outcome.error(*pair)))
    return points


def _exact(pair: Pair, repeats: int) -> float:
    run = BY_NAME["POT emd (exact)"].make(*pair, 0, 0.0)
    return median(timed(run)[0] for _ in range(repeats))


def draw(curves: Sequence[dict[str, Any]], path: Path) -> str:
    """Draw the curves: a panel for each strength, both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    strengths = list(dict.fromkeys(curve["strength"] for curve in curves))
    figure, panels = plt.subplots(1, len(strengths), figsize=(10, 4.6), sharey=True, layout="constrained")
    colours = {solver: f"C{k % 10}" for k, solver in enumerate(dict.fromkeys(c["solver"] for c in curves))}
    titles = {"strong": "confident classifiers (strong)", "weak": "unsure classifiers (weak)"}
    for panel, strength in zip(panels, strengths, strict=True):
        for curve in (c for c in curves if c["strength"] == strength):
            us = curve["solver"] == "unpaired"
            style: dict[str, Any] = {"color": "black" if us else colours[curve["solver"]], "lw": 2.5 if us else 1.2}
            errors = [max(e, _FLOOR) for e in curve["error"]]
            marker = "*" if curve["solver"].endswith("(exact)") else "o"
            style |= {"marker": marker, "ms": 9 if marker == "*" else 4, "label": curve["solver"]}
            panel.loglog(curve["seconds"], errors, **style)
        panel.set(title=titles.get(strength, strength), xlabel="seconds")
        panel.grid(which="major", alpha=0.3)
    panels[0].set_ylabel("L1 error of both marginals")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return f"drawn: {path}"
