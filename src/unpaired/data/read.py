"""Files to data sets: h5ad, h5mu, zarr, npz, csv and parquet, told apart by their content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from unpaired.data.build import build_dataset
from unpaired.data.load import load_tables, require_kinds
from unpaired.data.types import Dataset, Truth

__all__ = ["read", "read_h5ad", "read_h5mu", "read_npz", "read_table"]

Pairing = Literal["none", "use", "hide"]
Missing = Literal["median", "error"]


def read(
    *files: str | Path,
    label: str | None,
    modalities: Sequence[str] | None = None,
    batch: str | None = None,
    layer: str | None = None,
    pairing: Pairing = "none",
    recipes: Mapping[str, str] | str = "auto",
    missing: Missing = "median",
    max_cells_per_label: int | None = None,
    seed: int = 0,
) -> tuple[Dataset, Truth | None]:
    """Read a data set from files of any known kind, told by their content.

    Parameters
    ----------
    *files
        Paths, or ``"NAME=PATH"`` to name a modality; a file may hold one modality or several.
    label
        Column with the label of each cell's experiment. ``None`` gives all cells one label, for what looks at none
        (:class:`unpaired.Clue`).
    modalities
        Names of the modalities to take from the files; all by default.
    batch
        Column with the batch, if any.
    layer
        Layer to read in place of ``X``.
    pairing
        What to do with cells of the same id in several modalities. ``"none"`` keeps them apart; ``"use"`` offers the
        pairs for learning; ``"hide"`` takes them out, shuffles each side, and returns them as the truth.
    recipes
        One recipe for all, or modality name -> recipe; see :func:`unpaired.prepare`.
    missing
        ``"median"`` fills missing values by their feature's median; ``"error"`` raises.
    max_cells_per_label
        Keep at most so many cells of every label in each modality; partners stay together.
    seed
        Seed of everything that is drawn.

    Returns
    -------
    Dataset
        The data; ``notes`` holds what is worth a warning.
    Truth or None
        The pairs, with ``pairing="hide"``.

    Raises
    ------
    DataError
        With every problem of the data.
    OptionError
        If an option has a value that is not allowed.
    """
    tables = load_tables(files, modalities=modalities, layer=layer, label=label, batch=batch)
    return build_dataset(
        tables,
        label=label,
        batch=batch,
        pairing=pairing,
        recipes=recipes,
        missing=missing,
        max_cells_per_label=max_cells_per_label,
        seed=seed,
    )


def read_h5ad(
    *files: str | Path,
    label: str,
    batch: str | None = None,
    layer: str | None = None,
    pairing: Pairing = "none",
    recipes: Mapping[str, str] | str = "auto",
    missing: Missing = "median",
    max_cells_per_label: int | None = None,
    seed: int = 0,
) -> tuple[Dataset, Truth | None]:
    """Read a data set from h5ad files, one modality each; see :func:`read` for the parameters."""
    require_kinds(files, ("h5ad",))
    return read(
        *files,
        label=label,
        batch=batch,
        layer=layer,
        pairing=pairing,
        recipes=recipes,
        missing=missing,
        max_cells_per_label=max_cells_per_label,
        seed=seed,
    )


def read_h5mu(
    file: str | Path,
    *,
    label: str,
    modalities: Sequence[str] | None = None,
    batch: str | None = None,
    layer: str | None = None,
    pairing: Pairing = "none",
    recipes: Mapping[str, str] | str = "auto",
    missing: Missing = "median",
    max_cells_per_label: int | None = None,
    seed: int = 0,
) -> tuple[Dataset, Truth | None]:
    """Read a data set from an h5mu file (or a zarr store of MuData); see :func:`read` for the parameters."""
    require_kinds([file], ("h5mu", "zarr"))
    return read(
        file,
        label=label,
        modalities=modalities,
        batch=batch,
        layer=layer,
        pairing=pairing,
        recipes=recipes,
        missing=missing,
        max_cells_per_label=max_cells_per_label,
        seed=seed,
    )


def read_npz(
    file: str | Path,
    *,
    label: str = "label",
    modalities: Sequence[str] | None = None,
    batch: str | None = None,
    pairing: Pairing = "none",
    recipes: Mapping[str, str] | str = "auto",
    missing: Missing = "median",
    max_cells_per_label: int | None = None,
    seed: int = 0,
) -> tuple[Dataset, Truth | None]:
    """Read a data set from an npz file of arrays; see :func:`read` for the parameters.

    Every array of two dimensions (four: images) is a modality. ``label`` holds the labels of the modalities of its
    length, ``NAME_label`` those of ``NAME``; ``sample_id``, ``ids`` or ``NAME_ids`` the names of the samples, and
    ``NAME_features`` those of the features. Without ids the rows of different modalities are different samples.
    """
    require_kinds([file], ("npz",))
    return read(
        file,
        label=label,
        modalities=modalities,
        batch=batch,
        pairing=pairing,
        recipes=recipes,
        missing=missing,
        max_cells_per_label=max_cells_per_label,
        seed=seed,
    )


def read_table(
    *files: str | Path,
    label: str,
    batch: str | None = None,
    pairing: Pairing = "none",
    recipes: Mapping[str, str] | str = "auto",
    missing: Missing = "median",
    max_cells_per_label: int | None = None,
    seed: int = 0,
) -> tuple[Dataset, Truth | None]:
    """Read a data set from text or parquet tables, one modality each; see :func:`read` for the parameters.

    One row is one sample. A column named id, sample_id, cell, barcode or index (or a first one without a name) holds
    the samples' names; all columns but these, the label and the batch must be numbers.
    """
    require_kinds(files, ("csv", "parquet"))
    return read(
        *files,
        label=label,
        batch=batch,
        pairing=pairing,
        recipes=recipes,
        missing=missing,
        max_cells_per_label=max_cells_per_label,
        seed=seed,
    )
