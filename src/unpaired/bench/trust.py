"""Can a matching be trusted without truth? The default against the published recipe, and what is said of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from unpaired.bench.matching import Problem, Unit, run_units, units_of
from unpaired.bench.methods import ABLATION, Budget
from unpaired.bench.options import Options, chosen
from unpaired.bench.real import Source, find_pairs, hashes, published_epochs
from unpaired.bench.screen_cases import BASE, world
from unpaired.bench.screen_cases import PRESETS as SCREENS
from unpaired.bench.screen_cases import Preset as Screen
from unpaired.bench.screen_cases import cases_of as screens_of
from unpaired.bench.store import Store
from unpaired.bench.trust_tables import OURS, PUBLISHED, write
from unpaired.embed.embedding import Embedding
from unpaired.errors import OptionError
from unpaired.evaluate.confidence import confidence, selective_risk
from unpaired.evaluate.diagnose import diagnose
from unpaired.evaluate.scores import score
from unpaired.match.matching import Matching

__all__ = ["DIGITS", "Preset", "run"]

_METHODS = (OURS, PUBLISHED, *ABLATION)
DIGITS = "digits"


@dataclass(frozen=True)
class Preset:
    """How much is done.

    Attributes
    ----------
    most
        Cells of a label at most, in every modality.
    steps
        In which each assumption of the screen is violated more and more; of one seed, the first.
    screen
        The screens of :mod:`unpaired.bench.screen`.
    budget
        Of the methods on the other data sets.
    """

    most: int | None
    steps: int
    screen: Screen
    budget: Budget

    @property
    def screens(self) -> Screen:
        """The screens with both assumptions violated step by step."""
        values = tuple((i + 1) / self.steps for i in range(self.steps))
        return replace(self.screen, knobs=(("violate_a1", values), ("violate_a2", values)))


PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(40, 1, SCREENS["smoke"], Budget(repeats=2, epochs=2, published_epochs=2)),
    "cpu": Preset(700, 10, SCREENS["cpu"], Budget()),
    "paper": Preset(None, 10, SCREENS["paper"], Budget()),
}


def run(options: Options) -> str:
    """Run the bench and return its tables; everything is under ``options.out``.

    Raises
    ------
    OptionError
        If an option is not allowed, or there is no folder of data.
    DataError
        If it holds no paired data.
    """
    options.check(takes=("data", "pairs"))
    if options.data is None or not options.data.is_dir():
        msg = f"data must be a folder with one folder a data set; got {options.data}."
        raise OptionError(msg)
    preset = PRESETS[options.preset]
    methods = chosen(options.methods, _METHODS)
    found, left_out = find_pairs(options.data, options.pairs, most=None)
    sources = {s.name: s for s in found}
    settings = {"bench": "trust", "preset": options.preset, "device": options.device, **asdict(preset)}
    store = Store(options.out, {**settings, "data": hashes(found)})
    work: dict[str, Any] = {"store": store, "jobs": options.jobs, "device": options.device}
    units = _grouped(units_of([*sources, DIGITS], methods, options.seeds), sources)
    run_units(units, partial(_load, sources=sources, preset=options.preset), **work)
    for seed in range(options.seeds):
        cases = [BASE, *(c for c in screens_of(preset.screens) if c != BASE and seed == 0)]
        units = [replace(u, seed=seed) for u in units_of(cases, methods, 1)]
        run_units(units, partial(_screen, seed=seed, preset=options.preset), **work)
    return write(store, left_out, methods)


def _grouped(units: list[Unit], sources: Mapping[str, Source]) -> list[Unit]:
    """Put one case of every data set first: it makes the spaces of all its pairs."""
    first = {s.files: name for name, s in reversed(list(sources.items()))}
    return sorted(units, key=lambda u: u.case in sources and u.case not in first.values())


def _load(case: str, *, sources: Mapping[str, Source], preset: str) -> Problem:
    from unpaired.data.examples import digits
    from unpaired.data.read import read

    own = PRESETS[preset]
    if case == DIGITS:
        data, truth = digits(pairing="hide")
        pairs = {DIGITS: tuple(data)}
    else:
        pairs = {n: s.modalities for n, s in sources.items() if s.files == sources[case].files}
        names = list(dict.fromkeys(n for pair in pairs.values() for n in pair))
        data, truth = read(
            *sources[case].files, label="label", modalities=names, pairing="hide", max_cells_per_label=own.most
        )
    assert truth is not None
    parts = {name: replace(data, modalities={n: data[n] for n in pair}) for name, pair in pairs.items()}
    epochs = own.budget.published_epochs or published_epochs(max(len(m) for m in data.modalities.values()))
    budget = replace(own.budget, published_epochs=epochs)
    also = {n: d for n, d in parts.items() if n != case}
    return Problem(data, parts[case], truth, parts[case], budget, also=also, more=_told)


def _screen(case: str, *, seed: int, preset: str) -> Problem:
    return replace(world(case, seed, PRESETS[preset].screens).problem, more=_told)


def _told(problem: Problem, embedding: Embedding | None, matching: Matching) -> Mapping[str, Any]:
    """Return what is said of a matching without truth, and what the truth says of the same in the features."""
    assert embedding is not None
    sure = confidence(matching, problem.data)
    said = diagnose(problem.data, embedding, matching, sure=sure)
    measured = score(matching, problem.truth, problem.data).to_dict()
    risk = selective_risk(matching, problem.truth, problem.data, sure=sure)
    return {
        "diagnosis": said.to_dict(),
        "measured": {k: measured[k] for k in ("trace_over_uniform", "foscttm")},
        "selective_risk": {"area": risk.area, "random": risk.area_random, "cells": risk.cells},
    }
