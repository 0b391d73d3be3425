"""The classifiers behind the propensity score: ensembles of logistic regressions or of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax

from unpaired.data.types import Array
from unpaired.embed.folds import Split
from unpaired.seeds import named_seed

if TYPE_CHECKING:
    from unpaired.embed.training import TrainingSettings

__all__ = ["CLASSIFIERS", "Linear", "Network", "choose_classifier", "fit_logistic", "fit_network"]

CLASSIFIERS = ("logistic", "mlp", "conv", "published")
"""Multinomial logistic regression, a small perceptron, a convolutional net, the published networks."""

DEVICES = ("auto", "cpu", "cuda", "mps")
"""Where networks can run."""

_FEW_CELLS = 10_000
_STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # C of scikit-learn: inverse weight of the L2 penalty


@dataclass(frozen=True, eq=False)
class Linear:
    """An ensemble of multinomial logistic regressions.

    Attributes
    ----------
    weight, bias
        ``(M, d, T)`` and ``(M, T)``.
    strength
        The inverse weight of the penalty that was chosen.
    """

    weight: Array
    bias: Array
    strength: float

    def logits(self, features: Array) -> Array:
        """Return ``(M, n, T)`` logits of ``(n, d)`` features."""
        return np.asarray(features.reshape(len(features), -1) @ self.weight + self.bias[:, None])


@dataclass(frozen=True, eq=False)
class Network:
    """An ensemble of networks.

    Attributes
    ----------
    net
        A module of :mod:`unpaired.embed.networks`.
    device
        Where it runs.
    history
        Validation cross-entropy, mean over members, one value an epoch.
    """

    net: Any
    device: str
    history: list[float]

    def logits(self, features: Array) -> Array:
        """Return ``(M, n, T)`` logits of ``(n, ...)`` features."""
        from unpaired.embed.training import predict

        return predict(self.net, features, device=self.device)


def choose_classifier(shape: tuple[int, ...], cells: int) -> str:
    """Return the kind of classifier for features of a shape: images, many cells or few."""
    if len(shape) == 4:
        return "conv"
    return "mlp" if cells >= _FEW_CELLS else "logistic"


def out_of_fold(logits: Array, splits: Sequence[Split]) -> Array:
    """Return ``(R, n, T)`` logits: each repeat's average over the models that did not see the cell.

    Parameters
    ----------
    logits
        ``(M, n, T)`` of all models.
    splits
        The M splits.
    """
    repeats = max(s.repeat for s in splits) + 1
    total = np.zeros((repeats, *logits.shape[1:]))
    count = np.zeros((repeats, logits.shape[1], 1))
    for split, values in zip(splits, logits, strict=True):
        total[split.repeat, split.held_out] += values[split.held_out]
        count[split.repeat, split.held_out] += 1
    return total / count


def fit_logistic(x: Array, y: Array, splits: Sequence[Split], *, classes: int, jobs: int) -> Linear:
    """Fit one multinomial logistic regression a split (scikit-learn), with the penalty that predicts best out of fold.

    Parameters
    ----------
    x, y
        ``(n, d)`` standardised features and ``(n,)`` codes, -1 for cells that are not trained on.
    splits
        The models' cells; a model learns from all but those it is judged on, since there is no epoch to choose.
    classes
        Number of labels T.
    jobs
        Worker processes.
    """
    from joblib import Parallel, delayed

    x = x.reshape(len(x), -1).astype(np.float64)
    first = [s for s in splits if s.repeat == 0]
    rest = [s for s in splits if s.repeat > 0]

    def fit_all(tasks: list[tuple[Split, float]]) -> list[tuple[Array, Array]]:
        run = Parallel(n_jobs=jobs)
        return list(run(delayed(_fit_one)(x, y, s.learn, c, classes) for s, c in tasks))

    trials = fit_all([(s, c) for c in _STRENGTHS for s in first])
    by_strength = [trials[i : i + len(first)] for i in range(0, len(trials), len(first))]
    losses = [sum(_loss(x, y, s.judge, model) for s, model in zip(first, m, strict=True)) for m in by_strength]
    best = int(np.argmin(losses))
    weight, bias = _stack(by_strength[best] + fit_all([(s, _STRENGTHS[best]) for s in rest]))
    return Linear(weight=weight, bias=bias, strength=_STRENGTHS[best])


def _loss(x: Array, y: Array, rows: Array, model: tuple[Array, Array]) -> float:
    logp = log_softmax(x[rows] @ model[0] + model[1], axis=1)
    return -float(logp[np.arange(len(rows)), y[rows]].sum())


def _stack(fitted: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    return np.stack([w for w, _ in fitted]), np.stack([b for _, b in fitted])


def _fit_one(x: Array, y: Array, rows: Array, strength: float, classes: int) -> tuple[Array, Array]:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    present = np.unique(y[rows])
    if len(present) == 1:  # every other label has only readings that this model must not see
        return np.zeros((x.shape[1], classes)), np.where(np.arange(classes) == present[0], 0.0, -np.log(len(rows)))
    # One thread whatever the number of workers: sums are split the same way, so the results are the same bits.
    with threadpool_limits(limits=1):
        model = LogisticRegression(C=strength, max_iter=2000, tol=1e-5).fit(x[rows], y[rows])
    coef, intercept = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn stores only the second class
        coef, intercept = np.vstack([-coef, coef]) / 2, np.r_[-intercept, intercept] / 2
    # A label whose readings are all alike can be missing here: rarer than one cell in all that was learned from.
    weight, bias = np.zeros((x.shape[1], classes)), np.full(classes, intercept.min() - np.log(len(rows)))
    weight[:, model.classes_], bias[model.classes_] = coef.T, intercept
    return weight, bias


_DROPOUT = 0.2
_LAYOUTS: Mapping[str, tuple[int, str]] = {
    "mlp": (256, "LBRD LBRD"),
    # Linear-ReLU-BN, 3 x (Linear-BN-ReLU), Linear, then the head.
    "published": (1024, "LRB LBR LBR LBR L"),
}


def _settings(kind: str, epochs: int | None, *, images: bool) -> TrainingSettings:
    from unpaired.embed.training import TrainingSettings

    if kind == "published":
        return TrainingSettings(epochs or (100 if images else 250), 256, 1e-4, 1e-4, "adam", patience=10**6)
    if images:
        return TrainingSettings(epochs or 100, 128, 1e-3, 1e-4, "adamw", patience=10)
    return TrainingSettings(epochs or 60, 128, 3e-3, 1e-2, "adamw", patience=10)


def fit_network(
    x: Array,
    y: Array,
    splits: Sequence[Split],
    *,
    kind: str,
    classes: int,
    epochs: int | None,
    device: str,
    seed: int,
    progress: bool,
) -> Network:
    """Fit one network a split, all in one pass.

    Parameters
    ----------
    x, y, splits, classes
        As in :func:`fit_logistic`; ``x`` may be images.
    kind
        ``"mlp"``, ``"conv"`` or ``"published"``.
    epochs
        Most epochs; ``None`` takes the kind's default.
    device
        A resolved device.
    seed
        Seed of weights, order and dropout.
    progress
        Show a progress bar.
    """
    import torch

    from unpaired.embed.learning import train
    from unpaired.embed.networks import MLP, ConvNet

    generator = torch.Generator().manual_seed(named_seed(seed, "weights"))
    net: torch.nn.Module
    images = x.ndim == 4
    if images:
        net = ConvNet(members=len(splits), shape=x.shape[1:], n_out=classes, generator=generator)
    else:
        hidden, layout = _LAYOUTS[kind]
        shape = {"n_in": x.shape[1], "n_out": classes, "hidden": hidden}
        net = MLP(members=len(splits), layout=layout, dropout=_DROPOUT, generator=generator, **shape)
    history = train(
        net,
        x.astype(np.float32),
        y,
        rows=[s.train for s in splits],
        valid=[s.valid for s in splits],
        settings=_settings(kind, epochs, images=images),
        device=device,
        seed=named_seed(seed, "order"),
        progress=progress,
    )
    return Network(net=net, device=device, history=history)
