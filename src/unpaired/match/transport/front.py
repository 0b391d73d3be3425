"""The front door of optimal-transport matching: options, regularisation from the noise, then label by label."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from unpaired.data.types import Array, Dataset
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import OptionError
from unpaired.match.block import Status
from unpaired.match.blocks import LabelProblem, Solver, match_labels
from unpaired.match.matching import Matching
from unpaired.match.transport.epsilon import check_eps, resolve_eps
from unpaired.match.transport.posterior import EPS, weigh
from unpaired.match.transport.problem import COSTS
from unpaired.options import check_choice, check_integer, check_number, to_bytes

if TYPE_CHECKING:
    from unpaired.match.transport.solution import Solution

__all__ = ["check_ot_options", "find_device", "match_ot", "weighted_space"]

_NONSENSE = 1e3  # error of marginals that sum to one, from which on there is no coupling to speak of
_ROUGH = 1e-2  # marginal error of a coupling that only one average over all labels is taken of
_DEFAULTS: dict[str, Any] = {
    "eps": EPS,
    "cost": "sqeuclidean",
    "max_iter": 10_000,
    "max_seconds": 600.0,
    "tol": 1e-4,
    "keep": 0.999,
    "memory": None,
    "device": "cpu",
}
_NO_NOISE = "eps='auto' needs the embedding's noise (two or more repeats of the cross-fitting); give a number instead."
_HOPELESS = "the costs are too large for eps = {eps:.3g}: over it they are no numbers any more; use a larger eps."


def match_ot(
    data: Dataset,
    embedding: Embedding,
    *,
    eps: float | str = "auto",
    cost: Literal["sqeuclidean", "euclidean"] = "sqeuclidean",
    source: str | None = None,
    target: str | None = None,
    source_weights: Array | None = None,
    target_weights: Array | None = None,
    unbalanced: float | None = None,
    max_iter: int = 10_000,
    max_seconds: float = 600.0,
    tol: float = 1e-4,
    keep: float = 0.999,
    memory: int | str | None = None,
    device: Literal["cpu", "cuda", "auto"] = "cpu",
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
        Weight of the entropy, in units of the cost. ``"auto"`` takes cost, weights of directions and eps together from
        the embedding's own noise: the space is stretched along each direction by how far the two modalities can agree
        there, until ``exp(-cost / 2)`` is the posterior of the partner (:mod:`unpaired.match.transport.posterior` has
        the derivation, and what it used is in ``made_by.options``). ``"0.05*median"`` is so many times the median cost
        between cells of one label.
    cost
        Squared Euclidean distance in the space, or the plain one (published, with ``eps=0.05``).
    source, target
        Names of the modalities; not needed when there are two.
    source_weights, target_weights
        ``(n,)`` positive weights of the cells (made to sum to one within each label); uniform by default. The weights
        of the directions do not depend on them.
    unbalanced
        Weight of a Kullback-Leibler penalty that replaces the constraint on both marginals; ``None`` keeps the
        constraint. With ``eps="auto"`` it is no posterior: what the marginals would absorb costs mass.
    max_iter, max_seconds
        Limits for one label: passes over its pairs, and seconds. When one is reached, the block's status says so. With
        ``eps="auto"`` they hold for the first coupling too, from which the weights of all labels come.
    tol
        Largest sum of absolute differences of both marginals.
    keep
        Of every row of a coupling the largest entries that hold this fraction of its mass stay, and of every column the
        largest entry; the block's status says how much was left out. 1 keeps all that is not zero.
    memory
        Most memory that the work may take, all labels together: bytes, or text such as ``"8GB"``. By default half of
        what is free. A label whose coupling has no room within it is kept as potentials, and its rows are made where
        they are asked for (:class:`unpaired.match.transport.solution.Plan`).
    device
        ``"cpu"``, ``"cuda"``, or ``"auto"``: a CUDA device where there is one.
    jobs
        Threads; the result does not depend on it, but of a label that ``max_seconds`` stops.
    progress
        Show a progress bar over the labels.

    Returns
    -------
    Matching
        With the status of every label; nothing is raised when a label does not converge.

    Raises
    ------
    OptionError
        If an option is not allowed, or eps cannot be found: ``"auto"`` and the noise is not known or the cost is not
        squared, or ``"0.05*median"`` and the median is zero.
    """
    check_ot_options(
        eps=eps,
        cost=cost,
        unbalanced=unbalanced,
        max_iter=max_iter,
        max_seconds=max_seconds,
        tol=tol,
        keep=keep,
        memory=memory,
        device=device,
    )
    check_integer("jobs", jobs, low=1)
    names = data.direction(source, target)
    if eps == "auto" and embedding.noise is None and embedding.noise_covariance is None:
        raise OptionError(_NO_NOISE)
    solver: dict[str, Any] = {
        "eps": EPS,
        "cost": cost,
        "unbalanced": unbalanced,
        "max_iter": max_iter,
        "max_seconds": max_seconds,
        "tol": tol,
        "keep": keep,
        "memory": None if memory is None else to_bytes("memory", memory),
        "device": find_device(device),
    }
    told: dict[str, Any] = {"weights": "uniform" if source_weights is None and target_weights is None else "given"}
    if eps == "auto":
        weighting = weigh(data, embedding, *names, couple=_roughly(solver, names, jobs))
        embedding, told = weighting.apply(data, embedding), told | {"eps_from": "noise", "weighting": weighting.told()}
    else:
        solver["eps"], told["eps_from"] = resolve_eps(data, embedding, eps, cost, *names)
    return match_labels(
        data,
        embedding,
        _solver({**solver, "jobs": jobs}),
        Provenance("match_ot", solver | told),
        source=names[0],
        target=names[1],
        source_weights=source_weights,
        target_weights=target_weights,
        progress=progress,
    )


def weighted_space(
    data: Dataset,
    embedding: Embedding,
    source: str,
    target: str,
    *,
    drawn: Array | None = None,
    jobs: int = 1,
    **options: Any,
) -> Embedding:
    """Return the space that ``eps="auto"`` matches in, where half the squared distance is the log odds of a pair.

    Parameters
    ----------
    data, embedding, source, target
        As in :func:`match_ot`; the noise must be known.
    drawn
        Covariance of drawn partners, as in :func:`unpaired.match.transport.posterior.weigh`.
    jobs
        Threads.
    **options
        Limits and device of the first coupling, as in :func:`match_ot`; its defaults where they are not given.
    """
    solver = {**_DEFAULTS, **options}
    couple = _roughly(solver, (source, target), jobs)
    return weigh(data, embedding, source, target, couple, drawn=drawn).apply(data, embedding)


def _roughly(solver: dict[str, Any], names: tuple[str, str], jobs: int) -> Callable[[Dataset, Embedding], Matching]:
    """Return what makes the coupling that only one average is taken over."""
    options = {**solver, "tol": max(solver["tol"], _ROUGH), "unbalanced": None, "jobs": jobs}

    def couple(data: Dataset, space: Embedding) -> Matching:
        made_by = Provenance("match_ot", options)
        return match_labels(data, space, _solver(options), made_by, source=names[0], target=names[1])

    return couple


def _solver(options: dict[str, Any]) -> Solver:
    def solve_all(
        problems: Sequence[LabelProblem],
        seeds: Sequence[int],  # nothing is drawn
    ) -> Generator[tuple[Any, Status], None, None]:
        from unpaired.match.transport.solve import solve_many

        for solution in solve_many(problems, **options):
            yield _outcome(solution, options["keep"])

    return solve_all


def _outcome(solution: Solution, keep: float) -> tuple[Any, Status]:
    """Return the weights of a block, and its status."""
    failed = not solution.marginal_error < _NONSENSE  # NaN too
    used: dict[str, Any] = {**solution.used, "memory": solution.memory}
    weights: Any = None if failed else solution.plan if solution.coupling is None else solution.coupling
    if not failed and solution.coupling is not None:
        dropped = solution.dropped
        used |= {"row_mass_kept": keep, "largest_dropped": dropped.max().item(), "total_dropped": dropped.sum().item()}
    status = Status(
        "failed" if failed else "ok" if solution.converged else "not_converged",
        _HOPELESS.format(eps=solution.plan.eps) if failed else solution.advice,
        float("nan") if failed else float(solution.marginal_error),
        int(solution.iterations),
        float(solution.seconds),
        used,
    )
    return weights, status


def find_device(device: str) -> str:
    """Return ``"cpu"`` or ``"cuda"``; torch is loaded only where a CUDA device is asked about.

    Raises
    ------
    OptionError
        If it is ``"cuda"`` and there is none.
    """
    if device == "cpu":
        return device
    import torch

    there = bool(torch.cuda.is_available())
    if device == "cuda" and not there:
        msg = "device must be auto or one that this machine has (cpu); got 'cuda'."
        raise OptionError(msg)
    return "cuda" if there else "cpu"


def check_ot_options(
    *,
    eps: float | str,
    cost: str,
    unbalanced: float | None,
    max_iter: int,
    max_seconds: float,
    tol: float,
    keep: float = 0.999,
    memory: int | str | None = None,
    device: str = "cpu",
) -> None:
    """Raise :class:`~unpaired.errors.OptionError` if an option of :func:`match_ot` is not allowed."""
    check_choice("cost", cost, COSTS)
    check_integer("max_iter", max_iter, low=1)
    check_number("max_seconds", max_seconds, above=0)
    check_number("tol", tol, above=0)
    check_number("keep", keep, above=0, high=1)
    if memory is not None:
        to_bytes("memory", memory)
    if unbalanced is not None:
        check_number("unbalanced", unbalanced, above=0)
    check_eps(eps, cost)
    check_choice("device", device, ("auto", "cpu", "cuda"))
    if device == "cuda":
        find_device(device)
