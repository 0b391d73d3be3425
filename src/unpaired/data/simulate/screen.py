"""An unpaired perturbation screen: counts of genes in some cells, pictures of others, and here the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from unpaired.data.build import build_dataset, tables_from_arrays
from unpaired.data.simulate.apart import hide_cells
from unpaired.data.simulate.cells import Cells, Design, draw_cells
from unpaired.data.simulate.readings import read_genes, read_pictures
from unpaired.data.tables import Table
from unpaired.data.types import Array, Dataset, Truth
from unpaired.errors import OptionError
from unpaired.options import check_integer, check_number, check_seed

__all__ = ["screen"]


def screen(
    *,
    cells: int = 150,
    perturbations: int = 24,
    genes: int = 200,
    features: int = 1024,
    latents: int = 8,
    effect: float = 1.0,
    batches: int = 1,
    guide_efficiency: float = 1.0,
    violate_a1: float = 0.0,
    violate_a2: float = 0.0,
    seed: int = 0,
) -> tuple[Dataset, Truth]:
    """Simulate a perturbation screen read by two instruments that never see the same cell, and keep the truth.

    It stands for the data of experiment 3 of the propensity paper (section 6.3 and appendix D.3), which are not public:
    24 perturbed genes and a control, counts of 200 genes, 1024-dimensional embeddings of single-cell images. Every cell
    here is read by both instruments; then both sides are shuffled apart.

    **Latent response.** ``Z`` has ``d = latents`` dimensions, in standard deviations of the control: ``Z = e`` with
    ``e ~ N(0, I)`` in the control, and ``Z = m_t + D_t e`` under perturbation ``t``, with ``m_t ~ N(0, effect^2 I)``
    and ``D_t`` diagonal, ``log D_t ~ N(0, 0.3^2)``. So there is as much to match within a label as in the control.

    **Own noise.** ``U`` has 4 dimensions in ``rna`` and 16 in ``image``, ``N(0, I)`` each, the same for all labels:
    assumption (A1).

    **rna.** ``counts_j ~ NB(mean l p_j, dispersion theta_j)`` with variance ``mean + mean^2 / theta_j``;
    ``p = softmax(b + W Z + V U)`` over the genes, ``b ~ N(0, 1.4^2)``, ``W, V ~ N(0, 0.15^2)``; ``l`` is log-normal
    around 1.5 counts a gene (spread 0.35 of its logarithm), ``theta`` around 5 (spread 0.5).

    **image.** ``x = A v + 0.5 B tanh(C v + c) + 0.8 noise`` with ``v = (s, 1.5 U)`` and ``s = Z R``, ``R`` orthogonal.
    The columns of ``A`` and the 64 of ``B`` have a length around 1, each entry of ``C v`` has the mean square of ``v``;
    ``c`` and ``noise`` are ``N(0, I)``. But for the noise, ``v`` can be told from ``x``: assumption (A2).

    Parameters
    ----------
    cells
        Cells of each label.
    perturbations
        Perturbed genes: the labels are ``"control"`` and ``"gene01"``, ``"gene02"``, ...
    genes, features
        Columns of ``rna`` and of ``image``.
    latents
        Dimensions of ``Z``.
    effect
        How far a perturbation moves ``Z`` in each dimension, in standard deviations of the control. 0: not at all.
    batches
        Batches, drawn for each cell whatever its label, and named in ``Modality.batch``. In each, every gene's log rate
        is shifted by ``N(0, 0.3^2)``, the counts of all its cells by a common factor (spread 0.2 of its logarithm) and
        the embedding by a vector with a length around 2. One batch: no such effect, and no names.
    guide_efficiency
        Chance that a perturbation works in a cell. Where it does not, the cell is like a control cell (in ``Z``, and in
        ``U``) but keeps its label.
    violate_a1
        How far a perturbation moves the modalities' own ``U`` as well: in each dimension by ``violate_a1 * effect *
        N(0, 1)``, drawn for each label and modality. At 1 that is as far as it moves ``Z``.
    violate_a2
        Share of ``Z`` that ``image`` does not see. Of the ``d`` directions of ``s``, ``violate_a2 * d`` are set to zero
        (where that is no whole number, one more is multiplied by what is left of it). At 1 nothing of ``Z`` is seen.
    seed
        Seed of everything. What an option is not about stays the same when it changes: the same cells, noise and genes.

    Returns
    -------
    Dataset
        ``rna`` with float32 counts ``(n, genes)`` and the recipe ``"counts"``, ``image`` with float32 ``(n, features)``
        and the recipe ``"auto"`` (``"scale:pcs=50"`` of many features); ``n = cells * (perturbations + 1)``.
    Truth
        The partners and, for both modalities, ``Z``, ``(n, latents)``.

    Raises
    ------
    OptionError
        If an option has a value that is not allowed.
    """
    _check_counts({"cells": cells, "perturbations": perturbations, "features": features, "latents": latents})
    check_integer("genes", genes, low=3)
    check_integer("batches", batches, low=1)
    check_number("guide_efficiency", guide_efficiency, above=0, high=1)
    _check_from_zero({"effect": effect}, high=None)
    _check_from_zero({"violate_a1": violate_a1, "violate_a2": violate_a2}, high=1)
    check_seed(seed)
    design = Design(cells, perturbations, latents, effect, batches, guide_efficiency, violate_a1, violate_a2, seed)
    drawn = draw_cells(design)
    arrays = {"rna": read_genes(drawn, design, genes), "image": read_pictures(drawn, design, features)}
    data, _ = build_dataset(
        _tables(drawn, design, arrays),
        label="label",
        batch="batch" if batches > 1 else None,
        pairing="use",
        seed=seed,
    )
    return hide_cells(data, drawn.latents, seed)


def _tables(drawn: Cells, design: Design, arrays: dict[str, Array]) -> list[Table]:
    """Return the tables of both modalities; the counts say that they are of genes, which decides their recipe."""
    names = np.array(["control", *(f"gene{k + 1:02d}" for k in range(design.perturbations))])
    labels = dict.fromkeys(arrays, names[drawn.labels])
    ids = dict.fromkeys(arrays, tuple(f"cell{i:06d}" for i in range(len(drawn.labels))))
    batch: dict[str, Any] | None = None
    if design.batches > 1:
        batch = dict.fromkeys(arrays, np.array([f"batch{b + 1}" for b in drawn.batches.tolist()]))
    rna, image = tables_from_arrays(arrays, labels, ids=ids, batch=batch)
    genes = np.array([f"transcript{j + 1:03d}" for j in range(arrays["rna"].shape[1])])
    return [replace(rna, feature_names=genes, feature_types=np.full(len(genes), "Gene Expression")), image]


# --------------------------------------------------------------------------------------------------------- options


def _check_counts(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        check_integer(name, value, low=1)


def _check_from_zero(values: Mapping[str, Any], *, high: float | None) -> None:
    for name, value in values.items():
        check_number(name, value, high=high)
        if float(value) < 0:
            msg = f"{name} must be {'0 or more' if high is None else f'from 0 to {high}'}; got {value!r}."
            raise OptionError(msg)
