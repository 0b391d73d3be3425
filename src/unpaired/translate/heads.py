"""What a network's output means: the mean of a Gaussian, or expected counts with a negative binomial around them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CountHead", "GaussianHead"]

_TINY = 1e-8


class GaussianHead(nn.Module):
    """Squared error: the output is the mean, in standardised units."""

    def mean(self, out: Tensor, size: Tensor | None) -> Tensor:
        """Return the expected readings of network outputs ``(members, cells, p)``."""
        return out

    def nll(self, mean: Tensor, y: Tensor) -> Tensor:
        """Return the loss of every entry: the squared error."""
        return (y - mean) ** 2

    def two_draws(self, one: Tensor, other: Tensor, y: Tensor) -> Tensor:
        """Return what has the gradient of eq. 10, with the two draws exchanged and averaged.

        Its value is an unbiased estimate of eq. 9, its gradient of eq. 9's gradient: the residual through one draw
        times the gradient through the other, both ways round, whose mean has less variance than one of them.
        """
        return (y - one) * (y - other)


class CountHead(nn.Module):
    """Counts of a target cell: negative binomial around its total times the softmax of the output.

    Parameters
    ----------
    rates
        ``(p,)`` mean share of every feature in a cell's counts, where the network starts.
    members
        Number of networks.
    """

    def __init__(self, rates: Tensor, members: int) -> None:
        super().__init__()
        self.register_buffer("start", rates.clamp_min(_TINY).log().expand(members, 1, -1).clone())
        self.start: Tensor
        self.log_theta = nn.Parameter(torch.zeros(members, 1, len(rates)))

    def mean(self, out: Tensor, size: Tensor | None) -> Tensor:
        """Return the expected counts of network outputs ``(members, cells, p)`` in cells of ``size`` counts."""
        if size is None:
            msg = "expected counts need the cells' totals"
            raise ValueError(msg)
        return size[..., None] * functional.softmax(out + self.start, dim=-1)

    def nll(self, mean: Tensor, y: Tensor) -> Tensor:
        """Return the negative log-likelihood of every count, less what does not depend on the network."""
        theta = self.log_theta.exp()
        total = (theta + mean).log()
        return (
            (theta + y) * total
            - theta * self.log_theta
            - torch.xlogy(y, mean.clamp_min(_TINY))
            + torch.lgamma(theta)
            - torch.lgamma(theta + y)
        )

    def two_draws(self, one: Tensor, other: Tensor, y: Tensor) -> Tensor:
        """Return what has the two-draw gradient of the quasi-likelihood.

        Residual through one draw; weight (1 over the variance) and gradient through the other. Its mean is zero where
        the partners' expected counts average to the cell's: eq. 10 with the weights of a generalised linear model. The
        dispersion is learned by the likelihood of one draw.
        """
        theta = self.log_theta.exp().detach()

        def through(residual_of: Tensor, gradient_of: Tensor) -> Tensor:
            mu = gradient_of.clamp_min(_TINY)
            # residual / (mu + mu^2 / theta) * d mu, written with d log mu = d mu / mu
            return -((y - residual_of) / (1 + mu / theta)).detach() * mu.log()

        return (through(one, other) + through(other, one)) / 2 + self.nll(one.detach(), y)
