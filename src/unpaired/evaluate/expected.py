"""What the truth would say of a matching, predicted without it.

A coupling claims a quality: were its probabilities right, the trace and FOSCTTM would be such (see
:mod:`unpaired.evaluate.confidence`). Only a share of the claim can be believed. How large a share was learned from
data sets whose pairs are known (``unpaired bench trust``); it depends on how alike the two modalities' scores are
within labels, and on whether the classifiers' noise is known at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unpaired.evaluate.confidence import Claim

__all__ = [
    "CEILING",
    "FOSCTTM",
    "MARGIN",
    "TRACE",
    "Evidence",
    "Expected",
    "Rule",
    "collect",
    "expect",
    "features",
    "share",
]

_FAR = 1.2  # energy distance from which on more of it says no more
CEILING = 1.05
"""Largest share of its claim that is believed: a coupling less sure than it could be is possible, far less is not."""
MARGIN = 0.05
"""Of a small lead over chance the error is no share: it is taken over the lead and this."""


@dataclass(frozen=True)
class Rule:
    """``log(share believed) = constant + distance E + spread A + blind [noise unknown]``, and its errors.

    Attributes
    ----------
    constant, distance, spread, blind
        Coefficients; see :func:`share`.
    low, high
        Where the errors of the prediction end, each data set left out in turn and all counting alike: of the logarithm
        of measured over predicted trace, of the difference in FOSCTTM over 0.05 + the predicted lead over chance.
    """

    constant: float
    distance: float
    spread: float
    blind: float
    low: float
    high: float


# Learned by ``unpaired bench trust --seeds 5`` (docs/trust.md); its table prints them.
TRACE = Rule(-1.785, -0.888, 2.428, -0.979, -0.763, 0.723)
FOSCTTM = Rule(-1.327, -0.372, 2.669, -0.554, -0.478, 1.351)


@dataclass(frozen=True)
class Evidence:
    """What the prediction is made of.

    Attributes
    ----------
    trace_over_uniform, foscttm
        What the coupling claims, mean over labels alike.
    distance
        Energy distance within labels, mean over labels.
    spread
        Agreement of the spreads (:class:`unpaired.evaluate.agreement.Agreement`).
    noise_known
        Whether the classifiers' own noise is known to the space.
    labels, labels_total
        Labels that the means are over, and all.
    """

    trace_over_uniform: float
    foscttm: float
    distance: float
    spread: float
    noise_known: bool
    labels: int
    labels_total: int


@dataclass(frozen=True)
class Expected:
    """Expected quality, each with an interval: docs/trust.md says how often it held the measured one.

    Attributes
    ----------
    trace_over_uniform, foscttm
        ``(low, expected, high)``; both as :func:`unpaired.score` measures them, labels alike.
    """

    trace_over_uniform: tuple[float, float, float]
    foscttm: tuple[float, float, float]


def collect(
    claims: Mapping[str, Claim], distance: float, spread: float | None, *, noise_known: bool, labels_total: int
) -> Evidence | None:
    """Return the evidence; ``None`` where no label can tell. Spreads that cannot be compared count as not alike."""
    if not claims or not np.isfinite(distance):
        return None
    trace = float(np.mean([c.trace_over_uniform for c in claims.values()]))
    foscttm = float(np.mean([c.foscttm for c in claims.values()]))
    return Evidence(trace, foscttm, distance, spread or 0.0, noise_known, len(claims), labels_total)


def features(evidence: Evidence) -> Sequence[float]:
    """Return what the coefficients are of: one, distance, spread, and one if the noise is unknown."""
    return (1.0, float(np.clip(evidence.distance, 0.0, _FAR)), evidence.spread, float(not evidence.noise_known))


def share(evidence: Evidence, rule: Rule) -> float:
    """Return the share of the claim that can be believed."""
    weights = (rule.constant, rule.distance, rule.spread, rule.blind)
    return min(CEILING, float(np.exp(np.dot(weights, features(evidence)))))


def expect(evidence: Evidence) -> Expected:
    """Predict trace over uniform and FOSCTTM from the evidence."""
    gain = share(evidence, TRACE) * max(0.0, evidence.trace_over_uniform - 1)
    lead = share(evidence, FOSCTTM) * max(0.0, 0.5 - evidence.foscttm)
    best, worst = (min(0.5, lead + end * (lead + MARGIN)) for end in (FOSCTTM.high, FOSCTTM.low))
    return Expected(
        ((1 + gain) * float(np.exp(TRACE.low)), 1 + gain, (1 + gain) * float(np.exp(TRACE.high))),
        (0.5 - best, 0.5 - min(0.5, lead), 0.5 - worst),
    )
