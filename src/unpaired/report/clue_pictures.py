"""The pictures of a run of ``unpaired clue``, from its saved numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired.data.types import Array
from unpaired.report import plots
from unpaired.report.pictures import codes, inline_png, inline_svg
from unpaired.report.prediction_plots import feature_histogram, training_curve
from unpaired.report.saved import DrawnCells

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["imputation_picture", "loss_picture", "space_pictures"]


def space_pictures(cells: DrawnCells, record: Mapping[str, Any]) -> dict[str, Markup]:
    """Return the space by modality, and by batch and by label where cells are told apart by them.

    Parameters
    ----------
    cells
        The cells that are drawn.
    record
        The contents of ``run.json``.
    """
    groups: dict[str, tuple[Array, Sequence[str]]] = {"modality": (cells.modality, list(record["modalities"]))}
    batches = [] if cells.batch is None else np.unique(cells.batch).tolist()
    if cells.batch is not None and len(batches) > 1:
        groups["batch"] = (cells.batch, batches)
    if cells.label is not None:
        groups["label"] = (cells.label, list(record["classes"]))
    umap = record["plane"]["method"] == "UMAP"
    out = {}
    for kind, (values, names) in groups.items():
        ax = plots.space(cells.xy, codes(values, names), names, title=kind)
        if umap:
            ax.set(xlabel="UMAP 1", ylabel="UMAP 2")
        out[kind] = inline_png(ax, f"The space, cells coloured by {kind}")
    return out


def imputation_picture(pearson: Sequence[float], scores: Mapping[str, Any]) -> Markup:
    """Return how many features have which correlation of measured and imputed readings."""
    ax = feature_histogram(pearson, xlabel="correlation of measured and imputed readings (1 is perfect, 0 is chance)")
    return inline_svg(ax, f"{scores['source']} to {scores['target']}: number of features by correlation")


def loss_picture(training: Mapping[str, Any]) -> Markup | None:
    """Return the validation loss by epoch, with the burn-in and the epoch that was chosen; ``None`` of one epoch."""
    if len(training["history"]) < 2:
        return None
    history = [np.nan if v is None else v for v in training["history"]]
    ax = training_curve(history, burn_in=training["burn_in"], ylabel="loss on cells set aside")
    return inline_svg(ax, "Validation loss by epoch")
