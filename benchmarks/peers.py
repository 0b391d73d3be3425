"""Other libraries' solvers behind one call: points in, a plan or potentials out.

``make(x, y, iterations, stop)`` does what a user would do once and for all (conversion of the arrays, compilation) and
returns the run that is timed; the matrix of distances belongs to the run, as it does for us.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from judge import plan_error, potential_error
from problems import EPS, Array

warnings.filterwarnings("ignore", module="ot|geomloss|jax|pykeops")


@dataclass(frozen=True, eq=False)
class Outcome:
    """A dense plan, or potentials of one."""

    plan: Any = None
    f: Any = None
    g: Any = None
    iterations: int = -1

    def error(self, x: Array, y: Array) -> float:
        """Return the L1 error of both marginals in float64."""
        if self.plan is not None:
            return plan_error(np.asarray(self.plan))
        return potential_error(x, y, np.asarray(self.f).ravel(), np.asarray(self.g).ravel())


Run = Callable[[], Outcome]


@dataclass(frozen=True)
class Peer:
    """A solver.

    Attributes
    ----------
    name
        As it stands in the tables.
    kind
        ``plain``: Sinkhorn's iterates, so that they can be counted; ``own``: stops by its own test; ``fixed``: a fixed
        number of steps; ``exact``: linear programming, without entropy.
    make
        ``(x, y, iterations, stop) -> run``.
    needs
        The module that must be there.
    floor
        The least tolerance that is asked of it.
    stops
        Whether its own test, with ``stop`` as the threshold, is the L1 error of both marginals.
    """

    name: str
    kind: Literal["plain", "own", "fixed", "exact"]
    make: Callable[[Array, Array, int, float], Run]
    needs: str
    floor: float = 0.0
    stops: bool = False

    @property
    def here(self) -> bool:
        """Whether its library is installed."""
        return importlib.util.find_spec(self.needs) is not None


def _uniform(n: int) -> Array:
    return np.full(n, 1 / n)


def _pot(method: str) -> Callable[[Array, Array, int, float], Run]:
    def make(x: Array, y: Array, iterations: int, stop: float) -> Run:
        import ot

        def run() -> Outcome:
            cost = ot.dist(x, y, metric="euclidean")
            a, b = _uniform(len(x)), _uniform(len(y))
            plan = ot.sinkhorn(a, b, cost, EPS, method=method, numItermax=iterations, stopThr=stop, warn=False)
            return Outcome(plan, iterations=iterations)

        return run

    return make


def _pot_torch(method: str) -> Callable[[Array, Array, int, float], Run]:
    def make(x: Array, y: Array, iterations: int, stop: float) -> Run:
        import ot
        import torch

        sides = torch.tensor(x), torch.tensor(y)
        a, b = torch.tensor(_uniform(len(x))), torch.tensor(_uniform(len(y)))

        def run() -> Outcome:
            cost = torch.cdist(*sides, compute_mode="donot_use_mm_for_euclid_dist")
            plan = ot.sinkhorn(a, b, cost, EPS, method=method, numItermax=iterations, stopThr=stop, warn=False)
            return Outcome(plan, iterations=iterations)

        return run

    return make


def _emd(x: Array, y: Array, iterations: int, stop: float) -> Run:
    import ot

    def run() -> Outcome:
        cost = ot.dist(x, y, metric="euclidean")
        return Outcome(ot.emd(_uniform(len(x)), _uniform(len(y)), cost, numItermax=10**8))

    return run


def _ott(
    kind: Literal["float64", "float32"], *, anderson: bool = False, kernel: bool = False, online: int | None = None
) -> Callable[[Array, Array, int, float], Run]:
    def make(x: Array, y: Array, iterations: int, stop: float) -> Run:
        import jax

        jax.config.update("jax_enable_x64", True)  # noqa: FBT003
        sides = jax.numpy.asarray(x, kind), jax.numpy.asarray(y, kind)
        compiled = _compiled_ott(x.shape, y.shape, kind, iterations, stop, anderson, kernel, online)

        def run() -> Outcome:
            f, g, count = jax.block_until_ready(compiled(*sides))
            return Outcome(f=f, g=g, iterations=int(count))

        return run

    return make


@cache
def _compiled_ott(  # compiled once a shape
    left: tuple[int, int],
    right: tuple[int, int],
    kind: str,
    iterations: int,
    stop: float,
    anderson: bool,  # noqa: FBT001
    kernel: bool,  # noqa: FBT001
    online: int | None,
) -> Any:
    import jax
    from ott.geometry import costs, geometry, pointcloud
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import acceleration, sinkhorn

    faster = {"anderson": acceleration.AndersonAcceleration(memory=5)} if anderson else {}

    def solve(x: Any, y: Any) -> Any:
        if online:
            geom = pointcloud.PointCloud(x, y, cost_fn=costs.Euclidean(), epsilon=EPS, batch_size=online)
        else:  # the distances once, not once an iteration
            geom = geometry.Geometry(cost_matrix=costs.Euclidean().all_pairs(x, y), epsilon=EPS)
        solver = sinkhorn.Sinkhorn(threshold=stop, max_iterations=iterations, lse_mode=not kernel, **faster)
        out = solver(linear_problem.LinearProblem(geom))
        return out.f, out.g, out.n_iters

    return jax.jit(solve).lower(jax.ShapeDtypeStruct(left, kind), jax.ShapeDtypeStruct(right, kind)).compile()


def geomloss(scaling: float, backend: str = "tensorized") -> Callable[[Array, Array, int, float], Run]:
    """Return geomloss with a fixed schedule: the nearer ``scaling`` is to 1, the more steps."""

    def make(x: Array, y: Array, iterations: int, stop: float) -> Run:
        import torch
        from geomloss import SamplesLoss

        sides = torch.tensor(x), torch.tensor(y)
        loss = SamplesLoss("sinkhorn", p=1, blur=EPS, scaling=scaling, debias=False, potentials=True, backend=backend)

        def run() -> Outcome:
            f, g = loss(*sides)  # potentials against the product of the marginals
            return Outcome(f=f.ravel() - EPS * np.log(len(x)), g=g.ravel() - EPS * np.log(len(y)))

        return run

    return make


PEERS = (
    Peer("POT sinkhorn_log", "plain", _pot("sinkhorn_log"), "ot"),
    Peer("POT sinkhorn", "plain", _pot("sinkhorn"), "ot"),
    Peer("POT sinkhorn_log, torch f64", "plain", _pot_torch("sinkhorn_log"), "ot"),
    Peer("POT sinkhorn, torch f64", "plain", _pot_torch("sinkhorn"), "ot"),
    Peer("OTT dense f64", "plain", _ott("float64"), "ott", stops=True),
    Peer("OTT dense f32", "plain", _ott("float32"), "ott", floor=1e-5, stops=True),
    Peer("OTT kernel f64", "plain", _ott("float64", kernel=True), "ott", stops=True),
    Peer("OTT Anderson f64", "own", _ott("float64", anderson=True), "ott", stops=True),
    Peer("OTT online f64", "plain", _ott("float64", online=1000), "ott", stops=True),
    Peer("OTT online f32", "plain", _ott("float32", online=1000), "ott", floor=1e-5, stops=True),
    Peer("geomloss, scaling 0.5", "fixed", geomloss(0.5), "geomloss"),
    Peer("geomloss, scaling 0.9", "fixed", geomloss(0.9), "geomloss"),
    Peer("POT emd (exact)", "exact", _emd, "ot"),
)
BY_NAME = {peer.name: peer for peer in PEERS}
