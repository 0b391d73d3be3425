"""Steps towards the minimum for a batch of transport problems at one temperature: scaling, and Newton's method.

With ``p = f / heat`` and ``q = g / heat`` the plan at a temperature is ``a b exp(p + q - C / heat)``. Both methods keep
it as ``u K v`` with a kernel K that holds the bulk of the potentials, so a step costs products with K and not one
exponential a pair. Each label has its own step lengths and is no longer touched once it is done (``live``), so that
what shares a batch with it does not matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from unpaired.match.transport.gpu_kernel import Batch, Kernel

__all__ = ["Level", "Limits"]

_TINY, _HUGE = 1e-300, 1e300
_REACH = {"double": 100.0, "single": 20.0}  # how far u and v may be from 1 (in the logarithm) before K is built anew
_LOOK = 5  # scaling iterations between two looks at the error: a look waits for the device
_LOOK_CG = 10  # the same for conjugate gradients
_RELAXATION = 1.6  # of the scaling iterations
_LONGEST = 20.0  # step of Newton's method, in units of the temperature
_SHORTEST = 1e-6  # fraction of a step below which the direction is given up
_MOST_CG = 500


@dataclass(frozen=True)
class Limits:
    """Passes over the pairs that a label may take, and when to stop."""

    passes: int
    deadline: float

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return time.perf_counter() > self.deadline


@dataclass(frozen=True)
class _Point:
    """The plan whose columns are exact for p: its potentials, marginals, what the marginals should be, the dual."""

    p: Tensor
    q: Tensor
    r: Tensor
    c: Tensor
    target: Tensor
    dual: Tensor

    def where(self, new: Tensor, other: _Point) -> _Point:
        pairs = ((getattr(other, field.name), getattr(self, field.name)) for field in fields(self))
        return _Point(*(torch.where(new if mine.ndim == 1 else new[:, None], its, mine) for its, mine in pairs))

    @property
    def error(self) -> Tensor:
        return (self.r - self.target).abs().sum(dim=1)


class Level:
    """Potentials of a batch at one temperature.

    Attributes
    ----------
    p, q
        ``(B, n)`` and ``(B, m)`` potentials in units of the temperature; 0 in the padding.
    error
        ``(B,)`` sum of absolute differences of both marginals, as last seen.
    live
        ``(B,)`` labels that are to move.
    passes
        ``(B,)`` passes over the pairs that a label has taken.
    """

    def __init__(self, kernel: Kernel, heat: float, p: Tensor, q: Tensor, passes: Tensor) -> None:
        self.kernel, self.heat, self.p, self.q, self.passes = kernel, heat, p, q, passes
        self.batch: Batch = kernel.batch
        self.lean = heat / self.batch.penalty  # 0 where the marginals are constraints
        self.live = torch.ones(len(self.batch), dtype=torch.bool, device=p.device)
        self.error = torch.full_like(self.batch.a[:, 0], torch.inf)
        self._reach = _REACH["single" if kernel.keep == "single" else "double"]
        self._p0, self._q0 = p, q
        self._built = False

    def take(self, labels: Tensor) -> Level:
        """Return some of the labels, all of them live; this level is not to be used again."""
        kernel = self.kernel.take(labels, self.batch.take(labels))
        out = Level(kernel, self.heat, self.p[labels], self.q[labels], self.passes[labels])
        out.error = self.error[labels]
        return out

    def start(self) -> None:
        """Make columns, then rows exact in the logarithm, from wherever p is, and build the kernel there."""
        b, power = self.batch, 1 / (1 + self.lean)
        q = -power * self.kernel.log_col_sums(self.p + b.log_a, self.heat)
        self.q = self._moved(q, self.q, b.b)
        p = -power * self.kernel.log_row_sums(self.q + b.log_b, self.heat)
        self.p = self._moved(p, self.p, b.a)
        self._count(2)
        self._build(self.live)

    def scale(self, iterations: int, goal: Tensor, limits: Limits) -> None:
        """Take over-relaxed scaling iterations; a label whose error rises goes on without over-relaxation."""
        b = self.batch
        relaxation = torch.full_like(self.error, _RELAXATION)
        last = torch.full_like(self.error, torch.inf)
        for k in range(iterations):
            u, v = self._scalings(self.p, self.q)
            r = u * self.kernel.dot(v)
            error = (r - self._target(self.p, b.a)).abs().sum(dim=1)
            step = relaxation if k > 1 else torch.ones_like(relaxation)
            self.p = self._relaxed(self.p, r, b.a, b.log_a, step)
            u, v = self._scalings(self.p, self.q)
            c = v * self.kernel.dot_transposed(u)
            error = error + (c - self._target(self.q, b.b)).abs().sum(dim=1)
            self.q = self._relaxed(self.q, c, b.b, b.log_b, step)
            self._count(2)
            self.error = torch.where(self.live, error, self.error)
            if k % _LOOK == _LOOK - 1 or k == iterations - 1:
                self.live &= (error > goal) & (self.passes < limits.passes)
                if limits.late or not self.live.any():
                    break
                relaxation = torch.where(error > last, 1.0, relaxation)
                last = error
                self._build_if_far()

    def newton(self, steps: int, goal: Tensor, limits: Limits) -> None:
        """Maximise the semi-dual (columns always exact) by Newton's method, to an error of ``goal`` on the rows.

        A label for which no step length improves the dual is left where it is and is no longer live.
        """
        self._build_if_far()
        point = self._point(self.p, self.live)
        for _ in range(steps):
            self.live &= (point.error > goal) & (self.passes < limits.passes)
            if limits.late or not self.live.any():
                break
            self._keep(point)
            if self._build_if_far():
                point = self._point(self.p, self.live)
            direction = self._direction(point, goal, limits)
            point, moved = self._search(point, direction)
            self.live &= moved
        self._keep(point)

    def _keep(self, point: _Point) -> None:
        self.p, self.q, self.error = point.p, point.q, point.error

    def _count(self, passes: int) -> None:
        self.passes = self.passes + passes * self.live

    def certify(self) -> Tensor:
        """Return each label's error over all pairs, computed anew from the costs, as only the first level knows it.

        Potentials with constraints are known up to a shift between the sides; it is first set so that both have the
        same mean, for the answer not to depend on the way it was reached.
        """
        b = self.batch
        if not self.lean:
            shift = ((b.a * self.p).sum(dim=1) - (b.b * self.q).sum(dim=1))[:, None] / 2
            self.p = torch.where(b.a > 0, self.p - shift, 0.0)
            self.q = torch.where(b.b > 0, self.q + shift, 0.0)
        r, c = self.kernel.sums(self.p + b.log_a, self.q + b.log_b)
        self._count(1)
        rows = (r - self._target(self.p, b.a)).abs().sum(dim=1)
        return rows + (c - self._target(self.q, b.b)).abs().sum(dim=1)

    def _build(self, asked: Tensor) -> None:
        """Build the kernel where the potentials are, on account of the labels that asked for it."""
        self._built = True
        self._p0, self._q0 = self.p, self.q
        self.kernel.build(self.p + self.batch.log_a, self.q + self.batch.log_b, self.heat)
        self.passes = self.passes + (asked & self.live)

    def _build_if_far(self) -> bool:
        gaps = (self.p - self._p0).abs().amax(dim=1), (self.q - self._q0).abs().amax(dim=1)
        far = torch.maximum(*gaps) > self._reach
        if self._built and not far.any():
            return False
        self._build(far)
        return True

    def _scalings(self, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        return (p - self._p0).exp_(), (q - self._q0).exp_()

    def _target(self, potential: Tensor, mass: Tensor) -> Tensor:
        return mass * (-self.lean * potential).clamp_(-700, 700).exp_() if self.lean else mass

    def _moved(self, new: Tensor, old: Tensor, mass: Tensor) -> Tensor:
        return torch.where((mass > 0) & self.live[:, None], new, old)

    def _relaxed(self, potential: Tensor, sums: Tensor, mass: Tensor, log: Tensor, step: Tensor) -> Tensor:
        exact = (potential + log - sums.clamp(_TINY, _HUGE).log_()) / (1 + self.lean)
        # Between two looks the scalings must not leave what an exponential can hold.
        most = self._reach / _LOOK
        return self._moved(potential + (step[:, None] * (exact - potential)).clamp_(-most, most), potential, mass)

    def _point(self, p: Tensor, counted: Tensor) -> _Point:
        b = self.batch
        u = (p - self._p0).exp_()
        s = self.kernel.dot_transposed(u)
        q = (self._q0 + b.log_b - s.clamp(_TINY, _HUGE).log_()) / (1 + self.lean)
        q = torch.where(b.b > 0, q, 0.0)
        v = (q - self._q0).exp_()
        r, c = u * self.kernel.dot(v), v * s
        self.passes = self.passes + 2 * counted
        dual = (b.a * self._gain(p)).sum(dim=1) + (b.b * self._gain(q)).sum(dim=1) - c.sum(dim=1)
        return _Point(p, q, r, c, self._target(p, b.a), dual)

    def _gain(self, potential: Tensor) -> Tensor:
        """Return what a potential adds to the dual, per mass: itself, or with a penalty a concave function of it."""
        if not self.lean:
            return potential
        return -(-self.lean * potential).clamp_(-700, 700).expm1_() / self.lean

    def _direction(self, point: _Point, goal: Tensor, limits: Limits) -> Tensor:
        """Solve ``(diag(r + lean target) - P diag(1 / (c (1 + lean))) P') d = target - r`` by conjugate gradients.

        A small ridge keeps directions short in which the plan is nearly cut into parts that exchange no mass.
        """
        b, floor = self.batch, 1e-14
        error = point.error
        u, v = self._scalings(point.p, point.q)
        inner = torch.where(b.b > 0, v * v / (point.c.clamp_min(_TINY) * (1 + self.lean)), 0.0)
        ridge = (1e-2 * error).clamp(floor, 1.0)[:, None]
        outer = torch.where(b.a > 0, point.r + self.lean * point.target + ridge * b.a, 1.0)
        scale = outer - u * u * self.kernel.dot_squared(inner)
        scale = 1 / torch.maximum(scale, floor * outer)
        self._count(1)

        def product(d: Tensor) -> Tensor:
            return outer * d - u * self.kernel.dot(inner * self.kernel.dot_transposed(u * d))

        residual = torch.where((b.a > 0) & self.live[:, None], point.target - point.r, 0.0)
        accuracy = torch.maximum(error.sqrt(), 0.3 * goal / error.clamp_min(_TINY)).clamp_max(0.1)
        return self._conjugate_gradients(product, residual, scale, accuracy, limits)

    def _conjugate_gradients(
        self, product: Callable[[Tensor], Tensor], residual: Tensor, scale: Tensor, accuracy: Tensor, limits: Limits
    ) -> Tensor:
        d = torch.zeros_like(residual)
        z = scale * residual
        way, fall = z, (residual * z).sum(dim=1)
        enough = accuracy.square() * residual.square().sum(dim=1)
        going = self.live & (fall > 0)
        for k in range(_MOST_CG):
            image = product(way)
            bend = (way * image).sum(dim=1)
            going = going & (bend > 0)
            length = torch.where(going, fall / bend.clamp_min(_TINY), 0.0)[:, None]
            d = d + length * way
            residual = residual - length * image
            self.passes = self.passes + 2 * going
            going = going & (residual.square().sum(dim=1) > enough)
            if k % _LOOK_CG == _LOOK_CG - 1:
                going = going & (self.passes < limits.passes)
                if limits.late or not going.any():
                    break
            z = scale * residual
            falls = (residual * z).sum(dim=1)
            way = torch.where(going[:, None], z + (falls / fall.clamp_min(_TINY))[:, None] * way, way)
            fall = torch.where(going, falls, fall)
        return d

    def _search(self, point: _Point, direction: Tensor) -> tuple[_Point, Tensor]:
        """Shorten each label's step until the dual rises enough, or its slope says so where rounding hides the rise."""
        slope = ((point.target - point.r) * direction).sum(dim=1)
        longest = direction.abs().amax(dim=1).clamp_min(_TINY)
        length = (_LONGEST / max(1.0, self.lean) / longest).clamp_max(1.0)
        waiting, moved = self.live & (slope > 0), torch.zeros_like(self.live)
        noise = 1e-12 * (1 + point.dual.abs())
        while bool(waiting.any()):
            trial = self._point(torch.where(waiting[:, None], point.p + length[:, None] * direction, point.p), waiting)
            turned = ((trial.target - trial.r) * direction).sum(dim=1)
            rises = trial.dual >= point.dual + 1e-4 * length * slope
            flat = (turned.abs() <= 0.8 * slope) & (trial.dual >= point.dual - noise)
            good = waiting & (rises | flat)
            point, moved = point.where(good, trial), moved | good
            length = torch.where(good, length, 0.3 * length)
            waiting = waiting & ~good & (length > _SHORTEST)
        return point, moved
