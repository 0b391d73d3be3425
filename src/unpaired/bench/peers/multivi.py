"""MultiVI (Ashuach et al. 2023) through scvi-tools, as an embedder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import scipy.sparse as sp

from unpaired.bench.peers.cells import Learned, embedding_of, float_csr, kind_of, learned
from unpaired.bench.peers.quiet import first_line, import_quietly, quiet, why_missing
from unpaired.data.types import Array, Dataset, Modality
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import OptionError, UnpairedError
from unpaired.options import check_integer, check_seed
from unpaired.seeds import named_seed

__all__ = ["MultiVI", "missing", "roles_of", "settings"]

_EPOCHS = 500  # scvi-tools' own default
_ROLES = {"counts": "rna", "peaks": "atac", "protein": "protein"}


def missing() -> str | None:
    """Say why MultiVI cannot be used here; ``None`` where it can."""
    return why_missing("scvi", "scvi-tools")


class MultiVI:
    """MultiVI: one variational autoencoder of counts of genes, of peaks and of proteins.

    It is made for cells of which some were measured in both modalities, and here there are none: it is given each
    modality padded by zeros to the union of the cells, with the modality as the batch, as its tutorials do. The labels
    are not given to it. It embeds only the cells that it was fitted on: fit it on those to be matched. It runs on the
    CPU.

    Parameters
    ----------
    epochs
        Most epochs; by default its own 500.
    seed
        Seed of its generators.
    """

    def __init__(self, *, epochs: int | None = None, seed: int = 0) -> None:
        self.epochs = epochs
        self.seed = seed

    def fit(self, data: Dataset) -> Self:
        """Learn the space.

        Parameters
        ----------
        data
            Counts of genes, and of peaks or proteins.

        Raises
        ------
        OptionError
            If an option is not allowed, or MultiVI does not apply to such data.
        UnpairedError
            If the package is missing, or its training breaks down.
        """
        if self.epochs is not None:
            check_integer("epochs", self.epochs, low=1)
        check_seed(self.seed)
        roles = roles_of(data)
        if (why := missing()) is not None:
            raise UnpairedError(why)
        seed = named_seed(self.seed, "multivi")
        with quiet(seed) as folder, settings(seed, folder):
            try:
                latent = _train(roles, self.epochs or _EPOCHS)
            except Exception as error:  # whatever breaks in there is its failure, and a row of the bench that says so
                msg = f"MultiVI failed ({type(error).__name__}: {first_line(error)})."
                raise UnpairedError(msg) from error
        ends = np.cumsum([len(m) for m in roles.values()])[:-1]
        codes = dict(zip((m.name for m in roles.values()), np.split(latent, ends), strict=True))
        self._known = learned("MultiVI", data, codes)
        return self

    def transform(self, data: Dataset) -> Embedding:
        """Return the space of cells that were in ``fit``.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        OptionError
            If a cell or a modality was not in ``fit``.
        """
        known: dict[str, Learned] | None = getattr(self, "_known", None)
        made_by = Provenance("MultiVI", {"epochs": self.epochs, "seed": self.seed})
        return embedding_of("MultiVI", data, known, made_by)


def roles_of(data: Dataset) -> dict[str, Modality]:
    """Return MultiVI's name for each modality, or say why it has no use for them."""
    roles: dict[str, Modality] = {}
    for name, modality in data.modalities.items():
        kind = kind_of(modality)
        role = _ROLES.get(kind, "")
        if not role:
            msg = f"MultiVI does not apply: the readings of {name!r} are no counts of genes, peaks or proteins."
            raise OptionError(msg)
        if role in roles:
            msg = f"MultiVI does not apply: {name!r} and {roles[role].name!r} are both {role}."
            raise OptionError(msg)
        roles[role] = modality
    if "rna" not in roles:
        msg = "MultiVI does not apply: no modality counts genes."
        raise OptionError(msg)
    # In its own order: it would sort a MuData in another one in place, which MuData no longer lets it.
    return {role: roles[role] for role in _ROLES.values() if role in roles}


def _train(roles: dict[str, Modality], epochs: int) -> Array:
    """``(n, d)`` coordinates of all cells, modality after modality, each in canonical order."""
    from mudata import MuData

    multivi = import_quietly("scvi.model").MULTIVI
    n = sum(len(m) for m in roles.values())
    names = [f"{m.name}:{i}" for m in roles.values() for i in range(len(m))]
    tables, start = {}, 0
    for role, modality in roles.items():
        tables[role] = _padded(modality, role, start, n, names)
        start += len(modality)
    both = MuData(tables)
    # The modality is the batch: what the measurement alone makes different is not to be told from the coordinates.
    both.obs["modality"] = np.repeat([m.name for m in roles.values()], [len(m) for m in roles.values()])
    multivi.setup_mudata(both, batch_key="modality", modalities={f"{role}_layer": role for role in roles})
    model = multivi(both)
    model.train(max_epochs=epochs, accelerator="cpu", devices=1, enable_progress_bar=False)
    return np.asarray(model.get_latent_representation())


def _padded(modality: Modality, role: str, start: int, n: int, names: list[str]) -> Any:
    """Return the table of all cells, with zeros where the cell was not measured so."""
    from anndata import AnnData

    own = float_csr(modality.X[modality.order])
    above = sp.csr_matrix((start, own.shape[1]), dtype=np.float32)
    below = sp.csr_matrix((n - start - own.shape[0], own.shape[1]), dtype=np.float32)
    X = sp.csr_matrix(sp.vstack([above, own, below]))
    table = AnnData(X.toarray() if role == "protein" else X)
    table.obs_names = names
    table.var_names = [f"{role}:{i}" for i in range(own.shape[1])]
    return table


@contextmanager
def settings(seed: int, folder: Path) -> Iterator[None]:
    """Give scvi-tools a seed for its split, and a folder for what it writes; afterwards its own again."""
    theirs = import_quietly("scvi").settings
    before = theirs.seed, theirs.logging_dir
    theirs.seed, theirs.logging_dir = seed, folder
    try:
        yield
    finally:
        theirs._seed, theirs.logging_dir = before  # the public setter would seed every generator again
