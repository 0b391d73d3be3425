"""MultiVI (Ashuach et al. 2023) for cells of which some were measured in both modalities, through scvi-tools."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from unpaired.bench.peers.cells import float_csr
from unpaired.bench.peers.multivi import missing, roles_of, settings
from unpaired.bench.peers.quiet import first_line, import_quietly, quiet
from unpaired.data.types import Array, Dataset
from unpaired.embed.clue_inputs import slots_of
from unpaired.errors import UnpairedError

__all__ = ["missing", "place_multivi"]

_EPOCHS = 500  # scvi-tools' own default


def place_multivi(
    learn: Dataset, match: Dataset, *, epochs: int | None, batch: int, seed: int
) -> tuple[dict[str, Array], int]:
    """Learn MultiVI of all cells and return the places of those to be matched, with the epochs that were run.

    It is given the cells to learn from, paired where the pairs are known, and those to be matched as cells of one
    modality each; what a cell lacks is zeros, as its tutorials do, and which modalities a cell has is the batch. It
    embeds only cells that it learned from, so those to be matched must be among them. On the CPU.

    Parameters
    ----------
    learn, match
        Counts of the same modalities.
    epochs
        Most passes; by default its own 500.
    batch
        Cells a step.
    seed
        Seed of its generators.

    Raises
    ------
    OptionError
        If MultiVI does not apply to such data.
    UnpairedError
        If the package is missing, or its training breaks down.
    """
    roles = {m.name: role for role, m in roles_of(learn).items()}
    if (why := missing()) is not None:
        raise UnpairedError(why)
    names = list(roles)
    slots = _slots(learn, match, names)
    with quiet(seed) as folder, settings(seed, folder):
        try:
            both = _mudata(learn, match, roles, slots)
            latent, run = _train(both, list(roles.values()), epochs or _EPOCHS, batch)
        except Exception as error:  # whatever breaks in there is its failure, and a row of the bench that says so
            msg = f"MultiVI failed ({type(error).__name__}: {first_line(error)})."
            raise UnpairedError(msg) from error
    if not np.isfinite(latent).all():
        msg = "MultiVI gave no numbers: its training broke down."
        raise UnpairedError(msg)
    out, start = {}, len(slots) - sum(len(match[n]) for n in names)
    for name in names:
        own = match[name]
        out[name] = np.empty((len(own), latent.shape[1]))
        out[name][own.order] = latent[start : start + len(own)]
        start += len(own)
    return out, run


def _slots(learn: Dataset, match: Dataset, names: list[str]) -> Array:
    """``(N, K)`` rows in canonical order, those of ``match`` after those of ``learn``; -1 where a cell has none."""
    parts = [slots_of(learn, names)]
    for at, name in enumerate(names):
        own = np.full((len(match[name]), len(names)), -1)
        own[:, at] = len(learn[name]) + np.arange(len(match[name]))
        parts.append(own)
    return np.concatenate(parts)


def _mudata(learn: Dataset, match: Dataset, roles: dict[str, str], slots: Array) -> Any:
    from anndata import AnnData
    from mudata import MuData

    tables = {}
    for at, (name, role) in enumerate(roles.items()):
        own = sp.vstack([float_csr(d[name].X[d[name].order]) for d in (learn, match)], format="csr")
        there = np.flatnonzero(slots[:, at] >= 0)
        place = sp.csr_matrix((np.ones(len(there), np.float32), (there, slots[there, at])), (len(slots), own.shape[0]))
        X = sp.csr_matrix(place @ own)
        table = AnnData(X.toarray() if role == "protein" else X)
        table.obs_names = [f"cell {i}" for i in range(len(slots))]
        table.var_names = [f"{role}:{i}" for i in range(own.shape[1])]
        tables[role] = table
    both = MuData(tables)
    both.obs["modality"] = ["+".join(n for n, s in zip(roles, row, strict=True) if s >= 0) for row in slots]
    return both


def _train(both: Any, roles: list[str], epochs: int, batch: int) -> tuple[Array, int]:
    multivi = import_quietly("scvi.model").MULTIVI
    multivi.setup_mudata(both, batch_key="modality", modalities={f"{role}_layer": role for role in roles})
    model = multivi(both)
    model.train(max_epochs=epochs, batch_size=batch, accelerator="cpu", devices=1, enable_progress_bar=False)
    run = len(model.history["elbo_train"])
    return np.asarray(model.get_latent_representation()), run
