"""Transport problems as they arise within one label: logits of two classifiers, one for each modality.

``strong`` problems are the logits as they are (confident classifiers: the median cost is about 200 eps); ``weak`` ones
are the same logits times 0.15 (about 30 eps).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

Array = np.ndarray
Pair = tuple[Array, Array]

EPS = 0.05  # the published regularisation, with the Euclidean distance as the cost
STRENGTHS = {"strong": 1.0, "weak": 0.15}

HERE = Path(__file__).resolve().parent
CACHE = HERE / "cache"
KEPT = HERE.parents[1] / "shared" / "prototypes" / "transport"  # trained logits that lie beside a checkout, if any

LATENT = 4  # coordinates of the hidden state of a cell
SHIFT = 1.5  # how far an intervention moves its coordinate
WIDTH = 0.7  # standard deviation of a coordinate that an intervention has set; 1 for the others
TEMPERATURES = (1.0, 0.9)  # one classifier is a little less sure than the other


def logits(
    n: int, m: int, *, labels: int = 12, label: int = 0, seed: int = 0, strength: float = 1.0, noise: float = 0.15
) -> Pair:
    """Return centred logits of ``n`` and ``m`` cells of one label, as two good classifiers would give them.

    The logits are the true logarithm of each label's posterior, times a temperature, plus a smooth error of the
    classifier and noise of the cell. Any number of cells can be drawn, and no training is needed.
    """
    rng = np.random.default_rng(1000 + seed)
    means = interventions(labels)
    errors = [_SmoothError(labels, rng) for _ in TEMPERATURES]
    states = [draw_states(size, means[label], rng) for size in (n, m)]
    x, y = (
        strength * _centred(heat * true_logits(z, means) + error(z) + noise * rng.normal(size=(len(z), labels)))
        for z, heat, error in zip(states, TEMPERATURES, errors, strict=True)
    )
    return x, y


def line(n: int, m: int, *, seed: int = 0, strength: float = 1.0) -> Pair:
    """Return the logits of two labels, which lie on a line, by their place on it: ``(n, 1)`` and ``(m, 1)``."""
    x, y = logits(n, m, labels=2, seed=seed, strength=strength)
    return np.sqrt(2.0) * x[:, :1], np.sqrt(2.0) * y[:, :1]


def screen(sizes: Sequence[int], *, labels: int = 12, seed: int = 0, strength: float = 1.0) -> Iterator[Pair]:
    """Yield one problem for each of ``sizes``, in turn from each label and each from its own seed."""
    for k, size in enumerate(sizes):
        yield logits(size, size, labels=labels, label=k % labels, seed=seed + k, strength=strength)


def trained(*, cells: int = 1700, labels: int = 12, seed: int = 0, strength: float = 1.0) -> list[Pair]:
    """Return the logits of trained classifiers for each label: made once, then read from ``cache/``."""
    name = f"trained_{cells}_{labels}_{seed}.npz"
    path = next((folder / name for folder in (CACHE, KEPT) if (folder / name).exists()), None)
    if path is None:
        path = CACHE / name
        CACHE.mkdir(exist_ok=True)
        pairs = _train(cells, labels, seed)
        np.savez(path, **{f"{side}{t}": p[k] for t, p in enumerate(pairs) for k, side in enumerate("XY")})
    with np.load(path) as kept:
        return [(strength * kept[f"X{t}"], strength * kept[f"Y{t}"]) for t in range(labels)]


def interventions(labels: int) -> Array:
    """Return ``(labels, LATENT)``: where each label puts the one coordinate that it sets; 0 for the others."""
    means = np.zeros((labels, LATENT))
    if labels == 2:
        means[1, 0] = SHIFT  # a control, and one intervention
    elif labels == 12:
        means[np.arange(12), np.repeat(np.arange(4), 3)] = np.tile([-SHIFT, SHIFT / 2, SHIFT], 4)
    else:
        rng = np.random.default_rng(7)
        means[np.arange(labels), rng.integers(0, LATENT, labels)] = rng.normal(0, SHIFT, labels)
    return means


def draw_states(n: int, mean: Array, rng: np.random.Generator) -> Array:
    """Return ``(n, LATENT)`` hidden states under the intervention whose coordinate is set to ``mean``."""
    states = rng.normal(size=(n, LATENT))
    for k in np.flatnonzero(mean):
        states[:, k] = mean[k] + WIDTH * rng.normal(size=n)
    return states


def true_logits(states: Array, means: Array) -> Array:
    """Return the log density of each state under each label, against the density without intervention."""
    sets = means != 0
    square = 0.5 * (1 - 1 / WIDTH**2) * sets
    constant = -0.5 * means**2 / WIDTH**2 - np.log(WIDTH) * sets
    return states**2 @ square.T + states @ (means / WIDTH**2).T + constant.sum(axis=1)


class _SmoothError:
    """A classifier's error as a smooth random function of the state: random Fourier features."""

    def __init__(self, labels: int, rng: np.random.Generator, size: float = 0.3, features: int = 64) -> None:
        self.frequencies = 0.7 * rng.normal(size=(LATENT, features))
        self.phases = rng.uniform(0, 2 * np.pi, features)
        self.weights = size * np.sqrt(2 / features) * rng.normal(size=(features, labels))

    def __call__(self, states: Array) -> Array:
        return np.cos(states @ self.frequencies + self.phases) @ self.weights


def _centred(values: Array) -> Array:
    """Return log-softmax rows less their mean."""
    values = values - values.max(axis=1, keepdims=True)
    values = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    return values - values.mean(axis=1, keepdims=True)


def _train(cells: int, labels: int, seed: int) -> list[Pair]:
    """Simulate two modalities (a random network of the state each), train a classifier on each, return its logits."""
    import torch

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    means = interventions(labels)
    codes = np.repeat(np.arange(labels), cells)
    sides = []
    for features, epochs in ((20, 30), (30, 22)):
        states = np.concatenate([draw_states(cells, mean, rng) for mean in means])
        hidden = states @ rng.normal(size=(LATENT, 32)) / np.sqrt(LATENT)
        readings = np.maximum(hidden, 0.1 * hidden) @ rng.normal(size=(32, features)) / np.sqrt(32)
        readings += 0.1 * readings.std(axis=0) * rng.normal(size=readings.shape)
        sides.append(_centred(_classify(readings / readings.std(axis=0), codes, epochs)))
    return [(sides[0][codes == t], sides[1][codes == t]) for t in range(labels)]


def _classify(readings: Array, codes: Array, epochs: int) -> Array:
    import torch
    from torch import nn

    values, wanted = torch.tensor(readings, dtype=torch.float32), torch.tensor(codes)
    sizes = (values.shape[1], 128, 128, int(codes.max()) + 1)
    layers = [layer for i, o in pairwise(sizes) for layer in (nn.Linear(i, o), nn.ReLU())]
    network = nn.Sequential(*layers[:-1])
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(values)).split(256):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(values[batch]), wanted[batch]).backward()
            optimiser.step()
    with torch.no_grad():
        return np.asarray(network(values).double())
