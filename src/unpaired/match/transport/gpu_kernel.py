"""The kernels of a batch of transport problems on a device, and their products, in as much memory as there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unpaired.match.transport.problem import Problem

__all__ = ["NOWHERE", "Batch", "Keep", "Kernel", "choose_keep", "tile_size"]

Keep = Literal["costs", "double", "single", "nothing"]

NOWHERE = -1e100  # the logarithm of no mass: finite, so that no difference of two of them is NaN, and exp makes it 0
BYTES: dict[Keep, int] = {"costs": 16, "double": 8, "single": 4, "nothing": 0}  # kept for a pair
_ROUNDED = 2e-6  # rounding the kernel to single precision moves both marginals by at most 1.2e-7 together
_TILE = 2**23  # pairs worked on at a time: 64 MB, little enough for the cache and enough to fill a device
_PRODUCT = 2**30  # pairs in one product of the linear-algebra library, which may count them in 32 bits
_TEMPORARIES = 4  # arrays of a tile that exist at a time, at most
_FINE = 1e-10  # error of a cost, in units of eps, that is let pass


def tile_size(budget: float) -> int:
    """Return how many pairs to work on at a time: at most a quarter of ``budget`` bytes goes into temporaries."""
    return max(1, min(_TILE, int(budget / (4 * 8 * _TEMPORARIES))))


def choose_keep(pairs: int, budget: float, tol: float) -> Keep:
    """Return what of ``pairs`` pairs to keep between products, the most that ``budget`` bytes hold.

    Single precision is a choice only where its rounding (of the finished entries: exponents are always computed in
    double precision) is a small part of the tolerance.
    """
    room = budget - 8 * _TEMPORARIES * tile_size(budget)
    allowed: tuple[Keep, ...] = ("costs", "double", "single") if tol >= _ROUNDED else ("costs", "double")
    return next((keep for keep in allowed if pairs * BYTES[keep] <= room), "nothing")


class Batch:
    """Problems of one kind (dimension, cost, penalty), padded with points without mass to one size.

    Attributes
    ----------
    x, y
        ``(B, n, d)`` and ``(B, m, d)``.
    a, b, log_a, log_b
        ``(B, n)`` and ``(B, m)``; the padding has mass 0 and logarithm ``NOWHERE``.
    near
        ``(B,)`` squared distance below which a pair's cost is computed with more care.
    """

    def __init__(self, x: Tensor, y: Tensor, a: Tensor, b: Tensor, *, squared: bool, penalty: float) -> None:
        self.x, self.y, self.a, self.b = x, y, a, b
        self.squared, self.penalty = squared, penalty
        self.log_a, self.log_b = (torch.where(p > 0, p.log(), NOWHERE) for p in (a, b))
        self.near = _near(x, y, squared=squared)

    @classmethod
    def of(cls, problems: Sequence[Problem], device: torch.device) -> Batch:
        """Return ``problems`` on the device."""
        first = problems[0]
        x, y = (_padded([getattr(p, side) for p in problems], device) for side in "xy")
        a, b = (_padded([getattr(p, side) for p in problems], device) for side in "ab")
        return cls(x, y, a, b, squared=first.squared, penalty=first.penalty)

    def __len__(self) -> int:
        return len(self.a)

    @property
    def pairs(self) -> int:
        """Number of pairs, with the padding."""
        return self.a.numel() * self.b.shape[1]

    def take(self, labels: Tensor) -> Batch:
        """Return some of the problems."""
        x, y, a, b = (part[labels] for part in (self.x, self.y, self.a, self.b))
        return Batch(x, y, a, b, squared=self.squared, penalty=self.penalty)


def _padded(parts: Sequence[np.ndarray], device: torch.device) -> Tensor:
    out = np.zeros((len(parts), max(len(p) for p in parts), *parts[0].shape[1:]))
    for k, part in enumerate(parts):
        out[k, : len(part)] = part
    return torch.from_numpy(out).to(device)


class Kernel:
    """``K_ij = exp(row_i + col_j - C_ij / heat)`` for each problem of a batch.

    All products are in double precision; the pairs are worked on in tiles of rows, and what is kept of them between
    two products is decided once, by the memory.
    """

    def __init__(self, batch: Batch, keep: Keep, tile: int) -> None:
        self.batch, self.keep, self.tile = batch, keep, tile
        self._costs: Tensor | None = None
        self._values: Tensor | None = None
        self._made_of: tuple[Tensor, Tensor, float] | None = None
        if keep == "costs":
            self._costs = self._empty(torch.float64)
            for rows in self._tiles():
                self._costs[:, rows] = self._cost(rows)

    def take(self, labels: Tensor, batch: Batch) -> Kernel:
        """Return the kernel of some of the problems, not built yet; this one gives up its values."""
        self._values = None
        out = Kernel(batch, "double" if self.keep == "costs" else self.keep, self.tile)
        if self._costs is not None:
            out.keep, out._costs = "costs", self._costs[labels]
        return out

    def build(self, row: Tensor, col: Tensor, heat: float) -> None:
        """Set the kernel from ``(B, n)`` and ``(B, m)`` exponents."""
        self._made_of = row, col, heat
        if self.keep == "nothing":
            return
        if self._values is None:
            self._values = self._empty(torch.float32 if self.keep == "single" else torch.float64)
        for rows in self._tiles():
            self._values[:, rows] = self._exponents(rows, row, col, heat).exp_()

    def dot(self, v: Tensor) -> Tensor:
        """Return ``K v``, ``(B, n)``."""
        return torch.cat([_product(values, v) for _, values in self._parts()], dim=1)

    def dot_transposed(self, u: Tensor) -> Tensor:
        """Return ``K' u``, ``(B, m)``."""
        out = torch.zeros_like(self.batch.b)
        for rows, values in self._parts():
            out += _product(values.transpose(1, 2), u[:, rows])
        return out

    def dot_squared(self, v: Tensor) -> Tensor:
        """Return ``K**2 v``, ``(B, n)``, entries squared."""
        tiles = (self._values_of(rows) for rows in self._tiles())
        return torch.cat([_product(values.square(), v) for values in tiles], dim=1)

    def log_row_sums(self, col: Tensor, heat: float) -> Tensor:
        """Return the logarithms of ``sum_j exp(col_j - C_ij / heat)``, whatever the kernel is built of."""
        row = torch.zeros_like(self.batch.a)
        parts = [torch.logsumexp(self._exponents(rows, row, col, heat), dim=2) for rows in self._tiles()]
        return torch.cat(parts, dim=1)

    def log_col_sums(self, row: Tensor, heat: float) -> Tensor:
        """Return the logarithms of ``sum_i exp(row_i - C_ij / heat)``."""
        col = torch.zeros_like(self.batch.b)
        out = torch.full_like(col, -torch.inf)
        for rows in self._tiles():
            out = torch.logaddexp(out, torch.logsumexp(self._exponents(rows, row, col, heat), dim=1))
        return out

    def sums(self, row: Tensor, col: Tensor) -> tuple[Tensor, Tensor]:
        """Return row and column sums of ``exp(row_i + col_j - C_ij)`` over all pairs, from the costs."""
        by_row, by_col = torch.zeros_like(row), torch.zeros_like(col)
        for rows in self._tiles():
            values = self._exponents(rows, row, col, 1.0).exp_()
            by_row[:, rows] = values.sum(dim=2)
            by_col += values.sum(dim=1)
        return by_row, by_col

    def _empty(self, dtype: torch.dtype) -> Tensor:
        (labels, n), m = self.batch.a.shape, self.batch.b.shape[1]
        return torch.empty((labels, n, m), dtype=dtype, device=self.batch.a.device)

    def _tiles(self, pairs: int | None = None) -> Iterator[slice]:
        (labels, n), m = self.batch.a.shape, self.batch.b.shape[1]
        size = max(1, (pairs or self.tile) // (labels * m))
        return (slice(start, min(start + size, n)) for start in range(0, n, size))

    def _parts(self) -> Iterator[tuple[slice, Tensor]]:
        """Rows of the kernel in double precision: without tiles where they are kept so."""
        whole = self._values is not None and self.keep in {"costs", "double"}
        return ((rows, self._values_of(rows)) for rows in self._tiles(_PRODUCT if whole else self.tile))

    def _values_of(self, rows: slice) -> Tensor:
        if self._values is not None:
            return self._values[:, rows].double()
        if self._made_of is None:
            msg = "The kernel has not been built."
            raise RuntimeError(msg)
        return self._exponents(rows, *self._made_of).exp_()

    def _exponents(self, rows: slice, row: Tensor, col: Tensor, heat: float) -> Tensor:
        kept = self._costs
        out = self._cost(rows).mul_(-1 / heat) if kept is None else kept[:, rows] * (-1 / heat)
        return out.add_(row[:, rows, None]).add_(col[:, None])

    def _cost(self, rows: slice) -> Tensor:
        return _costs(self.batch.x[:, rows], self.batch.y, self.batch.near, squared=self.batch.squared)


def _product(matrices: Tensor, vectors: Tensor) -> Tensor:
    if len(matrices) == 1:
        return torch.mv(matrices[0], vectors[0])[None]
    return torch.bmm(matrices, vectors[:, :, None])[:, :, 0]


def _near(x: Tensor, y: Tensor, *, squared: bool) -> Tensor:
    """Return ``(B,)`` squared distances below which ``|x|^2 + |y|^2 - 2 x'y`` is too coarse for the cost."""
    longest = x.square().sum(dim=2).amax(dim=1) + y.square().sum(dim=2).amax(dim=1)
    slip = 4e-16 * (2 + x.shape[2] ** 0.5) * longest  # a bound on its rounding; only exponents count, so absolute
    if squared:
        return torch.where(slip > _FINE, torch.inf, 0.0)
    return torch.square(slip / (2 * _FINE))


def _costs(x: Tensor, y: Tensor, near: Tensor, *, squared: bool) -> Tensor:
    """Distances by a matrix product where that is fine enough, from differences of coordinates where it is not."""
    out = x.square().sum(dim=2)[:, :, None] + y.square().sum(dim=2)[:, None]
    out = torch.baddbmm(out, x, y.transpose(1, 2), alpha=-2)
    label, i, j = torch.nonzero(out < near[:, None, None], as_tuple=True)
    if len(label) * x.shape[2] > out.numel():  # too many to gather
        exact: Tensor = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
        return exact.square_() if squared else exact
    out[label, i, j] = (x[label, i] - y[label, j]).square().sum(dim=1)
    return out.clamp_min_(0.0) if squared else out.sqrt_()
