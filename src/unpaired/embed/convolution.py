"""The convolution of the published encoder, with a quicker gradient of wide kernels on the CPU."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["convolve"]

_WIDE = 128  # channels from which one product of matrices beats oneDNN's gradient of the kernel, whose maps are small
_MOST = 2**26  # numbers in that matrix: 0.3 GB


def convolve(maps: Tensor, kernel: Tensor) -> Tensor:
    """Convolve with kernels of 3 x 3, stride 2, padding 1, without a bias.

    Parameters
    ----------
    maps
        ``(batch, C, H, W)``, channels last in memory.
    kernel
        ``(N, C, 3, 3)``, channels last in memory.

    Returns
    -------
    ``(batch, N, ceil(H / 2), ceil(W / 2))``.
    """
    mixed = maps.dtype == torch.float32 and torch.is_autocast_enabled("cpu")  # the input of the network itself
    if maps.device.type != "cpu" or kernel.shape[1] < _WIDE or _of_windows(maps) > _MOST or mixed:
        return functional.conv2d(maps, kernel, stride=2, padding=1)
    return cast(Tensor, _Wide.apply(maps, kernel.to(maps.dtype)))  # type: ignore[no-untyped-call]


class _Wide(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(maps, kernel)
        return functional.conv2d(maps, kernel, stride=2, padding=1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (grad,) = grads
        maps, kernel = ctx.saved_tensors
        of_maps = of_kernel = None
        if ctx.needs_input_grad[0]:
            how = (None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False])
            of_maps = torch.ops.aten.convolution_backward(grad, maps, kernel, *how)[0]
        if ctx.needs_input_grad[1]:
            places = grad.permute(0, 2, 3, 1).flatten(0, 2)
            of_kernel = (places.T @ _windows(maps)).unflatten(1, (3, 3, -1)).permute(0, 3, 1, 2)
        return of_maps, of_kernel


def _of_windows(maps: Tensor) -> int:
    """How many numbers :func:`_windows` makes."""
    batch, channels, height, width = maps.shape
    return batch * -(-height // 2) * -(-width // 2) * 9 * channels


def _windows(maps: Tensor) -> Tensor:
    """``(batch * places, 9 * C)`` what each place of the output has seen of the padded maps."""
    padded = functional.pad(maps, (1, 1, 1, 1)).permute(0, 2, 3, 1).contiguous()
    batch, height, width, channels = padded.shape
    image, row, place, one = padded.stride()
    shape = (batch, (height - 1) // 2, (width - 1) // 2, 3, 3, channels)
    windows = padded.as_strided(shape, (image, 2 * row, 2 * place, row, place, one))
    return windows.flatten(0, 2).flatten(1)
