"""What the propensity score learns of one modality: folds, classifiers, out-of-fold logits, temperature."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from unpaired.data.types import Array, Dataset, Modality
from unpaired.embed.calibration import ClassifierQuality, fit_temperature, quality
from unpaired.embed.classifiers import Blend, Linear, Network, choose_classifier, fit_logistic
from unpaired.embed.embedding import Snapshot, Watch
from unpaired.embed.folds import Split, make_splits
from unpaired.embed.inputs import Inputs, label_codes, new_inputs, read_inputs
from unpaired.errors import OptionError
from unpaired.seeds import named_rng, named_seed

__all__ = ["FitOptions", "ModalityFit", "fit_modality", "network_epochs", "spread_of"]

_SHARED = 2 / 3  # of what answers differ in, error that they share; as matched best where the pairs are known
_VALID = 0.1  # of a model's cells choose its epoch
_VALID_PUBLISHED = 0.2  # the published scheme has one split, and judges the classifier on this part of it


@dataclass(frozen=True)
class FitOptions:
    """Options of :class:`~unpaired.embed.propensity.Propensity`, as they are for one modality."""

    folds: int
    repeats: int
    calibrate: bool
    epochs: int | None
    device: str
    jobs: int
    progress: bool
    seed: int


@dataclass(frozen=True, eq=False)
class ModalityFit:
    """What was learned of one modality.

    Attributes
    ----------
    kind
        The classifier (see :data:`unpaired.embed.classifiers.CLASSIFIERS`).
    models
        The ensemble of ``folds * repeats`` models.
    modality
        The cells it was fitted on: their recipe serves new cells, and they are recognised by what was measured.
    center, scale
        Standardisation of the features.
    logits
        ``(R, n, T)`` out-of-fold logits of the repeats, before temperature, one row a cell fitted on.
    noise
        ``(n,)`` variance of one model's answer for these cells (see :meth:`place`); NaN where there is one answer.
    log_prior
        ``(T,)`` log frequencies of the labels trained on.
    calibrated
        Whether the coordinates are calibrated and centred, or the raw logits.
    quality
        How good the classifier is on cells it did not see.
    trained
        ``(n,)`` whether a cell's score of a repeat is one model's answer; that of cells whose readings have no label
        that was trained on is a mean of several models.
    """

    kind: str
    models: Linear | Network | Blend
    modality: Modality
    center: Array
    scale: float
    logits: Array
    noise: Array
    log_prior: Array
    calibrated: bool
    quality: ClassifierQuality
    trained: Array

    def place(self, modality: Modality) -> tuple[Array, Array, Array]:
        """Return ``(n, T)`` coordinates of a modality's cells, and the ``(n,)`` variance of one model's answer.

        The third is the ``(T, T)`` covariance of the coordinates' error, mean over the labelled cells that tell it.

        Cells learned from get the mean of their out-of-fold scores, one a repeat, and these scores' variance; others,
        and those that were in ``fit`` without a label, the mean of all models, and the variance between these: not that
        of their mean, which would be near zero where the models have most of their cells in common, however wrong they
        are together. NaN where there is one score.

        Raises
        ------
        DataError
            If the cells have other features.
        """
        rows, seen = _recognised(self.modality, modality)
        order = modality.order
        old, new = order[seen[order]], order[~seen[order]]
        scores = self.space(self.logits[:, rows[old]])
        out, noise = np.empty((len(modality), scores.shape[2])), np.empty(len(modality))
        out[old], noise[old] = scores.mean(axis=0), self.noise[rows[old]]
        labelled = modality.labels >= 0
        labelled[old] &= self.trained[rows[old]]
        spread = spread_of(scores[:, labelled[old]])
        if len(new):
            scores = self.space(self.models.logits(new_inputs(self.modality, modality.X, new, self.center, self.scale)))
            out[new], noise[new] = scores.mean(axis=0), _variance(scores)
            spread = spread + spread_of(scores[:, labelled[new]])
        return out, noise, spread / max(1, labelled.sum())

    def space(self, logits: Array) -> Array:
        """Return the coordinates that belong to raw ``(..., T)`` logits."""
        return _placed(logits, self.quality.temperature, self.log_prior) if self.calibrated else logits


def _placed(logits: Array, temperature: float, log_prior: Array) -> Array:
    """Return the calibrated coordinates that belong to raw ``(..., T)`` logits."""
    out = logits / temperature - log_prior
    return np.asarray(out - out.mean(axis=-1, keepdims=True))


def _variance(scores: Array) -> Array:
    """``(n,)`` variance between ``(R, n, T)`` scores of the same cells, mean over dimensions; NaN for one score."""
    if len(scores) < 2:
        return np.full(scores.shape[1], np.nan)
    return np.asarray(scores.var(axis=0, ddof=1).mean(axis=1))


def spread_of(scores: Array) -> Array:
    """``(T, T)`` covariance of the error of the mean of ``(K, n, T)`` scores, sum over cells; NaN for one score.

    Of what K answers differ in, 1 / K is left in their mean. What they share, having learned from the same cells, no
    comparison of them shows; it is taken to be two thirds of what they differ in.
    """
    if len(scores) < 2 and scores.shape[1]:
        return np.full((scores.shape[2],) * 2, np.nan)
    apart = scores - scores.mean(axis=0)
    between = np.asarray(sum(a.T @ a for a in apart)) / max(1, len(scores) - 1)
    return between * (_SHARED + 1 / max(1, len(scores)))


def _recognised(fitted: Modality, modality: Modality) -> tuple[Array, Array]:
    """``(n,)`` row of every cell among those fitted on, told by the readings, and whether it is one of them."""
    by_key = np.argsort(fitted.keys, kind="stable")
    at = np.searchsorted(fitted.keys, modality.keys, sorter=by_key).clip(max=len(by_key) - 1)
    rows = by_key[at]
    return rows, fitted.keys[rows] == modality.keys


@dataclass(frozen=True, eq=False)
class _Work:
    """One modality's cells in canonical order, dealt, and what turns models of them into a fit."""

    modality: Modality
    inputs: Inputs
    center: Array
    scale: float
    y: Array
    splits: list[Split]
    labels: tuple[str, ...]
    kind: str
    options: FitOptions

    def judged(self, logits: Array) -> tuple[Array, Array]:
        """Return the logits that the classifier is judged by, of ``(R, n, T)``, and the codes of their cells."""
        if self.options.folds > 1:
            known = self.y >= 0
            return logits.mean(axis=0)[known], self.y[known]
        # With one fold there is no score out of fold but the first model's on the cells that chose its epoch.
        judge = self.splits[0].judge
        return logits[0][judge], self.y[judge]

    def blend(self, linear: Linear, network: Network) -> Blend:
        """Return the two classifiers together, each at its own temperature."""
        first, second = (fit_temperature(*self.judged(m.held_out(self.inputs, self.splits))) for m in (linear, network))
        return Blend(linear, network, (first, second))

    def finish(self, models: Linear | Network | Blend) -> ModalityFit:
        """Score the cells out of fold, learn the temperature, and see how far the scores of a cell are apart."""
        many, calibrate = self.options.folds > 1, self.options.calibrate
        y, known = self.y, self.y >= 0
        logits = models.held_out(self.inputs, self.splits)
        mean, own = self.judged(logits)
        temperature = fit_temperature(mean, own) if calibrate else 1.0
        counts = np.bincount(y[known], minlength=len(self.labels))
        log_prior = np.log(counts / counts.sum())
        space = partial(_placed, temperature=temperature, log_prior=log_prior) if calibrate else np.asarray
        noise = _variance(space(logits))
        # Such a cell's score of a repeat is the mean of several models, and varies less than one model's answer.
        by_all = np.logical_and.reduce([s.held_out for s in self.splits])
        if many and by_all.any():
            noise[by_all] = _variance(space(models.logits(self.inputs.take(by_all))))
        order, back, spread = self.modality.order, np.empty_like(logits), np.empty_like(noise)
        back[:, order], spread[order] = logits, noise
        # Told by who scored them, not by the label: a cell without one may have the readings of a cell with one.
        trained = np.empty(len(y), dtype=bool)
        trained[order] = ~by_all if many else True
        return ModalityFit(
            kind=self.kind,
            models=models,
            modality=self.modality,
            center=self.center,
            scale=self.scale,
            logits=back,
            noise=spread,
            log_prior=log_prior,
            calibrated=calibrate,
            quality=quality(mean, own, temperature=temperature, classes=self.labels),
            trained=trained,
        )

    def embed(self, models: Network, data: Dataset) -> dict[str, Array]:
        """Return the coordinates that another data set's cells would have if the training ended here."""
        modality = data[self.modality.name]
        if self.options.calibrate or _recognised(self.modality, modality)[1].any():
            return {modality.name: self.finish(models).place(modality)[0]}
        order, out = modality.order, np.empty((len(modality), len(self.labels)))
        out[order] = models.logits(new_inputs(self.modality, modality.X, order, self.center, self.scale)).mean(axis=0)
        return {modality.name: out}

    def show(self, watch: Watch, epoch: int, models: Network) -> None:
        """Let the epoch be seen: it is chosen by the very cross-entropy."""
        loss = models.history[-1]
        watch(Snapshot(epoch, self.modality.name, loss, loss, partial(self.embed, models)))


def fit_modality(
    modality: Modality,
    classes: tuple[str, ...],
    labels: tuple[str, ...],
    *,
    kind: str,
    options: FitOptions,
    watch: Watch | None = None,
) -> ModalityFit:
    """Learn one modality.

    Parameters
    ----------
    modality
        Its cells.
    classes
        Names behind the codes of its labels.
    labels
        Those that are trained on.
    kind
        The classifier, or ``"auto"``.
    options
        Checked options.
    watch
        Called after every epoch of a network.

    Raises
    ------
    OptionError
        If the published scheme is asked for and no label has a cell to spare for judging.
    """
    inputs, center, scale = read_inputs(modality)
    y = label_codes(modality, classes, labels)[modality.order]
    chosen = choose_classifier(inputs.shape, int((y >= 0).sum())) if kind == "auto" else kind
    splits = _deal(modality, y, options)
    if options.folds == 1 and len(splits[0].judge) == 0:
        msg = f"folds=1 judges by a fifth of every label's cells, and {modality.name!r} has too few; use two folds."
        raise OptionError(msg)
    work = _Work(modality, inputs, center, scale, y, splits, labels, chosen, options)
    if chosen not in ("logistic", "blend"):
        return work.finish(_fit_network(work, chosen, watch))
    linear = fit_logistic(inputs.dense(), y, splits, classes=len(labels), jobs=options.jobs)
    return work.finish(linear if chosen == "logistic" else work.blend(linear, _fit_network(work, "mlp", watch)))


def network_epochs(
    modality: Modality, classes: tuple[str, ...], labels: tuple[str, ...], *, kind: str, options: FitOptions
) -> int:
    """Return the epochs that :func:`fit_modality` with the same arguments trains a network of a kind for by default."""
    from unpaired.embed.fit_network import default_epochs

    splits = _deal(modality, label_codes(modality, classes, labels)[modality.order], options)
    return default_epochs(kind, images=modality.X.ndim == 4, cells=min(len(s.train) for s in splits))


def _deal(modality: Modality, y: Array, options: FitOptions) -> list[Split]:
    """Deal the cells, whose codes are ``y`` in canonical order, to the models."""
    return make_splits(
        y,
        folds=options.folds,
        repeats=options.repeats,
        valid=_VALID if options.folds > 1 else _VALID_PUBLISHED,
        rng=named_rng(options.seed, modality.name, "folds"),
        keys=modality.keys[modality.order],
    )


def _fit_network(work: _Work, kind: str, watch: Watch | None) -> Network:
    from unpaired.embed.fit_network import fit_network
    from unpaired.embed.training import resolve_device

    options = work.options
    return fit_network(
        work.inputs,
        work.y,
        work.splits,
        kind=kind,
        classes=len(work.labels),
        epochs=options.epochs,
        device=resolve_device(options.device),
        seed=named_seed(options.seed, work.modality.name, "network"),
        progress=options.progress,
        watch=None if watch is None else partial(work.show, watch),
    )
