"""What a matching is good for: a translator from image to genes is learned from it and judged on cells held out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from unpaired.bench.matching import Problem, one_thread, work_off
from unpaired.bench.methods import METHODS, SPACES
from unpaired.bench.screen_cases import Preset, World
from unpaired.bench.store import Store, failed
from unpaired.embed.embedding import Embedding
from unpaired.errors import UnpairedError
from unpaired.evaluate.translation import TranslationScores, score_translation
from unpaired.match.matching import Matching
from unpaired.match.null import match_pairs

__all__ = ["BASELINES", "LABEL_MEAN", "OTHERS", "PAIRS", "SUFFIX", "Task", "by_part", "run_tasks"]

PAIRS = "pairs"
"""The method that is told the truth."""

OTHERS = "others"
"""A row to compare distances with: measured cells of other labels in place of predictions."""

LABEL_MEAN = "label-mean"
"""A row to compare R2 with: the mean of the label's training cells as the prediction of each of its cells."""

BASELINES = (OTHERS, LABEL_MEAN)
"""Rows that are of no method; each is of its own metrics alone."""

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

    def __str__(self) -> str:
        return f"{self.case}, seed {self.seed}: prediction from {self.method}"


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

    def done(task: Task) -> bool:
        return store.has(task.case + SUFFIX, task.method, task.seed)

    do = partial(_one, load=load, store=store, preset=preset, device=device)
    work_off(tasks, done, do, jobs=jobs)


def _one(task: Task, *, load: Callable[[str, int], World], store: Store, preset: Preset, device: str) -> None:
    with one_thread():
        start = time.perf_counter()
        try:
            parts = _predict(task, load(task.case, task.seed), store, preset, device)
            result: dict[str, Any] = {"parts": parts, "seconds": time.perf_counter() - start}
        except UnpairedError as error:
            result = failed(error)
        store.keep(task.case + SUFFIX, task.method, task.seed, result)


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
    if (error := store.failure(task.case, task.method, task.seed)) is not None:
        raise error
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


def _short(scores: TranslationScores) -> dict[str, Any]:
    """Return the scores without those of single labels and genes."""
    whole = scores.to_dict()
    drop = {"distributions": {"per_label"}, "pairs": {"per_feature", "left_out", "scatter"}}
    return {
        key: None if whole[key] is None else {k: v for k, v in whole[key].items() if k not in out}
        for key, out in drop.items()
    }


def by_part(results: Iterable[Mapping[str, Any]], parts: Mapping[str, str]) -> list[dict[str, Any]]:
    """Cut the results of predictions into their parts, and add the rows of :data:`BASELINES`.

    Parameters
    ----------
    results
        As of :meth:`~unpaired.bench.store.Store.results`; others than of predictions are left out.
    parts
        Key of a part -> its name, which ends the names of the cases.
    """
    found: list[dict[str, Any]] = []
    scored: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for result in results:
        if not result["case"].endswith(SUFFIX):
            continue
        for part, title in parts.items():
            case = f"{result['case'].removesuffix(SUFFIX)}, {title}"
            kept = {"case": case, "method": result["method"], "seed": result["seed"]}
            if "failed" in result:
                found.append({**kept, "failed": result["failed"]})
                continue
            found.append({**kept, **result["parts"][part]})
            scored.setdefault((case, result["seed"]), []).append(found[-1])
    return [*found, *(row for own in scored.values() for row in _baselines(own))]


def _baselines(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the baselines of a case and seed: those of the method whose averages are of the most labels.

    The cells and the means that they are made of are the same with every method. But a label in which a method has no
    distance is in neither of its averages.
    """
    result = max(results, key=_covered)
    known, pairs = result["distributions"], result["pairs"]
    rows = []
    if known is not None:
        averages = {n: known[f"baseline_{n}"] for n in ("by_cells", "by_inverse_cells")}
        distances = {**averages, "coverage": known["coverage"]}
        rows.append({**result, "method": OTHERS, "distributions": distances, "pairs": None})
    if pairs is not None and pairs["r2_of_label"] is not None:
        guess = {**pairs, "r2": pairs["r2_of_label"]}
        rows.append({**result, "method": LABEL_MEAN, "distributions": None, "pairs": guess})
    return rows


def _covered(result: Mapping[str, Any]) -> int:
    known = result["distributions"]
    return 0 if known is None else sum(known["coverage"]["metrics"].values())
