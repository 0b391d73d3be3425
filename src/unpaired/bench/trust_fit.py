"""How much of a coupling's claim can be believed: the rule of :mod:`unpaired.evaluate.expected`, learned and judged.

Every data set is left out in turn, with all its pairs and seeds, and predicted by the rule learned from the others: a
user's data are another data set, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unpaired.data.types import Array
from unpaired.evaluate.expected import CEILING, MARGIN, Evidence, Rule, features

__all__ = ["Judged", "judge", "learn"]

_LEAST = {"trace": 0.01, "foscttm": 0.02}  # share below which it makes no difference how little is believed
_RIDGE = 1e-2  # of the coefficients but the constant: some data sets have one pair
# Of the errors on the data sets there are. A dozen cannot tell where one in twenty ends: by these, the interval held
# nine in ten of what was measured on data sets left out, by narrower ones eight.
_INTERVAL = (0.02, 0.98)


@dataclass(frozen=True, eq=False)
class Judged:
    """Predictions of one quality, each data set left out in turn.

    Attributes
    ----------
    predicted, measured
        ``(n,)`` trace over uniform, or 0.5 less FOSCTTM.
    low, high
        ``(n,)`` interval of the prediction, from the errors on the other data sets by rules that saw neither.
    owners
        ``(n,)`` the data set of each.
    rule
        The rule learned from all, with the quantiles of the errors made on data sets left out.
    """

    predicted: Array
    measured: Array
    low: Array
    high: Array
    owners: Array
    rule: Rule

    @property
    def spearman(self) -> float:
        """Rank correlation of predicted and measured."""
        from scipy.stats import spearmanr

        return float(spearmanr(self.predicted, self.measured).statistic)

    @property
    def covered(self) -> dict[str, float]:
        """Data set -> share of its measured values that lie within their interval."""
        inside = (self.measured >= self.low) & (self.measured <= self.high)
        return {str(name): float(inside[self.owners == name].mean()) for name in np.unique(self.owners)}

    def take(self, rows: Array) -> Judged:
        """Return some of the results only."""
        names = ("predicted", "measured", "low", "high", "owners")
        return replace(self, **{n: getattr(self, n)[rows] for n in names})


def judge(results: Sequence[Mapping[str, Any]], groups: Sequence[str], what: str) -> Judged:
    """Learn the rule of one quality from results of the trust bench, and judge it.

    Parameters
    ----------
    results
        Results with ``diagnosis`` and ``measured``.
    groups
        The data set of each; three or more.
    what
        ``"trace"`` or ``"foscttm"``.
    """
    evidence = [Evidence(**r["diagnosis"]["evidence"]) for r in results]
    claim = np.array([_claim(e, what) for e in evidence])
    measured = np.array([_measured(r, what) for r in results])
    x = np.array([features(e) for e in evidence])
    y = np.log(np.clip(measured - _floor(what), 1e-9, None) / np.maximum(claim, 1e-9))
    y = np.clip(y, np.log(_LEAST[what]), np.log(CEILING))
    owners = np.array(groups)
    predicted = _floor(what) + _shares(x, y, owners) * claim
    errors = _errors(measured, predicted, what)
    ends = np.empty((2, len(y)))
    for name in np.unique(owners):
        rest = owners != name  # the errors on these, too, are of rules that never saw the one left out
        others = _floor(what) + _shares(x[rest], y[rest], owners[rest]) * claim[rest]
        ends[:, ~rest] = _ends(_errors(measured[rest], others, what), owners[rest])[:, None]
    constant, distance, spread, blind = (float(c) for c in learn(x, y, owners))
    low, high = _ends(errors, owners)
    rule = Rule(constant, distance, spread, blind, float(low), float(high))
    return Judged(predicted, measured, _shift(predicted, ends[0], what), _shift(predicted, ends[1], what), owners, rule)


def _shares(x: Array, y: Array, owners: Array) -> Array:
    """Return the share believed of each result, by the rule learned from the other data sets."""
    found = np.empty(len(y))
    for name in np.unique(owners):
        out = owners == name
        found[out] = np.minimum(CEILING, np.exp(x[out] @ learn(x[~out], y[~out], owners[~out])))
    return found


def _errors(measured: Array, predicted: Array, what: str) -> Array:
    if what == "trace":
        return np.asarray(np.log(np.maximum(measured, 0.1) / predicted))
    return (measured - predicted) / (predicted + MARGIN)


def _shift(predicted: Array, by: Array, what: str) -> Array:
    """Return where an error leads to."""
    return predicted * np.exp(by) if what == "trace" else predicted + by * (predicted + MARGIN)


def _ends(errors: Array, owners: Array) -> Array:
    """Return the two quantiles of the errors, in which every data set counts alike."""
    _, place, counts = np.unique(owners, return_inverse=True, return_counts=True)
    order = np.argsort(errors)
    mass = (1 / counts[place])[order]
    return np.interp(_INTERVAL, (mass.cumsum() - mass / 2) / mass.sum(), errors[order])


def learn(x: Array, y: Array, owners: Array) -> Array:
    """Return the coefficients of a ridge regression in which a data set counts by the square root of its results."""
    _, place, counts = np.unique(owners, return_inverse=True, return_counts=True)
    weight = counts[place] ** -0.5
    penalty = _RIDGE * np.eye(x.shape[1])
    penalty[0, 0] = 0
    return np.asarray(np.linalg.solve((x * weight[:, None]).T @ x + penalty, (x * weight[:, None]).T @ y))


def _floor(what: str) -> float:
    return 1.0 if what == "trace" else 0.0


def _claim(evidence: Evidence, what: str) -> float:
    return max(0.0, evidence.trace_over_uniform - 1 if what == "trace" else 0.5 - evidence.foscttm)


def _measured(result: Mapping[str, Any], what: str) -> float:
    own = result["measured"]
    return float(own["trace_over_uniform"] if what == "trace" else 0.5 - own["foscttm"]["mean"])
