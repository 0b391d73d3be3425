"""The propensity score: one cross-fitted classifier per modality puts all cells into the space of the labels' logits.

Source: Xi, Osea, Xu, Hartford (NeurIPS 2024), sections 3 and 4, eq. 5 and Proposition 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np

from unpaired import options
from unpaired.data.types import Array, Dataset
from unpaired.embed.calibration import ClassifierQuality
from unpaired.embed.classifiers import CLASSIFIERS, DEVICES, Blend, Network
from unpaired.embed.embedding import Embedding, Provenance, Watch
from unpaired.embed.inputs import trained_labels
from unpaired.embed.modality_fit import FitOptions, ModalityFit, fit_modality
from unpaired.errors import NotFittedError, OptionError

__all__ = ["Propensity"]


class Propensity:
    """Estimate p(label | readings) for every modality, cross-fitted, and use its logits as the shared space.

    Every cell gets logits only from models that did not see it (``folds`` x ``repeats`` models); new cells get the
    average of all models. The coordinates are the centred log-likelihood ratios of the labels, eq. 4 of the paper:
    logits divided by the temperature, less the log frequencies of the labels in the modality (so that modalities with
    different label compositions agree), less their mean over labels.

    Parameters
    ----------
    classifier
        ``"auto"``, one of ``"blend"`` (logistic regression and perceptron, averaged), ``"logistic"``, ``"mlp"``,
        ``"conv"``, ``"published"``, or modality name -> one of these. ``"auto"`` takes ``"conv"`` for images and
        ``"blend"`` for tables, of 10,000 labelled cells or more ``"mlp"``.
    folds, repeats
        Cross-fitting. ``folds=1`` is the published scheme: one split, every cell scored by the same model, whether
        it was trained on or not.
    calibrate
        Divide each modality's logits by a temperature learned from its out-of-fold logits, take out the labels'
        frequencies and centre. ``False`` leaves the classifier's logits as they are, as published.
    epochs
        Most epochs of a network, and the length of its learning rate's one cycle; or modality name -> epochs. ``None``,
        or a modality without a name there, takes the classifier's default.
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
        Modality name -> :class:`~unpaired.embed.modality_fit.ModalityFit`.
    validation_
        Modality name -> :class:`~unpaired.embed.calibration.ClassifierQuality`.
    noise_
        Modality name -> ``(n,)`` variance of the calibrated logits between repeats, and between all models for cells
        without a label; ``None`` with one repeat.
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
        epochs: int | Mapping[str, int | None] | None = None,
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

        Use it with ``match_ot(cost="euclidean", eps=0.05)``. Four things are not as in the published code. Every
        modality is trained alone and kept at its own best epoch (published: one Adam on the sum of the losses, and the
        epoch of their lowest mean). Batches are of about 256 cells, all as large. Features of tables are centred and
        divided by one number. Images are learned in bfloat16 where the processor has it.
        """
        return cls(classifier="published", folds=1, repeats=1, calibrate=False, epochs=epochs, device=device, seed=seed)

    def fit(self, data: Dataset, *, watch: Watch | None = None) -> Self:
        """Fit the classifiers, one modality after the other.

        Parameters
        ----------
        data
            Two or more modalities with labels. Cells without a label are not trained on.
        watch
            Called with a :class:`~unpaired.embed.embedding.Snapshot` after every epoch of a network (a logistic
            regression has none, and of a blend it is the perceptron's alone). It changes nothing of what is learned.

        Raises
        ------
        OptionError
            If an option has a value that is not allowed, or names a modality that is not there.
        DataError
            If fewer than two labels have two or more cells in every modality.
        """
        self.check_options()
        kinds = self._kinds(data)
        epochs = self._epochs(data, kinds)
        self.classes_, self.notes_ = trained_labels(data, folds=self.folds)
        shared = FitOptions(
            self.folds, self.repeats, self.calibrate, None, self.device, self.jobs, self.progress, self.seed
        )
        self.fits_ = {
            name: fit_modality(
                modality,
                data.classes,
                self.classes_,
                kind=kinds.get(name, "auto"),
                options=replace(shared, epochs=epochs.get(name)),
                watch=watch,
            )
            for name, modality in data.modalities.items()
        }
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
        DataError
            If a modality has other features than in ``fit``.
        """
        self._check_fitted()
        arrays, noise, spread = {}, {}, {}
        for name, modality in data.modalities.items():
            options.check_choice("modality", name, tuple(self.fits_))
            arrays[name], noise[name], spread[name] = self.fits_[name].place(modality)
        made_by = Provenance("Propensity", self.used(), self.notes_)
        if any(np.isnan(v).any() for v in noise.values()):
            return Embedding(arrays, "logit", None, self.classes_, made_by)
        return Embedding(arrays, "logit", noise, self.classes_, made_by, spread)

    @property
    def validation_(self) -> dict[str, ClassifierQuality]:
        """Quality of each modality's classifier on cells it did not see."""
        self._check_fitted()
        return {n: f.quality for n, f in self.fits_.items()}

    @property
    def noise_(self) -> dict[str, Array] | None:
        """``(n,)`` variance of each fitted cell's calibrated logits (see above); ``None`` with one repeat."""
        self._check_fitted()
        if any(len(f.logits) == 1 for f in self.fits_.values()):
            return None
        return {n: f.noise for n, f in self.fits_.items()}

    def used(self) -> dict[str, Any]:
        """Return the options as they were used, with the classifier that ``"auto"`` chose."""
        self._check_fitted()
        models = {n: f.models.network if isinstance(f.models, Blend) else f.models for n, f in self.fits_.items()}
        networks = {n: m for n, m in models.items() if isinstance(m, Network)}
        return {
            "classifier": {n: f.kind for n, f in self.fits_.items()},
            "folds": self.folds,
            "repeats": self.repeats,
            "calibrate": self.calibrate,
            "epochs": dict(self.epochs) if isinstance(self.epochs, Mapping) else self.epochs,
            "device": {n: m.device for n, m in networks.items()},
            "precision": {n: m.precision for n, m in networks.items()},
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
        for number in self.epochs.values() if isinstance(self.epochs, Mapping) else [self.epochs]:
            if number is not None:
                options.check_integer("epochs", number, low=1)
        chosen = self.classifier
        for kind in chosen.values() if isinstance(chosen, Mapping) else [chosen]:
            options.check_choice("classifier", kind, (*CLASSIFIERS, "auto"))

    def _kinds(self, data: Dataset) -> dict[str, str]:
        chosen = self.classifier
        kinds = dict(chosen) if isinstance(chosen, Mapping) else dict.fromkeys(data, chosen)
        for name, kind in kinds.items():
            images = data[name].X.ndim == 4
            if (kind == "conv" and not images) or (kind in ("mlp", "blend") and images):
                msg = f"classifier {kind!r} does not fit modality {name!r}: "
                msg += "conv is for images, mlp and blend are for tables."
                raise OptionError(msg)
        return kinds

    def _epochs(self, data: Dataset, kinds: Mapping[str, str]) -> Mapping[str, int | None]:
        if not isinstance(self.epochs, Mapping):
            return dict.fromkeys(data, self.epochs)
        for name, epochs in self.epochs.items():
            options.check_choice("modality of epochs", name, tuple(data))
            if epochs is not None and kinds.get(name) == "logistic":
                msg = f"epochs are for networks, and the classifier of {name!r} is logistic; leave its epochs out."
                raise OptionError(msg)
        return self.epochs

    def _check_fitted(self) -> None:
        if not hasattr(self, "fits_"):
            msg = "call fit before asking for what is learned."
            raise NotFittedError(msg)
