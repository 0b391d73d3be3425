"""Files to a run directory: read, hold out, embed, match, diagnose, score, write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from unpaired import options
from unpaired.data.examples import digits
from unpaired.data.load import split_name
from unpaired.data.types import Dataset, Truth
from unpaired.embed.embedding import Embedding
from unpaired.embed.propensity import Propensity
from unpaired.errors import DataError, OptionError
from unpaired.evaluate.confidence import Confidence, SelectiveRisk, confidence, selective_risk
from unpaired.evaluate.diagnose import diagnose
from unpaired.evaluate.diagnosis import Diagnosis
from unpaired.evaluate.scores import Scores, score
from unpaired.match.matching import Matching
from unpaired.match.neighbours import check_snn_options, match_snn
from unpaired.match.null import match_random, match_uniform
from unpaired.match.refine_store import forget
from unpaired.match.transport.front import check_ot_options, find_device, match_ot
from unpaired.report.page import write_report
from unpaired.run.folder import check_target, new_folder
from unpaired.run.write import as_written, fill_run
from unpaired.workflow.reading import check_reading, describe, keep_out, read_files
from unpaired.workflow.refine import refine
from unpaired.workflow.steps import beside, log, progress, step

__all__ = ["METHODS", "AlignOptions", "AlignResult", "align", "demo"]

METHODS = ("ot", "snn", "uniform", "random")
_ROUNDS = "refine"  # ending of the folder where finished rounds wait


@dataclass(frozen=True)
class AlignOptions:
    """Everything that ``unpaired align`` can be told (see ``unpaired align --help``).

    Attributes
    ----------
    label, batch, layer, source, target, recipes, missing, pairing, max_cells_per_label
        How the data are read; see :func:`unpaired.read`.
    hold_out_labels, test_fraction
        What is kept out of everything that learns, for a translation to be judged by: whole labels, and a fraction of
        the cells of every other label; see :func:`unpaired.data.split.hold_out`.
    classifier, folds, repeats, calibrate, epochs
        See :class:`unpaired.Propensity`.
    method
        ``"ot"``, ``"snn"``, ``"uniform"`` or ``"random"``.
    eps, cost, unbalanced, max_iter, max_seconds, tol, memory
        See :func:`unpaired.match_ot`.
    k, metric
        See :func:`unpaired.match_snn`.
    refine
        ``"off"``, or the rounds of :func:`unpaired.refine`: ``"auto"`` or a number.
    device, jobs, seed
        Where and how it runs. A device that the matching has no code for leaves it on the CPU.
    """

    label: str = "label"
    batch: str | None = None
    layer: str | None = None
    source: str | None = None
    target: str | None = None
    recipes: Mapping[str, str] = field(default_factory=dict)
    missing: Literal["median", "error"] = "median"
    pairing: Literal["none", "hide"] = "none"
    max_cells_per_label: int | None = None
    hold_out_labels: tuple[str, ...] = ()
    test_fraction: float = 0.0
    classifier: str | Mapping[str, str] = "auto"
    folds: int = 5
    repeats: int = 3
    calibrate: bool = True
    epochs: int | Mapping[str, int | None] | None = None
    method: str = "ot"
    eps: float | str = "auto"
    cost: Literal["sqeuclidean", "euclidean"] = "sqeuclidean"
    unbalanced: float | None = None
    max_iter: int = 10_000
    max_seconds: float = 600.0
    tol: float = 1e-4
    memory: int | str | None = None
    k: int = 1
    metric: Literal["euclidean", "cosine"] = "euclidean"
    refine: int | str = "off"
    device: str = "auto"
    jobs: int = 1
    seed: int = 0


@dataclass(frozen=True, eq=False)
class AlignResult:
    """What a run found.

    Attributes
    ----------
    path
        The run directory.
    matching
        The matching. Where a method makes whole rows, the files keep their largest entries.
    diagnosis
        Whether it can be believed; of a refined matching, whether that which the refinement began with can be.
    scores
        Its scores, if the truth was known.
    selective_risk
        What is gained by keeping only the cells that it is surest of, if the truth was known.
    """

    path: Path
    matching: Matching
    diagnosis: Diagnosis
    scores: Scores | None
    selective_risk: SelectiveRisk | None


def align(files: list[str], out: str | Path, chosen: AlignOptions, *, force: bool = False) -> AlignResult:
    """Read the files, embed, match, diagnose, score if the truth is known, and write a run directory with its report.

    Parameters
    ----------
    files
        Paths or ``NAME=PATH``; see :func:`unpaired.read`.
    out
        The folder to make.
    chosen
        The options.
    force
        Replace a run that is there.

    Raises
    ------
    OutputError
        If the folder cannot be made there; raised before any work.
    DataError, OptionError
        As the steps raise them.
    """
    check_target(Path(out), force=force)
    _check(chosen, Path(out))
    clock: dict[str, float] = {}
    with step(clock, "reading"):
        data, truth = read_files(files, chosen)
    paths = [split_name(f)[1] for f in files]
    return _run(data, truth, out, chosen, clock, inputs=paths, force=force)


def demo(out: str | Path, chosen: AlignOptions, *, force: bool = False) -> AlignResult:
    """Run :func:`align` on the digits that come with the package, their pairing hidden."""
    check_target(Path(out), force=force)
    _check(chosen, Path(out))
    clock: dict[str, float] = {}
    with step(clock, "reading"):
        data, truth = digits(pairing="hide", seed=chosen.seed)
    return _run(data, truth, out, chosen, clock, inputs=[], force=force)


def _check(chosen: AlignOptions, out: Path) -> None:
    """Check every option that can be wrong whatever the data are, before the long work."""
    options.check_choice("method", chosen.method, METHODS)
    _check_refine(chosen, out)
    check_reading(chosen)
    _propensity(chosen).check_options()
    check_snn_options(k=chosen.k, metric=chosen.metric)
    if chosen.device == "cuda":
        find_device(chosen.device)
    if chosen.method != "ot":
        return
    check_ot_options(**_ot_options(chosen))
    if chosen.eps == "auto" and chosen.repeats == 1:
        msg = "eps 'auto' needs two or more repeats; raise repeats, or give eps a number (published: 0.05)."
        raise OptionError(msg)


def _check_refine(chosen: AlignOptions, out: Path) -> None:
    """Check whether the matching can be refined: it has to be the posterior of a space that knows its noise."""
    if chosen.refine == "off":
        return
    if isinstance(chosen.refine, str) and chosen.refine != "auto":
        msg = f"refine must be auto, off or a whole number of at least 1; got {chosen.refine!r}."
        raise OptionError(msg)
    options.check_integer("refine", 1 if chosen.refine == "auto" else chosen.refine, low=1)
    for name, wanted in (("method", "ot"), ("eps", "auto"), ("unbalanced", None)):
        if getattr(chosen, name) != wanted:
            option = "match" if name == "method" else name
            msg = f"refine goes on from a matching with {option} {wanted or 'not given'}; leave out one of the two."
            raise OptionError(msg)
    if chosen.repeats == 1:  # eps could be a number then, but not with refine
        msg = "refine needs the noise of two or more repeats; raise repeats, or leave out refine."
        raise OptionError(msg)
    beside(out, _ROUNDS)


def _run(
    data: Dataset,
    truth: Truth | None,
    out: str | Path,
    chosen: AlignOptions,
    clock: dict[str, float],
    *,
    inputs: list[Path],
    force: bool,
) -> AlignResult:
    source, target = data.direction(chosen.source, chosen.target)
    data, truth, held_out = keep_out(data, truth, chosen)
    describe(data)
    with step(clock, "classifiers"):
        propensity = _propensity(chosen).fit(data)
        space = propensity.transform(data)
    with step(clock, "matching"):
        matching = _match(data, space, chosen, source, target)
    written = as_written(matching)
    with step(clock, "diagnosing"):
        sure = confidence(written, data)
        diagnosis = diagnose(data, space, written, sure=sure, seed=chosen.seed)
    refined = None
    rounds = beside(Path(out), _ROUNDS)  # now: a run written over the folder that one stands in leaves none to ask
    if chosen.refine != "off":
        with step(clock, "refining"):
            refined, matching = _refine(data, space, matching, chosen, diagnosis, rounds)
            written = as_written(matching)
            sure = confidence(written, data)
    scores, risk = None, None
    if truth is not None:
        with step(clock, "scoring"):
            data, scores = _score(data, truth, written, chosen.seed)
            risk = None if scores is None else _risk(written, truth, data, sure)
    with step(clock, "writing"), new_folder(Path(out), force=force) as work:
        fill_run(
            work,
            data,
            space,
            matching,
            truth=truth,
            held_out=held_out,
            scores=scores,
            selective_risk=risk,
            diagnosis=diagnosis,
            confidence=sure,
            refined=None if refined is space else refined,
            propensity=propensity,
            options=asdict(chosen),
            inputs=inputs,
            timings=clock,
        )
        write_report(work)
    if chosen.refine != "off":
        forget(rounds)
    return AlignResult(Path(out), matching, diagnosis, scores, risk)


def _score(data: Dataset, truth: Truth, matching: Matching, seed: int) -> tuple[Dataset, Scores | None]:
    """Return the scores, or the data with a warning: a matching that cannot be scored is still a result."""
    try:
        return data, score(matching, truth, data, seed=seed)
    except DataError as error:
        note = f"warning: {error.problems[0].what}"
        log.warning("%s", note)
        return replace(data, notes=(*data.notes, note)), None


def _risk(matching: Matching, truth: Truth, data: Dataset, sure: Confidence) -> SelectiveRisk | None:
    """Return how well the confidence tells better cells from worse; ``None`` where no true pair can say so."""
    try:
        return selective_risk(matching, truth, data, sure=sure)
    except DataError:
        return None


def _refine(
    data: Dataset, space: Embedding, matching: Matching, chosen: AlignOptions, diagnosis: Diagnosis, folder: Path
) -> tuple[Embedding, Matching]:
    # Said beforehand, for a run that is killed says nothing more.
    log.info("finished rounds are kept in %s until the run is written; the same command goes on from there", folder)
    found = refine(
        data,
        matching,
        embedding=space,
        rounds=chosen.refine,
        seed=chosen.seed,
        device=chosen.device,
        jobs=chosen.jobs,
        folder=folder,
        diagnosis=diagnosis,
        progress=progress(),
    )
    log.info("%s", found[1].made_by.options["refine"]["sentence"])
    return found


def _propensity(chosen: AlignOptions) -> Propensity:
    names = ("classifier", "folds", "repeats", "calibrate", "epochs", "device", "jobs", "seed")
    return Propensity(**{name: getattr(chosen, name) for name in names}, progress=progress())


def _match(data: Dataset, space: Embedding, chosen: AlignOptions, source: str, target: str) -> Matching:
    sides: dict[str, Any] = {"source": source, "target": target}
    if chosen.method == "uniform":
        return match_uniform(data, **sides)
    if chosen.method == "random":
        return match_random(data, seed=chosen.seed, **sides)
    sides |= {"jobs": chosen.jobs, "progress": progress()}
    if chosen.method == "snn":
        return match_snn(data, space, k=chosen.k, metric=chosen.metric, **sides)
    return match_ot(data, space, **_ot_options(chosen), **sides)


def _ot_options(chosen: AlignOptions) -> dict[str, Any]:
    names = ("eps", "cost", "unbalanced", "max_iter", "max_seconds", "tol", "memory")
    # The classifiers run on an Apple GPU too; the matching needs float64, which there is none of there.
    device = "cpu" if chosen.device == "mps" else chosen.device
    return {name: getattr(chosen, name) for name in names} | {"device": device}
