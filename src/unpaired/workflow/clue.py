"""Files to one space of partly paired cells: read, hold out, learn, judge, impute, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unpaired import options
from unpaired.data.build import build_dataset
from unpaired.data.load import load_tables, split_name
from unpaired.data.pair_table import read_pairs
from unpaired.data.split import HeldOut, hold_out_pairs
from unpaired.data.types import Dataset
from unpaired.embed.clue import Clue
from unpaired.errors import OptionError
from unpaired.match.matching import Matching
from unpaired.report.page import write_report
from unpaired.run.clue import ClueFound, fill_clue_run, read_clue_record
from unpaired.run.folder import check_target, new_folder
from unpaired.workflow.clue_parts import Imputer, judge_imputation, judge_latent, soft_pairs, write_all_imputed
from unpaired.workflow.reading import describe
from unpaired.workflow.steps import beside, log, progress, step

__all__ = ["ClueOptions", "ClueResult", "clue"]

_TEST_FRACTION = 0.1
_KEPT = "clue"  # ending of the folder where the training waits
_FEW = 50  # cells that were held out, below which their scores are a guess


@dataclass(frozen=True)
class ClueOptions:
    """Everything that ``unpaired clue`` can be told (see ``unpaired clue --help``).

    Attributes
    ----------
    pairs
        Which cells are known to be one: ``"shared"``, those of the same name in several modalities; a CSV file with a
        column for each modality and a row for each cell; or ``"none"``.
    label, batch, layer, recipes, missing
        How the data are read; see :func:`unpaired.read`. Without a label all cells have one.
    preset, likelihoods, epochs
        See :class:`unpaired.Clue`.
    soft_pairs
        Draw partners for cells known in one modality from a matching by the labels, while learning.
    test_fraction
        Of the cells measured in several modalities, so many are kept out of everything that learns, to judge by;
        ``None``: 0.1 where pairs are known.
    impute
        Of which cells imputed readings are written: ``"missing"``, those that lack the modality; ``"all"``; ``"none"``.
    device, seed
        Where it runs, and the seed of everything that is drawn.
    """

    pairs: str
    label: str | None = None
    batch: str | None = None
    layer: str | None = None
    recipes: Mapping[str, str] = field(default_factory=dict)
    missing: Literal["median", "error"] = "median"
    preset: str = "default"
    likelihoods: Mapping[str, str] = field(default_factory=dict)
    soft_pairs: bool = False
    test_fraction: float | None = None
    impute: str = "missing"
    epochs: int | None = None
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True, eq=False)
class ClueResult:
    """What a run found.

    Attributes
    ----------
    path
        The run directory.
    record
        The contents of its ``run.json``.
    scores
        ``latent`` and ``imputation``, as in its ``scores.json``; ``None`` where no cell was held out.
    """

    path: Path
    record: Mapping[str, Any]
    scores: Mapping[str, list[dict[str, Any]]] | None


def clue(files: list[str], out: str | Path, chosen: ClueOptions, *, force: bool = False) -> ClueResult:
    """Learn one space for cells of which some are measured in several modalities, and write a run with its report.

    Training that was killed is taken up where it was.

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
    out = Path(out)
    check_target(out, force=force)
    kept = beside(out, _KEPT)
    model = _checked(chosen)
    clock: dict[str, float] = {}
    with step(clock, "reading"):
        data = _read(files, chosen)
    learned, held = _keep_out(data, chosen)
    describe(learned)
    matchings, told = (
        soft_pairs(learned, clock, device=chosen.device, seed=chosen.seed) if chosen.soft_pairs else ([], [])
    )
    _train(model, learned, matchings, kept, clock)
    found = _judged(data, learned, held, model, told, clock)
    for note in found.notes:
        (log.warning if note.startswith("warning:") else log.info)("%s", note)
    inputs = [split_name(f)[1] for f in files]
    inputs += [] if chosen.pairs in {"shared", "none"} else [Path(chosen.pairs)]
    _write(out, found, chosen, inputs, clock, force=force)
    _forget(kept)
    scores = {"latent": [s.to_dict() for s in found.latent], "imputation": [s.to_dict() for s in found.imputation]}
    return ClueResult(out, read_clue_record(out), scores if any(scores.values()) else None)


def _checked(chosen: ClueOptions) -> Clue:
    """Return the model to learn, once it is sure that the options are allowed and its device is there."""
    from unpaired.embed.training import resolve_device

    model = Clue(
        chosen.preset,
        likelihoods=chosen.likelihoods,
        epochs=chosen.epochs,
        device=chosen.device,
        progress=progress(),
        seed=chosen.seed,
    )
    model.check_options()
    resolve_device(chosen.device)
    options.check_choice("impute", chosen.impute, ("missing", "all", "none"))
    if chosen.pairs not in {"shared", "none"} and not Path(chosen.pairs).is_file():
        msg = f"pairs must be shared, none or a CSV file of pairs; there is no file {chosen.pairs!r}."
        raise OptionError(msg)
    if chosen.soft_pairs and chosen.label is None:
        msg = "soft_pairs matches cells by their labels; name the column with label, or leave it out."
        raise OptionError(msg)
    fraction = chosen.test_fraction
    if fraction is not None:
        options.check_number("test_fraction", fraction)
        if not 0 <= fraction < 1:
            msg = f"test_fraction must be a number from 0 to below 1; got {fraction!r}."
            raise OptionError(msg)
        if fraction and chosen.pairs == "none":
            msg = "test_fraction holds out cells whose pairs are known; with pairs 'none' there are none: leave it out."
            raise OptionError(msg)
    return model


def _read(files: list[str], chosen: ClueOptions) -> Dataset:
    """Read the files, and which cells are one, and check that the model can take them."""
    from unpaired.embed.clue_reader import check_table

    tables = load_tables(files, layer=chosen.layer, label=chosen.label, batch=chosen.batch)
    data, _ = build_dataset(
        tables,
        label=chosen.label,
        batch=chosen.batch,
        pairing="use" if chosen.pairs == "shared" else "none",
        recipes=chosen.recipes,
        missing=chosen.missing,
        matched=chosen.soft_pairs,
        seed=chosen.seed,
    )
    for name in chosen.likelihoods:
        options.check_choice("modality of likelihood", name, tuple(data))
    for modality in data.modalities.values():
        check_table(modality)
    if chosen.pairs in {"shared", "none"}:
        return data
    return replace(data, pairs=read_pairs(chosen.pairs, data))


def _keep_out(data: Dataset, chosen: ClueOptions) -> tuple[Dataset, HeldOut | None]:
    """Return what there is to learn from, and what was kept out of it: ``None`` if that is no cell."""
    fraction = _TEST_FRACTION if chosen.test_fraction is None else chosen.test_fraction
    if data.pairs is None or not fraction:
        return data, None
    learned, held = hold_out_pairs(data, fraction=fraction, seed=chosen.seed)
    return learned, held if any(len(m) for m in held.data.modalities.values()) else None


def _train(model: Clue, learned: Dataset, matchings: list[Matching], kept: Path, clock: dict[str, float]) -> None:
    """Learn, with the training kept in a folder until the run is written."""
    ours = not kept.exists()
    kept.mkdir(exist_ok=True)
    # Said beforehand, for a run that is killed says nothing more.
    log.info("the training is kept in %s until the run is written; the same command goes on from there", kept)
    try:
        with step(clock, "training"):
            model.fit(learned, matching=matchings or None, checkpoint=_checkpoint(kept))
    finally:
        if ours:
            with suppress(OSError):  # it holds the training
                kept.rmdir()


def _checkpoint(kept: Path) -> Path:
    return kept / "clue-training.safetensors"


def _forget(kept: Path) -> None:
    """Take away the training, and its folder if that was all that was in it: it may be the user's."""
    from unpaired.embed.checkpoint import remove_checkpoint

    remove_checkpoint(_checkpoint(kept))
    with suppress(OSError):
        kept.rmdir()


def _judged(
    data: Dataset,
    learned: Dataset,
    held: HeldOut | None,
    model: Clue,
    told: Sequence[Mapping[str, Any]],
    clock: dict[str, float],
) -> ClueFound:
    """Place all cells, and judge the space and what is imputed by those that were held out."""
    with step(clock, "placing"):
        alone = model.transform(replace(data, pairs=None))
        together = None if data.pairs is None else model.transform(data)
    latent, imputation = [], []
    if held is not None:
        with step(clock, "scoring"):
            places = {n: alone[n][np.isin(data[n].ids, m.ids)] for n, m in held.data.modalities.items()}
            latent = judge_latent(held, places)
            imputation = judge_imputation(held, Imputer(model, learned))
    notes = _notes(data, learned, held, model, told)
    return ClueFound(data, learned, held, model, alone, together, told, latent, imputation, notes)


def _notes(
    data: Dataset, learned: Dataset, held: HeldOut | None, model: Clue, told: Sequence[Mapping[str, Any]]
) -> list[str]:
    from unpaired.embed.clue_inputs import is_alone

    notes = [*data.notes, *(f"warning: {n}" if is_alone(n) else n for n in model.notes_)]
    if data.pairs is None:
        notes.append("no pair is known, so nothing can be judged by cells that were kept out.")
    elif held is None:
        notes.append("no cell was kept out, so nothing is known of how good this is on cells that it has not seen.")
    elif (few := max(len(m) for m in held.data.modalities.values())) < 2:
        notes.append("1 cell was kept out, and two are needed to judge: raise --test-fraction.")
    elif few < _FEW:
        notes.append(f"warning: the scores rest on {few} cells that were kept out; with so few they are a guess.")
    for one in told:
        sides = f"the soft pairs of {one['source']} and {one['target']}"
        notes += [f"warning: {sides}: {one['sentence']}"] if one["verdict"] == "do not use" else []
        notes += [f"{sides}: {n}" for n in one["notes"]]
    return notes


def _write(
    out: Path,
    found: ClueFound,
    chosen: ClueOptions,
    inputs: list[Path],
    clock: dict[str, float],
    *,
    force: bool,
) -> None:
    """Impute and write the run and its report."""
    with step(clock, "writing"), new_folder(out, force=force) as work:
        imputer = Imputer(found.model, found.learned)
        imputed, notes = write_all_imputed(work, found.data, imputer, which=chosen.impute)
        for note in notes:
            log.warning("%s", note)
        found = replace(found, notes=(*found.notes, *(f"warning: {n}" for n in notes)))
        fill_clue_run(
            work, found, imputed=imputed, options=asdict(chosen), inputs=inputs, timings=clock, seed=chosen.seed
        )
        write_report(work)
