"""CLUE from cells to a fitted model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from unpaired._version import __version__
from unpaired.data.types import Array
from unpaired.embed.checkpoint import Checkpoint
from unpaired.embed.clue_inputs import Cells, alone_notes
from unpaired.embed.clue_learning import ClueTask, Schedule, grown, schedule
from unpaired.embed.clue_model import ClueConfig, ClueModality, ClueModel
from unpaired.embed.clue_partners import Soft
from unpaired.embed.clue_reader import Reader
from unpaired.embed.training import train_ensemble
from unpaired.embed.training_settings import TrainingSettings
from unpaired.seeds import named_seed

__all__ = ["Effort", "Fitted", "Result", "extend_clue", "fit_clue", "make_model"]

_TAKEN_UP = "the training was taken up again where it had been interrupted."

_SECOND = Schedule(burn_in=0, epochs=50, patience=8, plateau=3)
_SECOND_RATE = 1e-3


@dataclass(frozen=True)
class Effort:
    """How a model is learned: options of :class:`unpaired.embed.clue.Clue`, with a device that there is."""

    epochs: int | None
    batch: int
    rate: float
    device: str
    progress: bool
    seed: int


@dataclass(frozen=True, eq=False)
class Fitted:
    """What was learned.

    Attributes
    ----------
    readers
        Modality name -> how its readings are taken in.
    model
        The networks, on the device.
    config
        Their settings.
    batches
        Names of the batches, in the model's order.
    seen
        For each modality the names of the batches that it has cells of.
    together
        ``(K, K)`` whether cells observed in both modalities were learned from.
    device
        A resolved device.
    """

    readers: Mapping[str, Reader]
    model: ClueModel
    config: ClueConfig
    batches: tuple[str, ...]
    seen: tuple[tuple[str, ...], ...]
    together: Array
    device: str


@dataclass(frozen=True, eq=False)
class Result:
    """A fitted model, its validation losses, how many of the first could not be chosen, and notes of the training."""

    fitted: Fitted
    history: list[float]
    burn_in: int
    notes: tuple[str, ...] = ()


def fit_clue(
    readers: Mapping[str, Reader],
    cells: Cells,
    config: ClueConfig,
    effort: Effort,
    *,
    soft: Sequence[Soft],
    checkpoint: Path | None,
) -> Result:
    """Learn a model from its first weights on.

    Parameters
    ----------
    readers, cells
        Modalities, and what is learned from.
    config
        Shapes and weights.
    effort
        How long, on what.
    soft
        Matchings from which partners are drawn.
    checkpoint
        A file that keeps the training.
    """
    first = _first(readers, cells, config, (), effort, names=("clue",))
    task = _task(first, cells, effort, soft, names=("clue",))
    planned = schedule(task.steps, effort.rate, effort.epochs)
    task.burn_in = planned.burn_in
    settings = _settings(planned, effort.batch, effort.rate)
    keep = None
    if checkpoint is not None:
        made_of = {"config": asdict(config), "settings": asdict(settings), "seed": int(effort.seed)}
        made_of |= {"cells": task.digest(), "unpaired": __version__}
        made_of |= {"likelihoods": [r.likelihood for r in readers.values()], "batches": list(first.batches)}
        keep = Checkpoint(checkpoint, made_of)
    history = _learn(task, settings, effort, keep, names=("clue",))
    notes: tuple[str, ...] = (_TAKEN_UP,) if keep is not None and keep.found else ()
    together = task.seen_together()
    notes = (*alone_notes(list(readers), together, soft=bool(soft)), *notes)
    return Result(replace(first, together=together), history, planned.burn_in, notes)


def extend_clue(fitted: Fitted, cells: Cells, effort: Effort, *, soft: Sequence[Soft], stage: int) -> Result:
    """Learn on from a fitted model, with more cells and the batches of all; the model that is given stays as it is.

    Parameters
    ----------
    fitted
        What was learned before.
    cells
        Cells of before and new ones.
    effort
        How long at most, on what; its rate is not used.
    soft
        Matchings from which partners are drawn for cells of before.
    stage
        Which stage of learning this is: 2 for the first extension.
    """
    names = ("clue", "stage", str(stage))
    blank = _first(fitted.readers, cells, fitted.config, fitted.batches, effort, names=names)
    grown(fitted.model, fitted.batches, blank.model, blank.batches)
    task = _task(blank, cells, effort, soft, names=names)
    planned = _SECOND._replace(epochs=min(_SECOND.epochs, effort.epochs or _SECOND.epochs))
    history = _learn(task, _settings(planned, effort.batch, _SECOND_RATE), effort, None, names=names)
    seen = tuple(tuple(sorted({*a, *b})) for a, b in zip(fitted.seen, blank.seen, strict=True))
    return Result(replace(blank, seen=seen, together=fitted.together | task.seen_together()), history, planned.burn_in)


def make_model(
    readers: Mapping[str, Reader], config: ClueConfig, *, batches: int, shared: bool, generator: torch.Generator
) -> ClueModel:
    """Return a new net for these readings."""
    modalities = [
        ClueModality(n, inputs=r.inputs_width, features=r.width, likelihood=r.likelihood, sized=r.sized)
        for n, r in readers.items()
    ]
    return ClueModel(modalities, batches=batches, config=config, generator=generator, shared=shared)


def _first(
    readers: Mapping[str, Reader],
    cells: Cells,
    config: ClueConfig,
    known: Sequence[str],
    effort: Effort,
    *,
    names: tuple[str, ...],
) -> Fitted:
    """Return a net that has learned nothing, with the batches that are known and those of the cells."""
    seen = tuple(tuple(np.unique(b).tolist()) for b in cells.batches)
    batches = (*known, *sorted({b for s in seen for b in s} - set(known)))
    generator = torch.Generator().manual_seed(named_seed(effort.seed, *names, "weights"))
    shared = all(set(s) == set(batches) for s in seen)
    model = make_model(readers, config, batches=len(batches), shared=shared, generator=generator).to(effort.device)
    together = np.eye(len(readers), dtype=bool)
    return Fitted(readers, model, config, batches, seen, together, effort.device)


def _task(fitted: Fitted, cells: Cells, effort: Effort, soft: Sequence[Soft], *, names: tuple[str, ...]) -> ClueTask:
    return ClueTask(
        fitted.model,
        cells,
        fitted.batches,
        fitted.config,
        soft=soft,
        batch=effort.batch,
        burn_in=0,
        device=effort.device,
        seed=named_seed(effort.seed, *names),
    )


def _settings(planned: Schedule, batch: int, rate: float) -> TrainingSettings:
    return TrainingSettings(
        epochs=planned.epochs,
        batch=batch,
        rate=float(rate),
        decay=0.0,
        optimizer="rmsprop",
        patience=planned.patience,
        plateau=planned.plateau,
        burn_in=planned.burn_in,
    )


def _learn(
    task: ClueTask, settings: TrainingSettings, effort: Effort, keep: Checkpoint | None, *, names: tuple[str, ...]
) -> list[float]:
    return train_ensemble(
        task,
        settings,
        device=effort.device,
        seed=named_seed(effort.seed, *names),
        progress=effort.progress,
        checkpoint=keep,
    )
