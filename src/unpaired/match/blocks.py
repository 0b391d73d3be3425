"""The per-label loop: every label is one unit of work with its own status and its own generator."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from unpaired.data.types import Array, Dataset, Modality
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import OptionError
from unpaired.match.block import Block, Product, Status
from unpaired.match.matching import Matching
from unpaired.options import check_integer, check_seed
from unpaired.seeds import named_seed

__all__ = ["LabelProblem", "match_labels"]

LabelProblem = Callable[[Array, Array, Array, Array, int], tuple[Any, Status]]
"""``(x, y, a, b, seed) -> (weights, status)``: coordinates and marginals of one label's cells on both sides."""


def match_labels(
    data: Dataset,
    embedding: Embedding | None,
    solve: LabelProblem,
    made_by: Provenance,
    *,
    source: str | None,
    target: str | None,
    source_weights: Array | None = None,
    target_weights: Array | None = None,
    force_single: bool = True,
    jobs: int = 1,
    progress: bool = False,
    seed: int = 0,
) -> Matching:
    """Run ``solve`` on every label that has cells on both sides, serially or in worker processes.

    Parameters
    ----------
    data
        The data set.
    embedding
        The space; ``None`` for matchings that need none.
    solve
        The work of one label; must be picklable for ``jobs > 1``.
    made_by
        Kept in the result.
    source, target
        Names of the modalities; not needed when there are two.
    source_weights, target_weights
        ``(n,)`` positive weights of the cells, made to sum to one within each label; uniform by default.
    force_single
        Give a label with one cell on a side the only coupling with the marginals asked for, without solving.
    jobs
        Worker processes; the result does not depend on it.
    progress
        Show a progress bar over the labels.
    seed
        Each label's generator is seeded by this and the label's name.

    Raises
    ------
    OptionError
        If an option is not allowed, or weights are not positive or of the wrong length.
    """
    check_integer("jobs", jobs, low=1)
    check_seed(seed)
    names = data.direction(source, target)
    weights = [_check_weights(data, n, w) for n, w in zip(names, (source_weights, target_weights), strict=True)]
    sides = [data[n] for n in names]
    if embedding is not None:
        _check_embedding(sides, embedding)
    tasks = []
    for code, label in enumerate(data.classes):
        # Canonical order: neither the order of the file nor the cells' names can influence the solver.
        rows, cols = (m.order[m.labels[m.order] == code] for m in sides)
        if len(rows) or len(cols):
            tasks.append((label, rows, cols))
    blocks = _run(
        tasks, names, embedding, weights, solve, force_single=force_single, jobs=jobs, progress=progress, seed=seed
    )
    return Matching(names[0], names[1], (len(sides[0]), len(sides[1])), blocks, made_by)


def _run(
    tasks: list[tuple[str, Array, Array]],
    names: tuple[str, str],
    embedding: Embedding | None,
    weights: list[Array],
    solve: LabelProblem,
    *,
    force_single: bool,
    jobs: int,
    progress: bool,
    seed: int,
) -> tuple[Block, ...]:
    from joblib import Parallel, delayed
    from tqdm.auto import tqdm

    def arguments(label: str, rows: Array, cols: Array) -> tuple[Any, ...]:
        x = rows[:, None] if embedding is None else embedding[names[0]][rows]
        y = cols[:, None] if embedding is None else embedding[names[1]][cols]
        a, b = weights[0][rows], weights[1][cols]
        return label, rows, cols, x, y, a, b, solve, names, force_single, named_seed(seed, "match", label)

    work = (delayed(_solve_label)(*arguments(*task)) for task in tasks)
    done = Parallel(n_jobs=jobs, return_as="generator")(work)
    return tuple(tqdm(done, total=len(tasks), desc="matching", unit="label", disable=not progress))


def _solve_label(
    label: str,
    rows: Array,
    cols: Array,
    x: Array,
    y: Array,
    a: Array,
    b: Array,
    solve: LabelProblem,
    names: tuple[str, str],
    force_single: bool,  # noqa: FBT001
    seed: int,
) -> Block:
    from threadpoolctl import threadpool_limits

    for cells, name in ((rows, names[0]), (cols, names[1])):
        if len(cells) == 0:
            return Block(label, rows, cols, None, Status("absent", f"{name} has no cell of this label."))
    a, b = a / a.sum(), b / b.sum()
    if force_single and (len(rows) == 1 or len(cols) == 1):
        one = names[0] if len(rows) == 1 else names[1]
        advice = f"{one} has one cell of this label: every partner is equally likely, whatever was measured."
        return Block(label, rows, cols, Product(a, b), Status("too_small", advice, 0.0))
    start = time.perf_counter()
    # One thread whatever the number of workers: the same sums in the same order, so the same bits.
    with threadpool_limits(limits=1):
        weights, status = solve(x, y, a, b, seed)
    return Block(label, rows, cols, weights, replace(status, seconds=time.perf_counter() - start))


def _check_embedding(sides: list[Modality], embedding: Embedding) -> None:
    for modality in sides:
        n = len(embedding[modality.name])
        if n != len(modality):
            msg = f"the embedding has {n} cells of {modality.name!r} and the data have {len(modality)}."
            raise OptionError(msg)
        bad = np.flatnonzero(~np.isfinite(embedding[modality.name]).all(axis=1))
        if len(bad):
            msg = f"the embedding of {modality.name!r} is not finite in {len(bad)} cells, the first in row {bad[0]}."
            raise OptionError(msg)


def _check_weights(data: Dataset, name: str, weights: Array | None) -> Array:
    n = len(data[name])
    if weights is None:
        return np.ones(n)
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (n,) or not np.isfinite(weights).all() or (weights <= 0).any():
        msg = f"weights of modality {name!r} must be {n} positive numbers, one a cell; got shape {weights.shape}."
        raise OptionError(msg)
    return weights
