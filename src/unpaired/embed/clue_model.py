"""CLUE: every modality is encoded into all parts of one space, and decoded from its own part.

Source: Tu et al. 2022, "Cross-Linked Unified Embedding for cross-modality representation learning", whose equations are
cited here and in :mod:`unpaired.embed.clue_losses`; what it leaves open is done as by the authors' code. The space of K
modalities has K parts of ``dims`` columns. Only directions count in it: codes have length one when they are decoded.

Every tensor of the state has a leading axis of length one, which is the member in :mod:`unpaired.embed.training`. What
belongs to a batch is named ``per_batch`` and has the batch as the second axis, so that it can be carried over by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from unpaired import options
from unpaired.embed.networks import Dropout, uniform
from unpaired.embed.vae_networks import BatchNorm
from unpaired.errors import OptionError

__all__ = [
    "PRESETS",
    "TINY",
    "ClueConfig",
    "ClueModality",
    "ClueModel",
    "Likelihood",
    "Posterior",
    "Reading",
    "combine",
    "decode",
    "encode",
    "encode_modality",
]

Likelihood = Literal["nb", "normal", "bernoulli"]
_HEADS = {"nb": ("scale", "bias", "log_theta"), "normal": ("deviation",), "bernoulli": ("scale", "bias")}
_SLOPE = 0.2  # of LeakyReLU

TINY = 1e-7
"""What keeps deviations and expected counts from zero."""


@dataclass(frozen=True)
class ClueConfig:
    """Shapes of the networks, and what the terms of the loss weigh; a term of weight 0 is not computed.

    Attributes
    ----------
    dims
        Width of each modality's part of the space.
    encoder_depth, decoder_depth, discriminator_depth
        Hidden layers.
    encoder_hidden, decoder_hidden, discriminator_hidden
        Their width.
    dropout
        Share of a hidden layer's outputs that is dropped while learning.
    lam_data
        Weight of the modalities' own evidence bounds (eq. 5, 13).
    lam_kl
        Weight, inside them, of the divergence from the prior.
    lam_cross
        Weight of the readings decoded from all that is observed of a cell (eq. 8, 14).
    lam_real_cross
        Weight of the readings decoded from each other modality alone.
    lam_cos
        Weight of the angle between a cell's codes (eq. 9).
    lam_align
        Weight of what the discriminator does not know (eq. 12).
    """

    dims: int = 50
    encoder_depth: int = 2
    encoder_hidden: int = 256
    decoder_depth: int = 2
    decoder_hidden: int = 256
    discriminator_depth: int = 2
    discriminator_hidden: int = 256
    dropout: float = 0.2
    lam_data: float = 1.0
    lam_kl: float = 1.0
    lam_cross: float = 0.02
    lam_real_cross: float = 0.02
    lam_cos: float = 0.02
    lam_align: float = 0.02

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "dropout" or name.startswith("lam_"):
                options.check_number(name, value, high=0.99 if name == "dropout" else None)
                if value < 0:
                    msg = f"{name} must be at least 0; got {value!r}."
                    raise OptionError(msg)
            else:
                options.check_integer(name, value, low=1)


# dims, then depth and width of encoders, of decoders and of the discriminator
_CITESEQ = ClueConfig(20, 2, 512, 1, 128, 2, 128, lam_cross=2.0, lam_real_cross=0.0, lam_cos=1.0, lam_align=2.0)
_MULTIOME = ClueConfig(50, 2, 512, 1, 256, 1, 256, lam_kl=0.3, lam_cross=1.0, lam_real_cross=0.0)

PRESETS: Mapping[str, ClueConfig] = MappingProxyType(
    {"citeseq": _CITESEQ, "multiome": _MULTIOME, "default": ClueConfig()}
)
"""The authors' settings for the data of the competition, and their general ones."""


@dataclass(frozen=True)
class ClueModality:
    """One modality, as the networks see it.

    Attributes
    ----------
    name
        Its name.
    inputs
        Width of what its encoders read: components, or normalised readings.
    features
        How many readings are decoded.
    likelihood
        What a reading is: ``"nb"`` a count (negative binomial), ``"normal"`` a number, ``"bernoulli"`` 0 or 1.
    sized
        Whether its readings tell the library sizes of a cell, as counts do; ``"nb"`` needs them.
    """

    name: str
    inputs: int
    features: int
    likelihood: Likelihood
    sized: bool

    def __post_init__(self) -> None:
        options.check_integer(f"inputs of {self.name}", self.inputs, low=1)
        options.check_integer(f"features of {self.name}", self.features, low=1)
        options.check_choice(f"likelihood of {self.name}", self.likelihood, tuple(_HEADS))
        if self.likelihood == "nb" and not self.sized:
            msg = f"{self.name} must be sized: expected counts are shares of a library size."
            raise OptionError(msg)


class Posterior(NamedTuple):
    """Normal distributions of codes (eq. 6): means and standard deviations, as wide as the whole space."""

    mean: Tensor
    std: Tensor


class Reading(NamedTuple):
    """What decoders expect: ``(cells, features)`` means, and theta of counts, deviations of numbers, or ``None``."""

    mean: Tensor
    spread: Tensor | None


class _Linear(nn.Module):
    """A linear layer that may read the one-hot of the batch, too."""

    def __init__(self, n_in: int, n_out: int, batches: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = uniform((1, n_out, n_in), n_in + batches, generator)
        self.bias = uniform((1, n_out), n_in + batches, generator)
        self.per_batch = uniform((1, batches, n_out), n_in + batches, generator) if batches else None

    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        out = functional.linear(x, self.weight[0], self.bias[0])
        return out if self.per_batch is None or batch is None else torch.addmm(out, batch, self.per_batch[0])


class _Perceptron(nn.Module):
    """Layers of Linear - LeakyReLU - BatchNorm - Dropout, then Linear; each reads so many batches."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        hidden: int,
        batches: Sequence[int],
        dropout: float,
        generator: torch.Generator,
        *,
        normed: bool = True,
    ) -> None:
        super().__init__()
        *inner, last = batches
        widths = [n_in] + [hidden] * (len(inner) - 1)
        self.layers = nn.ModuleList(_Linear(n, hidden, b, generator) for n, b in zip(widths, inner, strict=True))
        self.norms = nn.ModuleList(BatchNorm(hidden) if normed else nn.Identity() for _ in inner)
        self.dropout = Dropout(dropout)
        self.head = _Linear(hidden, n_out, last, generator)

    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.dropout(norm(functional.leaky_relu(layer(x, batch), _SLOPE)))
        out: Tensor = self.head(x, batch)
        return out


class _Instrument(nn.Module):
    """One modality's networks: encoders into every part of the space, library sizes, the decoder of its own part."""

    def __init__(
        self, modality: ClueModality, parts: int, batches: int, config: ClueConfig, generator: torch.Generator
    ) -> None:
        super().__init__()
        c, features = config, modality.features
        deep = ([0] * (c.encoder_depth + 1), c.dropout, generator)
        encoders = (_Perceptron(modality.inputs, 2 * c.dims, c.encoder_hidden, *deep) for _ in range(parts))
        self.encoders = nn.ModuleList(encoders)
        self.sizes = _Linear(features, parts, 0, generator) if modality.sized else None
        if self.sizes is not None:
            # Counts are never negative, so with positive weights no size begins at zero, where ReLU would keep it.
            for weights in self.sizes.parameters():
                weights.data.abs_()
        deep = ([batches] * (c.decoder_depth + 1), c.dropout, generator)
        self.decoder = _Perceptron(c.dims, features, c.decoder_hidden, *deep)
        zeros = {name: nn.Parameter(torch.zeros(1, batches, features)) for name in _HEADS[modality.likelihood]}
        self.per_batch = nn.ParameterDict(zeros)
        self.likelihood: Likelihood = modality.likelihood

    def decode(self, part: Tensor, batch: Tensor, size: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return location and spread, as the likelihood takes them."""
        out = self.decoder(part, batch)
        if self.likelihood == "normal":
            return out, batch @ functional.softplus(self.per_batch["deviation"][0]) + TINY
        out = batch @ functional.softplus(self.per_batch["scale"][0]) * out + batch @ self.per_batch["bias"][0]
        if self.likelihood == "bernoulli":
            return out, out
        if size is None:
            msg = "expected counts need the cells' library sizes."
            raise ValueError(msg)
        return functional.softmax(out, dim=1) * size[:, None], batch @ self.per_batch["log_theta"][0]


class ClueModel(nn.Module):
    """The whole net.

    Parameters
    ----------
    modalities
        Two or more.
    batches
        Number of batches of all cells together; 1 where they are not told apart.
    config
        Shapes of the networks.
    generator
        Source of the initial weights.
    shared
        Whether every modality has cells of every batch. If not, the discriminator does not read the batch, which would
        give the modality away.

    Attributes
    ----------
    generator
        What makes codes and readings: the networks of each modality.
    discriminator
        What tells the modality that a code was made from.
    """

    def __init__(
        self,
        modalities: Sequence[ClueModality],
        *,
        batches: int,
        config: ClueConfig,
        generator: torch.Generator,
        shared: bool = True,
    ) -> None:
        super().__init__()
        options.check_integer("number of modalities", len(modalities), low=2)
        options.check_integer("batches", batches, low=1)
        c, self.modalities, self.batches = config, tuple(modalities), batches
        self.dims, parts = c.dims, len(modalities)
        self.generator = nn.ModuleList(_Instrument(m, parts, batches, c, generator) for m in modalities)
        deep = ([batches * shared] + [0] * c.discriminator_depth, c.dropout, generator)
        self.discriminator = _Perceptron(parts * c.dims, parts, c.discriminator_hidden, *deep, normed=False)

    def __getitem__(self, at: int) -> _Instrument:
        return cast("_Instrument", self.generator[at])

    def forward(self, inputs: Sequence[Tensor]) -> Posterior:
        """Return the ``(K, cells, K * dims)`` codes that every modality gives the cells."""
        means, stds = zip(*(self.posterior(at, x) for at, x in enumerate(inputs)), strict=True)
        return Posterior(torch.stack(means), torch.stack(stds))

    def posterior(self, at: int, x: Tensor) -> Posterior:
        """Return the ``(cells, K * dims)`` codes that one modality gives the cells; they do not know the batch."""
        means, stds = zip(*(encoder(x).chunk(2, dim=1) for encoder in self[at].encoders), strict=True)
        return Posterior(torch.cat(means, dim=1), functional.softplus(torch.cat(stds, dim=1)) + TINY)

    def sizes(self, at: int, readings: Tensor) -> Tensor | None:
        """Return the ``(cells, K)`` library sizes that one modality's counts foretell for each; without counts none."""
        head = self[at].sizes
        return None if head is None else functional.relu(head(readings))

    def decode(self, at: int, code: Tensor, batch: Tensor, size: Tensor | None) -> tuple[Tensor, Tensor]:
        """Decode a modality from its part of ``(cells, K * dims)`` codes of length one.

        ``batch`` are the cells' codes of batches, ``size`` their library sizes. Returns location and spread, as
        :func:`negative_log_likelihood` takes them.
        """
        part = code[:, at * self.dims : (at + 1) * self.dims]
        return self[at].decode(part, self.one_hot(batch, code), size)

    def one_hot(self, batch: Tensor, like: Tensor) -> Tensor:
        """Return codes of batches as ``(cells, batches)``."""
        return functional.one_hot(batch, self.batches).to(like.dtype)


def combine(codes: Tensor, observed: Tensor) -> Tensor:
    """Return the ``(cells, K * dims)`` directions of the means of each cell's observed codes (eq. 11).

    ``codes`` are ``(K, cells, K * dims)`` of length one, ``observed`` ``(cells, K)``. A cell without any gets zeros.
    """
    weights = observed.T[..., None].to(codes.dtype)
    return functional.normalize((codes * weights).sum(0) / weights.sum(0).clamp(min=1), dim=1)


@torch.no_grad()
def encode_modality(model: ClueModel, at: int, x: Tensor) -> Tensor:
    """Return the ``(cells, K * dims)`` codes, of length one, that modality ``at`` alone gives the cells."""
    return functional.normalize(model.eval().posterior(at, x).mean, dim=1)


@torch.no_grad()
def encode(model: ClueModel, inputs: Sequence[Tensor], observed: Tensor) -> Tensor:
    """Return the ``(cells, K * dims)`` codes, of length one, that all that is observed of the cells gives them.

    ``inputs`` are ``(cells, inputs)`` for each modality, anything finite where ``observed``, ``(cells, K)``, is false.
    """
    return combine(torch.stack([encode_modality(model, at, x) for at, x in enumerate(inputs)]), observed)


@torch.no_grad()
def decode(model: ClueModel, at: int, code: Tensor, batch: Tensor, size: Tensor | None = None) -> Reading:
    """Return what modality ``at`` would read of cells whose codes, of any length, are ``(cells, K * dims)``.

    ``batch``, ``(cells,)``, are codes of the batches to read them in, and ``size``, ``(cells,)``, the library sizes to
    read them with; only counts need them. Without gradients, and in evaluation mode, like the functions above.
    """
    location, spread = model.eval().decode(at, functional.normalize(code, dim=1), batch, size)
    if model[at].likelihood == "bernoulli":
        return Reading(location.sigmoid(), None)
    return Reading(location, spread.exp() if model[at].likelihood == "nb" else spread)
