"""One label's transport problem in its own units: cost over eps, marginals without zeros, points around their mean."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from unpaired.data.types import Array
from unpaired.errors import OptionError

__all__ = ["COSTS", "Cost", "Problem", "prepare"]

Cost = Literal["sqeuclidean", "euclidean"]
COSTS = ("sqeuclidean", "euclidean")


@dataclass(frozen=True, eq=False)
class Problem:
    """Minimise <C, P> + KL(P | a b), with ``C_ij = |x_i - y_j|`` or its square, over P with marginals a and b.

    With a finite ``penalty`` the constraints become ``penalty * (KL(P 1 | a) + KL(P' 1 | b))``. The minimum is
    ``P_ij = exp(F_i + G_j - C_ij)``: the potentials F and G hold the logarithms of a and b. The marginals of the
    minimum are ``a exp(-f / penalty)`` with ``f = F - log a``, and likewise for b: a itself without a penalty.

    Attributes
    ----------
    x, y
        ``(n, d)`` and ``(m, d)`` float64 coordinates, their common mean taken out, scaled so that eps is 1.
    a, b
        ``(n,)`` and ``(m,)`` positive marginals; each sums to 1.
    squared
        Whether the cost is the squared distance.
    penalty
        In units of eps; infinity for constraints.
    """

    x: Array
    y: Array
    a: Array
    b: Array
    squared: bool
    penalty: float = math.inf

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of points on both sides."""
        return len(self.x), len(self.y)

    @property
    def log_mass(self) -> float:
        """The logarithm of the smallest mass of the side whose masses are larger."""
        return math.log(max(self.a.min(), self.b.min()))

    def power(self, heat: float) -> float:
        """Return the exponent of a scaling step at temperature ``heat`` (Chizat et al. 2018): 1 for constraints."""
        return 1.0 if math.isinf(self.penalty) else self.penalty / (self.penalty + heat)

    def targets(self, potential: Array, side: Literal[0, 1], heat: float = 1.0) -> Array:
        """Return the marginal that ``potential`` asks of a side: a or b, lowered where the penalty lets it."""
        mass = (self.a, self.b)[side]
        if math.isinf(self.penalty):
            return mass
        lean = np.clip((potential - heat * np.log(mass)) / self.penalty, -700.0, 700.0)
        return np.asarray(mass * np.exp(-lean))

    def dual(self, f: Array, g: Array, heat: float) -> float:
        """Return the dual's value at ``(F, G)`` with G the best for F, up to a constant; the solution maximises it."""
        if math.isinf(self.penalty):
            return float(f @ self.a + g @ self.b)
        value = 0.0
        for side, (potential, mass) in enumerate(((f, self.a), (g, self.b))):
            lean = np.clip((potential - heat * np.log(mass)) / self.penalty, -700.0, 700.0)
            value -= self.penalty * float(mass @ np.expm1(-lean))
            if side == 1:  # the plan's mass: its columns have what G asks for
                value -= heat * float(mass @ np.exp(-lean))
        return value

    @property
    def T(self) -> Problem:
        """The problem with its sides exchanged."""
        return replace(self, x=self.y, y=self.x, a=self.b, b=self.a)


def prepare(
    x: Array, y: Array, a: Array, b: Array, *, eps: float, cost: Cost, unbalanced: float | None
) -> tuple[Problem, Array, Array]:
    """Return the problem in units of eps, and which rows of x and of y have mass.

    Raises
    ------
    OptionError
        If coordinates or masses cannot be used; all that is wrong is said at once.
    """
    x, y = (np.atleast_2d(np.asarray(p, dtype=np.float64)) for p in (x, y))
    a, b = (np.asarray(w, dtype=np.float64) for w in (a, b))
    wrong = _wrong(x, y, a, b)
    if wrong:
        raise OptionError(" ".join(wrong))
    rows, cols = np.flatnonzero(a > 0), np.flatnonzero(b > 0)
    x, y, a, b = x[rows], y[cols], a[rows] / a.sum(), b[cols] / b.sum()
    scale = 1 / math.sqrt(eps) if cost == "sqeuclidean" else 1 / eps
    centre = (x.mean(axis=0) + y.mean(axis=0)) / 2
    x, y = (np.ascontiguousarray((p - centre) * scale) for p in (x, y))
    penalty = math.inf if unbalanced is None else unbalanced / eps
    return Problem(x, y, a, b, cost == "sqeuclidean", penalty), rows, cols


def _wrong(x: Array, y: Array, a: Array, b: Array) -> list[str]:
    out = []
    if x.shape[1:] != y.shape[1:]:
        out.append(f"x has {x.shape[1]} columns and y has {y.shape[1]}; they must be points of one space.")
    for name, points, weight, mass in (("x", x, "a", a), ("y", y, "b", b)):
        bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
        if len(bad):
            out.append(f"{name} is not finite in {len(bad)} rows, the first is row {bad[0]}.")
        if mass.shape != (len(points),):
            out.append(f"{weight} must hold {len(points)} masses, one a row of {name}; got shape {mass.shape}.")
        elif not np.isfinite(mass).all() or (mass < 0).any() or not mass.sum() > 0:
            out.append(f"{weight} must be finite, not negative, and positive somewhere.")
    return out
