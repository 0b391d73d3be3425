"""Networks in ensembles: every parameter and buffer has the member as its leading axis, so all train in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from unpaired.embed.convolution import convolve

__all__ = ["CHANNELS", "MLP", "MOMENTUM", "PUBLISHED", "SLOPE", "ConvNet", "Dropout", "uniform"]

CHANNELS = (32, 64, 128, 256, 512)
"""Of the maps of the published convolutional encoder."""

PUBLISHED = (1024, "LRB LBR LBR LBR L")
"""Width and layers of the published encoder of tables, less its head: Linear-ReLU-BN, 3 x (Linear-BN-ReLU), Linear."""

SLOPE = 0.01
"""Of LeakyReLU."""

MOMENTUM = 0.1
"""Of the running values of batch normalisation."""

_CODE = 128
_EPS = 1e-5


def uniform(shape: tuple[int, ...], fan_in: int, generator: torch.Generator) -> nn.Parameter:
    """PyTorch's own initialisation of linear and convolutional layers, drawn from a generator of ours."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter((torch.rand(shape, generator=generator) * 2 - 1) * bound)


class _Linear(nn.Module):
    def __init__(self, members: int, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = uniform((members, n_in, n_out), n_in, generator)
        self.bias = uniform((members, 1, n_out), n_in, generator)

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class _BatchNorm(nn.Module):
    """Batch normalisation over axis 1 of ``(members, batch, width)``, each member on its own."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(members, width))
        self.shift = nn.Parameter(torch.zeros(members, width))
        self.register_buffer("mean", torch.zeros(members, width))
        self.register_buffer("var", torch.ones(members, width))
        self.mean: Tensor
        self.var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.device.type == "cpu" and x.shape[1] > 1:
            # Member by member torch's own is four times as fast here as any formula for all at once.
            return torch.stack([norm(part) for norm, part in zip(self.unbind(), x.unbind(), strict=True)])
        if self.training:
            var, mean = torch.var_mean(x, dim=1, correction=0)
            with torch.no_grad():
                unbiased = var * (x.shape[1] / max(1, x.shape[1] - 1))
                self.mean.lerp_(mean, MOMENTUM)
                self.var.lerp_(unbiased, MOMENTUM)
        else:
            mean, var = self.mean, self.var
        factor = self.scale * torch.rsqrt(var + _EPS)
        return x * factor[:, None] + (self.shift - mean * factor)[:, None]

    def unbind(self) -> list[Callable[[Tensor], Tensor]]:
        """Return for every member what normalises its ``(batch, width)`` rows or ``(batch, width, H, W)`` maps."""
        parts = zip(*(t.unbind() for t in (self.mean, self.var, self.scale, self.shift)), strict=True)
        return [partial(self._of_member, *p) for p in parts]

    def _of_member(self, mean: Tensor, var: Tensor, scale: Tensor, shift: Tensor, x: Tensor) -> Tensor:
        return functional.batch_norm(x, mean, var, scale, shift, self.training, MOMENTUM, _EPS)


class Dropout(nn.Module):
    """Dropout that draws 16 bits an entry on the CPU, where drawing takes longer than a layer of the network."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``, while learning with a share of its entries at zero and the others as much larger."""
        if not self.training or x.device.type != "cpu" or not 0 < self.probability < 1:
            return functional.dropout(x, self.probability, self.training)
        dropped = round(self.probability * _SHORTS)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        shorts = words.view(torch.int16)[: x.numel()].view(x.shape)
        return x * (shorts >= dropped - _SHORTS // 2).to(x.dtype).mul_(_SHORTS / (_SHORTS - dropped))


_SHORTS = 2**16


class MLP(nn.Module):
    """An ensemble of perceptrons on tables.

    Parameters
    ----------
    members
        Number of networks.
    n_in, n_out
        Numbers of features and of classes.
    hidden
        Width of the hidden layers.
    layout
        Words of letters, one word a layer: L linear, B batch normalisation, R ReLU, D dropout. The head is added.
    dropout
        Probability of D.
    linear
        Add a linear map of the inputs to the output, which starts at zero.
    generator
        Source of the initial weights.
    """

    def __init__(
        self,
        *,
        members: int,
        n_in: int,
        n_out: int,
        hidden: int,
        layout: str,
        dropout: float,
        generator: torch.Generator,
        linear: bool = False,
    ) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        width = n_in
        for letter in layout.replace(" ", ""):
            if letter == "L":
                steps.append(_Linear(members, width, hidden, generator))
                width = hidden
            else:
                steps.append({"B": _BatchNorm(members, width), "R": nn.ReLU(), "D": Dropout(dropout)}[letter])
        self.steps = nn.Sequential(*steps)
        self.head = _Linear(members, width, n_out, generator)
        self.linear = nn.Parameter(torch.zeros(members, n_in, n_out)) if linear else None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(members, batch, n_in)`` to logits ``(members, batch, n_out)``."""
        out: Tensor = self.head(self.steps(x))
        return out if self.linear is None else torch.baddbmm(out, x, self.linear)


class ConvNet(nn.Module):
    """An ensemble of the published convolutional encoder: 5 x (Conv k3 s2 p1 - BatchNorm - LeakyReLU), then linear.

    Images of any size from 32 pixels; members are convolved one after another.
    Source: Xi et al. 2024, appendix D.2 (channels as in the published code).

    Parameters
    ----------
    members
        Number of networks.
    shape
        ``(C, H, W)`` of an image.
    n_out
        Number of classes.
    generator
        Source of the initial weights.
    """

    def __init__(self, *, members: int, shape: tuple[int, int, int], n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        channels, height, width = shape
        kernels, norms = [], []
        for n in CHANNELS:
            kernels.append(uniform((members, n, channels, 3, 3), channels * 9, generator))
            norms.append(_BatchNorm(members, n))
            channels, height, width = n, -(-height // 2), -(-width // 2)
        self.kernels = nn.ParameterList(kernels)
        self.norms = nn.ModuleList(norms)
        self.code = _Linear(members, channels * height * width, _CODE, generator)
        self.head = _Linear(members, _CODE, n_out, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(members, batch, C, H, W)`` to logits ``(members, batch, n_out)``; the last two layers in float32."""
        # Member by member through all layers: what one leaves in the processor's cache is what it reads next. All are
        # taken apart at once, because the gradient of one index is as large as the whole.
        kernels, norms = ([list(v.unbind()) for v in vs] for vs in (self.kernels, self.norms))  # type: ignore[operator]
        members = zip(x, zip(*kernels, strict=True), zip(*norms, strict=True), strict=True)
        codes = [_encoded(*member).flatten(1) for member in members]
        with torch.autocast(x.device.type, enabled=False):
            out: Tensor = self.head(self.code(torch.stack(codes).to(self.code.weight.dtype)))
        return out


def _encoded(maps: Tensor, kernels: Iterable[Tensor], norms: Iterable[Callable[[Tensor], Tensor]]) -> Tensor:
    """One member's ``(batch, C, H, W)`` images through the convolutions, channels last in memory."""
    maps = maps.contiguous(memory_format=torch.channels_last)
    for kernel, norm in zip(kernels, norms, strict=True):
        maps = convolve(maps, kernel.contiguous(memory_format=torch.channels_last))
        maps = functional.leaky_relu_(norm(maps), SLOPE)
    return maps
