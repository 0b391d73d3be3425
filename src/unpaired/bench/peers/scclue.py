"""CLUE (Tu et al. 2022) by its authors' own package, scglue, with the settings and inputs of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from unpaired.bench.peers.glue import OnCpu
from unpaired.bench.peers.quiet import first_line, import_quietly, quiet, why_missing
from unpaired.data.types import Array, Dataset, Modality
from unpaired.embed.clue_inputs import slots_of
from unpaired.embed.clue_reader import Reader, read_modalities
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import OptionError, UnpairedError

if TYPE_CHECKING:
    from unpaired.embed.clue_learning import Schedule
    from unpaired.embed.clue_model import ClueConfig

__all__ = ["ScClue", "missing"]

_REP = "X_inputs"
_KINDS = {"nb": "NB", "bernoulli": "Bernoulli", "normal": "Normal"}


def missing() -> str | None:
    """Say why it cannot be used here; ``None`` where it can."""
    return why_missing("scglue", "scglue")


class ScClue:
    """The authors' model: the same networks, weights, batches, rate and schedule as ours, on the CPU.

    Its encoders are given what ours read, its decoders the same raw counts. It draws its own split, a tenth to choose
    the epoch by.

    Parameters
    ----------
    config
        Shapes and weights.
    schedule
        Epochs: of the burn-in, at most, without improvement before the end, and before the rate falls.
    components
        Principal components that encoders read, as of :class:`unpaired.Clue`.
    batch, rate
        Cells a step, and the learning rate.
    seed
        Seed of its generators.

    Attributes
    ----------
    epochs_run_
        Epochs that were trained.
    """

    epochs_run_: int

    def __init__(
        self,
        config: ClueConfig,
        schedule: Schedule,
        *,
        components: int = 100,
        batch: int = 128,
        rate: float = 2e-3,
        seed: int = 0,
    ) -> None:
        self.config = config
        self.schedule = schedule
        self.components = components
        self.batch = batch
        self.rate = rate
        self.seed = seed

    def fit(self, data: Dataset, *, watch: Callable[[int], None] | None = None) -> Self:
        """Learn the space; cells are one where ``data.pairs`` say so.

        Parameters
        ----------
        data
            The cells.
        watch
            Called after every epoch with its number, from 1.

        Raises
        ------
        UnpairedError
            If the package is missing, or its training breaks down.
        """
        if (why := missing()) is not None:
            raise UnpairedError(why)
        self.readers = read_modalities(data, components=self.components, likelihoods={})
        names = _names(data)
        with quiet(self.seed) as folder, OnCpu():
            tables = {n: self._table(m, names[n]) for n, m in data.modalities.items()}
            try:
                self._model, self.epochs_run_ = self._trained(tables, str(folder), watch)
            except Exception as error:  # whatever breaks in there is its failure, and a row of the bench that says so
                msg = f"scglue's CLUE failed ({type(error).__name__}: {first_line(error)})."
                raise UnpairedError(msg) from error
        return self

    def transform(self, data: Dataset) -> Embedding:
        """Return the ``(n, K * dims)`` places of cells, seen in ``fit`` or new, each by its own modality.

        Raises
        ------
        UnpairedError
            If a place is no number.
        """
        arrays = {n: self._codes(m) for n, m in data.modalities.items()}
        if not all(np.isfinite(a).all() for a in arrays.values()):
            msg = "scglue's CLUE gave no numbers: its training broke down."
            raise UnpairedError(msg)
        dims = tuple(f"{n} {i}" for n in self.readers for i in range(self.config.dims))
        made_by = Provenance("ScClue", {"epochs_run": self.epochs_run_, "seed": self.seed})
        return Embedding(arrays, "latent", None, dims, made_by)

    def impute(self, data: Dataset, source: str, target: str) -> Array:
        """Return expected counts of the target, with its median library size, as ours does by default.

        Raises
        ------
        OptionError
            If the target's readings are no counts.
        """
        import torch

        reader = self.readers[target]
        if reader.likelihood != "nb":
            msg = f"{target!r} are no counts."
            raise OptionError(msg)
        code = torch.as_tensor(self._codes(data[source]), dtype=torch.float32)
        code = torch.nn.functional.normalize(code, dim=1)
        at, dims = list(self.readers).index(target), self.config.dims
        part, n = code[:, at * dims : (at + 1) * dims], len(code)
        net = self._model.net.eval()
        with torch.no_grad():
            found = net.u2x[target](part, torch.zeros(n, dtype=torch.int64), torch.full((n,), reader.size))
        return np.asarray(found.mean.double().numpy())

    def _trained(self, tables: Mapping[str, Any], folder: str, watch: Callable[[int], None] | None) -> tuple[Any, int]:
        """Train as its documentation does, and count the epochs."""
        c, plan = self.config, self.schedule
        seed = self.seed % 2**31
        model = import_quietly("scglue.models.scclue").SCCLUEModel(
            dict(tables),
            latent_dim=c.dims,
            x2u_h_depth=c.encoder_depth,
            x2u_h_dim=c.encoder_hidden,
            u2x_h_depth=c.decoder_depth,
            u2x_h_dim=c.decoder_hidden,
            du_h_depth=c.discriminator_depth,
            du_h_dim=c.discriminator_hidden,
            dropout=c.dropout,
            random_seed=seed,
        )
        weights = {"lam_data": c.lam_data, "lam_kl": c.lam_kl, "lam_align": c.lam_align, "lam_cos": c.lam_cos}
        model.compile(
            **weights, lam_joint_cross=c.lam_cross, lam_real_cross=c.lam_real_cross, lam_sup=0.0, lr=self.rate
        )
        epochs: list[int] = []

        def told(state: Any, _: Any) -> None:
            epochs.append(int(state.epoch))
            if watch is not None:
                watch(epochs[-1])

        model.trainer.report_metrics = told  # it keeps no history; this is called after each epoch to log it
        model.fit(
            dict(tables),
            val_split=0.1,
            batch_size=self.batch,
            align_burnin=plan.burn_in,
            max_epochs=plan.epochs,
            patience=plan.patience,
            reduce_lr_patience=plan.plateau,
            directory=folder,
        )
        return model, len(epochs)

    def _codes(self, modality: Modality) -> Array:
        with quiet(self.seed), OnCpu():
            table = self._table(modality, [str(i) for i in range(len(modality))])
            found = self._model.encode_data(modality.name, table)
        out = np.empty(found.shape)
        out[modality.order] = found
        return out

    def _table(self, modality: Modality, names: list[str]) -> Any:
        """Return a modality as its tables are, rows in canonical order; equal names of cells are pairs."""
        from anndata import AnnData

        reader: Reader = self.readers[modality.name]
        readings = reader.readings(modality)
        table = AnnData(readings)
        table.obs_names = names
        table.var_names = [f"{modality.name}:{i}" for i in range(readings.shape[1])]
        table.obsm[_REP] = reader.inputs(modality)
        configure = import_quietly("scglue.models").configure_dataset
        configure(table, _KINDS[reader.likelihood], use_highly_variable=False, use_rep=_REP, use_obs_names=True)
        return table


def _names(data: Dataset) -> dict[str, list[str]]:
    """Return modality name -> names of its rows in canonical order: those of one cell are called alike."""
    slots = slots_of(data, list(data))
    found = {}
    for at, name in enumerate(data):
        cells = np.flatnonzero(slots[:, at] >= 0)
        own = np.empty(len(data[name]), dtype=object)
        own[slots[cells, at]] = [f"cell {i}" for i in cells]
        found[name] = own.tolist()
    return found
