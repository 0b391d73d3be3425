"""A network from one modality to the other, learned from a matching (Xi et al. 2024, section 5, eqs. 9 and 10)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.sparse as sp

from unpaired import options
from unpaired._version import __version__
from unpaired.data.types import Dataset, Modality
from unpaired.embed.classifiers import DEVICES
from unpaired.embed.embedding import Provenance
from unpaired.errors import NotFittedError, OptionError
from unpaired.match.digest import digest_of
from unpaired.match.matching import Matching
from unpaired.seeds import named_seed
from unpaired.translate.model import Model, mean_shares, read_source, read_target
from unpaired.translate.partners import Partners, split_partners, turned
from unpaired.translate.prediction import SPACES, Prediction, Space
from unpaired.translate.store import HEADS, LOSSES, NETWORKS, describe, load_model, make_network, save_model

if TYPE_CHECKING:
    from unpaired.embed.training import TrainingSettings

__all__ = ["PUBLISHED_BATCH", "Translator"]

_BATCH = 256  # target cells a step and member
PUBLISHED_BATCH = 500
"""The same of ``network="published"``."""

_STEPS = 200  # of the optimizer, where the number of epochs is left to us: more learn the soft matching by heart
_EPOCHS = (5, 300)
_PATIENCE = 0.2  # of the epochs


class Translator:
    """Predict one modality's readings from another's, having learned from a matching.

    The network f is taught so that, for every target cell x_i, the predictions of its possible partners average to it:
    eq. 9, min sum_i (x_i - sum_j M_ij f(x_j))^2, with M_ij = p(source cell j | target cell i).

    Parameters
    ----------
    loss
        How the row M_i enters. ``"unbiased"`` (eq. 10): two partners are drawn independently at every visit, value
        through one and gradient through the other, which estimates the gradient of eq. 9 without bias. ``"mse"``: one
        partner is drawn; this learns f(x_j) = E_M[x_i | x_j], an upper bound of eq. 9. ``"barycentric"``: the whole row
        at every step, for small data.
    space
        ``"features"``: predict the features of the target's recipe (principal components, scaled proteins); ``"raw"``:
        its readings as measured.
    head
        ``"gaussian"``: squared error. ``"nb"``: counts, negative binomial around the target cell's total times a
        softmax; with ``loss="unbiased"`` the quasi-likelihood takes eq. 10's place. Needs ``space="raw"``.
    network
        ``"default"``: two hidden layers of 256 with dropout and a linear path beside them (for images five
        convolutions). ``"published"``: the paper's predictor, one hidden layer of twice the inputs' width with batch
        normalisation, Adam at 1e-4, weight decay 5e-4, batches of 500, 50 epochs unless ``epochs`` says otherwise.
    members
        Networks in the ensemble; each has weights, order and partners of its own, their mean is the prediction and
        their standard deviation its ``spread``.
    epochs
        Most passes over the target cells; ``None``: as many as make about 200 steps, five at least. Few, because longer
        training learns what is wrong in a soft matching; for true pairs give more.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    progress
        Show a progress bar.
    seed
        Seed of weights, order, partners and of the cells that choose the epoch.

    Attributes
    ----------
    model_
        What was learned (:class:`~unpaired.translate.model.Model`).
    history_
        Loss on the held-out tenth of the matched target cells, mean over members, of every epoch.
    notes_
        What was left out or chosen, as sentences.

    Examples
    --------
    >>> import unpaired as up
    >>> data, truth = up.examples.digits(pairing="hide")
    >>> matching = up.match_ot(data, up.Propensity(seed=0).fit(data).transform(data))
    >>> model = up.Translator(members=1, epochs=2).fit(data, matching, source="left", target="right")
    >>> model.predict(data["left"].X).mean.shape
    (1797, 32)
    """

    model_: Model
    history_: list[float]
    notes_: tuple[str, ...]

    def __init__(
        self,
        *,
        loss: str = "unbiased",
        space: Space = "features",
        head: str = "gaussian",
        network: str = "default",
        members: int = 5,
        epochs: int | None = None,
        device: str = "auto",
        progress: bool = False,
        seed: int = 0,
    ) -> None:
        self.loss = loss
        self.space = space
        self.head = head
        self.network = network
        self.members = members
        self.epochs = epochs
        self.device = device
        self.progress = progress
        self.seed = seed

    def check_options(self) -> None:
        """Raise :class:`~unpaired.errors.OptionError` if an option has a value that is never allowed."""
        options.check_choice("loss", self.loss, LOSSES)
        options.check_choice("space", self.space, SPACES)
        options.check_choice("head", self.head, HEADS)
        options.check_choice("network", self.network, NETWORKS)
        options.check_choice("device", self.device, DEVICES)
        options.check_integer("members", self.members, low=1, high=100)
        if self.epochs is not None:
            options.check_integer("epochs", self.epochs, low=1)
        options.check_seed(self.seed)
        if self.head == "nb" and self.space != "raw":
            msg = f"head 'nb' predicts counts: use space='raw' with it; got {self.space!r}."
            raise OptionError(msg)

    def fit(
        self,
        data: Dataset,
        matching: Matching,
        *,
        source: str | None = None,
        target: str | None = None,
        checkpoint: str | Path | None = None,
    ) -> Self:
        """Learn from a matching; cells without a partner are not learned from.

        Parameters
        ----------
        data
            The data set that was matched.
        matching
            Any :class:`~unpaired.Matching` of the two modalities, in either direction.
        source, target
            From which modality, and which is predicted; those of the matching by default.
        checkpoint
            A file that keeps the training. If it is there, and of the same options and data, the training goes on from
            it, or is not done again if it was at its end. Remove it when the model is saved.

        Raises
        ------
        OptionError
            If an option is not allowed, or does not fit the data.
        DataError
            If fewer than two target cells have a partner.
        UnpairedError
            If the training gives values that are not finite.
        """
        self.check_options()
        names = matching.direction(source, target)
        rows = turned(matching, *names)
        sides = data[names[0]], data[names[1]]
        if rows.shape != (len(sides[1]), len(sides[0])):
            msg = f"the matching is of {matching.shape} cells; the data have {len(sides[0])} and {len(sides[1])}."
            raise OptionError(msg)
        learn, valid, notes = split_partners(rows, seed=self.seed)
        self.model_, self.history_, more = self._train(sides, (learn, valid), digest_of(sides, rows), checkpoint)
        self.notes_ = (*notes, *more)
        return self

    def predict(self, X: Modality | Any) -> Prediction:
        """Predict the target's readings of new cells, or of those learned from, in chunks.

        Parameters
        ----------
        X
            The source modality of a data set, or readings ``(n, p)`` (dense or sparse; ``(n, C, H, W)`` for images)
            with the features that were learned with, as measured: the stored recipe is applied.

        Returns
        -------
        Prediction
            Of a head of counts, the counts expected in a cell of the median total of those learned from.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        OptionError
            If it is another modality.
        DataError
            If the readings have other features, or are missing or infinite.
        """
        self._check_fitted()
        model = self.model_
        if isinstance(X, Modality) and X.name != model.source.name:
            msg = f"the model predicts from {model.source.name!r}, not from {X.name!r}."
            raise OptionError(msg)
        readings = X.X if isinstance(X, Modality) else X if sp.issparse(X) else np.asarray(X)
        mean, spread = model.predict(readings)
        return Prediction(
            source=model.source.name,
            target=model.target.name,
            space=model.target.space,
            rows=np.arange(len(mean)),
            cells=len(mean),
            mean=mean,
            spread=spread,
            feature_names=model.target.feature_names,
            made_by=Provenance("Translator", self.used(), self.notes_),
        )

    def used(self) -> dict[str, Any]:
        """Return the options as they were used."""
        self._check_fitted()
        model = self.model_
        return {
            "source": model.source.name,
            "target": model.target.name,
            "loss": self.loss,
            "space": self.space,
            "head": self.head,
            "network": self.network,
            "members": self.members,
            "epochs": self.epochs,
            "epochs_run": len(self.history_),
            "device": model.device,
            "seed": self.seed,
        }

    def save(self, folder: str | Path, *, force: bool = False) -> None:
        """Write ``model.safetensors`` and ``model.json`` into a folder, which is made where there is none.

        Parameters
        ----------
        folder
            Where to.
        force
            Replace a model that is there.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        OutputError
            If there is a model already, or no folder can be made there.
        """
        self._check_fitted()
        epochs = self.epochs and int(self.epochs)  # numpy's are no JSON
        chosen = {"loss": self.loss, "network": self.network, "epochs": epochs, "seed": int(self.seed)}
        save_model(Path(folder), self.model_, chosen, self.history_, self.notes_, force=force)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Translator:
        """Read a model that :meth:`save` wrote.

        Parameters
        ----------
        folder
            Where it is.
        device
            Where it will run.

        Raises
        ------
        DataError
            If a file is missing, damaged, or of a newer format.
        """
        from unpaired.embed.training import resolve_device

        model, info = load_model(Path(folder), resolve_device(device))
        fitted = cls(
            space=model.target.space,
            head=model.layout["head"],
            members=model.layout["members"],
            device=device,
            **info["options"],
        )
        fitted.check_options()
        fitted.model_, fitted.history_, fitted.notes_ = model, list(info["history"]), tuple(info["notes"])
        return fitted

    def _train(
        self,
        sides: tuple[Modality, Modality],
        parts: tuple[Partners, Partners],
        digest: str,
        checkpoint: str | Path | None,
    ) -> tuple[Model, list[float], tuple[str, ...]]:
        import torch

        from unpaired.embed.checkpoint import Checkpoint
        from unpaired.embed.training import resolve_device, train_ensemble
        from unpaired.translate.learning import Targets, Translation

        device = resolve_device(self.device)
        read, x = read_source(sides[0], parts[0].inputs)
        told, values, sizes = read_target(sides[1], parts[0].rows, space=self.space, head=self.head)
        layout = describe(self.network, x.shape[1:], len(told.feature_names), head=self.head, members=self.members)
        rates = mean_shares(told, values[parts[0].rows])
        net = make_network(layout, rates, seed=named_seed(self.seed, "weights")).to(device)
        task = Translation(
            net,
            torch.as_tensor(x, device=device),
            Targets(values, told.center, told.scale, device),
            None if sizes is None else torch.as_tensor(sizes.astype(np.float32), device=device),
            learn=parts[0],
            valid=parts[1],
            loss=self.loss,
            batch=self._batch,
            seed=self.seed,
        )
        settings, keep = self._settings(task.steps), None
        if checkpoint is not None:
            made_of = {"data": digest, "layout": layout, "loss": self.loss, "space": self.space, "seed": int(self.seed)}
            made_of |= {"settings": asdict(settings), "unpaired": __version__}
            keep = Checkpoint(Path(checkpoint), made_of)
        history = train_ensemble(task, settings, device=device, seed=self.seed, progress=self.progress, checkpoint=keep)
        notes = ["the training was taken up again where it had been interrupted."] if keep and keep.found else []
        if self.members == 1:
            notes.append("one network says nothing of how sure it is: the spread is NaN.")
        return Model(net, layout, read, told, device, digest), history, tuple(notes)

    @property
    def _batch(self) -> int:
        return PUBLISHED_BATCH if self.network == "published" else _BATCH

    def _settings(self, steps: int) -> TrainingSettings:
        from unpaired.embed.training import TrainingSettings

        least, most = _EPOCHS
        epochs = int(self.epochs or np.clip(-(-_STEPS // steps), least, most))
        if self.network == "published":
            return TrainingSettings(int(self.epochs or 50), self._batch, 1e-4, 5e-4, "adam", patience=10**6)
        return TrainingSettings(epochs, self._batch, 1e-3, 1e-2, "adamw", patience=max(5, round(_PATIENCE * epochs)))

    def _check_fitted(self) -> None:
        if not hasattr(self, "model_"):
            msg = "call fit before asking for what is learned."
            raise NotFittedError(msg)
