"""Who is whose partner, if scores are truth plus noise: the directions of the space, and how far each can be believed.

Take the scores ``x`` and ``y`` of the cells of one label in two modalities as jointly Gaussian, with covariances ``A``
and ``B`` and, between the two scores of one cell, ``C``. Seen from its own modality alone no cell is like another's
partner, so by Bayes the odds of ``y_j`` being the partner of ``x_i`` are

    p(x_i, y_j) / (p(x_i) p(y_j)) = exp(a(x_i) + b(y_j) + sum_k k_k u_ik v_jk),    k_k = r_k / (1 - r_k^2)

with ``u`` and ``v`` the canonical variables and ``r_k`` the canonical correlations of (A, B, C). Every permutation of
partners has the same ``a`` and ``b`` terms: they are absorbed by the marginals. So the posterior with uniform marginals
is entropic optimal transport with the cost ``|x' - y'|^2`` and ``eps = 2``, where ``x' = sqrt(k) u`` and
``y' = sqrt(k) v``: nothing is left to choose but C, and that is what no unpaired data can show. Two estimates are
averaged:

* what the assumptions say. Under (A1) and (A2) both scores are one truth plus independent noise (Xi et al. 2024,
  Prop. 3.1), so C is the covariance of the truth: ``A`` less the classifiers' own noise, or ``B`` less that of the
  other. Where the two disagree, their geometric mean: the covariance of two truths that are as alike as their spreads
  allow.
* what the coupling made with that first C shows: the mean of ``x_i y_j^T`` over it. It was made with that C and
  largely confirms it, but a label's cells are no Gaussian cloud: a direction in which the two clouds cannot be laid
  on each other loses weight here, one in which they fit better than their spreads say gains.

Correlations are therefore assumptions about the data, not findings; :func:`unpaired.diagnose` asks whether they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unpaired.data.types import Array, Dataset
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import OptionError
from unpaired.match.blocks import cells_by_label, check_embedding, evenly
from unpaired.match.matching import Matching

__all__ = ["EPS", "Weighting", "weigh"]

EPS = 2.0
"""Weight of the entropy in the weighted space: there the cost over it is the log odds (see above)."""

_SURE = 0.98  # largest correlation: that of a direction without any noise would be infinitely sure
_FAINT = 0.01  # correlation below which a direction is left out: it would move the log odds by less than that
_LEAST = 1e-6  # share of a direction's variance that is truth at least: what is all noise has no inverse
_FLAT = 1e-9  # of the largest variance: directions in which nothing varies (the logits of a cell sum to zero)
_PROBE = 300  # cells a side of a label that the first coupling is made of: it tells one average over all labels ...
_PROBES = 20_000  # ... which of many labels needs fewer of each, though not fewer than
_FEWEST = 50


@dataclass(frozen=True, eq=False)
class Weighting:
    """A linear map of the space for each of two modalities, after which squared distances over two are log odds.

    Attributes
    ----------
    maps
        Modality name -> ``(d, k)``; where nothing is shared, to one coordinate that is zero for all cells.
    correlations
        ``(k,)`` canonical correlations between the two scores of one cell, within labels, largest first; none where
        nothing is shared.
    assumed
        ``(j,)`` the same by the assumptions alone, before any coupling was looked at; at most k of them.
    noise
        Modality name -> share of the variance within labels that is the classifier's own noise (1: all of it).
    """

    maps: Mapping[str, Array]
    correlations: Array
    assumed: Array
    noise: Mapping[str, float]

    @property
    def information(self) -> float:
        """What the two scores of a cell say of each other, in nats: by e to this, candidates are narrowed at most."""
        return 0.5 * abs(float(np.log1p(-(self.correlations**2)).sum()))

    def apply(self, data: Dataset, embedding: Embedding) -> Embedding:
        """Return the two modalities' coordinates in the weighted space."""
        arrays = {}
        for name, turn in self.maps.items():
            order = data[name].order  # a product's last bits depend on where a row stands
            arrays[name] = np.empty((len(order), turn.shape[1]))
            arrays[name][order] = embedding[name][order] @ turn
        dims = tuple(f"direction {i + 1}" for i in range(max(1, len(self.correlations))))
        return Embedding(arrays, "latent", None, dims, Provenance("weigh", self.told()))

    def told(self) -> dict[str, Any]:
        """Return what a record says of it."""
        return {
            "directions": len(self.correlations),
            "information": self.information,
            "correlations": self.correlations.tolist(),
            "noise_share": dict(self.noise),
        }


@dataclass(frozen=True, eq=False)
class _Side:
    """One modality: its cells by label in canonical order, their coordinates, and the two covariances."""

    name: str
    cells: Sequence[Array]
    x: Array
    total: Array
    noise: Array


def weigh(
    data: Dataset,
    embedding: Embedding,
    source: str,
    target: str,
    couple: Callable[[Dataset, Embedding], Matching] | None = None,
    *,
    drawn: Array | None = None,
) -> Weighting:
    """Return the weighting of the space in which its noise is matched best.

    Parameters
    ----------
    data
        The data set.
    embedding
        The space. Its ``noise_covariance`` is used, or else its ``noise``, the same in every direction; a space that
        knows neither is taken at its word.
    source, target
        Names of the modalities.
    couple
        Makes the first coupling, of at most 300 cells a side of every label (of 67 labels or more, fewer), in a
        weighted space at ``eps = 2``.
        ``None``: the assumptions alone decide.
    drawn
        ``(d, d)`` covariance of two drawn partners within labels, of a space that was learned from drawn partners. If
        they were drawn by the right odds it is too small, for many are not the true ones; what the assumptions say is
        too large, for not all that two encoders say of a cell is common. So directions are those of the former, and a
        correlation is the geometric mean of what both say.

    Raises
    ------
    OptionError
        If coordinates or noise are not finite.
    """
    check_embedding([data[source], data[target]], embedding)
    widths = [embedding[n].shape[1] for n in (source, target)]
    if widths[0] != widths[1]:
        msg = f"the embedding has {widths[0]} dimensions of {source!r}, {widths[1]} of {target!r}: it is not one space."
        raise OptionError(msg)
    sides = _sides(data, embedding, source, target)
    basis = _basis(sides)
    if basis.shape[1] == 0:
        return _nothing(sides, dict.fromkeys((source, target), float("nan")))
    a, b = (_Shape(basis.T @ s.total @ basis, basis.T @ s.noise @ basis) for s in sides)
    assumed = _geometric_mean(a.truth, b.truth)
    if drawn is not None:
        assumed = _between_bounds(a, b, assumed, basis.T @ drawn @ basis)
    first = _weighting(sides, basis, (a, b), assumed, None)
    if couple is None or len(first.correlations) == 0:
        return first
    seen = _seen(data, embedding, sides, first, couple)
    if seen is None:
        return first
    return _weighting(sides, basis, (a, b), (assumed + basis.T @ seen @ basis) / 2, first.correlations)


def _sides(data: Dataset, embedding: Embedding, source: str, target: str) -> tuple[_Side, _Side]:
    by_label = {n: cells_by_label(data[n], len(data.classes)) for n in (source, target)}
    shared = [c for c in range(len(data.classes)) if min(len(by_label[n][c]) for n in by_label) > 1]
    found = [_side(n, [cells[c] for c in shared], embedding) for n, cells in by_label.items()]
    return found[0], found[1]


def _side(name: str, cells: Sequence[Array], embedding: Embedding) -> _Side:
    x, d = embedding[name], embedding[name].shape[1]
    rows = np.concatenate([*cells, np.empty(0, dtype=np.int64)]).astype(np.int64)
    within = np.concatenate([x[own] - x[own].mean(axis=0) for own in cells]) if cells else np.empty((0, d))
    total = within.T @ within / max(1, len(rows) - len(cells))
    return _Side(name, cells, x, total, _noise(embedding, name, rows, d))


def _noise(embedding: Embedding, name: str, rows: Array, d: int) -> Array:
    if embedding.noise_covariance is not None and name in embedding.noise_covariance:
        noise = np.asarray(embedding.noise_covariance[name])
    elif embedding.noise is not None and len(rows):
        noise = float(np.mean(embedding.noise[name][rows])) * np.eye(d)
    else:
        noise = np.zeros((d, d))
    if noise.shape != (d, d) or not np.isfinite(noise).all():
        msg = f"the noise of {name!r} in the embedding is not {d} x {d} finite numbers; give a number as eps."
        raise OptionError(msg)
    return noise


def _basis(sides: tuple[_Side, _Side]) -> Array:
    """``(d, k)`` orthonormal directions in which the cells of a label differ in both modalities."""
    parts = [s.total / max(float(np.trace(s.total)), np.finfo(float).tiny) for s in sides]
    inside = _span(parts[0] + parts[1])
    for part in parts:  # what one modality does not have at all cannot be shared
        inside = inside @ _span(inside.T @ part @ inside)
    return inside


def _span(covariance: Array) -> Array:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors[:, values > max(_FLAT * values.max(initial=0.0), 1e-14)])


@dataclass(frozen=True, eq=False)
class _Shape:
    """Total and noise covariance of one modality in the basis."""

    total: Array
    noise: Array

    @property
    def truth(self) -> Array:
        """The total less the noise: of no direction more than all of it, nor less than next to nothing."""
        root, inverse = _power(self.total, 0.5), _power(self.total, -0.5)
        values, vectors = np.linalg.eigh(inverse @ self.noise @ inverse)  # share of the noise, direction by direction
        return np.asarray(root @ (vectors * np.clip(1 - values, _LEAST, 1)) @ vectors.T @ root)


def _power(covariance: Array, exponent: float) -> Array:
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.asarray((vectors * np.maximum(values, np.finfo(float).tiny) ** exponent) @ vectors.T)


def _geometric_mean(a: Array, b: Array) -> Array:
    """Return ``(a b)^(1/2)``, the covariance between two Gaussians that optimal transport couples."""
    # The other mean of matrices, a # b, would be the same in whatever coordinates; but where both are all but flat in
    # some directions, not quite the same ones, nothing is left of it. The logits' own coordinates mean something.
    root, inverse = _power(a, 0.5), _power(a, -0.5)
    return np.asarray(root @ _power(root @ b @ root, 0.5) @ inverse)


def _between_bounds(a: _Shape, b: _Shape, most: Array, least: Array) -> Array:
    """Return the covariance in the directions of ``least`` whose correlations are the geometric means of both."""
    whiten, back = ([_power(s.total, e) for s in (a, b)] for e in (-0.5, 0.5))
    u, low, vt = np.linalg.svd(whiten[0] @ least @ whiten[1])
    high = np.diag(u.T @ whiten[0] @ most @ whiten[1] @ vt.T)
    r = np.sqrt(np.clip(low, 0, 1) * np.clip(high, 0, 1))
    return np.asarray(back[0] @ (u * r) @ vt @ back[1])


def _weighting(
    sides: tuple[_Side, _Side], basis: Array, shapes: tuple[_Shape, _Shape], between: Array, assumed: Array | None
) -> Weighting:
    """Return the canonical directions of the three covariances, weighted."""
    whiten = [_power(s.total, -0.5) for s in shapes]
    u, r, vt = np.linalg.svd(whiten[0] @ between @ whiten[1])
    keep = r > _FAINT
    noise = {s.name: _share(shape) for s, shape in zip(sides, shapes, strict=True)}
    if not keep.any():
        return _nothing(sides, noise)
    r = np.minimum(r[keep], _SURE)
    root = np.sqrt(r / (1 - r**2))
    turns = (u[:, keep], vt.T[:, keep])
    maps = {s.name: basis @ w @ t * root for s, w, t in zip(sides, whiten, turns, strict=True)}
    return Weighting(maps, r, r if assumed is None else assumed[: len(r)], noise)


def _share(shape: _Shape) -> float:
    total = float(np.trace(shape.total))
    return float(np.trace(shape.noise)) / total if total > 0 else float("nan")


def _nothing(sides: tuple[_Side, _Side], noise: Mapping[str, float]) -> Weighting:
    """Return the map to one coordinate that is zero for all: every partner is as likely."""
    return Weighting({s.name: np.zeros((s.x.shape[1], 1)) for s in sides}, np.empty(0), np.empty(0), noise)


def _seen(
    data: Dataset,
    embedding: Embedding,
    sides: tuple[_Side, _Side],
    first: Weighting,
    couple: Callable[[Dataset, Embedding], Matching],
) -> Array | None:
    """``(d, d)`` covariance of two partners within labels, over the coupling of some cells of every label.

    On the scale of the totals: pooled by the degrees of freedom of all cells of a label. ``None`` without a coupling.
    """
    most = int(np.clip(_PROBES / max(1, len(sides[0].cells)), _FEWEST, _PROBE))
    rows = {s.name: np.concatenate([evenly(own, most) for own in s.cells]) for s in sides}
    arrays = {n: embedding[n][rows[n]] for n in rows}
    some = Dataset({n: data[n].take(rows[n]) for n in rows}, data.classes, None)
    weighted = first.apply(some, Embedding(arrays, embedding.space, None, embedding.dims, embedding.made_by))
    matching = couple(some, weighted)
    labels = [data.classes[data[sides[0].name].labels[own[0]]] for own in sides[0].cells]
    free = {c: len(i) + len(j) - 2 for c, i, j in zip(labels, sides[0].cells, sides[1].cells, strict=True)}
    total, freedom = np.zeros((arrays[sides[0].name].shape[1],) * 2), 0
    for block in matching.matched:
        x, y = arrays[sides[0].name][block.rows], arrays[sides[1].name][block.cols]
        n, m = len(x), len(y)
        mass = max(float(block.sums(1).sum()), np.finfo(float).tiny)
        inner = (x - x.mean(axis=0)).T @ block.dot(y - y.mean(axis=0)) / mass
        total += free[block.label] * inner * np.sqrt(n * m / ((n - 1) * (m - 1)))
        freedom += free[block.label]
    return total / freedom if freedom else None
