"""What a matching is good for: a translator from image to genes is learned from it and judged on cells held out."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from unpaired.bench.matching import Problem, one_thread
from unpaired.bench.methods import METHODS, SPACES
from unpaired.bench.screen_cases import Preset, World
from unpaired.bench.store import Store
from unpaired.embed.embedding import Embedding
from unpaired.errors import UnpairedError
from unpaired.evaluate.translation import TranslationScores, score_translation
from unpaired.match.matching import Matching
from unpaired.match.null import match_pairs

__all__ = ["NOTHING", "PAIRS", "SUFFIX", "Task", "by_part", "run_tasks"]

_log = logging.getLogger(__name__)

PAIRS = "pairs"
"""The method that is told the truth."""

NOTHING = "nothing"
"""The row of the baselines: measured cells of other labels in place of predictions."""

SUFFIX = ", predicted"
"""Ends the names of cases under which results of predictions are kept."""


@dataclass(frozen=True)
class Task:
    """One translator to learn.

    Attributes
    ----------
    case, method, seed
        Which.
    """

    case: str
    method: str
    seed: int


def run_tasks(
    tasks: Sequence[Task],
    load: Callable[[str, int], World],
    store: Store,
    preset: Preset,
    *,
    jobs: int,
    device: str,
) -> None:
    """Learn and judge the translators that are not done yet; matchings are made again of the embeddings kept.

    Parameters
    ----------
    tasks
        The work.
    load
        (case, seed) to the screen; a module's function or a partial of one.
    store
        Holds the embeddings, and takes the results.
    preset
        How much is done.
    jobs
        Worker processes, each on one thread.
    device
        For networks.
    """
    from joblib import Parallel, delayed

    waiting = [t for t in tasks if not store.has(t.case + SUFFIX, t.method, t.seed)]
    _log.info("%d of %d predictions are done, %d to do.", len(tasks) - len(waiting), len(tasks), len(waiting))
    work = Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")
    for at, done in enumerate(work(delayed(_one)(t, load, store, preset, device) for t in waiting), start=1):
        _log.info("%d of %d: %s, seed %d: prediction by %s.", at, len(waiting), done.case, done.seed, done.method)


def _one(task: Task, load: Callable[[str, int], World], store: Store, preset: Preset, device: str) -> Task:
    with one_thread():
        start = time.perf_counter()
        try:
            parts = _predict(task, load(task.case, task.seed), store, preset, device)
            result: dict[str, Any] = {"parts": parts, "seconds": time.perf_counter() - start}
        except UnpairedError as error:
            result = {"failed": str(error)}
        store.keep(task.case + SUFFIX, task.method, task.seed, result)
    return task


def _predict(task: Task, world: World, store: Store, preset: Preset, device: str) -> dict[str, Any]:
    from unpaired.translate.translator import Translator

    model = Translator(
        loss="unbiased", members=preset.members, epochs=preset.epochs, device=device, seed=task.seed
    ).fit(world.learn, _matching(task, world, store, device), source="image", target="rna")
    found = {}
    for part, (cells, truth) in world.parts.items():
        prediction = model.predict(cells["image"])
        found[part] = _short(score_translation(prediction, cells, truth, reference=world.learn, seed=task.seed))
    return found


def _matching(task: Task, world: World, store: Store, device: str) -> Matching:
    problem = world.problem
    if task.method == PAIRS:
        return match_pairs(problem.data, problem.truth)
    if (why := _failure(task, store)) is not None:
        raise UnpairedError(why)
    method = METHODS[task.method]
    embedding: Embedding | None = None
    if method.space is not None:
        make = partial(_embedded, method.space, problem, device, task.seed)
        embedding, _ = store.space(task.case, method.space, task.seed, make)
    return method.match(problem.data, embedding, problem.budget, task.seed)


def _embedded(space: str, problem: Problem, device: str, seed: int) -> tuple[Embedding, dict[str, Any]]:
    """Make an embedding again that was deleted."""
    embedder = SPACES[space].make(problem.budget, device, seed)
    return embedder.fit(problem.learn).transform(problem.data), {}


def _failure(task: Task, store: Store) -> str | None:
    """Return why the matching itself has failed, by its own result."""
    if not store.has(task.case, task.method, task.seed):
        return None
    found = json.loads(store.path(task.case, task.method, task.seed).read_text(encoding="utf-8"))
    return None if "failed" not in found else str(found["failed"])


def _short(scores: TranslationScores) -> dict[str, Any]:
    """Return the scores without those of single labels and genes."""
    whole = scores.to_dict()
    drop = {"distributions": {"per_label"}, "pairs": {"per_feature", "left_out", "scatter"}}
    return {
        key: None if whole[key] is None else {k: v for k, v in whole[key].items() if k not in out}
        for key, out in drop.items()
    }


def by_part(results: Iterable[Mapping[str, Any]], parts: Mapping[str, str]) -> list[dict[str, Any]]:
    """Cut the results of predictions into their parts, and add the rows of the baselines.

    Parameters
    ----------
    results
        As of :meth:`~unpaired.bench.store.Store.results`; others than of predictions are left out.
    parts
        Key of a part -> its name, which ends the names of the cases.
    """
    found: list[dict[str, Any]] = []
    for result in results:
        if not result["case"].endswith(SUFFIX):
            continue
        for part, title in parts.items():
            case = f"{result['case'].removesuffix(SUFFIX)}, {title}"
            kept = {k: result[k] for k in ("method", "seed")}
            if "failed" in result:
                found.append({**kept, "case": case, "failed": result["failed"]})
                continue
            own = result["parts"][part]
            found.append({**kept, "case": case, **own})
            if result["method"] == _first_of(found, case, result["seed"]):
                found.append(_baseline(found[-1]))
    return found


def _first_of(found: Sequence[Mapping[str, Any]], case: str, seed: int) -> str:
    """Return the first method with scores of a case and seed: its baseline is every method's."""
    return next(str(r["method"]) for r in found if r["case"] == case and r["seed"] == seed and "failed" not in r)


def _baseline(result: Mapping[str, Any]) -> dict[str, Any]:
    known = result["distributions"] or {}
    names = ("by_cells", "by_inverse_cells")
    taken = {n: known[f"baseline_{n}"] for n in names if known} | {k: known[k] for k in ("coverage",) if known}
    guess = None if result["pairs"] is None else {"r2": result["pairs"]["r2_of_label"]}
    return {**result, "method": NOTHING, "distributions": taken or None, "pairs": guess}
