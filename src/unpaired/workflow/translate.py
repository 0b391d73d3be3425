"""A run to a translation: learn from its matching, predict all of its cells, score, write; and predict new cells."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from unpaired.data.split import PARTS
from unpaired.data.types import Dataset, Truth
from unpaired.errors import OptionError, OutputError
from unpaired.evaluate.translation import TranslationScores, score_translation
from unpaired.match.imported import read_matching
from unpaired.match.matching import Matching
from unpaired.report.page import write_report
from unpaired.run.folder import check_file
from unpaired.run.read import Run, read_record, read_run
from unpaired.run.translation import (
    check_translation,
    read_translation,
    translation_path,
    write_predictions,
    write_translation,
)
from unpaired.translate.prediction import Prediction
from unpaired.translate.translator import Translator
from unpaired.workflow.cells import NewCells, read_cells
from unpaired.workflow.steps import log, progress, step

__all__ = ["TranslateOptions", "TranslateResult", "translate"]

_MODEL = ("loss", "space", "head", "network", "members", "epochs", "device", "seed")
_LEARNED = ("loss", "space", "head", "network", "members", "epochs", "matching", "seed")


@dataclass(frozen=True)
class TranslateOptions:
    """Everything that ``unpaired translate`` can be told; what is ``None`` is as the model has it by default.

    Attributes
    ----------
    source, target
        Modalities to predict from, and to predict; those of the run's matching by default.
    loss, space, head, network, members, epochs, device, seed
        See :class:`unpaired.Translator`.
    matching
        File of a coupling to learn from in place of the run's; see :func:`unpaired.match.imported.read_matching`.
    """

    source: str | None = None
    target: str | None = None
    loss: str | None = None
    space: str | None = None
    head: str | None = None
    network: str | None = None
    members: int | None = None
    epochs: int | None = None
    matching: Path | None = None
    device: str | None = None
    seed: int | None = None

    def given(self) -> dict[str, Any]:
        """Return the options that are not ``None``."""
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}


@dataclass(frozen=True, eq=False)
class TranslateResult:
    """What a translation found.

    Attributes
    ----------
    path
        Its folder in the run directory.
    record
        The contents of its ``translation.json``.
    trained
        Whether a model was trained; else one that was there has served.
    cells
        The file with the predictions of new cells, or ``None``.
    """

    path: Path
    record: Mapping[str, Any]
    trained: bool
    cells: Path | None


def translate(
    run: str | Path,
    chosen: TranslateOptions,
    *,
    cells: str | Path | None = None,
    out: str | Path | None = None,
    force: bool = False,
) -> TranslateResult:
    """Learn to predict one modality from another by a run's matching, score it, and write it into the run.

    Training that was killed is taken up where it was.

    Parameters
    ----------
    run
        The run directory.
    chosen
        The options.
    cells
        File of new cells of the source modality, to predict them too. A model of this direction that is there serves
        as it is; without one, one is trained first.
    out
        The file of their predictions; by default in the translation's folder, called after ``cells``.
    force
        Replace a translation of this direction; or, if its model serves, only the file of predictions.

    Raises
    ------
    OutputError
        If there is a translation of this direction already, or the results cannot be written; raised before any work.
    OptionError
        If an option is not allowed, or is one of a model that is there.
    DataError
        If the run, the matching or the new cells cannot be used.
    """
    run = Path(run)
    if cells is None and out is not None:
        msg = "out is the file for the predictions of new cells; give them with --cells FILE, or leave it out."
        raise OptionError(msg)
    model = _model(chosen)
    source, target = _direction(read_record(run), chosen)
    folder = translation_path(run, source, target)
    serves = cells is not None and folder.exists()  # the model that is there; else one is trained
    if serves:
        _refuse_learned(folder, chosen)
    else:
        check_translation(run, source, target, force=force)
    file = _check_cells(folder, cells, out, force=force)
    clock: dict[str, float] = {}
    with step(clock, "reading"):
        found = read_run(run)
        new = None if cells is None else _read_cells(cells, found, source)
        record = read_translation(folder) if serves else None
        matching = None if serves else _matching(found, chosen, source, target)
    if matching is not None:
        _train(found, model, matching, folder, chosen, clock, force=force)
    if new is not None and file is not None:
        with step(clock, "predicting the new cells"):
            model = Translator.load(folder, device=model.device)
            write_predictions(file, model.predict(new.modality), new.modality, new.classes, force=force)
    return TranslateResult(folder, record or read_translation(folder), not serves, file)


def _model(chosen: TranslateOptions) -> Translator:
    """Return the model to train, once it is sure that its options are allowed and its device is there."""
    model = Translator(**{k: v for k, v in chosen.given().items() if k in _MODEL}, progress=progress())
    model.check_options()
    if chosen.device not in {None, "auto", "cpu"}:
        from unpaired.embed.training import resolve_device

        resolve_device(model.device)
    return model


def _direction(record: Mapping[str, Any], chosen: TranslateOptions) -> tuple[str, str]:
    """Return the names of source and target: a direction of the run's matching, or of one that is imported."""
    own = (record["matching"]["source"], record["matching"]["target"])
    for option, name in (("from", chosen.source), ("to", chosen.target)):
        if name is not None and name not in record["modalities"]:
            msg = f"{option} must be a modality of the run ({', '.join(record['modalities'])}); got {name!r}."
            raise OptionError(msg)
    source, target = chosen.source, chosen.target
    if source is None:
        source = own[0] if target != own[0] else own[1]
    if target is None:
        target = own[1] if source != own[1] else own[0]
    if source == target:
        msg = f"from and to must differ; both are {source!r}."
        raise OptionError(msg)
    if {source, target} != set(own) and chosen.matching is None:
        msg = f"the run matched {own[0]!r} with {own[1]!r}; to go from {source!r} to {target!r}, give --matching FILE."
        raise OptionError(msg)
    return source, target


def _refuse_learned(folder: Path, chosen: TranslateOptions) -> None:
    """Raise if an option was given that a model that is there would ignore in silence."""
    given = [name for name in _LEARNED if name in chosen.given()]
    if given:
        msg = (
            f"{given[0]} is an option of the training, and {folder} has a model already; leave it out, or first train "
        )
        msg += "again with --force and without --cells."
        raise OptionError(msg)


def _check_cells(folder: Path, cells: str | Path | None, out: str | Path | None, *, force: bool) -> Path | None:
    """Return the file for the predictions of new cells, once it is sure that it can be written."""
    if cells is None:
        return None
    file = folder / f"{Path(cells).stem}.h5ad" if out is None else Path(out)
    if file.resolve() == (folder / "predicted.h5ad").resolve():
        msg = f"{file} is the translation's own; name another file with --out."
        raise OutputError(msg)
    if out is not None or folder.exists():  # a folder that will be made has nothing in it
        check_file(file, force=force)
    return file


def _read_cells(cells: str | Path, run: Run, source: str) -> NewCells:
    new = read_cells(cells, run.data[source], run.record["options"])
    for note in new.notes:
        log.warning("%s", note)
    return new


def _matching(run: Run, chosen: TranslateOptions, source: str, target: str) -> Matching:
    if chosen.matching is None:
        return run.matching
    matching = read_matching(chosen.matching, run.data, source=source, target=target)
    for note in matching.made_by.notes:
        log.warning("%s", note)
    return matching


def _train(
    run: Run,
    model: Translator,
    matching: Matching,
    folder: Path,
    chosen: TranslateOptions,
    clock: dict[str, float],
    *,
    force: bool,
) -> None:
    """Train, predict and score every part of the run's cells, and write the translation and the report."""
    from unpaired.embed.checkpoint import remove_checkpoint

    source, target = _direction(run.record, chosen)
    checkpoint = folder.with_name(f".{folder.name}.checkpoint")
    folder.parent.mkdir(exist_ok=True)
    try:
        with step(clock, "training"):
            model.fit(run.data, matching, source=source, target=target, checkpoint=checkpoint)
        for note in model.notes_:
            log.info("%s", note)
        with step(clock, "predicting"):
            parts = _parts(run, source)
            predicted = {name: (data, model.predict(data[source])) for name, (data, _) in parts.items()}
        with step(clock, "scoring"):
            seed = chosen.seed or 0
            scores = {name: _score(predicted[name][1], *parts[name], run.data, seed) for name in parts}
        with step(clock, "writing"):
            write_translation(
                run.path,
                model,
                predicted,
                scores=scores,
                matching=matching.made_by,
                asked=chosen.given(),
                seconds=clock["training"],
                force=force,
            )
            remove_checkpoint(checkpoint)  # not before: all that came after the training may fail
            write_report(run.path)
    finally:
        with suppress(OSError):  # it holds the translation, or the checkpoint of one
            folder.parent.rmdir()


def _parts(run: Run, source: str) -> dict[str, tuple[Dataset, Truth | None]]:
    """Return the cells that were learned from, and the parts of those that were held out, with what is true of them."""
    parts: dict[str, tuple[Dataset, Truth | None]] = {"train": (run.data, run.truth)}
    if run.held_out is not None:
        parts |= {p: run.held_out.take(p) for p in PARTS if (run.held_out.part[source] == p).any()}
    return parts


def _score(prediction: Prediction, data: Dataset, truth: Truth | None, train: Dataset, seed: int) -> TranslationScores:
    # What one knows without a cell's label are the cells that there were to learn from, whatever part it is of.
    return score_translation(prediction, data, truth, reference=train, seed=seed)
