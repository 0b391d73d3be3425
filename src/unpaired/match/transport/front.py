"""The front door of optimal-transport matching: options, regularisation from the noise, then label by label."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np

from unpaired.data.types import Array, Dataset
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import OptionError
from unpaired.match.blocks import match_labels
from unpaired.match.matching import Matching
from unpaired.match.transport.pot import solve_label
from unpaired.options import check_choice, check_integer, check_number

__all__ = ["check_ot_options", "match_ot", "noise_eps"]


def match_ot(
    data: Dataset,
    embedding: Embedding,
    *,
    eps: float | Literal["auto"] = "auto",
    cost: Literal["sqeuclidean", "euclidean"] = "sqeuclidean",
    source: str | None = None,
    target: str | None = None,
    source_weights: Array | None = None,
    target_weights: Array | None = None,
    unbalanced: float | None = None,
    max_iter: int = 10_000,
    max_seconds: float = 60.0,
    tol: float = 1e-4,
    jobs: int = 1,
    progress: bool = False,
) -> Matching:
    """Match by entropic optimal transport within each label (Xi et al. 2024, eq. 8).

    Parameters
    ----------
    data
        The data set.
    embedding
        The shared space.
    eps
        Weight of the entropy, in units of the cost. ``"auto"`` takes it from the embedding's own noise:
        ``2 (s1 + s2)`` with s the mean variance of a coordinate between repeats in each modality. If two coordinates
        of the same cell differ by Gaussian errors of these variances, ``exp(-cost / eps)`` is their likelihood.
    cost
        Squared Euclidean distance in the space, or the plain one (published, with ``eps=0.05``).
    source, target
        Names of the modalities; not needed when there are two.
    source_weights, target_weights
        ``(n,)`` positive weights of the cells (made to sum to one within each label); uniform by default.
    unbalanced
        Weight of a Kullback-Leibler penalty that replaces the constraint on both marginals; ``None`` keeps the
        constraint.
    max_iter, max_seconds
        Limits for one label. When one is reached, the block's status says so.
    tol
        Largest sum of absolute differences of both marginals.
    jobs
        Worker processes.
    progress
        Show a progress bar over the labels.

    Returns
    -------
    Matching
        With the status of every label; nothing is raised when a label does not converge.

    Raises
    ------
    OptionError
        If an option is not allowed, or ``eps="auto"`` and the noise is not known or the cost is not squared.
    """
    check_ot_options(eps=eps, cost=cost, unbalanced=unbalanced, max_iter=max_iter, max_seconds=max_seconds, tol=tol)
    names = data.direction(source, target)
    value = noise_eps(data, embedding, *names) if eps == "auto" else float(eps)
    used = {
        "eps": value,
        "eps_from": "noise" if eps == "auto" else "given",
        "cost": cost,
        "unbalanced": unbalanced,
        "weights": "uniform" if source_weights is None and target_weights is None else "given",
        "max_iter": max_iter,
        "max_seconds": max_seconds,
        "tol": tol,
    }
    solve = partial(
        solve_label, eps=value, cost=cost, max_iter=max_iter, max_seconds=max_seconds, tol=tol, unbalanced=unbalanced
    )
    return match_labels(
        data,
        embedding,
        solve,
        Provenance("match_ot", used),
        source=names[0],
        target=names[1],
        source_weights=source_weights,
        target_weights=target_weights,
        jobs=jobs,
        progress=progress,
    )


def check_ot_options(
    *,
    eps: float | Literal["auto"],
    cost: str,
    unbalanced: float | None,
    max_iter: int,
    max_seconds: float,
    tol: float,
) -> None:
    """Raise :class:`~unpaired.errors.OptionError` if an option of :func:`match_ot` is not allowed."""
    check_choice("cost", cost, ("sqeuclidean", "euclidean"))
    check_integer("max_iter", max_iter, low=1)
    check_number("max_seconds", max_seconds, above=0)
    check_number("tol", tol, above=0)
    if unbalanced is not None:
        check_number("unbalanced", unbalanced, above=0)
    if eps != "auto":
        check_number("eps", eps, above=0)
    elif cost != "sqeuclidean":
        msg = "eps='auto' is derived for cost='sqeuclidean'; give a number (published: 0.05) with cost='euclidean'."
        raise OptionError(msg)


def noise_eps(data: Dataset, embedding: Embedding, source: str, target: str) -> float:
    """Return ``2 (s1 + s2)``, s the mean of the embedding's noise over the labelled cells of a modality.

    Raises
    ------
    OptionError
        If the embedding does not know its noise, or the noise is zero.
    """
    if embedding.noise is None:
        msg = (
            "eps='auto' needs the embedding's noise (two or more repeats of the cross-fitting); give a number instead."
        )
        raise OptionError(msg)
    value = 0.0
    for name in (source, target):
        order = data[name].order
        labelled = order[data[name].labels[order] >= 0]
        value += 2 * float(np.mean(embedding.noise[name][labelled]))
    if not np.isfinite(value) or value <= 0:
        msg = f"eps='auto' found a noise of {value}; give a number instead."
        raise OptionError(msg)
    return value
