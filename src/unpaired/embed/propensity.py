"""The propensity score: one cross-fitted classifier per modality puts all cells into the space of the labels' logits.

Source: Xi, Osea, Xu, Hartford (NeurIPS 2024), sections 3 and 4, eq. 5 and Proposition 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from unpaired import options
from unpaired.data.types import UNKNOWN, Array, Dataset, Modality
from unpaired.embed.calibration import ClassifierQuality, fit_temperature, quality
from unpaired.embed.classifiers import (
    CLASSIFIERS,
    DEVICES,
    Linear,
    Network,
    choose_classifier,
    fit_logistic,
    fit_network,
    out_of_fold,
)
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.embed.folds import make_splits
from unpaired.embed.inputs import standardise, trained_labels
from unpaired.errors import NotFittedError, OptionError
from unpaired.seeds import named_rng, named_seed

__all__ = ["ModalityFit", "Propensity"]

_VALID = 0.1  # of a model's cells choose its epoch
_VALID_PUBLISHED = 0.2  # the published scheme has one split, and judges the classifier on this part of it


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
    log_prior
        ``(T,)`` log frequencies of the labels trained on.
    calibrated
        Whether the coordinates are calibrated and centred, or the raw logits.
    quality
        How good the classifier is on cells it did not see.
    """

    kind: str
    models: Linear | Network
    modality: Modality
    center: Array
    scale: float
    logits: Array
    log_prior: Array
    calibrated: bool
    quality: ClassifierQuality


class Propensity:
    """Estimate p(label | readings) for every modality, cross-fitted, and use its logits as the shared space.

    Every cell gets logits only from models that did not see it (``folds`` x ``repeats`` models); new cells get the
    average of all models. The coordinates are the centred log-likelihood ratios of the labels, eq. 4 of the paper:
    logits divided by the temperature, less the log frequencies of the labels in the modality (so that modalities with
    different label compositions agree), less their mean over labels.

    Parameters
    ----------
    classifier
        ``"auto"``, one of ``"logistic"``, ``"mlp"``, ``"conv"``, ``"published"``, or modality name -> one of these.
    folds, repeats
        Cross-fitting. ``folds=1`` is the published scheme: one split, every cell scored by the same model, whether
        it was trained on or not.
    calibrate
        Divide each modality's logits by a temperature learned from its out-of-fold logits, take out the labels'
        frequencies and centre. ``False`` leaves the classifier's logits as they are, as published.
    epochs
        Most epochs of a network; ``None`` takes the classifier's default.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``, for networks.
    jobs
        Worker processes of the logistic regressions; the result does not depend on it.
    progress
        Show a progress bar while networks are trained.
    seed
        Seed of folds, weights and order.

    Attributes
    ----------
    classes_
        Names of the labels trained on: those with two or more cells in every modality.
    fits_
        Modality name -> :class:`ModalityFit`.
    validation_
        Modality name -> :class:`~unpaired.embed.calibration.ClassifierQuality`.
    noise_
        Modality name -> ``(n,)`` variance of the calibrated logits between repeats; ``None`` with one repeat.
    notes_
        What was left out or chosen, as sentences.

    Examples
    --------
    >>> import unpaired as up
    >>> data, truth = up.examples.digits(pairing="hide")
    >>> space = up.Propensity(seed=0).fit(data).transform(data)
    >>> space["left"].shape
    (1797, 10)
    """

    classes_: tuple[str, ...]
    fits_: dict[str, ModalityFit]
    notes_: tuple[str, ...]

    def __init__(
        self,
        *,
        classifier: str | Mapping[str, str] = "auto",
        folds: int = 5,
        repeats: int = 3,
        calibrate: bool = True,
        epochs: int | None = None,
        device: str = "auto",
        jobs: int = 1,
        progress: bool = False,
        seed: int = 0,
    ) -> None:
        self.classifier = classifier
        self.folds = folds
        self.repeats = repeats
        self.calibrate = calibrate
        self.epochs = epochs
        self.device = device
        self.jobs = jobs
        self.progress = progress
        self.seed = seed

    @classmethod
    def published(cls, *, epochs: int | None = None, device: str = "auto", seed: int = 0) -> Propensity:
        """Return the recipe of the paper: one model on one split, a wide network, raw logits.

        Use it with ``match_ot(cost="euclidean", eps=0.05)``.
        """
        return cls(classifier="published", folds=1, repeats=1, calibrate=False, epochs=epochs, device=device, seed=seed)

    def fit(self, data: Dataset) -> Self:
        """Fit the classifiers.

        Parameters
        ----------
        data
            Two or more modalities with labels. Cells without a label are not trained on.

        Raises
        ------
        OptionError
            If an option has a value that is not allowed.
        DataError
            If fewer than two labels have two or more cells in every modality.
        """
        self.check_options()
        kinds = self._kinds(data)
        self.classes_, self.notes_ = trained_labels(data, folds=self.folds)
        self.fits_ = {n: self._fit_one(m, data.classes, kinds.get(n, "auto")) for n, m in data.modalities.items()}
        return self

    def transform(self, data: Dataset) -> Embedding:
        """Return the space for cells seen in ``fit`` (out of fold) and for new ones (average of all models).

        Cells are recognised by their readings.

        Parameters
        ----------
        data
            A data set whose modalities were all in ``fit``, with the same features.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        OptionError
            If a modality was not in ``fit``.
        """
        self._check_fitted()
        arrays, noise = {}, {}
        for name, modality in data.modalities.items():
            options.check_choice("modality", name, tuple(self.fits_))
            repeats = self._space(self.fits_[name], self._scores(self.fits_[name], modality))
            arrays[name] = repeats.mean(axis=0)
            if len(repeats) > 1:
                noise[name] = repeats.var(axis=0, ddof=1).mean(axis=1)
        made_by = Provenance("Propensity", self.used(), self.notes_)
        return Embedding(arrays, "logit", noise or None, self.classes_, made_by)

    @property
    def validation_(self) -> dict[str, ClassifierQuality]:
        """Quality of each modality's classifier on cells it did not see."""
        self._check_fitted()
        return {n: f.quality for n, f in self.fits_.items()}

    @property
    def noise_(self) -> dict[str, Array] | None:
        """``(n,)`` variance of each fitted cell's calibrated logits between repeats; ``None`` with one repeat."""
        self._check_fitted()
        if any(len(f.logits) == 1 for f in self.fits_.values()):
            return None
        return {n: self._space(f, f.logits).var(axis=0, ddof=1).mean(axis=1) for n, f in self.fits_.items()}

    def used(self) -> dict[str, Any]:
        """Return the options as they were used, with the classifier that ``"auto"`` chose."""
        self._check_fitted()
        return {
            "classifier": {n: f.kind for n, f in self.fits_.items()},
            "folds": self.folds,
            "repeats": self.repeats,
            "calibrate": self.calibrate,
            "epochs": self.epochs,
            "device": {n: f.models.device for n, f in self.fits_.items() if isinstance(f.models, Network)},
            "seed": self.seed,
        }

    def check_options(self) -> None:
        """Raise :class:`~unpaired.errors.OptionError` if an option has a value that is never allowed.

        ``fit`` does so too; this is for those who want to know before they read the data.
        """
        options.check_integer("folds", self.folds, low=1)
        options.check_integer("repeats", self.repeats, low=1)
        options.check_integer("jobs", self.jobs, low=1)
        options.check_seed(self.seed)
        options.check_choice("device", self.device, DEVICES)
        if self.epochs is not None:
            options.check_integer("epochs", self.epochs, low=1)
        chosen = self.classifier
        for kind in chosen.values() if isinstance(chosen, Mapping) else [chosen]:
            options.check_choice("classifier", kind, (*CLASSIFIERS, "auto"))

    def _kinds(self, data: Dataset) -> dict[str, str]:
        chosen = self.classifier
        kinds = dict(chosen) if isinstance(chosen, Mapping) else dict.fromkeys(data, chosen)
        for name, kind in kinds.items():
            images = data[name].X.ndim == 4
            if (kind == "conv" and not images) or (kind == "mlp" and images):
                msg = f"classifier {kind!r} does not fit modality {name!r}: conv is for images, mlp for tables."
                raise OptionError(msg)
        return kinds

    def _check_fitted(self) -> None:
        if not hasattr(self, "fits_"):
            msg = "call fit before asking for what is learned."
            raise NotFittedError(msg)

    def _fit_one(self, modality: Modality, classes: tuple[str, ...], kind: str) -> ModalityFit:
        order = modality.order
        x, y = modality.features[order], self._codes(modality, classes)[order]
        center, scale = standardise(x)
        x = (x - center) / scale
        known = y >= 0
        chosen = choose_classifier(x.shape, int(known.sum())) if kind == "auto" else kind
        splits = make_splits(
            y,
            folds=self.folds,
            repeats=self.repeats,
            valid=_VALID if self.folds > 1 else _VALID_PUBLISHED,
            rng=named_rng(self.seed, modality.name, "folds"),
            keys=modality.keys[order],
        )
        if self.folds == 1 and len(splits[0].judge) == 0:
            msg = f"folds=1 judges by a fifth of every label's cells, and {modality.name!r} has too few; use two folds."
            raise OptionError(msg)
        n_classes = len(self.classes_)
        models: Linear | Network
        if chosen == "logistic":
            models = fit_logistic(x, y, splits, classes=n_classes, jobs=self.jobs)
        else:
            models = self._fit_network(x, y, splits, chosen, modality.name)
        logits = out_of_fold(models.logits(x), splits)
        # With one fold there is no score out of fold but the first model's on the cells that chose its epoch.
        judged = known if self.folds > 1 else splits[0].judge
        mean = logits.mean(axis=0)[judged] if self.folds > 1 else logits[0][judged]
        temperature = fit_temperature(mean, y[judged]) if self.calibrate else 1.0
        back = np.empty_like(logits)
        back[:, order] = logits
        counts = np.bincount(y[known], minlength=n_classes)
        return ModalityFit(
            kind=chosen,
            models=models,
            modality=modality,
            center=center,
            scale=scale,
            logits=back,
            log_prior=np.log(counts / counts.sum()),
            calibrated=self.calibrate,
            quality=quality(mean, y[judged], temperature=temperature, classes=self.classes_),
        )

    def _fit_network(self, x: Array, y: Array, splits: Any, kind: str, name: str) -> Network:
        from unpaired.embed.training import resolve_device

        return fit_network(
            x,
            y,
            splits,
            kind=kind,
            classes=len(self.classes_),
            epochs=self.epochs,
            device=resolve_device(self.device),
            seed=named_seed(self.seed, name, "network"),
            progress=self.progress,
        )

    def _codes(self, modality: Modality, classes: tuple[str, ...]) -> Array:
        """Codes into ``classes_``; -1 for cells without a label or with one that is not trained on."""
        table = np.full(len(classes) + 1, UNKNOWN)  # the last entry serves label code -1
        for new, name in enumerate(self.classes_):
            table[classes.index(name)] = new
        return table[modality.labels]

    def _scores(self, fit: ModalityFit, modality: Modality) -> Array:
        """``(R, n, T)`` raw logits: out of fold for cells seen in fit, repeats' averages of the models for others."""
        known_keys = fit.modality.keys
        by_key = np.argsort(known_keys, kind="stable")
        at = np.searchsorted(known_keys, modality.keys, sorter=by_key).clip(max=len(by_key) - 1)
        rows = by_key[at]
        seen = known_keys[rows] == modality.keys
        scores: Array = fit.logits[:, rows]
        if not seen.all():
            new = fit.models.logits((fit.modality.transform(modality.X[~seen]) - fit.center) / fit.scale)
            scores[:, ~seen] = new.reshape(len(scores), -1, *new.shape[1:]).mean(axis=1)
        return scores

    def _space(self, fit: ModalityFit, scores: Array) -> Array:
        if not fit.calibrated:
            return scores
        space = scores / fit.quality.temperature - fit.log_prior
        return np.asarray(space - space.mean(axis=-1, keepdims=True))
