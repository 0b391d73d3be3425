"""The networks of the multimodal variational autoencoder: an encoder and a decoder a modality, and what reads the code.

They are ensembles of one (see :mod:`unpaired.embed.networks`): every tensor has a leading axis of length one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from unpaired.embed.feed import CELLS, IMAGES
from unpaired.embed.networks import CHANNELS, MOMENTUM, PUBLISHED, SLOPE, ConvNet, uniform

__all__ = ["Autoencoder", "Autoencoders", "BatchNorm", "Deconvolution", "Generator", "Posterior"]

_JUDGE = "LR LR LR"  # layers of the modality classifier


class Posterior(NamedTuple):
    """Normal distributions of codes: ``(cells, latent)`` means and logarithms of variances."""

    mean: Tensor
    logvar: Tensor

    def sample(self) -> Tensor:
        """Draw one code a cell, from the generator that PyTorch keeps."""
        return self.mean + torch.exp(self.logvar / 2) * torch.randn_like(self.mean)


class _Linear(nn.Module):
    def __init__(self, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = uniform((1, n_out, n_in), n_in, generator)
        self.bias = uniform((1, n_out), n_in, generator)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight[0], self.bias[0])


class BatchNorm(nn.Module):
    """Batch normalisation of ``(cells, width)`` or ``(cells, channels, height, width)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, width))
        self.shift = nn.Parameter(torch.zeros(1, width))
        self.register_buffer("mean", torch.zeros(1, width))
        self.register_buffer("var", torch.ones(1, width))
        self.mean: Tensor
        self.var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` normalised: by these cells while learning, else by the running mean and variance."""
        running, weights = (self.mean[0], self.var[0]), (self.scale[0], self.shift[0])
        # One cell has no variance: where there is but one to learn from, it is normalised like a new one.
        return functional.batch_norm(x, *running, *weights, self.training and len(x) > 1, MOMENTUM)


def _perceptron(n_in: int, n_out: int, hidden: int, layout: str, generator: torch.Generator) -> nn.Sequential:
    """Layers as in :class:`unpaired.embed.networks.MLP`, whose batched products and sums are slower for one member."""
    steps: list[nn.Module] = []
    width = n_in
    for letter in layout.replace(" ", ""):
        if letter == "L":
            steps.append(_Linear(width, hidden, generator))
            width = hidden
        else:
            steps.append({"B": BatchNorm(width), "R": nn.ReLU()}[letter])
    return nn.Sequential(*steps, _Linear(width, n_out, generator))


class Deconvolution(nn.Module):
    """From codes to images: a linear layer, then five transposed convolutions that mirror the published encoder's.

    All but the last are followed by batch normalisation and LeakyReLU. Source: Xi et al. 2024, appendix D.2.

    Parameters
    ----------
    latent
        Width of the code.
    shape
        ``(C, H, W)`` of an image, of any size.
    generator
        Source of the initial weights.
    """

    def __init__(self, *, latent: int, shape: tuple[int, int, int], generator: torch.Generator) -> None:
        super().__init__()
        channels, *size = shape
        sizes = [tuple(size)]
        for _ in CHANNELS:
            height, width = sizes[-1]
            sizes.append((-(-height // 2), -(-width // 2)))
        sizes.reverse()
        self._first = (CHANNELS[-1], *sizes[0])
        # A stride of two gives odd sizes; even ones get a row and a column more.
        self._padding = [(1 - height % 2, 1 - width % 2) for height, width in sizes[1:]]
        widths = (*reversed(CHANNELS), channels)
        self.code = _Linear(latent, math.prod(self._first), generator)
        self.kernels = nn.ParameterList()
        for n_in, n_out in pairwise(widths):
            self.kernels.append(uniform((1, n_in, n_out, 3, 3), n_out * 9, generator))
        self.norms = nn.ModuleList(BatchNorm(n) for n in widths[1:-1])
        self.bias = nn.Parameter(torch.zeros(1, channels))

    def forward(self, z: Tensor) -> Tensor:
        """Map ``(cells, latent)`` to images ``(cells, C, H, W)``."""
        x: Tensor = self.code(z).view(-1, *self._first).contiguous(memory_format=torch.channels_last)
        for at, (kernel, padding) in enumerate(zip(self.kernels, self._padding, strict=True)):
            last = at == len(self.norms)
            bias = self.bias[0] if last else None
            x = functional.conv_transpose2d(x, kernel[0], bias, stride=2, padding=1, output_padding=padding)
            if not last:
                x = functional.leaky_relu(self.norms[at](x), SLOPE)
        return x


class Autoencoder(nn.Module):
    """One modality's encoder, which is the published classifier's, and the decoder that mirrors it.

    Parameters
    ----------
    shape
        Of a cell's readings: ``(p,)`` or ``(C, H, W)``.
    latent, hidden
        Widths of the code and of a perceptron's layers.
    generator
        Source of the initial weights.

    Attributes
    ----------
    images
        Whether the readings are images.
    chunk
        Cells a forward pass without gradients.
    """

    def __init__(self, *, shape: tuple[int, ...], latent: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.images = len(shape) == 3
        self.chunk = IMAGES // 2 if self.images else CELLS  # images are rebuilt, too
        if self.images:
            image = (shape[0], shape[1], shape[2])
            self.encoder: nn.Module = ConvNet(members=1, shape=image, n_out=2 * latent, generator=generator)
            self.decoder: nn.Module = Deconvolution(latent=latent, shape=image, generator=generator)
        else:
            _, layout = PUBLISHED
            self.encoder = _perceptron(shape[0], 2 * latent, hidden, layout, generator)
            self.decoder = _perceptron(latent, shape[0], hidden, layout, generator)

    def encode(self, x: Tensor) -> Posterior:
        """Return the distributions of the codes of ``(cells, ...)`` features."""
        out = self.encoder(x[None])[0] if self.images else self.encoder(x)
        mean, logvar = out.float().chunk(2, dim=1)
        return Posterior(mean, logvar)

    def decode(self, z: Tensor) -> Tensor:
        """Return the ``(cells, ...)`` features that codes stand for."""
        out: Tensor = self.decoder(z)
        return out.float()


class Generator(nn.Module):
    """All that makes codes and readings: the autoencoders, and the classifier of labels that they share.

    Parameters
    ----------
    parts
        One autoencoder a modality.
    latent
        Width of the code.
    labels
        Number of labels.
    generator
        Source of the initial weights.
    """

    def __init__(self, parts: Sequence[Autoencoder], *, latent: int, labels: int, generator: torch.Generator) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.labels = _Linear(latent, labels, generator)

    def __getitem__(self, at: int) -> Autoencoder:
        return cast("Autoencoder", self.parts[at])


class Autoencoders(nn.Module):
    """The whole net.

    Parameters
    ----------
    generator
        What makes codes and readings.
    latent, hidden
        Widths of the code and of the modality classifier's layers.
    judged
        Whether there is such a classifier, which tells the modality from the code.
    weights
        Source of its initial weights.

    Attributes
    ----------
    adversary
        That classifier, or ``None``.
    """

    def __init__(
        self, generator: Generator, *, latent: int, hidden: int, judged: bool, weights: torch.Generator
    ) -> None:
        super().__init__()
        self.generator = generator
        self.adversary = _perceptron(latent, len(generator.parts), hidden, _JUDGE, weights) if judged else None
