"""The multimodal variational autoencoder: one code for all modalities, which rebuilds readings and tells labels.

Source: Yang et al., Nature Communications 12:31 (2021), as the baseline of Xi et al. 2024 (appendix D).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from unpaired import options
from unpaired.data.types import UNKNOWN, Dataset, Modality
from unpaired.embed.classifiers import DEVICES
from unpaired.embed.embedding import Embedding, Provenance, Snapshot, Watch
from unpaired.embed.folds import make_splits
from unpaired.embed.inputs import Inputs, label_codes, read_inputs, trained_labels
from unpaired.errors import DataError, NotFittedError, OptionError, Problem
from unpaired.seeds import named_rng, named_seed

if TYPE_CHECKING:
    from unpaired.embed.training import TrainingSettings
    from unpaired.embed.vae_learning import Adversary, AutoencoderLosses, Cells
    from unpaired.embed.vae_networks import Autoencoders

__all__ = ["ADVERSARIES", "MultimodalVAE"]

ADVERSARIES = ("adversarial", "published", "none")
"""How the codes are kept from telling the modality: a classifier to be misled, one that learns along, nothing."""

_EPOCHS = 250
_EPOCHS_IMAGES = 100
_DECAY = 1e-4
_VALID = 0.2  # of every label's cells choose the epoch


class MultimodalVAE:
    """Learn one code for the cells of all modalities, from which readings are rebuilt and labels are told.

    Every modality has an encoder and a decoder; a classifier of the labels reads the code, and a classifier of the
    modality that the encoders try to mislead. The coordinates are the posterior means. The loss is the squared error of
    the rebuilt features (mean over features), ``kl`` times the divergence from the normal prior, ``alpha`` times the
    cross-entropy of the label and ``beta`` times that of the modality, summed over modalities.

    Cells without a label, or with one that is not trained on, are rebuilt and say nothing of labels. All modalities
    give as many cells to a step; an epoch is one walk through the largest, and smaller ones are walked through again.

    Parameters
    ----------
    latent
        Width of the code.
    hidden
        Width of the hidden layers of the networks on tables, and of the modality classifier's.
    adversary
        ``"adversarial"``: the modality classifier learns on true modalities in its own step, and the encoders bring
        down its cross-entropy with the other modalities (of two: the flipped labels). ``"published"``: as in the
        published code, it learns on true modalities together with the encoders, which therefore help it to tell the
        modalities apart. ``"none"``: without it.
    alpha, beta, kl
        Weights of the label's and the modality's cross-entropy and of the divergence.
    epochs
        Passes over the largest modality, which is the length of the one-cycle schedule; ``None`` takes the published
        100 where there are images, and 250 for tables.
    batch
        Cells of every modality a step.
    rate
        Largest learning rate (Adam, weight decay 1e-4, schedule by epochs).
    patience
        Stop when the validation loss has not improved for so many epochs; ``None`` never does.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    progress
        Show a progress bar.
    seed
        Seed of weights, split, order and of the codes that are drawn.

    Attributes
    ----------
    classes_
        Names of the labels trained on: those with two or more cells in every modality.
    history_
        :class:`~unpaired.embed.vae_learning.AutoencoderLosses` on the validation cells, one an epoch. The networks
        are those of the lowest total.
    notes_
        What was left out or could not be judged, as sentences.

    Examples
    --------
    >>> import unpaired as up
    >>> data, truth = up.examples.digits(pairing="hide")
    >>> space = up.MultimodalVAE(latent=16, hidden=64, epochs=5, rate=1e-3, seed=0).fit(data).transform(data)
    >>> space["left"].shape
    (1797, 16)
    """

    classes_: tuple[str, ...]
    history_: list[AutoencoderLosses]
    notes_: tuple[str, ...]

    def __init__(
        self,
        *,
        latent: int = 128,
        hidden: int = 1024,
        adversary: str = "adversarial",
        alpha: float = 1.0,
        beta: float = 0.1,
        kl: float = 1e-9,
        epochs: int | None = None,
        batch: int = 256,
        rate: float = 1e-4,
        patience: int | None = None,
        device: str = "auto",
        progress: bool = False,
        seed: int = 0,
    ) -> None:
        self.latent = latent
        self.hidden = hidden
        self.adversary = adversary
        self.alpha = alpha
        self.beta = beta
        self.kl = kl
        self.epochs = epochs
        self.batch = batch
        self.rate = rate
        self.patience = patience
        self.device = device
        self.progress = progress
        self.seed = seed

    @classmethod
    def published(cls, *, epochs: int | None = None, device: str = "auto", seed: int = 0) -> MultimodalVAE:
        """Return the recipe of the propensity paper's code: the modality classifier learns along with the encoders.

        Three things are not as in the published code. Batches are of about 256 cells of every modality, all as large.
        Features of tables are centred and divided by one number, so that the squared error weighs the same whatever
        their unit. Where there are images, it learns in bfloat16 if the processor has it.
        """
        return cls(adversary="published", epochs=epochs, device=device, seed=seed)

    def fit(self, data: Dataset, *, watch: Watch | None = None) -> Self:
        """Learn the code.

        Parameters
        ----------
        data
            Two or more modalities with labels; their cells need not be paired, nor be as many.
        watch
            Called after every epoch with a :class:`~unpaired.embed.embedding.Snapshot` of all modalities.

        Raises
        ------
        OptionError
            If an option has a value that is not allowed.
        DataError
            If there is one modality, or fewer than two labels have two or more cells in every modality.
        UnpairedError
            If the loss is not finite.
        """
        from unpaired.embed.training import resolve_device
        from unpaired.embed.vae_coder import Coder, coordinates
        from unpaired.embed.vae_learning import Weights, train_autoencoders

        self.check_options()
        device = resolve_device(self.device)
        _check_modalities(data)
        self.classes_, notes = trained_labels(data, folds=1)
        read = {n: read_inputs(m) for n, m in data.modalities.items()}
        net = self._networks({n: inputs.shape[1:] for n, (inputs, _, _) in read.items()})
        coders, cells = {}, []
        for at, (name, (inputs, center, scale)) in enumerate(read.items()):
            modality = data[name]
            coders[name] = Coder(net.generator[at], modality, center, scale)
            cells.append(self._cells(modality, inputs, data.classes, device))
        self.notes_ = notes + _silent(cells)
        settings = self._settings(images=any(c.net.images for c in coders.values()), device=device)

        def show(epoch: int, losses: AutoencoderLosses) -> None:
            if watch is not None:
                embed = partial(coordinates, coders, device=device)
                watch(Snapshot(epoch, None, losses.total, losses.label, embed))

        self.history_ = train_autoencoders(
            net,
            cells,
            weights=Weights(self.alpha, self.beta, self.kl),
            adversary=self._adversary,
            settings=settings,
            device=device,
            seed=named_seed(self.seed, "vae"),
            progress=self.progress,
            watch=None if watch is None else show,
        )
        self._coders, self._device, self._trained = coders, device, settings
        return self

    def transform(self, data: Dataset) -> Embedding:
        """Return the posterior means of the cells, seen in ``fit`` or new.

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
        from unpaired.embed.vae_coder import coordinates

        self._check_fitted()
        arrays = coordinates(self._coders, data, device=self._device)
        dims = tuple(f"latent {i}" for i in range(next(iter(arrays.values())).shape[1]))
        return Embedding(arrays, "latent", None, dims, Provenance("MultimodalVAE", self.used(), self.notes_))

    def used(self) -> dict[str, Any]:
        """Return the options as they were used, with those that were left to be chosen."""
        self._check_fitted()
        return {
            "latent": self.latent,
            "hidden": self.hidden,
            "adversary": self._adversary,
            "alpha": self.alpha,
            "beta": self.beta,
            "kl": self.kl,
            "epochs": self._trained.epochs,
            "batch": self.batch,
            "rate": self.rate,
            "patience": self.patience,
            "device": self._device,
            "precision": self._trained.precision,
            "seed": self.seed,
        }

    def check_options(self) -> None:
        """Raise :class:`~unpaired.errors.OptionError` if an option has a value that is never allowed.

        ``fit`` does so too; this is for those who want to know before they read the data.
        """
        options.check_integer("latent", self.latent, low=1)
        options.check_integer("hidden", self.hidden, low=1)
        options.check_choice("adversary", self.adversary, ADVERSARIES)
        for name in ("alpha", "beta", "kl"):
            options.check_number(name, getattr(self, name))
            if getattr(self, name) < 0:
                msg = f"{name} must be at least 0; got {getattr(self, name)!r}."
                raise OptionError(msg)
        for name in ("epochs", "patience"):
            if getattr(self, name) is not None:
                options.check_integer(name, getattr(self, name), low=1)
        options.check_integer("batch", self.batch, low=2)  # batch normalisation needs two
        options.check_number("rate", self.rate, above=0)
        options.check_choice("device", self.device, DEVICES)
        options.check_seed(self.seed)

    @property
    def _adversary(self) -> Adversary:
        """What the option says; a loss that counts nothing needs no classifier."""
        return cast("Adversary", self.adversary) if self.beta > 0 else "none"

    def _networks(self, shapes: Mapping[str, tuple[int, ...]]) -> Autoencoders:
        import torch

        from unpaired.embed.vae_networks import Autoencoder, Autoencoders, Generator

        def weights(*names: str) -> torch.Generator:
            return torch.Generator().manual_seed(named_seed(self.seed, "vae", *names, "weights"))

        parts = [
            Autoencoder(shape=shape, latent=self.latent, hidden=self.hidden, generator=weights("part", name))
            for name, shape in shapes.items()
        ]
        whole = Generator(parts, latent=self.latent, labels=len(self.classes_), generator=weights("labels"))
        judged = self._adversary != "none"
        widths = {"latent": self.latent, "hidden": self.hidden}
        return Autoencoders(whole, judged=judged, weights=weights("adversary"), **widths)

    def _settings(self, *, images: bool, device: str) -> TrainingSettings:
        from unpaired.embed.fit_network import native_bfloat16
        from unpaired.embed.training import TrainingSettings

        return TrainingSettings(
            epochs=self.epochs or (_EPOCHS_IMAGES if images else _EPOCHS),
            batch=self.batch,
            rate=self.rate,
            decay=_DECAY,
            optimizer="adam",
            patience=self.patience or 10**6,
            cycle="epoch",
            precision="bfloat16" if images and native_bfloat16(device) else "float32",
        )

    def _cells(self, modality: Modality, inputs: Inputs, classes: tuple[str, ...], device: str) -> Cells:
        import torch

        from unpaired.embed.feed import Feed
        from unpaired.embed.vae_learning import Cells

        y = label_codes(modality, classes, self.classes_)[modality.order]
        # Cells that say nothing of labels are split like one label more: some of them choose the epoch, too.
        groups = np.where(y == UNKNOWN, len(self.classes_), y)
        rng = named_rng(self.seed, modality.name, "vae split")
        (split,) = make_splits(groups, folds=1, repeats=1, valid=_VALID, rng=rng)
        feed = Feed(inputs, device)
        return Cells(modality.name, feed, torch.as_tensor(y, device=device), split.train, split.valid)

    def _check_fitted(self) -> None:
        if not hasattr(self, "_coders"):
            msg = "call fit before asking for what is learned."
            raise NotFittedError(msg)


def _check_modalities(data: Dataset) -> None:
    if len(data.modalities) < 2:
        what = "it has one modality, and a code of several needs two or more."
        raise DataError([Problem("error", "the data set", what, "Add another modality.")])


def _silent(cells: Sequence[Cells]) -> tuple[str, ...]:
    """Say which modalities have no cell by whose label the epoch can be chosen."""
    names = [c.name for c in cells if not c.judged]
    if not names:
        return ()
    if len(names) == len(cells):
        return ("no cell that chooses the epoch has a label: labels have no say in it.",)
    few = ", ".join(names)
    return (f"{few}: no cell that chooses the epoch has a label, so that of labels those of the others choose it.",)
