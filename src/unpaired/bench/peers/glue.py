"""scGLUE (Cao and Gao 2022) through its own package, as an embedder."""

from __future__ import annotations

from math import ceil
from typing import Any, Self

import numpy as np

from unpaired.bench.peers.cells import Learned, are_counts, embedding_of, float_csr, learned
from unpaired.bench.peers.links import gene_protein_links
from unpaired.bench.peers.quiet import first_line, import_quietly, quiet, why_missing
from unpaired.data.types import Array, Dataset, Modality
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import OptionError, UnpairedError
from unpaired.options import check_integer, check_seed
from unpaired.seeds import named_seed

__all__ = ["Glue", "OnCpu", "missing"]

_GENES = 2000  # most variable features of each side that the model reads, besides the linked ones
_FEWEST = 3  # links; with fewer the guidance graph guides nothing
_BURN_IN = 6  # of the epochs, the first sixth without alignment: scGLUE's own share


def missing() -> str | None:
    """Say why scGLUE cannot be used here; ``None`` where it can."""
    return why_missing("scglue", "scglue")


class Glue:
    """scGLUE: autoencoders of two modalities, aligned by an adversary and a graph of features that belong together.

    The graph links genes and proteins by their names. The labels are not given to it, as in Xi et al. 2024, whose
    other settings were its defaults. It embeds only the cells that it was fitted on: fit it on those to be matched. It
    decodes the raw readings (negative binomial for counts, otherwise normal) of at most 2,000 features a side and the
    linked ones, and its encoders read the features after the recipe, as all methods do. It runs on the CPU.

    Parameters
    ----------
    epochs
        Most epochs of each of its two stages; by default its own choice, which is thousands for a thousand cells.
    seed
        Seed of its generators.

    Attributes
    ----------
    notes_
        What was left out or chosen, as sentences.
    """

    notes_: tuple[str, ...]

    def __init__(self, *, epochs: int | None = None, seed: int = 0) -> None:
        self.epochs = epochs
        self.seed = seed

    def fit(self, data: Dataset) -> Self:
        """Learn the space.

        Parameters
        ----------
        data
            Two modalities, of genes and of proteins, by their features' names.

        Raises
        ------
        OptionError
            If an option is not allowed, or scGLUE does not apply to such data.
        UnpairedError
            If the package is missing, or its training breaks down.
        """
        if self.epochs is not None:
            check_integer("epochs", self.epochs, low=1)
        check_seed(self.seed)
        sides = _applies(data)
        links = _links(sides)
        if (why := missing()) is not None:
            raise UnpairedError(why)
        kept = [_kept(m, [link[k] for link in links]) for k, m in enumerate(sides)]
        seed = named_seed(self.seed, "glue")
        with quiet(seed) as folder, OnCpu():
            tables = {m.name: _table(m, own) for m, own in zip(sides, kept, strict=True)}
            options: dict[str, Any] = {"directory": str(folder)}
            if self.epochs is not None:
                options |= {"max_epochs": self.epochs, "align_burnin": ceil(self.epochs / _BURN_IN)}
            given = {"init_kws": {"random_seed": seed % 2**31}, "fit_kws": options}
            notes = [f"{len(links)} links between genes and proteins by name"]
            try:
                model = _trained(tables, _graph(sides, kept, links), given, notes)
                codes = {name: model.encode_data(name, table) for name, table in tables.items()}
            except Exception as error:  # whatever breaks in there is its failure, and a row of the bench that says so
                msg = f"scGLUE failed ({type(error).__name__}: {first_line(error)})."
                raise UnpairedError(msg) from error
        self._known = learned("scGLUE", data, codes)
        self.notes_ = tuple(notes)
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
        made_by = Provenance("Glue", {"epochs": self.epochs, "seed": self.seed}, getattr(self, "notes_", ()))
        return embedding_of("scGLUE", data, known, made_by)


def _applies(data: Dataset) -> tuple[Modality, Modality]:
    """Return the modalities, genes first, or say why scGLUE has no use for them."""
    sides = list(data.modalities.values())
    why = ""
    if len(sides) != 2:
        why = f"it is wrapped for two modalities and there are {len(sides)}"
    for m in sides:
        if m.X.ndim != 2:
            why = f"the readings of {m.name!r} are images"
        elif m.feature_names is None:
            why = f"the features of {m.name!r} have no names to link by"
        elif not np.isfinite(float_csr(m.X).data).all():
            why = f"readings of {m.name!r} are missing"
    if why:
        msg = f"scGLUE does not apply: {why}."
        raise OptionError(msg)
    return sides[0], sides[1]


def _links(sides: tuple[Modality, Modality]) -> list[tuple[int, int]]:
    """Return the links between the features of both sides, whichever holds the proteins."""
    names = [[str(n) for n in m.feature_names] for m in sides if m.feature_names is not None]
    there = gene_protein_links(names[0], names[1])
    back = [(i, j) for j, i in gene_protein_links(names[1], names[0])]
    links = max(there, back, key=len)
    if len(links) < _FEWEST:
        msg = (
            f"scGLUE does not apply: {len(links)} features of {sides[0].name!r} and {sides[1].name!r} belong together "
            f"by name (genes and proteins), and its graph needs {_FEWEST}."
        )
        raise OptionError(msg)
    return links


def _kept(modality: Modality, linked: list[int]) -> Array:
    """``(k,)`` columns that the model reads: those that vary most, and the linked ones."""
    X = float_csr(modality.X[modality.order])
    X.data = np.log1p(X.data) if are_counts(modality) else X.data
    mean = np.asarray(X.mean(axis=0)).ravel()
    spread = np.asarray(X.multiply(X).mean(axis=0)).ravel() - mean**2
    most = np.argsort(-spread, kind="stable")[:_GENES]
    return np.union1d(most, np.unique(linked))


def _table(modality: Modality, kept: Array) -> Any:
    from anndata import AnnData

    order = modality.order
    X = float_csr(modality.X[order])[:, kept]
    counts = are_counts(modality)
    table = AnnData(X if counts else X.toarray())
    table.obs_names = [f"{modality.name}:{i}" for i in range(len(order))]
    table.var_names = [_node(modality, int(i)) for i in kept]
    rep = None
    if modality.recipe is not None and modality.recipe.name != "none":
        rep = "X_features"
        table.obsm[rep] = modality.flat_features[order].astype(np.float32)
    configure = import_quietly("scglue.models").configure_dataset
    configure(table, "NB" if counts else "Normal", use_highly_variable=False, use_rep=rep)
    return table


def _node(modality: Modality, column: int) -> str:
    return f"{modality.name}:{column}"


def _graph(sides: tuple[Modality, Modality], kept: list[Array], links: list[tuple[int, int]]) -> Any:
    graph = import_quietly("networkx").MultiDiGraph()
    edge = {"weight": 1.0, "sign": 1}
    for modality, own in zip(sides, kept, strict=True):
        for column in own.tolist():
            graph.add_edge(_node(modality, column), _node(modality, column), type="loop", **edge)
    for i, j in links:
        one, two = _node(sides[0], i), _node(sides[1], j)
        graph.add_edge(one, two, type="same", **edge)
        graph.add_edge(two, one, type="same", **edge)
    return graph


def _trained(tables: dict[str, Any], graph: Any, given: dict[str, Any], notes: list[str]) -> Any:
    """Train as scGLUE does by default; where its balancing of cells breaks down, without it."""
    fit = import_quietly("scglue.models").fit_SCGLUE
    try:
        model = fit(tables, graph, **given)
        if all(np.isfinite(model.encode_data(name, table)).all() for name, table in tables.items()):
            return model
    except ValueError as error:  # what NaN comes to in its distributions; anything else is a failure
        notes.append(f"balancing the cells broke down ({type(error).__name__}) and was skipped")
    else:
        notes.append("with balancing of the cells the training ended in NaN; it was skipped")
    for table in tables.values():
        table.uns["__scglue__"]["use_dsc_weight"] = None
    return fit(tables, graph, skip_balance=True, **given)


class OnCpu:
    """Tell scGLUE to stay on the CPU and to let interrupts through, for a while."""

    def __enter__(self) -> None:
        self.config = import_quietly("scglue").config
        self.before = self.config.CPU_ONLY, self.config.ALLOW_TRAINING_INTERRUPTION
        self.config.CPU_ONLY, self.config.ALLOW_TRAINING_INTERRUPTION = True, False

    def __exit__(self, *_: object) -> None:
        self.config.CPU_ONLY, self.config.ALLOW_TRAINING_INTERRUPTION = self.before
