"""The benches that judge matchings by the truth: embed, match, score, one unit of work a (case, space, seed)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from unpaired.bench.methods import SPACES, Budget, method_of, missing
from unpaired.bench.store import Store, failed
from unpaired.data.types import Dataset, Modality, Truth
from unpaired.embed.embedding import Embedding
from unpaired.errors import OptionError, UnpairedError
from unpaired.evaluate.scores import score
from unpaired.match.matching import Matching

__all__ = [
    "Problem",
    "Unit",
    "in_latents",
    "notes_text",
    "one_thread",
    "run_units",
    "unavailable",
    "units_of",
    "work_off",
]

_log = logging.getLogger(__name__)

_Task = TypeVar("_Task")


@dataclass(frozen=True, eq=False)
class Problem:
    """What a case asks of a method.

    Attributes
    ----------
    learn
        The cells that an embedder learns from.
    data
        The cells that are matched; the same as ``learn``, or others of the same instruments.
    truth
        Who is whose partner among these.
    judge
        The same cells in the space where distances are judged; ``data`` by default.
    budget
        How much work a method may do.
    counts
        The same cells as ``data`` with raw counts for readings, for methods that model counts; ``data`` by default.
    also
        Name of a case -> other cells that a learned embedder embeds too: kept in the store for what is done with them
        later.
    more
        What else is kept with the scores of a matching.
    """

    learn: Dataset
    data: Dataset
    truth: Truth
    judge: Dataset
    budget: Budget
    counts: Dataset | None = None
    also: Mapping[str, Dataset] = field(default_factory=dict)
    more: Callable[[Problem, Embedding | None, Matching], Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Unit:
    """What one worker does at a time: one embedding, and the matchings made of it.

    Attributes
    ----------
    case
        Name of the case.
    space
        Key of :data:`~unpaired.bench.methods.SPACES`; ``None`` for methods that need none.
    seed
        The seed.
    methods
        Names of the methods whose results are asked for.
    """

    case: str
    space: str | None
    seed: int
    methods: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.case}, seed {self.seed}: {', '.join(self.methods)}"


def in_latents(data: Dataset, truth: Truth) -> Dataset:
    """Return the cells with their latents for readings: where these are known, distances are judged in them.

    Raises
    ------
    OptionError
        If the latents are not known.
    """
    if truth.latents is None:
        msg = "the truth has no latents to judge by."
        raise OptionError(msg)
    latents = truth.latents

    def of(modality: Modality) -> Modality:
        return replace(modality, X=latents[modality.name].astype(np.float32), recipe=None, feature_names=None)

    return replace(data, modalities={n: of(m) for n, m in data.modalities.items()})


def units_of(cases: Sequence[str], methods: Sequence[str], seeds: int) -> list[Unit]:
    """Return the work, costly embeddings first; a method that has no use for a seed is run with the first alone."""
    spaces: dict[str | None, list[str]] = {}
    for name in methods:
        if missing(name) is None:
            spaces.setdefault(method_of(name).space, []).append(name)
    units = []
    for case in cases:
        for space, names in spaces.items():
            for seed in range(seeds):
                own = tuple(n for n in names if seed == 0 or method_of(n).seeded)
                if own:
                    units.append(Unit(case, space, seed, own))
    return units


def unavailable(methods: Sequence[str]) -> dict[str, str]:
    """Return method -> why it cannot be had here."""
    return {name: why for name in methods if (why := missing(name)) is not None}


def notes_text(results: Iterable[Mapping[str, Any]]) -> str:
    """List what the spaces had to say of themselves, such as that a part of them was skipped, with the seeds."""
    said: dict[tuple[str, str, str], set[int]] = {}
    for r in results:
        for note in r.get("space", {}).get("notes", ()):
            title = method_of(r["method"]).title.partition("+")[0]
            said.setdefault((r["case"], title, note), set()).add(r["seed"])
    return "".join(
        f"- {title}, {case}, {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, sorted(seeds)))}: {note}.\n"
        for (case, title, note), seeds in said.items()
    )


def run_units(units: Sequence[Unit], load: Callable[[str], Problem], store: Store, *, jobs: int, device: str) -> None:
    """Do the units that are not done yet.

    Parameters
    ----------
    units
        The work.
    load
        Makes a case's problem; a module's function (or a partial of one), so that workers can be given it.
    store
        Where the results are kept.
    jobs
        Worker processes. A unit runs on one thread in any case, so that its sums are made in one order.
    device
        For networks.
    """

    def done(unit: Unit) -> bool:
        return all(store.has(unit.case, m, unit.seed) for m in unit.methods)

    work_off(units, done, partial(_one, load=load, store=store, device=device), jobs=jobs)


def work_off(
    tasks: Sequence[_Task], done: Callable[[_Task], bool], do: Callable[[_Task], object], *, jobs: int
) -> None:
    """Do the tasks that are not done yet, in worker processes, and say so one by one.

    Parameters
    ----------
    tasks
        The work; a task is printed as it is.
    done
        Whether a task is done.
    do
        Does a task and keeps its result; can be given to a worker.
    jobs
        Worker processes.
    """
    from joblib import Parallel, delayed

    waiting = [t for t in tasks if not done(t)]
    _log.info("%d of %d are done, %d to do.", len(tasks) - len(waiting), len(tasks), len(waiting))
    work = Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")
    for at, task in enumerate(work(delayed(_do)(do, task) for task in waiting), start=1):
        _log.info("%d of %d: %s.", at, len(waiting), task)


def _do(do: Callable[[_Task], object], task: _Task) -> _Task:
    do(task)
    return task


_LOADED: dict[str, Problem] = {}  # the last case of this process: its units come one after another


def _problem(case: str, load: Callable[[str], Problem]) -> Problem:
    from joblib import hash as digest

    key = str(digest((case, load)))  # the same name may be another problem to another bench, or with another seed
    if key not in _LOADED:
        _LOADED.clear()
        _LOADED[key] = load(case)
    return _LOADED[key]


def _one(unit: Unit, *, load: Callable[[str], Problem], store: Store, device: str) -> None:
    with one_thread():
        embedding, told, failure = None, {}, None
        try:
            problem = _problem(unit.case, load)
            if unit.space is not None:
                make = partial(_embed, unit, problem, store, device)
                embedding, told = store.space(unit.case, unit.space, unit.seed, make)
        except UnpairedError as error:
            failure = failed(error)
        for name in unit.methods:
            if not store.has(unit.case, name, unit.seed):
                result = failure or _result(name, problem, embedding, unit.seed)
                store.keep(unit.case, name, unit.seed, {**result, "space": told})


@contextmanager
def one_thread() -> Iterator[None]:
    """Let libraries work on one thread, and give them back what they had."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)


def _embed(unit: Unit, problem: Problem, store: Store, device: str) -> tuple[Embedding, dict[str, Any]]:
    """Return a unit's embedding of the cells that are matched, and what is told of it."""
    assert unit.space is not None
    space = SPACES[unit.space]
    start = time.perf_counter()
    embedder = space.make(problem.budget, device, unit.seed)
    if space.own_cells:
        own = problem.data if problem.counts is None else problem.counts
        embedding = embedder.fit(own).transform(own)
        return embedding, {"seconds": time.perf_counter() - start, "notes": list(embedding.made_by.notes)}
    embedding = embedder.fit(problem.learn).transform(problem.data)
    told = {"seconds": time.perf_counter() - start, **_validation(embedder)}
    for case, data in problem.also.items():
        store.space(case, unit.space, unit.seed, partial(_embed_also, embedder, data, told))
    return embedding, told


def _embed_also(embedder: Any, data: Dataset, told: dict[str, Any]) -> tuple[Embedding, dict[str, Any]]:
    return embedder.transform(data), told


def _validation(embedder: Any) -> dict[str, Any]:
    """Return what a classifier says of itself."""
    found = getattr(embedder, "validation_", None)
    if found is None:
        return {}
    return {"cross_entropy": {n: q.cross_entropy for n, q in found.items()}}


def _result(name: str, problem: Problem, embedding: Embedding | None, seed: int) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        matching = method_of(name).match(problem.data, embedding, problem.budget, seed)
        seconds = time.perf_counter() - start
        scores = score(matching, problem.truth, problem.judge, seed=seed).to_dict()
        more = {} if problem.more is None else problem.more(problem, embedding, matching)
    except UnpairedError as error:
        return failed(error)
    states, made_by = _states(matching), matching.made_by.options
    return {"scores": scores, "seconds": seconds, "states": states, "made_by": made_by, **more}


def _states(matching: Matching) -> Mapping[str, int]:
    """Return the number of labels in every state."""
    found, counts = np.unique([b.status.state for b in matching.blocks], return_counts=True)
    return dict(zip(map(str, found), map(int, counts), strict=True))
