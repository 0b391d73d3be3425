"""Table 2 of the propensity paper, left: a predictor learned from a matching, judged by true pairs held out."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unpaired.bench.matching import one_thread
from unpaired.bench.methods import METHODS, Budget
from unpaired.bench.published import CITESEQ_R2
from unpaired.bench.store import Store
from unpaired.bench.tables import Column
from unpaired.data.types import Dataset, Truth
from unpaired.errors import UnpairedError
from unpaired.evaluate.prediction_scores import score_pairs
from unpaired.match.matching import Matching
from unpaired.match.null import match_pairs
from unpaired.translate.prediction import feature_labels, target_values

__all__ = ["COLUMNS", "DIRECTIONS", "PREDICTED", "PUBLISHED", "TITLES", "Lesson", "Predictor", "Task", "run_tasks"]

_log = logging.getLogger(__name__)

_PAIRS = "pairs"
PREDICTED = ("ps+ot", "ps-published+ot", "vae+ot", "vae-published+ot", "random", "uniform", _PAIRS)
"""The matchings that a predictor is learned from, in the order of the table."""

DIRECTIONS = (("rna", "adt"), ("adt", "rna"))
"""What the paper says was predicted, and what its published code predicts."""

TITLES = {n: METHODS[n].title for n in PREDICTED if n in METHODS} | {
    "random": "random, one partner each",
    "uniform": "any cell of the label",
    _PAIRS: "true pairs",
}

COLUMNS = (
    Column("r2_mse", "R2, MSE loss ↑", lambda r: r["r2"]["mse"]),
    Column("r2_unbiased", "R2, unbiased loss ↑", lambda r: r["r2"]["unbiased"]),
    Column("r2_default", "R2, our default ↑", lambda r: r["r2"]["default"]),
    Column("seconds", "seconds", lambda r: r["seconds"], 1),
)

# What the published table calls random draws a new partner of the label at every visit: here that is the uniform one.
PUBLISHED = {("uniform" if m == "random" else m, c): figure for (m, c), figure in CITESEQ_R2.items()}


@dataclass(frozen=True)
class Predictor:
    """How the published predictor is trained.

    Attributes
    ----------
    epochs
        Passes over the target cells (published: 50),
    steps
        but no fewer steps than this: few cells make few steps a pass.
    default_epochs
        Of our own default; ``None`` leaves it to the translator.
    """

    epochs: int = 50
    steps: int = 0
    default_epochs: int | None = None

    def epochs_of(self, cells: int, batch: int = 256) -> int:
        """Return the passes over so many target cells."""
        return max(self.epochs, -(-self.steps // max(1, -(-cells // batch))))


@dataclass(frozen=True, eq=False)
class Lesson:
    """What the predictors learn from and are judged by.

    Attributes
    ----------
    case
        Name under which the embeddings of these cells are kept.
    learn, learn_truth
        The cells that are matched and learned from; the truth is for the row of the true pairs alone.
    test, truth
        The cells to judge by.
    budget
        Of the methods that match.
    predictor
        Of the predictors.
    """

    case: str
    learn: Dataset
    learn_truth: Truth
    test: Dataset
    truth: Truth
    budget: Budget
    predictor: Predictor


@dataclass(frozen=True)
class Task:
    """The predictors of one matching and seed, in all directions.

    Attributes
    ----------
    case
        Name of the results; the direction follows it.
    matched
        Name of the case of the test cells' matchings.
    method, seed
        Which matching.
    """

    case: str
    matched: str
    method: str
    seed: int

    def case_of(self, direction: tuple[str, str]) -> str:
        """Return the name of the results of a direction."""
        return f"{self.case} {' to '.join(direction)}"


def run_tasks(tasks: Sequence[Task], load: Callable[[], Lesson], store: Store, *, jobs: int, device: str) -> None:
    """Learn and judge the predictors that are not done yet.

    Parameters
    ----------
    tasks
        The work.
    load
        Makes the lesson; a module's function or a partial of one.
    store
        Holds the embeddings, and takes the results.
    jobs
        Worker processes, each on one thread.
    device
        For networks.
    """
    from joblib import Parallel, delayed

    waiting = [t for t in tasks if not all(store.has(t.case_of(d), t.method, t.seed) for d in DIRECTIONS)]
    _log.info("%d of %d predictions are done, %d to do.", len(tasks) - len(waiting), len(tasks), len(waiting))
    work = Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")
    for at, done in enumerate(work(delayed(_one)(t, load, store, device) for t in waiting), start=1):
        _log.info("%d of %d: prediction by %s, seed %d.", at, len(waiting), done.method, done.seed)


def _one(task: Task, load: Callable[[], Lesson], store: Store, device: str) -> Task:
    with one_thread():
        lesson = load()
        matching: Matching | None = None
        for direction in DIRECTIONS:
            case = task.case_of(direction)
            if store.has(case, task.method, task.seed):
                continue
            start = time.perf_counter()
            try:
                matching = _matching(task, lesson, store) if matching is None else matching
                r2 = _r2(matching, lesson, direction, device, task.seed)
                result: dict[str, Any] = {"r2": r2, "seconds": time.perf_counter() - start}
            except UnpairedError as error:
                result = {"failed": str(error)}
            store.keep(case, task.method, task.seed, result)
    return task


def _matching(task: Task, lesson: Lesson, store: Store) -> Matching:
    if task.method == _PAIRS:
        return match_pairs(lesson.learn, lesson.learn_truth)
    method = METHODS[task.method]
    embedding = None
    if method.space is not None:
        embedding, _ = store.space(lesson.case, method.space, task.seed, lambda: _lost(task, store))
    return method.match(lesson.learn, embedding, lesson.budget, task.seed)


def _lost(task: Task, store: Store) -> Any:
    """Say why there is no embedding: the matching of this name has failed, and its result says why."""
    why = None
    if store.has(task.matched, task.method, task.seed):
        why = json.loads(store.path(task.matched, task.method, task.seed).read_text(encoding="utf-8")).get("failed")
    raise UnpairedError(why or "its embedding is gone; delete the results of this seed and start the bench again.")


def _r2(
    matching: Matching, lesson: Lesson, direction: tuple[str, str], device: str, seed: int
) -> Mapping[str, float | None]:
    """Return the R2 of the published predictor with either loss, and of our own default."""
    from unpaired.translate.translator import Translator

    source, target = direction
    epochs = lesson.predictor.epochs_of(len(lesson.learn[target]))
    published: dict[str, Any] = {"network": "published", "members": 1, "epochs": epochs}
    kinds: dict[str, dict[str, Any]] = {
        "mse": {**published, "loss": "mse"},
        "unbiased": {**published, "loss": "unbiased"},
        "default": {"epochs": lesson.predictor.default_epochs},
    }
    found: dict[str, float | None] = {}
    for name, options in kinds.items():
        model = Translator(**options, device=device, seed=seed).fit(
            lesson.learn, matching, source=source, target=target
        )
        found[name] = _judged(model.predict(lesson.test[source]).mean, lesson, direction)
    return found


def _judged(predicted: Any, lesson: Lesson, direction: tuple[str, str]) -> float | None:
    partners = lesson.truth.partners(*direction)
    known = np.flatnonzero(partners >= 0)
    target = lesson.test[direction[1]]
    values, names = target_values(target, "features"), feature_labels(target, "features")
    scores = score_pairs(values, partners[known], predicted[known], names, pairs_total=len(known))
    return None if scores is None else scores.r2
