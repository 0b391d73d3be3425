"""Tables 2 to 5 of the CLUE paper: the comparison, shares of the pairs that are known, and the ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from unpaired.bench.clue_cases import SIDES, Case, case_of, files_of, read_cells, with_share
from unpaired.bench.clue_effort import Answer, Effort, Propensities, Seconds
from unpaired.bench.clue_methods import ALIASES, GROUPS, METHODS
from unpaired.bench.clue_scores import coupling_scores, imputation_score, space_scores
from unpaired.bench.clue_tables import CASE, write
from unpaired.bench.matching import one_thread, work_off
from unpaired.bench.options import Options, chosen
from unpaired.bench.real import Source, hashes
from unpaired.bench.store import Store, failed
from unpaired.data.types import Dataset
from unpaired.embed.embedding import Embedding
from unpaired.errors import UnpairedError

__all__ = ["PRESETS", "Preset", "Task", "run"]


@dataclass(frozen=True)
class Preset:
    """How much is done.

    Attributes
    ----------
    cells
        Cells in all, about; ``None`` takes every one.
    steps
        Of an optimizer, alike for all methods; ``None`` leaves it to them.
    repeats, epochs
        Of the propensity score's classifiers; ``None`` is their own.
    """

    cells: int | None
    steps: int | None
    repeats: int = 3
    epochs: int | None = None


PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(600, 30, repeats=2, epochs=3),
    "cpu": Preset(None, 2000),
    "paper": Preset(None, None),
}


@dataclass(frozen=True)
class Task:
    """What one worker does at a time: a method, and those that go on from its model."""

    methods: tuple[str, ...]
    seed: int

    def __str__(self) -> str:
        return f"seed {self.seed}: {', '.join(self.methods)}"


@dataclass(frozen=True)
class _How:
    """What every task needs to know."""

    folder: Path
    preset: Preset
    device: str


def run(options: Options) -> str:
    """Run the bench and return its tables; everything is under ``options.out``.

    ``options.data`` is a folder with ``rna.h5ad`` and ``adt.h5ad``, raw counts of the same cells. ``options.methods``
    are names of methods or of tables (:data:`~unpaired.bench.clue_methods.GROUPS`).

    Raises
    ------
    OptionError
        If an option is not allowed.
    DataError
        If the data cannot be used.
    """
    options.check(takes=("data",))
    names = _asked(options.methods)
    files = files_of(options.data)
    how = _How(files[0].parent, PRESETS[options.preset], options.device)
    if not (options.out / "bench.json").exists():
        read_cells(how.folder, how.preset.cells)  # data that cannot be used are said to be before a folder is made
    settings = {"bench": "clue", "preset": options.preset, "device": options.device, **asdict(how.preset)}
    data = hashes([Source(how.folder.name, tuple(map(str, files)), SIDES)])
    store = Store(options.out, {**settings, "data": data})
    absent = {n: why for n in names if (why := METHODS[n].missing()) is not None}
    tasks = tasks_of([n for n in names if n not in absent], options.seeds)

    def done(task: Task) -> bool:
        return all(store.has(CASE, m, task.seed) for m in task.methods)

    # First what several methods match in: two workers would both make it.
    seeds = {
        t.seed for t in tasks if any(METHODS[m].in_propensity and not store.has(CASE, m, t.seed) for m in t.methods)
    }
    spaces = [Task(("the space of the propensity score",), seed) for seed in sorted(seeds)]
    work_off(spaces, lambda _: False, partial(_make_spaces, how=how, store=store), jobs=options.jobs)
    work_off(tasks, done, partial(_do, how=how, store=store), jobs=options.jobs)
    return write(store, absent, options.preset, how.preset.steps)


def _asked(names: Sequence[str]) -> tuple[str, ...]:
    """Return the methods asked for, those of the tables that are named among them."""
    meant = [m for n in names for m in GROUPS.get(n, (ALIASES.get(n, n),))]
    return chosen(meant, METHODS)


def tasks_of(names: Sequence[str], seeds: int) -> list[Task]:
    """Return the work, seed by seed, so that a worker seldom makes another split."""
    first = [n for n in names if METHODS[n].after not in names]
    groups = [(n, *(m for m in names if METHODS[m].after == n)) for n in first]
    return [Task(group, seed) for seed in range(seeds) for group in groups]


# ------------------------------------------------------------------------------------------------------------ work


@lru_cache(maxsize=1)
def _case(folder: Path, cells: int | None, seed: int) -> Case:
    return case_of(read_cells(folder, cells), seed)


def _make_spaces(task: Task, *, how: _How, store: Store) -> None:
    with one_thread(), suppress(UnpairedError):  # the methods that need them meet the error again, and say it
        _spaces(_case(how.folder, how.preset.cells, task.seed), task.seed, how, store)


def _do(task: Task, *, how: _How, store: Store) -> None:
    with one_thread():
        before: Answer | None = None
        for name in task.methods:
            if store.has(CASE, name, task.seed):
                before = None
                continue
            result, before = _result(name, task.seed, before, how, store)
            store.keep(CASE, name, task.seed, result)


def _result(
    name: str, seed: int, before: Answer | None, how: _How, store: Store
) -> tuple[dict[str, Any], Answer | None]:
    method, effort = METHODS[name], Effort(how.preset.steps, seed, how.device)
    try:
        case = with_share(_case(how.folder, how.preset.cells, seed), method.share, seed)
        spaces = partial(_spaces, case, seed, how, store)
        answer = method.run(case.learn, case.match, effort, before, spaces)
        scores = judged(answer, case)
    except UnpairedError as error:
        return failed(error), None
    told: dict[str, Any] = {"scores": scores, "seconds": answer.seconds.wall, "core_seconds": answer.seconds.core}
    told["epochs"] = answer.epochs
    told |= {"share": method.share, "cells": {"learn": len(case.learn[SIDES[0]]), "match": len(case.match[SIDES[0]])}}
    return told, answer


def judged(answer: Answer, case: Case) -> dict[str, float | None]:
    """Return all scores of what a method makes of the cells to be matched."""
    partners = case.partners
    found = space_scores(case.match, answer.latents, partners, SIDES, answer.metric)
    if answer.matching is not None:
        found |= coupling_scores(answer.matching, partners)
    if answer.imputed is not None:
        known = partners >= 0
        X = case.match[SIDES[1]].X[partners[known]]
        found["imputation_r"] = imputation_score(answer.imputed[known], X.toarray() if hasattr(X, "toarray") else X)
    return found


def _spaces(case: Case, seed: int, how: _How, store: Store) -> Propensities:
    """Return the space of the propensity score, made now or before."""
    made: dict[str, Any] = {}

    def embed(data: Dataset) -> tuple[Embedding, dict[str, Any]]:
        if not made:
            made.update(_learned(case.learn, seed, how))
        return made["model"].transform(data), asdict(made["seconds"])

    learn, _ = store.space(CASE, "propensity learn", seed, partial(embed, case.learn))
    match, told = store.space(CASE, "propensity match", seed, partial(embed, case.match))
    return Propensities(learn, match, Seconds(**told))


def _learned(learn: Dataset, seed: int, how: _How) -> dict[str, Any]:
    from unpaired.embed.propensity import Propensity

    start = Seconds.now()
    preset = how.preset
    model = Propensity(repeats=preset.repeats, epochs=preset.epochs, device=how.device, seed=seed).fit(learn)
    return {"model": model, "seconds": start.passed()}
