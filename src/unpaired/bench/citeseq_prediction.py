"""Table 2 of the propensity paper, left: a predictor learned from a matching, judged by true pairs held out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from unpaired.bench.matching import one_thread, work_off
from unpaired.bench.methods import METHODS, Budget
from unpaired.bench.published import CITESEQ_R2
from unpaired.bench.store import Store, failed
from unpaired.bench.tables import Column
from unpaired.data.types import Dataset, Truth
from unpaired.errors import UnpairedError
from unpaired.evaluate.prediction_scores import score_pairs
from unpaired.match.matching import Matching
from unpaired.match.null import match_pairs
from unpaired.translate.prediction import feature_labels, target_values
from unpaired.translate.translator import PUBLISHED_BATCH, Translator

__all__ = [
    "COLUMNS",
    "DIRECTIONS",
    "PREDICTED",
    "PUBLISHED",
    "PUBLISHED_DIRECTION",
    "TITLES",
    "Lesson",
    "Predictor",
    "Task",
    "passes",
    "run_tasks",
]

_PAIRS = "pairs"
PREDICTED = ("ps+ot", "ps-published+ot", "vae+ot", "vae-published+ot", "random", "uniform", _PAIRS)
"""The matchings that a predictor is learned from, in the order of the table."""

PUBLISHED_DIRECTION = ("adt", "rna")
"""From proteins to the components of the genes: what the published code predicts, and its figures are of."""

DIRECTIONS = (("rna", "adt"), PUBLISHED_DIRECTION)
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


def passes(steps: int, cells: int, batch: int) -> int:
    """Return the passes over so many cells that make so many steps."""
    return -(-steps // max(1, round(cells / batch)))


@dataclass(frozen=True)
class Predictor:
    """How the published predictor is trained.

    Attributes
    ----------
    epochs
        Passes over the target cells (published: 50),
    steps
        but not fewer steps than about this: few cells make few steps a pass.
    default_epochs
        Of our own default; ``None`` leaves it to the translator.
    """

    epochs: int = 50
    steps: int = 0
    default_epochs: int | None = None

    def epochs_of(self, cells: int) -> int:
        """Return the passes over so many target cells, a tenth of which is held out by the translator."""
        return max(self.epochs, passes(self.steps, cells - cells // 10, PUBLISHED_BATCH))


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

    def __str__(self) -> str:
        return f"{self.case} prediction, seed {self.seed}: {self.method}"

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

    def done(task: Task) -> bool:
        return all(store.has(task.case_of(d), task.method, task.seed) for d in DIRECTIONS)

    work_off(tasks, done, partial(_one, load=load, store=store, device=device), jobs=jobs)


def _one(task: Task, *, load: Callable[[], Lesson], store: Store, device: str) -> None:
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
                result = failed(error)
            store.keep(case, task.method, task.seed, result)


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
    gone = "its embedding is gone; delete the folder 'spaces' and this method's results, and start the bench again."
    raise store.failure(task.matched, task.method, task.seed) or UnpairedError(gone)


def _r2(
    matching: Matching, lesson: Lesson, direction: tuple[str, str], device: str, seed: int
) -> Mapping[str, float | None]:
    """Return the R2 of the published predictor with either loss, and of our own default."""
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
