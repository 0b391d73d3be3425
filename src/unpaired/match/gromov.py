"""Gromov-Wasserstein matching: SCOT. Source: Demetci et al. 2022, with the settings of Xi et al. 2024."""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array, Dataset
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import OptionError
from unpaired.match.block import Status
from unpaired.match.blocks import LabelProblem, Solver, match_labels, one_by_one
from unpaired.match.matching import Matching
from unpaired.options import check_integer, check_number

__all__ = ["check_gromov_options", "graph_distances", "match_gromov"]

_TRIES = 10  # eps, 2 eps, ... 10 eps: 0.01 to 0.1 in steps of 0.01 by default
_SHARE, _MOST = 0.2, 50  # neighbours in the graph: this share of the smaller side's cells, and not more than that
_LEAST = 2  # a cell is its own first neighbour: with one alone nothing would be linked
_LOST = 0.05  # SCOT takes a coupling that has lost more of its mass than this for a numerical failure
_MARGINAL = 1e-3  # error of the marginals from which on the inner iterations count as not converged
_BLANK = 0.01  # nats a cell: a coupling that says less than this is the uniform one
_CHECK = 10  # POT looks at its error in the first iteration and in every tenth from there
_MATRICES = 10  # of the size of the coupling and of the distances together, in memory at a time
_COPIES = 2  # of the features of a side, of double precision


@dataclass(frozen=True)
class _Search:
    """The options of one problem, as :func:`match_gromov` documents them."""

    k: int | None
    eps: float
    max_iter: int
    tol: float
    max_cells: int


def match_gromov(
    data: Dataset,
    *,
    k: int | None = None,
    eps: float = 0.01,
    across_labels: bool = False,
    max_iter: int = 1000,
    tol: float = 1e-9,
    max_cells: int = 5000,
    source: str | None = None,
    target: str | None = None,
    jobs: int = 1,
    progress: bool = False,
) -> Matching:
    """Match by distances within each modality alone, label by label: SCOT, entropic Gromov-Wasserstein.

    No shared space is needed: of the modalities' own features (after their recipes) a graph of nearest neighbours by
    correlation is made, and cells are matched so that shortest paths in one graph are as long as in the other. What the
    features' correlation does not see is not seen: the length of a cell's reading, and a constant added to it. The
    problem has many local minima, and the search starts from the uniform coupling, which is one of them where every
    cell is as far from the others as every other: SCOT often ends close to it. So each block's ``status.used`` says
    how much its coupling tells: ``information``, the mutual information in nats a cell, 0 for the uniform one.

    Parameters
    ----------
    data
        The data set.
    k
        Cells that count as neighbours, the cell itself among them; by default a fifth of the smaller side's cells, at
        least 2 and at most 50. In a label with fewer cells, that number.
    eps
        Weight of the entropy, the largest distance within a modality being 1. Where the iterations break down, twice,
        three times, ... ten times as much is tried; ``status.used`` names the one that was used.
    across_labels
        Find one coupling of all labelled cells, as SCOT would for cells without labels, and keep its parts within the
        labels, each divided by its sum. ``within_label`` of ``status.used`` is the share of the label's mass that its
        part held, and ``within_label_by_chance`` what the uniform coupling would have held. Such a part has no
        marginals of its own, and cells that were matched with other labels alone have no partner.
    max_iter, tol
        Limit for the outer iterations, and the change of the coupling (Frobenius norm) at which they end. SCOT's own.
        POT looks at the change in iterations 1, 11, 21, ... alone, so the limit is the next of these;
        ``status.iterations`` says how many were made.
    max_cells
        Largest number of cells on a side of one coupling. All distances are in memory, about ``80 (n^2 + m^2 + n m)``
        bytes, with the ``16 n d`` bytes of two copies of the larger side's d features, and every one of some hundred
        iterations takes ``4 n m (n + m)`` operations. A larger label fails; with ``across_labels`` that many labelled
        cells are refused.
    source, target
        Names of the modalities; not needed when there are two.
    jobs
        Worker processes; the result does not depend on it. One coupling across labels is made by one.
    progress
        Show a progress bar over the labels.

    Returns
    -------
    Matching
        With the status of every label; nothing is raised when a label fails or does not converge.

    Raises
    ------
    OptionError
        If an option is not allowed, or with ``across_labels`` there are too many cells.
    """
    check_gromov_options(k=k, eps=eps, max_iter=max_iter, tol=tol, max_cells=max_cells)
    check_integer("jobs", jobs, low=1)
    names = data.direction(source, target)
    search = _Search(k, eps, max_iter, tol, max_cells)
    options = {"k": k, "eps": eps, "across_labels": across_labels, "max_iter": max_iter, "tol": tol}
    made_by = Provenance("match_gromov", options | {"max_cells": max_cells})
    space = Embedding({n: data[n].flat_features for n in names}, "feature", None, (), made_by)
    # The solver of one coupling is given the rows of a label, and looks up their part.
    solve = _across(data, space, names, search) if across_labels else one_by_one(partial(_solve, search), jobs=jobs)
    return match_labels(
        data,
        None if across_labels else space,
        solve,
        made_by,
        source=names[0],
        target=names[1],
        progress=progress,
    )


def check_gromov_options(*, k: int | None, eps: float, max_iter: int, tol: float, max_cells: int) -> None:
    """Raise :class:`~unpaired.errors.OptionError` if an option of :func:`match_gromov` is not allowed."""
    if k is not None:
        check_integer("k", k, low=_LEAST)
    check_number("eps", eps, above=0.0)
    check_integer("max_iter", max_iter, low=1)
    check_number("tol", tol, above=0.0)
    check_integer("max_cells", max_cells, low=2)


def graph_distances(x: Array, k: int) -> Array:
    """Return the shortest paths in the graph of nearest neighbours by correlation, the longest being 1.

    Parameters
    ----------
    x
        ``(n, d)`` features. A cell without variation between its features correlates with none.
    k
        Neighbours of a cell, itself among them; an edge holds in both directions, and all are of length 1.

    Returns
    -------
    ``(n, n)`` distances; between cells that no path links, 1. Source: SCOT's published code.
    """
    from scipy.sparse.csgraph import dijkstra

    n = len(x)
    unit = _directions(x)
    apart = 1 - unit @ unit.T
    del unit
    np.fill_diagonal(apart, -1.0)
    near = np.argsort(apart, axis=1, kind="stable")[:, :k]
    graph = sp.csr_matrix((np.ones(near.size), near.ravel(), np.arange(0, near.size + 1, k)), shape=(n, n))
    paths = dijkstra(graph, directed=False, unweighted=True)
    longest = paths[np.isfinite(paths)].max()
    return np.asarray(np.minimum(paths, longest) / longest)


def _directions(x: Array) -> Array:
    """``(n, d)`` float64 rows less their mean, of length one; zero where a row does not vary."""
    out = x.astype(np.float64)  # the one copy: rows of images are long
    out -= x.mean(axis=1, keepdims=True, dtype=np.float64)
    length = np.linalg.norm(out, axis=1, keepdims=True)
    # Rounding leaves a little of a row without variation: that is no direction.
    plain = length <= np.finfo(np.float32).eps * np.linalg.norm(x, axis=1, keepdims=True)
    out /= np.where(plain, 1.0, length)
    out[plain[:, 0]] = 0.0
    return out


def _solve(search: _Search, x: Array, y: Array, a: Array, b: Array, seed: int) -> tuple[Array | None, Status]:
    """Match two sets of cells by their features ``(n, d1)`` and ``(m, d2)``, with marginals ``a`` and ``b``."""
    plan, status = _couple(search, x, y, a, b)
    return plan, status if plan is None else _telling(plan, status)


def _couple(search: _Search, x: Array, y: Array, a: Array, b: Array) -> tuple[Array | None, Status]:
    """Return the coupling, and how its iterations ended; what it tells is for the caller to say."""
    n, m = len(x), len(y)
    if max(n, m) > search.max_cells:
        return None, Status("failed", _too_many(x.shape, y.shape, search.max_cells))
    wanted = min(max(_LEAST, int(_SHARE * min(n, m))), _MOST) if search.k is None else search.k
    k = min(wanted, n, m)
    apart = graph_distances(x, k), graph_distances(y, k)
    tried: list[float] = []
    for factor in range(1, _TRIES + 1):
        tried.append(round(factor * search.eps, 12))
        plan, log = _by_pot(*apart, a, b, tried[-1], search)
        if _is_coupling(plan):
            return plan, _status(plan, log, a, b, search, {"k": k, "eps": tried[-1], "eps_tried": tried})
    advice = f"no coupling is a number for any eps from {tried[0]:.3g} to {tried[-1]:.3g}: use a larger eps."
    return None, Status("failed", advice, used={"k": k, "eps_tried": tried})


def _by_pot(c1: Array, c2: Array, a: Array, b: Array, eps: float, search: _Search) -> tuple[Array, Mapping[str, Any]]:
    from ot.gromov import entropic_gromov_wasserstein

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # What POT warns of is told from the coupling itself: its mass, its marginals, its last change.
        warnings.simplefilter("ignore")
        plan, log = entropic_gromov_wasserstein(
            c1,
            c2,
            a,
            b,
            "square_loss",
            epsilon=eps,
            symmetric=True,
            max_iter=_CHECK * -(-(search.max_iter - 1) // _CHECK) + 1,  # the change is that of the last iteration
            tol=search.tol,
            log=True,
        )
    return plan, log


def _is_coupling(plan: Array) -> bool:
    """Whether iterations ended in numbers: SCOT asks for finite ones, every cell with a partner, and all the mass."""
    if not np.isfinite(plan).all() or abs(plan.sum() - 1) > _LOST:
        return False
    return bool((plan > 0).any(axis=1).all() and (plan > 0).any(axis=0).all())


def _status(
    plan: Array, log: Mapping[str, Any], a: Array, b: Array, search: _Search, used: Mapping[str, Any]
) -> Status:
    change = float(log["err"][-1])
    done = change <= search.tol
    error = float(abs(plan.sum(axis=1) - a).sum() + abs(plan.sum(axis=0) - b).sum())
    advice = []
    if not done:
        advice.append(f"the coupling still changed by {change:.1e} (tol {search.tol:.0e}): use a larger max_iter.")
    if error > _MARGINAL:
        advice.append(f"the marginals are off by {error:.1e}: use a larger eps.")
    return Status(
        "ok" if done and error <= _MARGINAL else "not_converged",
        " ".join(advice),
        error,
        _CHECK * (len(log["err"]) - 1) + 1,
        used={**used, "cost": float(log["gw_dist"])},
    )


def _telling(plan: Array, status: Status) -> Status:
    """Add how much a coupling tells, and cells without a partner, which only the part of a coupling can have."""
    told, alone = _information(plan), [int(np.sum(plan.sum(axis=axis) == 0)) for axis in (1, 0)]
    used = {**status.used, "information": told}
    advice = [status.advice] if status.advice else []
    if told < _BLANK:
        advice.append("the coupling is all but uniform: the distances within the modalities say nothing here.")
    if any(alone):
        used["without_partner"] = alone
        advice.append(
            f"{alone[0]} of {plan.shape[0]} and {alone[1]} of {plan.shape[1]} cells have no partner: "
            "they were matched with other labels alone."
        )
    return replace(status, advice=" ".join(advice), used=used)


def _information(plan: Array) -> float:
    """Mutual information of a coupling in nats a cell: how far it is from the product of its marginals."""
    p = plan / plan.sum()
    uniform = np.outer(p.sum(axis=1), p.sum(axis=0))
    some = p > 0
    return max(0.0, float(np.sum(p[some] * np.log(p[some] / uniform[some]))))


def _across(data: Dataset, space: Embedding, names: tuple[str, str], search: _Search) -> Solver:
    """Return the solver that makes one coupling of all labelled cells and gives every label its part."""
    rows = [data[n].order[data[n].labels[data[n].order] >= 0] for n in names]
    if max(map(len, rows)) > search.max_cells:
        shapes = [(len(own), space[n].shape[1]) for n, own in zip(names, rows, strict=True)]
        msg = "across_labels makes one coupling: " + _too_many(shapes[0], shapes[1], search.max_cells)
        raise OptionError(msg)
    for name, own in zip(names, rows, strict=True):
        if not np.isfinite(space[name][own]).all():
            msg = f"the features of {name!r} are not finite in every cell."
            raise OptionError(msg)
    place = [np.full(len(data[n]), -1) for n in names]
    for at, own in zip(place, rows, strict=True):
        at[own] = np.arange(len(own))

    def solve_all(problems: Sequence[LabelProblem], seeds: Sequence[int]) -> Generator[tuple[Any, Status], None, None]:
        start = time.perf_counter()
        x, y = (space[n][own] for n, own in zip(names, rows, strict=True))
        a, b = (np.full(len(own), 1 / len(own)) for own in rows)
        plan, whole = _couple(search, x, y, a, b)
        # The one coupling's time is shared out, so that the labels' seconds add up to it.
        whole = replace(whole, seconds=(time.perf_counter() - start) / len(problems))
        for i, j, _, _ in problems:
            yield (None, whole) if plan is None else _part(plan, whole, place[0][i[:, 0]], place[1][j[:, 0]])

    return solve_all


def _part(plan: Array, whole: Status, rows: Array, cols: Array) -> tuple[Array | None, Status]:
    part = plan[np.ix_(rows, cols)]
    mass = float(part.sum())
    used = {
        **whole.used,
        "within_label": mass / float(plan[rows].sum()),
        "within_label_by_chance": len(cols) / plan.shape[1],
        "marginal_error_of_all": whole.marginal_error,
    }
    if mass < np.finfo(float).tiny:
        advice = "all cells of this label were matched with other labels."
        return None, replace(whole, state="failed", advice=advice, marginal_error=float("nan"), used=used)
    part = part / mass
    return part, _telling(part, replace(whole, marginal_error=float("nan"), used=used))


def _too_many(x: tuple[int, ...], y: tuple[int, ...], most: int) -> str:
    """Say so of features ``(n, d1)`` and ``(m, d2)``, by their shapes."""
    (n, d1), (m, d2) = x, y
    gb = 8 * (_MATRICES * (n * n + m * m + n * m) + _COPIES * max(n * d1, m * d2)) / 1e9
    return (
        f"{n} and {m} cells are more than max_cells = {most} and would need about {gb:.0f} GB; "
        "read fewer cells a label (max_cells_per_label), or use a larger max_cells."
    )
