"""Table 1 of the propensity paper, left: two pictures of the same scenes, matched within twelve interventions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unpaired.bench.matching import Problem, in_latents, run_units, unavailable, units_of
from unpaired.bench.methods import METHODS, SWEEP, Budget
from unpaired.bench.options import Options, chosen
from unpaired.bench.plots import EpsRun, eps_panels, save_figure
from unpaired.bench.published import IMAGES
from unpaired.bench.store import Store
from unpaired.bench.tables import COVERAGE, Column, Summary, markdown, summaries, write_csv, write_markdown
from unpaired.data.simulate import interventional_images
from unpaired.data.simulate.images import VERSION
from unpaired.data.types import Dataset, Truth
from unpaired.errors import OptionError

__all__ = ["COLUMNS", "PRESETS", "PUBLISHED", "Preset", "run"]

_LEARN, _TEST = 1, 2  # seeds of the scenes; those of the methods are others
_OURS = "ps+ot"
_METHODS = (
    _OURS,
    "ps+refine",
    "ps+snn",
    "ps-published+ot",
    "ps-published+snn",
    "vae+ot",
    "vae+snn",
    "vae-published+ot",
    "vae-published+snn",
    "scot",
    "random",
    "uniform",
)


def _multiples(method: str) -> dict[str, float]:
    """Return a method and those that differ from it in eps alone -> how many times its eps they have."""
    head = f"{method} x"
    return {method: 1.0} | {n: float(n.removeprefix(head)) for n in SWEEP if n.startswith(head)}


_SWEEP = _multiples(_OURS)
_PUBLISHED_SWEEPS = {name: _multiples(name) for name in ("ps-published+ot", "vae+ot", "vae-published+ot")}


@dataclass(frozen=True)
class Preset:
    """How much is done.

    Attributes
    ----------
    size
        Width of the pictures in pixels.
    learn, test
        Scenes that are learned from (those that choose the epoch are among them), and others that are matched.
    budget
        Of the methods.
    """

    size: int
    learn: int
    test: int
    budget: Budget

    @property
    def as_published(self) -> bool:
        """Whether the scenes are as large and as many as the published figures are of."""
        return (self.size, self.learn, self.test) == _PUBLISHED_SCENES


_PUBLISHED_SCENES = (128, 25_000, 20_000)  # width in pixels, learned from, matched
_SMOKE = Budget(
    repeats=2,
    epochs=1,
    published_epochs=1,
    vae_epochs=1,
    vae_hidden=64,
    peer_epochs=1,
    gromov_iterations=5,
    folds=2,
)
# Three folds: each network sees two thirds, and two repeats are the fewest that tell the noise.
_CPU = Budget(repeats=2, epochs=14, published_epochs=30, vae_epochs=20, folds=3, vae_rate=1e-3)
PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(size=64, learn=120, test=96, budget=_SMOKE),
    "cpu": Preset(size=64, learn=5_000, test=3_000, budget=_CPU),
    "paper": Preset(*_PUBLISHED_SCENES, budget=Budget()),
}

_LABELS = 12
_UNIFORM_E3 = _LABELS / _PUBLISHED_SCENES[2] * 1e3  # trace of the uniform coupling of as many scenes as published
_UNIFORM_MSE = 0.0354  # of the same: what follows from how the scenes are drawn, not a published figure
PUBLISHED: Mapping[tuple[str, str], str] = {
    **IMAGES,
    **{
        (method, "trace_over_uniform"): f"{float(value) / _UNIFORM_E3:.1f}"
        for (method, metric), value in IMAGES.items()
        if metric == "trace_e3"
    },
}
"""(method, metric) -> the published figure; a trace also over that of the uniform coupling, which is not published.

They compare with figures of scenes as large and as many alone: a trace over the uniform coupling's cannot be more than
the number of scenes a label, and in widths the objects are larger in smaller pictures.
"""

COLUMNS = (
    Column("latent_mse", "latent MSE ↓", lambda r: r["scores"]["latent_mse"], 4),
    Column("trace_e3", "trace x 1000 ↑", lambda r: 1e3 * r["scores"]["trace"], 2),
    Column("trace_over_uniform", "trace / uniform ↑", lambda r: r["scores"]["trace_over_uniform"], 2),
    Column("foscttm", "FOSCTTM in the latents ↓", lambda r: r["scores"]["foscttm"]["mean"], 3),
    *COVERAGE,
    Column("seconds", "seconds", lambda r: r["seconds"] + r["space"].get("seconds", 0.0), 1),
)
_EPS_COLUMNS = (Column("eps", "eps", lambda r: r["made_by"]["eps"], 3), *(c for c in COLUMNS if c.name != "seconds"))


def run(options: Options) -> str:
    """Run the bench and return its tables; everything is under ``options.out``.

    The pictures are kept in ``options.data``, or in the folder ``images`` under ``options.out``.

    Raises
    ------
    OptionError
        If an option is not allowed.
    """
    options.check(takes=("data",))
    if options.data is not None and options.data.exists() and not options.data.is_dir():
        msg = f"data must be a folder for the pictures, there or not; got {options.data}."
        raise OptionError(msg)
    methods = chosen(options.methods, [*_METHODS, *SWEEP])
    preset = PRESETS[options.preset]
    settings = {"bench": "images", "preset": options.preset, "device": options.device, **_settings(preset)}
    store = Store(options.out, settings)
    folder = options.out / "images" if options.data is None else options.data
    case = f"images of {preset.size} pixels"
    units = units_of([case], methods, options.seeds)
    waiting = [u for u in units if not all(store.has(u.case, m, u.seed) for m in u.methods)]
    if waiting and options.jobs > 1:
        _pictures(preset, folder, options.jobs)  # so that the workers need not draw the same at the same time
    load = partial(_load, preset=options.preset, folder=folder)
    run_units(units, load, store, jobs=options.jobs, device=options.device)
    return _write(store, unavailable(methods), preset)


def _settings(preset: Preset) -> dict[str, Any]:
    """Return what the results depend on; how many seeds are run does not change them."""
    return {**asdict(preset), "scenes": [_LEARN, _TEST], "pictures": VERSION}


def _pictures(preset: Preset, folder: Path, jobs: int = 1) -> tuple[Dataset, Dataset, Truth]:
    """Return the scenes to learn from and those to match, with the recipes of the former, and who is whose partner."""
    learn, _ = interventional_images(preset.learn, size=preset.size, seed=_LEARN, cache=folder, jobs=jobs)
    test, truth = interventional_images(preset.test, size=preset.size, seed=_TEST, cache=folder, jobs=jobs)
    assert truth is not None
    own = {n: replace(m, recipe=learn[n].recipe) for n, m in test.modalities.items()}
    return learn, replace(test, modalities=own), truth


def _load(case: str, *, preset: str, folder: Path) -> Problem:
    own = PRESETS[preset]
    learn, test, truth = _pictures(own, folder)
    return Problem(learn, test, truth, in_latents(test, truth), own.budget)


# ----------------------------------------------------------------------------------------------------------- tables


def _write(store: Store, absent: Mapping[str, str], preset: Preset) -> str:
    results = list(store.results())
    found = summaries(results, COLUMNS, published=PUBLISHED)
    titles = {name: METHODS[name].title for name in _METHODS}
    swept = [r for r in results if r["method"] in _SWEEP]
    by_eps = summaries([{**r, "case": "PS+OT (ours) by regularisation (eps)"} for r in swept], _EPS_COLUMNS)
    text = "\n".join(
        part
        for part in (
            markdown(found, COLUMNS, titles, absent),
            _budget_text(preset),
            markdown(by_eps, _EPS_COLUMNS, _eps_titles(), {}) if swept else "",
            _eps_text(found),
            _others_text(found),
        )
        if part
    )
    write_csv(store.folder, [*found, *(s for s in by_eps if s.metric == "eps")], absent)
    write_markdown(store.folder, "Two pictures of the same scenes", text)
    if runs := _eps_runs(swept):
        uniform = _values(found, "uniform", "latent_mse")
        known = {m: float(PUBLISHED["ps-published+ot", m]) for m in ("latent_mse", "trace_over_uniform")}
        base = {"latent_mse": float(np.median(uniform)), "trace_over_uniform": 1.0}
        axes = eps_panels(runs, uniform=base, published=known if preset.as_published else None)
        save_figure(axes[0], store.folder / "eps")
    return text


def _eps_titles() -> dict[str, str]:
    """Return the methods of the second table by their eps, from the smallest."""
    return {
        name: "calibrated (auto)" if factor == 1 else f"{factor:g} x calibrated"
        for name, factor in sorted(_SWEEP.items(), key=lambda item: item[1])
        if name == _OURS or factor != 1
    }


def _eps_runs(results: Sequence[Mapping[str, Any]]) -> list[EpsRun]:
    """Return a line of the plot a seed."""
    seeds: dict[int, list[tuple[float, float, float]]] = {}
    defaults: dict[int, float] = {}
    for r in results:
        if "failed" not in r:
            eps = r["made_by"]["eps"]
            seeds.setdefault(r["seed"], []).append((eps, r["scores"]["latent_mse"], r["scores"]["trace_over_uniform"]))
            if r["method"] == _OURS:
                defaults[r["seed"]] = eps
    runs = []
    for seed, points in sorted(seeds.items()):
        eps, mse, trace = zip(*sorted(points), strict=True)
        runs.append(EpsRun(eps, mse, trace, defaults.get(seed)))
    return runs


def _values(found: Sequence[Summary], method: str, metric: str) -> tuple[float, ...]:
    return next((s.values for s in found if (s.method, s.metric) == (method, metric)), ())


def _medians(found: Sequence[Summary], methods: Iterable[str], metric: str) -> dict[str, float]:
    """Return method -> its median, of those that have one."""
    return {m: float(np.median(v)) for m in methods if (v := _values(found, m, metric))}


def _eps_text(found: Sequence[Summary]) -> str:
    """Say which eps was best, chosen by the truth, and what it was worth."""
    uniform = _values(found, "uniform", "latent_mse")
    medians = _medians(found, _SWEEP, "latent_mse")
    if len(medians) < 2 or not uniform:
        return ""
    best = min(medians, key=lambda n: medians[n])
    traces = _medians(found, _SWEEP, "trace_over_uniform")[best]
    gain = 100 * (1 - medians[best] / float(np.median(uniform)))
    side = "below" if gain >= 0 else "above"
    published = 100 * (1 - float(PUBLISHED["ps-published+ot", "latent_mse"]) / _UNIFORM_MSE)
    return (
        f"Chosen by the truth, the best eps is {_SWEEP[best]:g} times the calibrated one: latent MSE "
        f"{medians[best]:.4f}, {abs(gain):.0f} % {side} the uniform coupling's {float(np.median(uniform)):.4f} "
        f"(PS+OT published, at its size: {published:.0f} % below), and a trace {traces:.1f} times the uniform one.\n"
    )


def _others_text(found: Sequence[Summary]) -> str:
    """Say of the published spaces at which eps, chosen by the truth, their latent MSE is lowest."""
    lines = []
    for name, own in _PUBLISHED_SWEEPS.items():
        medians = _medians(found, own, "latent_mse")
        if name not in medians or len(medians) < 2:
            continue
        best = min(medians, key=lambda n: medians[n])
        lines.append(
            f"- {METHODS[name].title}: latent MSE {medians[name]:.4f} at the published eps; of "
            f"{', '.join(f'{own[n]:g}' for n in medians)} times that, lowest at {own[best]:g} times: "
            f"{medians[best]:.4f}, with a trace {_medians(found, own, 'trace_over_uniform')[best]:.1f} times the "
            "uniform one."
        )
    return "\n".join([*lines, ""]) if lines else ""


def _budget_text(preset: Preset) -> str:
    b = preset.budget

    def epochs(number: int | None) -> str:
        return "all" if number is None else str(number)

    return " ".join(
        [
            f"{preset.learn:,} scenes to learn from, {preset.test:,} others matched, {preset.size} pixels. Ours:",
            f"{b.folds} folds x {b.repeats} repeats, {epochs(b.epochs)} epochs; published recipe:",
            f"{epochs(b.published_epochs)} epochs (published: 100); VAE: {epochs(b.vae_epochs)} epochs, learning rate",
            f"{b.vae_rate:g} (published: 100, 1e-4).",
            _published_text(preset),
        ]
    )


def _published_text(preset: Preset) -> str:
    """Say what the figures in brackets are of, and how far they compare with ours."""
    size, _, test = _PUBLISHED_SCENES
    other = (
        f"The figures in brackets are of other sizes than these ({size} pixels, {test / _LABELS:,.0f} scenes a label): "
        "only the order of the methods compares with them. "
    )
    return (
        f"{'' if preset.as_published else other}In the brackets of trace / uniform is the published trace over the "
        f"uniform coupling's at the published number of scenes, {_UNIFORM_E3:.2f}. The uniform coupling itself is not "
        f"among the published methods: its latent MSE there, {_UNIFORM_MSE:.4f}, is recomputed.\n"
    )
