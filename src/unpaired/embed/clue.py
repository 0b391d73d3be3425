"""CLUE: partly paired cells in, one space of all modalities and every modality's readings out.

Source: Tu et al. 2022, "Cross-Linked Unified Embedding for cross-modality representation learning".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from unpaired import options
from unpaired.data.types import Array, Dataset
from unpaired.embed.classifiers import DEVICES
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import NotFittedError, OptionError

if TYPE_CHECKING:
    from unpaired.embed.clue_fit import Effort, Fitted, Result
    from unpaired.embed.clue_inputs import Cells
    from unpaired.embed.clue_model import ClueConfig
    from unpaired.embed.clue_partners import Soft
    from unpaired.embed.clue_use import Imputed
    from unpaired.match.matching import Matching

__all__ = ["Clue"]

_OPTIONS = ("preset", "components", "epochs", "batch", "rate", "seed")
_LIKELIHOODS = ("nb", "normal", "bernoulli")


class Clue:
    """Learn one space for cells of which some are measured in several modalities, and decode any of them from it.

    Every modality is encoded into all K parts of one space, one for each modality, and decoded from its own (eq. 6). A
    cell measured in several modalities teaches their codes to agree (eqs. 8, 9), a discriminator that the encoders
    mislead lays all cells of a modality on those of the others (eq. 12). Cells are one where ``data.pairs`` say so.
    Only directions count in the space: match in it by cosine.

    Whole numbers that are not negative are taken as counts (negative binomial), or as 0 and 1 (Bernoulli) where none is
    above 1; other tables as numbers (normal). The notes of the embedding say which. Decoders see the modalities'
    ``batch``, encoders do not.

    Parameters
    ----------
    preset
        Shapes of the networks and weights of the loss: ``"citeseq"`` and ``"multiome"`` as the authors used for such
        data, ``"default"`` their general ones.
    config
        A :class:`~unpaired.embed.clue_model.ClueConfig` in place of the preset's.
    likelihoods
        Modality name -> ``"nb"``, ``"normal"`` or ``"bernoulli"``, where it is not to be decided by the readings.
    components
        Encoders read so many principal components of the features of a modality's recipe, or all if there are fewer;
        without a recipe, of ``log(1 + 1e4 x / sum(x))`` of counts, and of other readings as they are.
    epochs
        Most passes over the cells; ``None``: as many as the learning rate needs,
        see :func:`~unpaired.embed.clue_learning.schedule`.
    batch
        Cells a step.
    rate
        First learning rate (RMSprop), which falls to a tenth where the validation loss has not improved for a while.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    progress
        Show a progress bar.
    seed
        Seed of weights, split, order, fillers, partners, dropout and codes.

    Attributes
    ----------
    history_, burn_in_
        Validation loss of the encoders and decoders (eq. 15) of every epoch, of the last ``fit`` or ``extend``; how
        many of the first epochs could not be chosen, which a model that was loaded does not know.
    notes_
        What was decided or is worth a warning, as sentences.

    Examples
    --------
    >>> import unpaired as up
    >>> from unpaired.embed.clue_model import ClueConfig
    >>> data, truth = up.examples.digits(pairing="hide")
    >>> small = ClueConfig(dims=8, encoder_hidden=32, decoder_hidden=32, discriminator_hidden=32)
    >>> matching = up.match_random(data)
    >>> up.Clue(config=small, epochs=1, seed=0).fit(data, matching=matching).transform(data)["left"].shape
    (1797, 16)
    """

    history_: list[float]
    notes_: tuple[str, ...]
    _learned_from: tuple[Cells, Sequence[Soft]] | None

    def __init__(
        self,
        preset: str = "default",
        *,
        config: ClueConfig | None = None,
        likelihoods: Mapping[str, str] | None = None,
        components: int = 100,
        epochs: int | None = None,
        batch: int = 128,
        rate: float = 2e-3,
        device: str = "auto",
        progress: bool = False,
        seed: int = 0,
    ) -> None:
        self.preset = preset
        self.config = config
        self.likelihoods = likelihoods
        self.components = components
        self.epochs = epochs
        self.batch = batch
        self.rate = rate
        self.device = device
        self.progress = progress
        self.seed = seed

    def fit(
        self,
        data: Dataset,
        *,
        matching: Matching | Sequence[Matching] | None = None,
        checkpoint: str | Path | None = None,
    ) -> Self:
        """Learn the space and the decoders.

        Parameters
        ----------
        data
            Two or more modalities. ``data.pairs`` are the supervision; labels are not looked at.
        matching
            A :class:`~unpaired.Matching` of the data set's cells, or one for each of several pairs of modalities. In
            every epoch, cells known in one modality are given a partner that is drawn from it, and count by how likely
            it is the true one; those with a true one keep theirs.
        checkpoint
            A file that keeps the training. If it is there, and of the same options and data, the training goes on from
            it. Remove it when the model is saved.

        Raises
        ------
        OptionError
            If an option is not allowed, or does not fit the data.
        DataError
            If there is one modality, or one is images, has fewer than two cells, or readings that are not finite.
        UnpairedError
            If the training gives values that are not finite.
        """
        from unpaired.embed.clue_fit import fit_clue
        from unpaired.embed.clue_inputs import cells_of
        from unpaired.embed.clue_partners import soft_partners
        from unpaired.embed.clue_reader import read_modalities

        self.check_options()
        effort = self._effort()
        readers = read_modalities(data, components=self.components, likelihoods=self.likelihoods or {})
        cells = cells_of(data, readers)
        soft = soft_partners(data, cells, matching)
        path = None if checkpoint is None else Path(checkpoint)
        result = fit_clue(readers, cells, self._config(), effort, soft=soft, checkpoint=path)
        self.notes_, self._stages = (*(r.reason for r in readers.values()), *result.notes), 1
        return self._take(result, cells, soft)

    def extend(self, new_data: Dataset, *, data: Dataset | None = None) -> Self:
        """Learn on with new cells, mostly those that are to be matched (the paper's transductive second stage).

        The cells of before stay in, new batches are added to those that are known, and what was learned of these goes
        on by their names. The learning rate is 1e-3, without a burn-in, for 50 epochs at most and no more than 8
        without improvement.

        Parameters
        ----------
        new_data
            Cells of some of the modalities. Pairs that it has are used.
        data
            What was learned from, for a model that was loaded, which does not hold it. True pairs are used again,
            matchings are not.

        Raises
        ------
        OptionError
            If a loaded model is given no ``data``; and what :meth:`transform` raises.
        """
        from unpaired.embed.clue_fit import extend_clue
        from unpaired.embed.clue_inputs import cells_of

        fitted, before = self._check_fitted(new_data), self._learned_from
        if data is not None:
            before = cells_of(data, self._check_fitted(data).readers), ()
        if before is None:
            msg = "a model that was loaded does not hold what it was learned from: give it as data=."
            raise OptionError(msg)
        cells = before[0].joined(cells_of(new_data, fitted.readers))
        effort = replace(self._effort(), device=fitted.device)
        result = extend_clue(fitted, cells, effort, soft=before[1], stage=self._stages + 1)
        self._stages += 1
        return self._take(result, cells, before[1])

    def transform(self, data: Dataset) -> Embedding:
        """Return the ``(n, K * dims)`` places of cells, seen in ``fit`` or new; all have length one.

        A cell that ``data.pairs`` tell of in several modalities has one place in all of them, the direction of the
        mean of their codes (eq. 11). To place every modality by itself, as for a matching that is to be scored, give
        data without pairs.

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
            If a modality has other features than in ``fit``, or readings that are not finite.
        """
        from unpaired.embed.clue_use import coordinates

        fitted = self._check_fitted(data)
        dims = tuple(f"{name} {i}" for name in fitted.readers for i in range(fitted.config.dims))
        return Embedding(coordinates(fitted, data), "latent", None, dims, Provenance("Clue", self.used(), self.notes_))

    def impute(
        self,
        data: Dataset,
        source: str | Sequence[str],
        target: str,
        *,
        library_size: float | Sequence[float] | Array | None = None,
        batch: str | Sequence[str] | Array | None = None,
    ) -> Imputed:
        """Return what one modality would have read of the cells of another, as measured: counts, or values.

        Parameters
        ----------
        data
            A data set with the source; no other modality is looked at.
        source, target
            Modalities that were in ``fit``; the same one twice gives readings without their noise. Of several sources
            the cells are those of the first, told by all that ``data.pairs`` say is theirs (eq. 11).
        library_size
            Counts of a cell of the target in all: a number, or one for each. ``None``: what the first source's counts
            foretell, if it has counts and this was learned (it is by ``lam_real_cross``, from cells known in both),
            else the median of the cells learned from. Only counts need it.
        batch
            Batch of the target to read them in: a name, or one for each. ``None``: the cells' own.

        Returns
        -------
        Imputed
            In the order of the (first) source's rows. Expected shares of 0 and 1 where these are the readings.

        Raises
        ------
        OptionError
            If a modality, a library size or a batch is none that is known, or of several sources it is not known which
            readings are of one cell; and what :meth:`transform` raises.
        """
        from unpaired.embed.clue_use import impute

        return impute(self._check_fitted(data), data, source, target, library_size, batch)

    def used(self) -> dict[str, Any]:
        """Return the options as they were used, with those that were left to be chosen."""
        fitted = self._check_fitted()
        chosen = {n: getattr(self, n) for n in _OPTIONS} | {"preset": self.preset if self.config is None else None}
        chosen |= {"config": asdict(fitted.config), "epochs_run": len(self.history_), "stages": self._stages}
        return chosen | {"likelihoods": {n: r.likelihood for n, r in fitted.readers.items()}, "device": fitted.device}

    def save(self, folder: str | Path, *, force: bool = False) -> None:
        """Write ``model.safetensors`` and ``model.json`` into a folder, which is made where there is none.

        ``force`` replaces a model that is there.

        Raises
        ------
        OutputError
            If there is a model already, or no folder can be made there.
        """
        from unpaired.embed.clue_store import save_clue

        fitted = self._check_fitted()
        chosen = {n: getattr(self, n) for n in _OPTIONS}
        chosen |= {"own_config": self.config is not None, "stages": self._stages}
        save_clue(Path(folder), fitted, chosen, self.history_, self.notes_, force=force)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Clue:
        """Read a model that :meth:`save` wrote, to be used on a device.

        Raises
        ------
        DataError
            If a file is missing, damaged, or of a newer format.
        """
        from unpaired.embed.clue_store import load_clue
        from unpaired.embed.training import resolve_device

        fitted, record = load_clue(Path(folder), resolve_device(device))
        chosen = {n: record["options"][n] for n in _OPTIONS}
        made = cls(**chosen, config=fitted.config if record["options"]["own_config"] else None, device=device)
        made.check_options()
        made.history_, made.notes_ = list(record["history"]), tuple(record["notes"])
        made._fitted, made._learned_from, made._stages = fitted, None, record["options"]["stages"]
        return made

    def check_options(self) -> None:
        """Raise :class:`~unpaired.errors.OptionError` if an option has a value that is never allowed."""
        from unpaired.embed.clue_model import PRESETS, ClueConfig

        options.check_choice("preset", self.preset, tuple(PRESETS))
        if self.config is not None and not isinstance(self.config, ClueConfig):
            msg = f"config must be a ClueConfig; got {self.config!r}."
            raise OptionError(msg)
        for likelihood in (self.likelihoods or {}).values():
            options.check_choice("likelihood", likelihood, _LIKELIHOODS)
        options.check_integer("components", self.components, low=1)
        options.check_integer("batch", self.batch, low=2)  # batch normalisation needs two
        if self.epochs is not None:
            options.check_integer("epochs", self.epochs, low=1)
        options.check_number("rate", self.rate, above=0)
        options.check_choice("device", self.device, DEVICES)
        options.check_seed(self.seed)

    def _take(self, result: Result, cells: Cells, soft: Sequence[Soft]) -> Self:
        self.history_, self.burn_in_ = result.history, result.burn_in
        self._fitted, self._learned_from = result.fitted, (cells, soft)
        return self

    def _effort(self) -> Effort:
        from unpaired.embed.clue_fit import Effort
        from unpaired.embed.training import resolve_device

        return Effort(self.epochs, self.batch, self.rate, resolve_device(self.device), self.progress, self.seed)

    def _config(self) -> ClueConfig:
        from unpaired.embed.clue_model import PRESETS

        return PRESETS[self.preset] if self.config is None else self.config

    def _check_fitted(self, data: Dataset | None = None) -> Fitted:
        if not hasattr(self, "_fitted"):
            msg = "call fit before asking for what is learned."
            raise NotFittedError(msg)
        for name in data or ():
            options.check_choice("modality", name, tuple(self._fitted.readers))
        return self._fitted
