"""What CLUE learns: readings from codes, codes that agree, and codes that do not tell the modality.

Source: Tu et al. 2022, equations 5 to 15; what they leave open is done as by the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from unpaired.embed.clue_model import TINY, ClueConfig, ClueModel, Likelihood, Posterior, combine

__all__ = ["Losses", "Minibatch", "discriminator_loss", "losses", "negative_log_likelihood"]


class Minibatch(NamedTuple):
    """Cells to learn from; every cell has something in every slot, observed or filled in.

    Attributes
    ----------
    inputs, readings
        For each modality ``(cells, inputs)``, which is encoded, and ``(cells, features)``, which the decoder is judged
        by and library sizes are told from.
    batches
        ``(cells, K)`` codes of the batches; a filler has that of the cell it comes from.
    observed
        ``(cells, K)``: whether a slot holds the cell's own readings, and not another cell's.
    trust
        ``(cells,)``: what a cell counts where cells are taken as wholes, as many as it is that belong together surely
        against how likely drawn partners do; one on average.
    """

    inputs: Sequence[Tensor]
    readings: Sequence[Tensor]
    batches: Tensor
    observed: Tensor
    trust: Tensor


class Losses(NamedTuple):
    """The terms of the loss, summed over modalities, and ``generator``: their weighted sum (eq. 15)."""

    nll: Tensor
    kl: Tensor
    elbo: Tensor
    cross: Tensor
    real_cross: Tensor
    cos: Tensor
    dsc: Tensor
    generator: Tensor


def losses(
    model: ClueModel,
    batch: Minibatch,
    config: ClueConfig,
    noise: float,
    generator: torch.Generator,
    *,
    posterior: Posterior | None = None,
) -> Losses:
    """Return the terms of the loss of the encoders and decoders.

    Fillers count in ``nll`` and ``kl``, because what fills a slot is a true reading of its modality, and in ``dsc``,
    so that the discriminator sees as many codes of every modality. They do not count in ``cross``, ``real_cross`` and
    ``cos``, which are of cells as wholes: there, a modality's mean is over the cells in which it is observed (in
    ``real_cross``: it and the source), each times its trust, and a modality without any adds nothing. Through batch
    normalisation fillers still have a say while learning. With u_k a code that is drawn from what modality k gives a
    cell, its length made one, the terms are sums over modalities of:

    * ``nll`` (eq. 5): minus the log-likelihood of k's readings, decoded from u_k, mean over cells and features;
    * ``kl`` (eq. 3): divergence of the code that k gives from the standard normal distribution, over the whole space,
      mean over cells, divided by the number of features; ``elbo`` is ``nll + lam_kl * kl``;
    * ``cross`` (eq. 8): as ``nll``, decoded from the mean of the cell's observed u, its length made one;
    * ``real_cross``: as ``nll``, decoded from the u of another modality, for each of them;
    * ``cos`` (eq. 9, whose squares are twice that at length one): 1 less the cosine of u_k and that mean;

    and ``dsc`` (eq. 12) is the discriminator's cross-entropy, mean over all slots, on the means of the codes, their
    length as it is. Library sizes are those that the modality's own counts foretell, in ``real_cross`` those that the
    source's counts foretell where it has counts. The gradient of ``dsc`` goes through the discriminator's weights and
    leaves none on them.

    Parameters
    ----------
    model
        The net, in training or evaluation mode.
    batch
        The cells.
    config
        Weights of the terms; what weighs nothing is zero, and not computed.
    noise
        Standard deviation of what is added to the codes that the discriminator reads: from 1 to 0 over the burn-in.
    generator
        Source of standard normal numbers: first ``(K, cells, K * dims)`` for the codes, then as many for the
        discriminator, if there is noise. Where it is on another device, they are brought to the model's.
    posterior
        ``model(batch.inputs)``, if it is at hand: it serves the discriminator, too.
    """
    mean, std = model(batch.inputs) if posterior is None else posterior
    u = functional.normalize(mean + std * _drawn(mean, generator), dim=2)
    sizes = [model.sizes(at, y) for at, y in enumerate(batch.readings)]
    modalities, zero = range(len(sizes)), mean.new_zeros(())
    ways = [_ways(model, batch, at) for at in modalities]
    nll = kl = cross = real_cross = cos = dsc = zero
    if config.lam_data:
        nll = sum((_nll(model, batch, at, u[at], sizes[at], ways[at]) for at in modalities), zero)
        if config.lam_kl:
            widths = mean.new_tensor([y.shape[1] for y in batch.readings])
            kl = (_divergence(mean, std).mean(1) / widths).sum()
    together = combine(u, batch.observed)
    if config.lam_cross:
        seen = batch.observed.T
        cross = sum((_nll(model, batch, at, together, sizes[at], ways[at], seen[at]) for at in modalities), zero)
    if config.lam_real_cross:
        real_cross = _real_cross(model, batch, u, sizes, ways)
    if config.lam_cos:
        cos = _angles(u, together, batch.observed.T, batch.trust)
    if config.lam_align:
        dsc = _told(model, mean, batch, noise, generator, fixed=True)
    elbo = nll + config.lam_kl * kl
    total = config.lam_data * elbo + config.lam_cross * cross + config.lam_real_cross * real_cross
    total = total + config.lam_cos * cos - config.lam_align * dsc
    return Losses(nll, kl, elbo, cross, real_cross, cos, dsc, total)


def discriminator_loss(
    model: ClueModel,
    batch: Minibatch,
    noise: float,
    generator: torch.Generator,
    *,
    posterior: Posterior | None = None,
) -> Tensor:
    """Return the discriminator's cross-entropy (eq. 12) for its own step; no gradient reaches the encoders.

    It is not weighted by ``lam_align``: the size of a gradient is nothing to the optimizer. The parameters are those of
    :func:`losses`; without ``posterior`` the cells are encoded once more.
    """
    with torch.no_grad():
        mean = (model(batch.inputs) if posterior is None else posterior).mean.detach()
    return _told(model, mean, batch, noise, generator, fixed=False)


def negative_log_likelihood(
    likelihood: Likelihood, y: Tensor, location: Tensor, spread: Tensor, ways: Tensor | None = None
) -> Tensor:
    """Return minus the log-likelihood of every reading.

    ``location`` is the expected count, the mean or the logit, ``spread`` the logarithm of theta or the standard
    deviation; 0 or 1 has none. ``ways``, of counts, are :func:`_log_ways` if they are at hand.
    """
    if likelihood == "nb":
        logit = (location + TINY).log() - spread
        ways = _log_ways(y, spread) if ways is None else ways
        return (spread.exp() + y) * functional.softplus(logit) - y * logit - ways
    if likelihood == "normal":
        return ((y - location) / spread).square() / 2 + spread.log() + math.log(2 * math.pi) / 2
    return functional.softplus(location) - y * location


def _log_ways(y: Tensor, log_theta: Tensor) -> Tensor:
    """Return the logarithm of Gamma(theta + y) / (Gamma(theta) y!), the binomial coefficient of counts.

    It is zero where the count is, which most are, and otherwise takes longer than all else that is done for a reading.
    """
    flat = y.flatten()
    counted = flat.nonzero()[:, 0]
    positive, theta = flat[counted], log_theta.flatten().index_select(0, counted).exp()
    ways = torch.lgamma(theta + positive) - torch.lgamma(theta) - torch.lgamma(positive + 1)
    return torch.zeros_like(flat).index_copy(0, counted, ways).view_as(y)


def _drawn(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal numbers of the shape of a tensor, the same on every device."""
    return torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


def _divergence(mean: Tensor, std: Tensor) -> Tensor:
    """Return the divergence from the standard normal distribution, summed over the last axis."""
    return (mean.square() + std.square() - 1 - 2 * std.log()).sum(-1) / 2


def _ways(model: ClueModel, batch: Minibatch, at: int) -> Tensor | None:
    """Return :func:`_log_ways` of a modality's counts, which all terms have in common; of other readings ``None``."""
    if model[at].likelihood != "nb":
        return None
    y = batch.readings[at]
    return _log_ways(y, model.one_hot(batch.batches[:, at], y) @ model[at].per_batch["log_theta"][0])


def _nll(
    model: ClueModel,
    batch: Minibatch,
    at: int,
    code: Tensor,
    size: Tensor | None,
    ways: Tensor | None,
    seen: Tensor | None = None,
) -> Tensor:
    """Return minus the log-likelihood of a modality's readings, decoded from codes: mean over cells and features.

    ``size`` has a column for each modality. Of ``seen`` cells only, if they are given, each times its trust; of none it
    is zero.
    """
    which, y, told = batch.batches[:, at], batch.readings[at], None if size is None else size[:, at]
    trust: Tensor | None = None
    if seen is not None:
        # Cells are left out before they are decoded, for the sake of batch normalisation.
        rows = seen.nonzero()[:, 0]
        if not len(rows):
            return code.new_zeros(())
        if len(rows) < len(seen):
            code, which, y, told = code[rows], which[rows], y[rows], None if told is None else told[rows]
            ways = None if ways is None else ways[rows]
        trust = batch.trust[rows]
    location, spread = model.decode(at, code, which, told)
    found = negative_log_likelihood(model[at].likelihood, y, location, spread, ways)
    return found.mean() if trust is None else (found.mean(1) * trust).mean()


def _real_cross(
    model: ClueModel,
    batch: Minibatch,
    u: Tensor,
    sizes: Sequence[Tensor | None],
    ways: Sequence[Tensor | None],
) -> Tensor:
    """Return what the cells' other modalities, one by one, make of each: minus the log-likelihoods, summed."""
    total, seen = u.new_zeros(()), batch.observed.T
    for target, own in enumerate(sizes):
        for source, foretold in enumerate(sizes):
            if source != target:
                size = own if foretold is None else foretold
                total = total + _nll(model, batch, target, u[source], size, ways[target], seen[source] & seen[target])
    return total


def _angles(u: Tensor, together: Tensor, seen: Tensor, trust: Tensor) -> Tensor:
    """Return the sum over modalities of 1 less the cosine to the cells' means, over the cells that each is seen in."""
    away = (1 - functional.cosine_similarity(u, together[None], dim=2)) * seen * trust
    return (away.sum(1) / seen.sum(1).clamp(min=1)).sum()


def _told(
    model: ClueModel, mean: Tensor, batch: Minibatch, noise: float, generator: torch.Generator, *, fixed: bool
) -> Tensor:
    """Return the discriminator's cross-entropy on codes; ``fixed``: as it is, with no gradient on its weights."""
    if noise > 0:
        mean = mean + noise * _drawn(mean, generator)
    slots, cells = mean.shape[:2]
    inputs = mean.flatten(0, 1), model.one_hot(batch.batches.T.flatten(), mean)
    weights = {k: p.detach() if fixed else p for k, p in model.discriminator.named_parameters()}
    truth = torch.arange(slots, device=mean.device).repeat_interleave(cells)
    return functional.cross_entropy(functional_call(model.discriminator, weights, inputs), truth)
