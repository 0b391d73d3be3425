"""Bone marrow by CITE-seq (GSE194122, the NeurIPS 2021 competition), prepared and split as in Xi et al. 2024."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from unpaired.data.build import build_dataset
from unpaired.data.counts import are_counts
from unpaired.data.download import downloaded
from unpaired.data.load import load_tables
from unpaired.data.preprocess import prepare
from unpaired.data.recipes import log_normalise
from unpaired.data.split import hold_out, take_truth
from unpaired.data.tables import Table
from unpaired.data.types import Array, Dataset, Truth
from unpaired.data.wording import counted, listed
from unpaired.errors import DataError, OptionError, Problem
from unpaired.options import check_choice, check_integer, check_seed
from unpaired.seeds import named_seed

__all__ = ["BMMC_FILE", "BMMC_SHA256", "PARTS", "BmmcPart", "Split", "bmmc_citeseq", "bmmc_file"]

BmmcPart = Literal["train", "valid", "test"]
PARTS: tuple[BmmcPart, ...] = ("train", "valid", "test")

BMMC_FILE = "GSE194122_openproblems_neurips2021_cite_BMMC_processed.h5ad"
BMMC_URL = f"https://ftp.ncbi.nlm.nih.gov/geo/series/GSE194nnn/GSE194122/suppl/{BMMC_FILE}.gz"
BMMC_SHA256 = "b9b50fade9349719cba23c97c6515d3501a32ee3735fe95fe51221d2e8a5f361"
"""Of the gzipped file, as the hub of scvi-tools records it (its model ``bone_marrow_cite_totalvi``)."""

_PUBLISHED = {"train": "train", "test": "valid", "iid_holdout": "test"}  # is_train -> our name of the part
_TYPES = {"rna": "GEX", "adt": "ADT"}
_TEST, _VALID = 0.2, 0.25  # where the file does not split: a fifth, and a quarter of the rest
_CLIP = 10


@dataclass(frozen=True, eq=False)
class Split:
    """The cells, and who of them is to learn from, to choose the epoch by, and to judge by.

    Attributes
    ----------
    data
        All cells, modalities ``"rna"`` and ``"adt"``; the recipes are fitted on the training cells alone.
    truth
        Who is whose partner; ``None`` unless the pairing is hidden.
    part
        Modality name -> ``(n,)`` of ``"train"``, ``"valid"`` or ``"test"``.
    published
        Whether the split is the file's own, as published; else it is drawn.
    counts
        The same cells in the same order with raw counts for readings; ``None`` unless asked for.
    """

    data: Dataset
    truth: Truth | None
    part: Mapping[str, Array]
    published: bool
    counts: Dataset | None = None

    def __repr__(self) -> str:
        sizes = (f"{n}: " + ", ".join(f"{(of == p).sum()} {p}" for p in PARTS) for n, of in self.part.items())
        return f"Split({'; '.join(sizes)}; {'published' if self.published else 'drawn'})"

    def rows(self, *parts: BmmcPart) -> dict[str, Array]:
        """Return modality name -> the rows of the parts named."""
        for part in parts:
            check_choice("part", part, PARTS)
        return {n: np.flatnonzero(np.isin(of, parts)) for n, of in self.part.items()}

    def take(self, *parts: BmmcPart) -> tuple[Dataset, Truth | None]:
        """Return the cells of the parts named, and who is whose partner among them.

        Raises
        ------
        OptionError
            If there is no such part.
        """
        rows = self.rows(*parts)
        return self.data.take(rows), take_truth(self.truth, rows)

    def take_counts(self, *parts: BmmcPart) -> Dataset:
        """Return the cells of the parts named with raw counts for readings, in the order of :meth:`take`.

        Raises
        ------
        OptionError
            If there is no such part, or the counts were not asked for.
        """
        if self.counts is None:
            msg = "the counts were not read; ask for them by bmmc_citeseq(counts=True)."
            raise OptionError(msg)
        return self.counts.take(self.rows(*parts))

    @property
    def train(self) -> tuple[Dataset, Truth | None]:
        """The training cells."""
        return self.take("train")

    @property
    def valid(self) -> tuple[Dataset, Truth | None]:
        """The validation cells."""
        return self.take("valid")

    @property
    def test(self) -> tuple[Dataset, Truth | None]:
        """The test cells."""
        return self.take("test")

    @property
    def learn(self) -> tuple[Dataset, Truth | None]:
        """The training and the validation cells, for methods that draw their own validation cells."""
        return self.take("train", "valid")


def bmmc_citeseq(
    path: str | Path | None = None,
    *,
    label: str = "cell_type",
    pairing: Literal["hide", "use", "none"] = "hide",
    pcs: int = 200,
    max_cells_per_label: int | None = None,
    counts: bool = False,
    sha256: str | None = BMMC_SHA256,
    seed: int = 0,
) -> Split:
    """Return 90,000 bone marrow cells, genes and 134 surface proteins read in each, 45 cell types.

    As in Xi et al. 2024, section 6.2: genes as normalised in the file, standardised, cut at 10 standard deviations, 200
    principal components; proteins as normalised in the file, and nothing more. ``is_train`` splits: ``train`` to learn
    from, ``test`` to choose the epoch by, ``iid_holdout`` to judge by.

    Parameters
    ----------
    path
        The file of GEO, unpacked; or a folder with ``rna.h5ad`` and ``adt.h5ad`` of the same cells. ``None``: the file
        is downloaded once into the user's cache folder (``$XDG_CACHE_HOME/unpaired`` or ``~/.cache/unpaired``).
    label
        Column with the label.
    pairing
        ``"hide"``: the sides are shuffled apart and the truth is kept for scoring; ``"use"``: the pairs are offered for
        learning; ``"none"``: nobody knows.
    pcs
        Principal components of the genes; fewer where there are fewer training cells.
    max_cells_per_label
        Keep at most so many cells of every label.
    counts
        Keep the raw counts too, for methods that model counts.
    sha256
        SHA-256 of the gzipped file that is downloaded. The default is one that others have recorded, and not checked by
        us. ``None`` takes what comes, and records its hash beside the file: later loads are held to that.
    seed
        Seed of the shuffling, of the recipe, and of the split where it is drawn.

    Raises
    ------
    DataError
        If the file cannot be had, or is not of this kind.
    OptionError
        If an option is not allowed.

    Notes
    -----
    The published code fits the principal components on all cells, the test cells included; here they are fitted on the
    training cells. Where a file has no ``is_train``, a fifth of every label is drawn for the test and a fifth for the
    validation. Where the readings are raw counts, genes are scaled to 10,000 counts a cell and log(1 + x) is taken;
    proteins are divided by their geometric mean in the cell (of 1 + x) before the logarithm.

    Source: Luecken et al., "A sandbox for prediction and integration of DNA, RNA, and proteins in single cells",
    NeurIPS Datasets and Benchmarks 2021; GEO accession GSE194122.
    """
    check_integer("pcs", pcs, low=1)
    check_seed(seed)
    check_choice("pairing", pairing, ("hide", "use", "none"))
    file = bmmc_file(path, sha256=sha256)  # once: what was downloaded is hashed here
    found = _tables(file)
    tables, notes = zip(*(_normalised(t) for t in found), strict=True)
    data, truth = build_dataset(
        tables, label=label, pairing=pairing, recipes="none", max_cells_per_label=max_cells_per_label, seed=seed
    )
    places = {t.name: t.obs.index.get_indexer([_bare(i) for i in data[t.name].ids]) for t in tables}
    published = all("is_train" in t.obs.columns for t in tables)
    part = _read_parts(tables, places) if published else _drawn_parts(data, truth, seed)
    rows = {n: np.flatnonzero(of == "train") for n, of in part.items()}
    data = replace(data, notes=(*data.notes, *filter(None, notes), _split_note(part, published=published, seed=seed)))
    raw = _counts(file, found, data, places, rows, seed=seed) if counts else None
    return Split(_prepared(data, rows, pcs, seed), truth, part, published, raw)


def bmmc_file(path: str | Path | None = None, *, sha256: str | None = BMMC_SHA256) -> Path:
    """Return the path of the file or folder; where none is given that of the file of GEO, downloaded now or before."""
    return downloaded(BMMC_URL, BMMC_FILE, checksum=sha256) if path is None else Path(path)


# ---------------------------------------------------------------------------------------------------------- tables


def _tables(path: Path, layer: str | None = None) -> list[Table]:
    """Return the tables of genes and of proteins."""
    if path.is_dir():
        return load_tables([path / "rna.h5ad", path / "adt.h5ad"], layer=layer)
    (table,) = load_tables([path], layer=layer)[:1]
    types = np.array([]) if table.feature_types is None else table.feature_types
    missing = [t for t in _TYPES.values() if t not in types]
    if missing:
        what = f"has no features whose type is {listed(missing)} in var['feature_types']."
        raise DataError([Problem("error", str(path), what, f"Give the file {BMMC_FILE} of GEO.")])
    X = sp.csr_matrix(table.X) if sp.issparse(table.X) else table.X
    return [_columns(replace(table, X=X), name, np.flatnonzero(types == kind)) for name, kind in _TYPES.items()]


def _columns(table: Table, name: str, columns: Array) -> Table:
    assert table.feature_names is not None
    assert table.feature_types is not None
    return replace(
        table,
        name=name,
        X=table.X[:, columns],
        feature_names=table.feature_names[columns],
        feature_types=table.feature_types[columns],
    )


def _normalised(table: Table) -> tuple[Table, str]:
    """Return the table with readings like those of the processed file, and what was done; counts alone are changed."""
    if not are_counts(table):
        return table, ""
    if table.name == "rna":
        note = "rna are raw counts: scaled to 10,000 a cell, then log(1 + x)."
        return replace(table, X=log_normalise(sp.csr_matrix(table.X, dtype=np.float64))), note
    note = "adt are raw counts: divided by the cell's geometric mean of 1 + x, then log(1 + x)."
    return replace(table, X=_over_geometric_mean(table.X)), note


def _over_geometric_mean(X: Any) -> Any:
    """Bring cells to a common depth; zeros stay zeros, as in the processed file."""
    counts = sp.csr_matrix(X, dtype=np.float64)
    mean = np.asarray(counts.log1p().sum(axis=1)).ravel() / counts.shape[1]
    return sp.csr_matrix(sp.diags(np.exp(-mean)) @ counts).log1p()


def _counts(
    file: Path,
    found: Sequence[Table],
    data: Dataset,
    places: Mapping[str, Array],
    train: Mapping[str, Array],
    *,
    seed: int,
) -> Dataset:
    """Return the data set's cells with their raw counts, and the package's own recipes for counts."""
    tables = found if all(are_counts(t) for t in found) else _tables(file, "counts")
    own = {t.name: sp.csr_matrix(t.X, dtype=np.float32)[places[t.name]] for t in tables}
    raw = replace(data, modalities={n: replace(m, X=own[n]) for n, m in data.modalities.items()})
    return prepare(raw, train=train, hints={t.name: t.feature_types for t in tables}, seed=seed)


def _bare(cell: str) -> str:
    return cell.partition(":")[2]


# ----------------------------------------------------------------------------------------------------------- parts


def _read_parts(tables: Sequence[Table], places: Mapping[str, Array]) -> dict[str, Array]:
    parts, problems = {}, []
    for table in tables:
        said = np.asarray(table.obs["is_train"].astype(str))
        if unknown := sorted(set(said) - set(_PUBLISHED)):
            what = f"obs['is_train'] must be one of {listed(_PUBLISHED)}; it holds {listed(unknown, limit=3)}."
            problems.append(Problem("error", table.where, what))
            continue
        parts[table.name] = np.array([_PUBLISHED[s] for s in said])[places[table.name]]
    if problems:
        raise DataError(problems)
    return parts


def _drawn_parts(data: Dataset, truth: Truth | None, seed: int) -> dict[str, Array]:
    kept, known, test = hold_out(data, truth, fraction=_TEST, seed=named_seed(seed, "bmmc", "test"))
    valid = hold_out(kept, known, fraction=_VALID, seed=named_seed(seed, "bmmc", "valid"))[2]
    return {
        n: np.select([np.isin(m.ids, test.data[n].ids), np.isin(m.ids, valid.data[n].ids)], ["test", "valid"], "train")
        for n, m in data.modalities.items()
    }


def _split_note(part: Mapping[str, Array], *, published: bool, seed: int) -> str:
    of = next(iter(part.values()))
    sizes = ", ".join(f"{counted(int((of == p).sum()), 'cell')} {p}" for p in PARTS)
    how = "Split by is_train" if published else f"There is no is_train: split 60/20/20 within every label (seed {seed})"
    return f"{how}: {sizes}."


def _prepared(data: Dataset, train: Mapping[str, Array], pcs: int, seed: int) -> Dataset:
    """Return the data set with recipes fitted on the training cells."""
    room = min(len(train["rna"]), data["rna"].X.shape[1]) - 1
    if room < 1 or not len(train["adt"]):
        what = f"holds {counted(len(train['rna']), 'training cell')}, too few for principal components."
        raise DataError([Problem("error", "rna", what, "Give more cells.")])
    k = min(pcs, room)
    fewer = f" ({pcs} were asked for; there are no more)" if k < pcs else ""
    note = (
        f"The {k} principal components of rna{fewer} are fitted on the {counted(len(train['rna']), 'training cell')};"
        " the published code fits them on all cells."
    )
    recipes = {"rna": f"scale:pcs={k},clip={_CLIP}", "adt": "none"}
    return replace(prepare(data, recipes=recipes, train=train, seed=seed), notes=(*data.notes, note))
