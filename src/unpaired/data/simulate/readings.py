"""What the two instruments of a simulated screen read of a cell: counts of genes, and the embedding of a picture."""

from __future__ import annotations

import numpy as np

from unpaired.data.simulate.cells import Cells, Design
from unpaired.data.types import Array
from unpaired.seeds import named_rng

__all__ = ["read_genes", "read_pictures", "seen"]

# rna
_DEPTH, _DEPTH_SPREAD = 1.5, 0.35  # counts a gene of a typical cell, and the spread of their logarithm between cells
_ABUNDANCE = 1.4  # spread of the genes' log rates
_LOADING = 0.15  # of a latent direction, and of one of the noise, on a gene's log rate
_DISPERSION = 5.0  # of the negative binomial: its variance is mean + mean^2 / dispersion
_BATCH_GENES, _BATCH_DEPTH = 0.3, 0.2

# image
_HIDDEN = 64  # units of the bent part
_BENT = 0.5  # their size beside the straight part
_NUISANCE = 1.5  # size of the noise U beside the latent state
_PIXEL = 0.8  # noise of every feature, beside a latent direction that moves the whole embedding by 1
_BATCH_IMAGE = 2.0


def read_genes(cells: Cells, design: Design, genes: int) -> Array:
    """Return ``(n, genes)`` float32 negative-binomial counts."""
    z, u = cells.latents, cells.noise["rna"]
    world = named_rng(design.seed, "screen", "rna", "genes")
    log_rate = world.normal(scale=_ABUNDANCE, size=genes)
    log_rate = log_rate + z @ world.normal(scale=_LOADING, size=(z.shape[1], genes))
    log_rate = log_rate + u @ world.normal(scale=_LOADING, size=(u.shape[1], genes))
    dispersion = _DISPERSION * np.exp(world.normal(scale=0.5, size=genes))
    shift, depth = _batch_effect(design, "rna", genes)
    log_rate = log_rate + _BATCH_GENES * shift[cells.batches]
    rate = np.exp(log_rate - log_rate.max(axis=1, keepdims=True))
    rng = named_rng(design.seed, "screen", "rna", "counts")
    size = _DEPTH * genes * np.exp(_DEPTH_SPREAD * rng.normal(size=len(z)) + _BATCH_DEPTH * depth[cells.batches])
    mean = size[:, None] * rate / rate.sum(axis=1, keepdims=True)
    counts = rng.poisson(mean * rng.gamma(dispersion, 1 / dispersion, size=mean.shape))
    return np.asarray(counts, dtype=np.float32)


def read_pictures(cells: Cells, design: Design, features: int) -> Array:
    """Return ``(n, features)`` float32 embeddings."""
    s, u = seen(cells.latents, design), _NUISANCE * cells.noise["image"]
    both = np.concatenate([s, u], axis=1)
    world = named_rng(design.seed, "screen", "image", "features")
    straight = world.normal(size=(both.shape[1], features)) / np.sqrt(features)
    inner = world.normal(size=(both.shape[1], _HIDDEN)) / np.sqrt(both.shape[1])
    bent = np.tanh(both @ inner + world.normal(size=_HIDDEN)) @ world.normal(size=(_HIDDEN, features))
    shift, _ = _batch_effect(design, "image", features)
    rng = named_rng(design.seed, "screen", "image", "pixels")
    out = both @ straight + _BENT * bent / np.sqrt(features) + _BATCH_IMAGE * shift[cells.batches] / np.sqrt(features)
    out += _PIXEL * rng.normal(size=out.shape)
    return np.asarray(out, dtype=np.float32)


def seen(latents: Array, design: Design) -> Array:
    """Return ``(n, d)`` of the latent state what the pictures show, in directions of their own.

    Of the ``d`` directions, ``violate_a2 * d`` are not shown; where that is no whole number, one is shown faintly.
    """
    d = latents.shape[1]
    world = named_rng(design.seed, "screen", "image", "directions")
    directions, _ = np.linalg.qr(world.normal(size=(d, d)))
    weight = np.clip(d * (1 - design.violate_a2) - np.arange(d), 0, 1)
    return np.asarray((latents @ directions) * weight)


def _batch_effect(design: Design, name: str, p: int) -> tuple[Array, Array]:
    """Return ``(batches, p)`` shifts and ``(batches,)`` depths of the batches; zero if there is only one."""
    rng = named_rng(design.seed, "screen", name, "batches")
    shift, depth = rng.normal(size=(design.batches, p)), rng.normal(size=design.batches)
    return (shift, depth) if design.batches > 1 else (0 * shift, 0 * depth)
