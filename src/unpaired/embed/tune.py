"""Which classifier, and how long it learns: a few settings a modality, judged by out-of-fold cross-entropy alone.

Source: Xi, Osea, Xu, Hartford (NeurIPS 2024), section 6 and Figure 2: the classifiers' validation cross-entropy follows
the quality of the matching along a training, and needs no pairs. Between kinds of classifier it need not follow it:
docs/method.md.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import inf
from time import perf_counter
from typing import Any, Literal

import numpy as np
from scipy.special import log_softmax

from unpaired import options
from unpaired.data.types import Array, Dataset, Modality
from unpaired.embed.classifiers import DEVICES
from unpaired.embed.embedding import Snapshot
from unpaired.embed.inputs import label_codes, trained_labels
from unpaired.embed.modality_fit import FitOptions, ModalityFit, fit_modality, network_epochs
from unpaired.embed.propensity import Propensity

__all__ = ["Trial", "Tuning", "check_tune_options", "tune"]

_log = logging.getLogger(__name__)

_COLUMNS = ("modality", "classifier", "epochs", "cross-entropy", "above best +- SE", "ECE", "accuracy", "seconds")
_LENGTHS = (0.5, 1.0, 2.0)  # of a network's default epochs


@dataclass(frozen=True)
class Trial:
    """One setting of one modality's classifier, and how good it was on cells it did not see.

    What is not known of a setting that was not tried to its end is ``None``.

    Attributes
    ----------
    modality
        Name of the modality.
    classifier
        ``"logistic"``, ``"mlp"``, ``"blend"`` or ``"conv"``.
    epochs
        Epochs of a network; ``None`` for a logistic regression.
    status
        ``"tried"``, ``"stopped"`` (out of time) or ``"not tried"`` (no time was left).
    epochs_done
        Epochs that were gone through.
    cross_entropy
        Mean of -log p(true label) out of fold, in nats, after the temperature.
    above_best
        How far that is above the modality's lowest.
    standard_error
        Standard error of this difference, which is paired: the mean over cells of the differences of their losses.
    calibration_error, accuracy
        As in :class:`~unpaired.embed.calibration.ClassifierQuality`.
    seconds
        What the trial took.
    """

    modality: str
    classifier: str
    epochs: int | None
    status: Literal["tried", "stopped", "not tried"] = "not tried"
    epochs_done: int = 0
    cross_entropy: float | None = None
    above_best: float | None = None
    standard_error: float | None = None
    calibration_error: float | None = None
    accuracy: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Tuning:
    """What was tried, and what it says to take.

    Attributes
    ----------
    choice
        Modality name -> ``{"classifier", "epochs"}``, ``epochs`` being ``None`` for a logistic regression.
    trials
        All settings, modality by modality, cheapest first.
    seconds
        What all trials took.
    notes
        What was left out, as sentences.
    refine
        What became of refining the choice's matching: ``status`` (``"tried"``, ``"not begun"`` where the rule does not
        allow it, ``"not tried"`` or ``"failed"``), ``rounds`` kept, whether it ``pays``, ``sentence``, ``seconds``.
    """

    choice: Mapping[str, Mapping[str, Any]]
    trials: tuple[Trial, ...]
    seconds: float
    notes: tuple[str, ...] = ()
    refine: Mapping[str, Any] | None = None

    @property
    def chosen(self) -> list[Trial]:
        """The trials of the choice, one a modality."""
        fits = (t for t in self.trials if self.choice[t.modality] == {"classifier": t.classifier, "epochs": t.epochs})
        return list({t.modality: t for t in reversed(list(fits))}.values())  # half of one epoch is one, too

    def propensity(self, **options: Any) -> Propensity:
        """Return a :class:`~unpaired.embed.propensity.Propensity` of the choice, not yet fitted.

        Parameters
        ----------
        **options
            Its other options.
        """
        classifier = {n: c["classifier"] for n, c in self.choice.items()}
        return Propensity(classifier=classifier, epochs={n: c["epochs"] for n, c in self.choice.items()}, **options)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it in the types of JSON."""
        return {
            "choice": {n: dict(c) for n, c in self.choice.items()},
            "trials": [asdict(t) for t in self.trials],
            "seconds": self.seconds,
            "notes": list(self.notes),
            "refine": None if self.refine is None else dict(self.refine),
        }

    def __repr__(self) -> str:
        tried = sum(t.status == "tried" for t in self.trials)
        rows = [[*_COLUMNS, ""], *(self._row(t) for t in self.trials)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"Tuning({tried} of {len(self.trials)} settings tried in {self.seconds:.0f} s)"]
        for row in rows:
            left = [v.ljust(w) for v, w in zip(row[:2], widths[:2], strict=True)]
            right = [v.rjust(w) for v, w in zip(row[2:-1], widths[2:-1], strict=True)]
            lines.append("  ".join([*left, *right, row[-1]]).rstrip())
        return "\n".join(lines)

    def _row(self, trial: Trial) -> list[str]:
        """Return the cells of a trial's line in the table."""
        took = "-" if trial.status == "not tried" else f"{trial.seconds:.1f}"
        start = [trial.modality, trial.classifier, "-" if trial.epochs is None else str(trial.epochs)]
        if trial.cross_entropy is None:
            stopped = f"stopped after {trial.epochs_done} of {trial.epochs} epochs, out of time"
            return [*start, "-", "-", "-", "-", took, stopped if trial.status == "stopped" else "not tried, no time"]
        return [
            *start,
            f"{trial.cross_entropy:.4f}",
            f"{trial.above_best:.4f} +- {trial.standard_error:.4f}" if trial.standard_error else "lowest",
            f"{trial.calibration_error:.4f}",
            f"{trial.accuracy:.4f}",
            took,
            "chosen" if trial in self.chosen else "",
        ]


class _OutOfTimeError(Exception):
    """Raised while a network is watched, to stop its training."""


def check_tune_options(*, seconds: float, folds: int, device: str, jobs: int, seed: int) -> None:
    """Raise :class:`~unpaired.errors.OptionError` if :func:`tune` cannot be given these; for before the data are read.

    A device that this machine has not is among what is refused.
    """
    options.check_number("seconds", seconds, above=0)
    options.check_integer("folds", folds, low=2)
    options.check_integer("jobs", jobs, low=1)
    options.check_seed(seed)
    options.check_choice("device", device, DEVICES)
    if device not in {"auto", "cpu"}:
        from unpaired.embed.training import resolve_device

        resolve_device(device)


def tune(
    data: Dataset,
    *,
    seconds: float = 600,
    folds: int = 5,
    device: str = "auto",
    jobs: int = 1,
    progress: bool = False,
    seed: int = 0,
) -> Tuning:
    """Choose every modality's classifier, and a network's epochs, by out-of-fold cross-entropy.

    Tried are, in this order, which is that of their cost: for tables ``logistic``, ``mlp`` with half its default
    epochs and with the default, ``blend``, ``mlp`` with twice the default; for images ``conv`` with half, once and
    twice. All settings of a modality share their folds, so that they are compared cell by cell. Chosen is the lowest
    cross-entropy, unless a cheaper setting's is within one standard error of the paired difference: then the cheapest
    such setting. The cross-entropy says how well labels are told, not how well cells are matched: the choice is one to
    try, see docs/method.md.

    The modalities take turns: each has its cheapest setting tried before any has its second. The first setting of
    every modality is always finished, so that there is a choice. Beyond it, a network that is not done when the time is
    over is stopped after the epoch that it is in.

    Parameters
    ----------
    data
        Two or more modalities with labels. Nothing is known, or used, of who is whose partner.
    seconds
        Time for all trials together. What is tried depends on it, and on the machine; what a trial finds does not.
    folds
        Folds of the cross-fitting, once over.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``, for networks.
    jobs
        Worker processes of the logistic regressions; no cross-entropy depends on it.
    progress
        Show a progress bar while networks are trained.
    seed
        Seed of folds, weights and order: with the same seed, :class:`~unpaired.embed.propensity.Propensity` deals the
        same folds.

    Raises
    ------
    OptionError
        If an option has a value that is not allowed.
    DataError
        If fewer than two labels have two or more cells in every modality.

    Examples
    --------
    >>> import unpaired as up
    >>> from unpaired.embed.tune import tune
    >>> data, truth = up.examples.digits(pairing="hide")
    >>> tuning = tune(data, seconds=60)
    >>> model = tuning.propensity(seed=0).fit(data)
    """
    check_tune_options(seconds=seconds, folds=folds, device=device, jobs=jobs, seed=seed)
    start = perf_counter()
    labels, notes = trained_labels(data, folds=folds)
    shared = FitOptions(
        folds=folds, repeats=1, calibrate=True, epochs=None, device=device, jobs=jobs, progress=progress, seed=seed
    )
    plans = {name: _plan(modality, data.classes, labels, shared) for name, modality in data.modalities.items()}
    found: dict[str, list[tuple[Trial, Array | None]]] = {name: [] for name in plans}
    for turn in range(max(len(plan) for plan in plans.values())):
        for name, plan in plans.items():
            if turn < len(plan):
                end = inf if turn == 0 else start + seconds
                found[name].append(_try(plan[turn], data, labels, shared, end))
    trials, choice = [], {}
    for name, tried in found.items():
        compared, chosen = _compare(tried)
        trials += compared
        choice[name] = {"classifier": chosen.classifier, "epochs": chosen.epochs}
    return Tuning(choice, tuple(trials), round(perf_counter() - start, 3), notes)


def _plan(modality: Modality, classes: tuple[str, ...], labels: tuple[str, ...], shared: FitOptions) -> list[Trial]:
    """Return the settings of a modality, cheapest first."""
    images = modality.X.ndim == 4
    kind = "conv" if images else "mlp"
    usual = network_epochs(modality, classes, labels, kind=kind, options=shared)
    half, whole, twice = (Trial(modality.name, kind, max(1, round(part * usual))) for part in _LENGTHS)
    if images:
        return [half, whole, twice]
    return [Trial(modality.name, "logistic", None), half, whole, replace(whole, classifier="blend"), twice]


def _try(
    trial: Trial, data: Dataset, labels: tuple[str, ...], shared: FitOptions, end: float
) -> tuple[Trial, Array | None]:
    """Return the trial as it went, and the losses of the cells, ``None`` if it was not done at time ``end``."""
    begin, done = perf_counter(), 0

    def watch(snapshot: Snapshot) -> None:
        nonlocal done
        done = snapshot.epoch + 1
        # After the last epoch there is no time to be saved.
        if done < (trial.epochs or 0) and perf_counter() >= end:
            raise _OutOfTimeError

    if begin >= end:
        return trial, None
    modality, chosen = data[trial.modality], replace(shared, epochs=trial.epochs)
    try:
        fit = fit_modality(modality, data.classes, labels, kind=trial.classifier, options=chosen, watch=watch)
    except _OutOfTimeError:
        _log.info("%s: out of time after %d epochs", _words(trial), done)
        return replace(trial, status="stopped", epochs_done=done, seconds=_since(begin)), None
    losses = _losses(fit, label_codes(modality, data.classes, labels))
    trial = replace(
        trial,
        status="tried",
        epochs_done=done,
        cross_entropy=float(losses.mean()),
        calibration_error=fit.quality.calibration_error,
        accuracy=fit.quality.accuracy,
        seconds=_since(begin),
    )
    _log.info("%s: cross-entropy %.4f, %.1f s", _words(trial), trial.cross_entropy, trial.seconds)
    return trial, losses


def _words(trial: Trial) -> str:
    return f"{trial.modality}: {trial.classifier}" + ("" if trial.epochs is None else f", {trial.epochs} epochs")


def _since(begin: float) -> float:
    return round(perf_counter() - begin, 3)


def _losses(fit: ModalityFit, y: Array) -> Array:
    """``(m,)`` -log p(true label) of the labelled cells out of fold, in canonical order: the sum's last bit counts."""
    order = fit.modality.order
    order = order[y[order] >= 0]
    logp = log_softmax(fit.logits.mean(axis=0)[order] / fit.quality.temperature, axis=1)
    return np.asarray(-logp[np.arange(len(order)), y[order]])


def _compare(tried: list[tuple[Trial, Array | None]]) -> tuple[list[Trial], Trial]:
    """Return a modality's trials with their differences to the best of them, and the one to take."""
    known = [losses for _, losses in tried if losses is not None]
    best = min(known, key=lambda losses: float(losses.mean()))  # of equals the first, which is the cheapest
    trials = []
    for trial, losses in tried:
        if losses is None:
            trials.append(trial)
            continue
        above = losses - best
        error = float(above.std(ddof=1) / np.sqrt(len(above)))
        trials.append(replace(trial, above_best=float(above.mean()), standard_error=error))
    done = [t for t in trials if t.status == "tried"]
    return trials, next(t for t in done if _no_worse(t))


def _no_worse(trial: Trial) -> bool:
    return (trial.above_best or 0.0) <= (trial.standard_error or 0.0)
