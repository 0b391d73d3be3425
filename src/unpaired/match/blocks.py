"""The per-label loop: every label is one unit of work with its own status and its own generator."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from unpaired.data.types import Array, Dataset, Modality
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import OptionError
from unpaired.match.block import Block, Product, Status
from unpaired.match.matching import Matching
from unpaired.options import check_choice, check_integer, check_seed
from unpaired.seeds import named_seed

__all__ = ["LabelProblem", "Solver", "cells_by_label", "evenly", "match_labels", "one_by_one"]

LabelProblem = tuple[Array, Array, Array, Array]
"""``(x, y, a, b)``: coordinates and marginals of one label's cells on both sides."""

Solver = Callable[[Sequence[LabelProblem], Sequence[int]], Generator[tuple[Any, Status], None, None]]
"""``(problems, seeds) -> (weights, status) of every label, in order``. Closing the generator stops its workers."""

_SHARES = 16  # parts of the work a worker: starting one costs more than a small label


def match_labels(
    data: Dataset,
    embedding: Embedding | None,
    solve_all: Solver,
    made_by: Provenance,
    *,
    source: str | None,
    target: str | None,
    source_weights: Array | None = None,
    target_weights: Array | None = None,
    force_single: bool = True,
    progress: bool = False,
    seed: int = 0,
) -> Matching:
    """Settle the labels that leave no choice, and give all others to ``solve_all`` at once.

    Parameters
    ----------
    data
        The data set.
    embedding
        The space; ``None`` for matchings that need none (the solver then gets row numbers for coordinates).
    solve_all
        The work; :func:`one_by_one` makes it of a function of one label.
    made_by
        Kept in the result.
    source, target
        Names of the modalities; not needed when there are two.
    source_weights, target_weights
        ``(n,)`` positive weights of the cells, made to sum to one within each label; uniform by default.
    force_single
        Give a label with one cell on a side the only coupling with the marginals asked for, without solving.
    progress
        Show a progress bar over the labels.
    seed
        Each label's generator is seeded by this and the label's name.

    Raises
    ------
    OptionError
        If an option is not allowed, or weights are not positive or of the wrong length.
    """
    check_seed(seed)
    names = data.direction(source, target)
    weights = [_check_weights(data, n, w) for n, w in zip(names, (source_weights, target_weights), strict=True)]
    sides = [data[n] for n in names]
    if embedding is not None:
        check_embedding(sides, embedding)
    blocks: list[Block | None] = []
    waiting: list[tuple[int, str, Array, Array]] = []
    cells = (cells_by_label(m, len(data.classes)) for m in sides)
    for label, rows, cols in zip(data.classes, *cells, strict=True):
        if len(rows) or len(cols):
            settled = _settle(label, (rows, cols), names, weights, force_single=force_single)
            if settled is None:
                waiting.append((len(blocks), label, rows, cols))
            blocks.append(settled)
    problems = [_problem((rows, cols), names, embedding, weights) for _, _, rows, cols in waiting]
    seeds = [named_seed(seed, "match", label) for _, label, _, _ in waiting]
    for (at, label, rows, cols), (found, status) in zip(
        waiting, _solve(solve_all, problems, seeds, progress=progress), strict=True
    ):
        blocks[at] = Block(label, rows, cols, found, status)
    shape = (len(sides[0]), len(sides[1]))
    return Matching(names[0], names[1], shape, tuple(b for b in blocks if b is not None), made_by)


def grouped(data: Dataset, within: str) -> Dataset:
    """Return the data set with other blocks than those of its labels: batches, or all cells in one.

    Raises
    ------
    OptionError
        If cells are to be matched within batches, and a modality has none.
    """
    check_choice("within", within, ("label", "batch", "all"))
    if within == "label":
        return data
    if within == "all":
        labels = {n: np.zeros(len(m), dtype=np.int64) for n, m in data.modalities.items()}
        return _relabelled(data, labels, ("all",))
    without = [n for n, m in data.modalities.items() if m.batch is None]
    if without:
        msg = f"within='batch' needs batches, and there are none of {', '.join(without)}; read the data with batch=."
        raise OptionError(msg)
    names = {n: np.asarray(m.batch).astype(str) for n, m in data.modalities.items()}
    classes = np.unique(np.concatenate(list(names.values())))
    return _relabelled(data, {n: np.searchsorted(classes, b) for n, b in names.items()}, tuple(classes.tolist()))


def _relabelled(data: Dataset, labels: Mapping[str, Array], classes: tuple[str, ...]) -> Dataset:
    modalities = {n: replace(m, labels=labels[n]) for n, m in data.modalities.items()}
    return replace(data, modalities=modalities, classes=classes)


def one_by_one(solve: Callable[[Array, Array, Array, Array, int], tuple[Any, Status]], *, jobs: int = 1) -> Solver:
    """Return the solver of all labels that calls ``solve(x, y, a, b, seed)`` for each.

    Parameters
    ----------
    solve
        The work of one label; must be picklable for ``jobs > 1``.
    jobs
        Worker processes; the result does not depend on it.

    Raises
    ------
    OptionError
        If ``jobs`` is not a whole number of at least 1.
    """
    check_integer("jobs", jobs, low=1)

    def solve_all(problems: Sequence[LabelProblem], seeds: Sequence[int]) -> Generator[tuple[Any, Status], None, None]:
        if jobs == 1:
            for problem, seed in zip(problems, seeds, strict=True):
                yield _timed(solve, problem, seed)
            return
        from joblib import Parallel, delayed

        size = -(-len(problems) // (_SHARES * jobs))
        parts = [slice(start, start + size) for start in range(0, len(problems), size)]
        work = (delayed(_solve_part)(solve, problems[part], seeds[part]) for part in parts)
        for answers in Parallel(n_jobs=jobs, return_as="generator")(work):
            yield from answers

    return solve_all


def cells_by_label(modality: Modality, classes: int) -> list[Array]:
    """Return the rows of every label, in canonical order: neither the order of the file nor names can matter."""
    labels = modality.labels[modality.order]
    by_label = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[by_label], np.arange(classes + 1))
    rows = modality.order[by_label]
    return [rows[start:stop] for start, stop in pairwise(ends)]


def evenly(cells: Array, most: int) -> Array:
    """Return at most so many of the cells, spread evenly over their order."""
    return cells if len(cells) <= most else cells[np.arange(most) * len(cells) // most]


def _settle(
    label: str, cells: tuple[Array, Array], names: tuple[str, str], weights: list[Array], *, force_single: bool
) -> Block | None:
    """Return the block of a label that leaves nothing to solve."""
    for own, name in zip(cells, names, strict=True):
        if len(own) == 0:
            return Block(label, *cells, None, Status("absent", f"{name} has no cell of this label."))
    if not force_single or min(map(len, cells)) > 1:
        return None
    one = names[0] if len(cells[0]) == 1 else names[1]
    advice = f"{one} has one cell of this label: every partner is equally likely, whatever was measured."
    return Block(label, *cells, Product(*_marginals(cells, weights)), Status("too_small", advice, 0.0))


def _marginals(cells: tuple[Array, Array], weights: list[Array]) -> tuple[Array, Array]:
    a, b = (w[own] for w, own in zip(weights, cells, strict=True))
    return a / a.sum(), b / b.sum()


def _problem(
    cells: tuple[Array, Array], names: tuple[str, str], embedding: Embedding | None, weights: list[Array]
) -> LabelProblem:
    x, y = (own[:, None] if embedding is None else embedding[n][own] for own, n in zip(cells, names, strict=True))
    return (x, y, *_marginals(cells, weights))


def _solve(
    solve_all: Solver, problems: list[LabelProblem], seeds: list[int], *, progress: bool
) -> list[tuple[Any, Status]]:
    from threadpoolctl import threadpool_limits
    from tqdm.auto import tqdm

    if not problems:
        return []
    # One thread inside a label whatever the number of workers: the same sums in the same order, so the same bits.
    # Once for all labels, because it costs as much as a small label. Closing stops the workers of an interrupted loop.
    with threadpool_limits(limits=1), closing(solve_all(problems, seeds)) as answers:
        return list(tqdm(answers, total=len(problems), desc="matching", unit="label", disable=not progress))


def _solve_part(
    solve: Callable[..., tuple[Any, Status]], problems: Sequence[LabelProblem], seeds: Sequence[int]
) -> list[tuple[Any, Status]]:
    """Solve some labels in a worker process."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        return [_timed(solve, problem, seed) for problem, seed in zip(problems, seeds, strict=True)]


def _timed(solve: Callable[..., tuple[Any, Status]], problem: LabelProblem, seed: int) -> tuple[Any, Status]:
    start = time.perf_counter()
    weights, status = solve(*problem, seed)
    return weights, replace(status, seconds=time.perf_counter() - start)


def check_embedding(sides: Sequence[Modality], embedding: Embedding) -> None:
    """Raise :class:`OptionError` unless the space has finite coordinates of all cells."""
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
