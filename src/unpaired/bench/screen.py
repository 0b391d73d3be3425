"""Simulated screens, after experiment 3: genes are predicted from images, and assumptions violated more and more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from unpaired.bench.matching import Problem, Unit, run_units, units_of
from unpaired.bench.methods import METHODS
from unpaired.bench.options import Options, chosen
from unpaired.bench.plots import save_figure
from unpaired.bench.screen_cases import BASE, KNOBS, PARTS, PRESETS, Preset, cases_of, parts_of, world
from unpaired.bench.screen_plots import Line, Panel, knob_panels
from unpaired.bench.screen_tables import (
    MATCHING,
    PREDICTION,
    breaking,
    coverage_text,
    knob_tables,
    order_text,
    published_table,
    values_of,
)
from unpaired.bench.screen_translation import BASELINES, LABEL_MEAN, OTHERS, PAIRS, SUFFIX, Task, by_part, run_tasks
from unpaired.bench.store import Store
from unpaired.bench.tables import Summary, markdown, summaries, write_csv, write_markdown

__all__ = ["METHOD_NAMES", "ROBUST", "TITLES", "run"]

_MATCHED = ("ps+ot", "ps-published+ot", "vae+ot", "vae-published+ot", "random", "uniform")
METHOD_NAMES = (*_MATCHED, PAIRS)
"""The methods of this bench, in the order of its tables."""

ROBUST = ("ps+ot", "ps-published+ot", "vae-published+ot", "random", "uniform")
"""Those that are followed as assumptions are violated; genes are predicted there from three of them."""

_ROBUST_PREDICTED = ("ps+ot", "random", "uniform")
TITLES: Mapping[str, str] = {
    **{n: METHODS[n].title for n in _MATCHED},
    "ps-published+ot": "PS+OT (raw logits)",
    "vae-published+ot": "VAE+OT (no modality classifier)",
    PAIRS: "true pairs",
    OTHERS: "cells of other labels",
    LABEL_MEAN: "mean of the label",
}
"""Of the rows. Neither of the two renamed is a recipe as it was published: :func:`_about` says what they are."""


def run(options: Options) -> str:
    """Run the bench and return its tables; everything is under ``options.out``.

    Every seed draws a screen of its own, so that the quartiles are of screens as well as of methods.

    Raises
    ------
    OptionError
        If an option is not allowed.
    """
    options.check()
    methods = chosen(options.methods, METHOD_NAMES)
    preset = PRESETS[options.preset]
    settings = {"bench": "screen", "preset": options.preset, "sizes": asdict(preset), "device": options.device}
    store = Store(options.out, settings)
    for seed in range(options.seeds):
        load = partial(_problem, seed=seed, preset=preset)
        run_units(_units(methods, preset, seed), load, store, jobs=options.jobs, device=options.device)
    tasks = _tasks(methods, preset, options.seeds)
    run_tasks(tasks, partial(world, preset=preset), store, preset, jobs=options.jobs, device=options.device)
    return _write(store, preset)


def _problem(case: str, seed: int, preset: Preset) -> Problem:
    return world(case, seed, preset).problem


def _units(methods: Sequence[str], preset: Preset, seed: int) -> list[Unit]:
    """Return the matchings of one seed; every method is run, since every seed is another screen."""
    out = []
    for case in cases_of(preset):
        names = [m for m in methods if m in (_MATCHED if case == BASE else ROBUST)]
        out += [Unit(u.case, u.space, seed, u.methods) for u in units_of([case], names, 1)]
    return out


def _tasks(methods: Sequence[str], preset: Preset, seeds: int) -> list[Task]:
    wanted = {case: METHOD_NAMES if case == BASE else _ROBUST_PREDICTED for case in cases_of(preset)}
    return [Task(case, m, seed) for seed in range(seeds) for case, own in wanted.items() for m in methods if m in own]


# --------------------------------------------------------------------------------------------------------- writing


def _write(store: Store, preset: Preset) -> str:
    results = list(store.results())
    matched = summaries([r for r in results if not r["case"].endswith(SUFFIX)], MATCHING)
    parts = parts_of(preset)
    cut = by_part(results, parts)
    # A row to compare with has only its own metrics: others are not there, rather than without a value.
    predicted = [s for s in summaries(cut, PREDICTION) if s.method not in BASELINES or s.by_seed]
    found = [*matched, *predicted]
    robust = {m: TITLES[m] for m in ROBUST}
    orders = order_text(predicted, TITLES)
    sections = [
        _about(preset),
        "## Predicted genes\n",
        *(markdown(_of(predicted, f"{BASE}, {title}"), PREDICTION, TITLES, {}) for title in parts.values()),
        _listed(coverage_text(cut, TITLES)),
        published_table() + "\n",
        *([_listed(orders)] if orders else []),
        "## Matching of the training cells\n",
        markdown(_of(matched, BASE), MATCHING, TITLES, {}),
        "## Against violations\n",
        knob_tables(found, preset, robust),
        _listed(breaking(found, preset, [m for m in ROBUST if m not in ("random", "uniform")], TITLES)),
    ]
    text = "\n".join(s for s in sections if s)
    write_csv(store.folder, found)
    write_markdown(store.folder, "A simulated screen: images to genes", text)
    _plot(store.folder, found, preset)
    return text


def _of(found: Sequence[Summary], case: str) -> list[Summary]:
    return [s for s in found if s.case == case]


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) + "\n"


def _about(preset: Preset) -> str:
    held = f"{preset.held} perturbation{'' if preset.held == 1 else 's'}"
    return (
        f"{preset.perturbations} perturbations and a control, {preset.cells // 2} to {preset.cells} cells each, and "
        f"{held} held out wholly; {preset.fraction:.0%} of the other cells are held out to judge by. Every seed is "
        "another screen. Genes are predicted as log(1 + counts of 10,000), learned with the unbiased loss; distances "
        "are averaged over labels by inverse cell count, or by cells where it says so. KL is that of two Gaussians: "
        "it punishes predictions for being means, which vary less than cells do. KL by neighbours falls below zero "
        "because cells are nearer to such means than to each other: only its order says something.\n\n"
        f"{TITLES['ps-published+ot']} is a two-layer classifier, one model, raw logits, Euclidean OT with "
        f"regularisation (eps) 0.05. {TITLES['vae-published+ot']} is a VAE with beta 0, matched in the same way; "
        f"{TITLES['vae+ot']} has one with an adversary. Optimisers, widths and epochs of all of them are ours. "
        "Experiment 3 has networks, optimisers and a predictor of its own, and data that are not public: its figures "
        "stand in a table of their own, and only the order of the methods can be compared.\n"
    )


def _plot(folder: Path, found: Sequence[Summary], preset: Preset) -> None:
    """Draw the metrics against the knobs; a metric without two values of any knob is not drawn."""
    methods = [m for m in ROBUST if m not in ("random", "uniform")]
    inside = f", {PARTS['in']}"
    both, chance = list(_ROBUST_PREDICTED), [TITLES["random"], TITLES["uniform"]]
    one: dict[str, Any] = {"level": 1.0, "level_name": "uniform coupling"}
    wanted: list[tuple[str, list[str], str, str, dict[str, Any]]] = [
        ("latent_mse_over_uniform", methods, "", "latent MSE / uniform coupling's", one),
        ("trace_over_uniform", methods, "", "trace / uniform coupling's", {**one, "logarithmic": True}),
        ("foscttm", methods, "", "FOSCTTM in the latents", {**one, "level": 0.5}),
        ("r2", both, inside, "R² of predicted genes", {"dashed": chance}),
        ("l2", both, inside, "L2 of predicted means", {"dashed": chance}),
    ]
    for metric, names, suffix, ylabel, more in wanted:
        panels = [_panel(found, option, values, names, suffix, metric) for option, values in preset.knobs]
        shown = [p for p in panels if p.lines]
        if shown:
            save_figure(knob_panels(shown, ylabel, **more), folder / f"robustness_{metric}")


def _panel(
    found: Sequence[Summary], option: str, values: Sequence[float], methods: Sequence[str], suffix: str, metric: str
) -> Panel:
    knob = KNOBS[option]
    lines = {}
    for method in methods:
        points = []
        for value in (knob.kept, *values):
            cell = values_of(found, knob.case(value) + suffix, method, metric)
            if cell is not None and cell.quartiles is not None:
                points.append((value, *cell.quartiles))
        if len(points) > 1:
            at, middle, low, high = zip(*points, strict=True)
            lines[TITLES[method]] = Line(at, middle, low, high)
    return Panel(knob.title, lines, falls=option == "guide_efficiency")
