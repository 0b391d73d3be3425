"""The classifiers behind the propensity score: ensembles of logistic regressions or of networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import log_softmax

from unpaired.data.types import Array
from unpaired.embed.folds import Split
from unpaired.embed.inputs import Inputs

__all__ = [
    "CLASSIFIERS",
    "DEVICES",
    "Blend",
    "Linear",
    "Network",
    "Watch",
    "averaged",
    "choose_classifier",
    "fit_logistic",
    "out_of_fold",
]

CLASSIFIERS = ("blend", "logistic", "mlp", "conv", "published")
"""Logistic regression and perceptron together, either alone, a convolutional net, the published networks."""

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

    def logits(self, x: Array | Inputs) -> Array:
        """Return ``(M, n, T)`` logits of ``(n, ...)`` features."""
        features = x.dense() if isinstance(x, Inputs) else x
        return np.asarray(features.reshape(len(features), -1) @ self.weight + self.bias[:, None])

    def held_out(self, x: Inputs, splits: Sequence[Split]) -> Array:
        """Return ``(R, n, T)`` logits of the cells, each by the models that did not see it."""
        return out_of_fold(self.logits(x), splits)


@dataclass(frozen=True, eq=False)
class Network:
    """An ensemble of networks.

    Attributes
    ----------
    net
        A module of :mod:`unpaired.embed.networks`.
    device
        Where it runs.
    precision
        Of what it was trained in; it predicts in float32 in any case.
    history
        Validation cross-entropy, mean over members, one value an epoch.
    """

    net: Any
    device: str
    precision: str
    history: list[float]

    def logits(self, x: Array | Inputs) -> Array:
        """Return ``(M, n, T)`` logits of ``(n, ...)`` features."""
        from unpaired.embed.learning import predict_all

        given = x if isinstance(x, Inputs) else Inputs(np.asarray(x, dtype=np.float32), np.arange(len(x)))
        return predict_all(self.net, given, device=self.device)

    def held_out(self, x: Inputs, splits: Sequence[Split]) -> Array:
        """Return ``(R, n, T)`` logits of the cells, each by the models that did not see it; no others are computed."""
        from unpaired.embed.learning import predict_own

        rows = [np.flatnonzero(s.held_out) for s in splits]
        return averaged(predict_own(self.net, x, rows, device=self.device), splits)


@dataclass(frozen=True, eq=False)
class Blend:
    """Logistic regressions and perceptrons on the same splits, averaged.

    A linear score keeps more of the differences between the cells of a label, which a perceptron that is sure of the
    label has folded away; a perceptron finds labels that no line separates. Their errors differ, so the mean matches
    better than either (docs/method.md and docs/trust.md have the figures).

    Attributes
    ----------
    linear, network
        The two ensembles, of as many members.
    temperatures
        Of the two: each one's logits are divided by its own before the mean, so that neither outshouts the other.
    """

    linear: Linear
    network: Network
    temperatures: tuple[float, float]

    def logits(self, x: Array | Inputs) -> Array:
        """Return ``(M, n, T)`` logits of ``(n, ...)`` features."""
        return self._mean(self.linear.logits(x), self.network.logits(x))

    def held_out(self, x: Inputs, splits: Sequence[Split]) -> Array:
        """Return ``(R, n, T)`` logits of the cells, each by the models that did not see it."""
        return self._mean(self.linear.held_out(x, splits), self.network.held_out(x, splits))

    def _mean(self, linear: Array, network: Array) -> Array:
        return np.asarray(linear / self.temperatures[0] + network / self.temperatures[1]) / 2


Watch = Callable[[int, Network], None]
"""Called after every epoch of a network with its number and the network as it is then."""


def choose_classifier(shape: tuple[int, ...], cells: int) -> str:
    """Return the kind of classifier for features of a shape: images, many cells or few."""
    if len(shape) == 4:
        return "conv"
    return "mlp" if cells >= _FEW_CELLS else "blend"


def out_of_fold(logits: Array, splits: Sequence[Split]) -> Array:
    """Return ``(R, n, T)`` logits: each repeat's average over the models that did not see the cell.

    Parameters
    ----------
    logits
        ``(M, n, T)`` of all models.
    splits
        The M splits.
    """
    return averaged([values[s.held_out] for s, values in zip(splits, logits, strict=True)], splits)


def averaged(own: Sequence[Array], splits: Sequence[Split]) -> Array:
    """``(R, n, T)`` averages of what every model says of the cells that it holds out."""
    repeats, n = max(s.repeat for s in splits) + 1, len(splits[0].held_out)
    total = np.zeros((repeats, n, own[0].shape[1]))
    count = np.zeros((repeats, n, 1))
    for split, values in zip(splits, own, strict=True):
        total[split.repeat, split.held_out] += values
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
