"""How good and how honest a classifier's probabilities are: temperature, calibration error, quality by label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from unpaired.data.types import Array

__all__ = ["ClassifierQuality", "fit_temperature", "quality", "reliability"]

_BINS = 15
_LOG_RANGE = (np.log(0.05), np.log(20.0))  # temperatures outside say that the classifier is broken, not overconfident


@dataclass(frozen=True)
class ClassifierQuality:
    """Quality of one modality's classifier on cells that it did not see.

    Attributes
    ----------
    cells
        Number of labelled cells judged.
    cross_entropy, base_cross_entropy
        Mean of -log p(true label) in nats, and that of the labels' frequencies.
    accuracy, base_accuracy
        Fraction of cells whose likeliest label is the true one, and that of always guessing the largest label.
    calibration_error, uncalibrated_error
        Expected calibration error (15 bins of the top probability), with and without the temperature.
    temperature
        Divides the logits.
    labels
        Label -> ``{"cells", "accuracy", "cross_entropy"}``.
    reliability
        ``{"confidence", "accuracy", "cells"}`` of the bins that are not empty.
    confusion
        Fractions: row = true label, column = likeliest label, in the order of ``labels``.
    """

    cells: int
    cross_entropy: float
    base_cross_entropy: float
    accuracy: float
    base_accuracy: float
    calibration_error: float
    uncalibrated_error: float
    temperature: float
    labels: Mapping[str, Mapping[str, float]]
    reliability: Mapping[str, list[float]]
    confusion: list[list[float]]


def fit_temperature(logits: Array, y: Array) -> float:
    """Return the temperature that minimises the cross-entropy of ``softmax(logits / temperature)``.

    Parameters
    ----------
    logits
        ``(n, T)`` logits of cells that the models did not see.
    y
        ``(n,)`` codes of their labels.
    """

    def loss(log_t: float) -> float:
        logp = log_softmax(logits / np.exp(log_t), axis=1)
        return -float(logp[np.arange(len(y)), y].mean())

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded", options={"xatol": 1e-4}).x))


def reliability(probabilities: Array, y: Array) -> tuple[dict[str, list[float]], float]:
    """Return the reliability curve of the top probability and the expected calibration error (15 equal bins)."""
    top = probabilities.max(axis=1)
    hit = probabilities.argmax(axis=1) == y
    bins = np.minimum((top * _BINS).astype(int), _BINS - 1)
    count = np.bincount(bins, minlength=_BINS)
    used = count > 0
    confidence = np.bincount(bins, top, _BINS)[used] / count[used]
    accuracy = np.bincount(bins, hit, _BINS)[used] / count[used]
    error = float(np.sum(count[used] * np.abs(confidence - accuracy)) / len(y))
    return {"confidence": confidence.tolist(), "accuracy": accuracy.tolist(), "cells": count[used].tolist()}, error


def quality(logits: Array, y: Array, *, temperature: float, classes: tuple[str, ...]) -> ClassifierQuality:
    """Judge out-of-fold logits ``(n, T)`` of cells with labels ``y``.

    Parameters
    ----------
    logits, y
        As in :func:`fit_temperature`.
    temperature
        Divides the logits.
    classes
        Names of the T labels.
    """
    logp = log_softmax(logits / temperature, axis=1)
    nll = -logp[np.arange(len(y)), y]
    guess = logp.argmax(axis=1)
    counts = np.bincount(y, minlength=len(classes))
    share = counts[counts > 0] / len(y)
    curve, error = reliability(np.exp(logp), y)
    raw = reliability(np.exp(log_softmax(logits, axis=1)), y)[1]
    confusion = np.zeros((len(classes), len(classes)))
    np.add.at(confusion, (y, guess), 1)
    by_label = {
        name: {
            "cells": int(counts[t]),
            "accuracy": float((guess[y == t] == t).mean()),
            "cross_entropy": float(nll[y == t].mean()),
        }
        for t, name in enumerate(classes)
        if counts[t] > 0
    }
    return ClassifierQuality(
        cells=len(y),
        cross_entropy=float(nll.mean()),
        base_cross_entropy=float(-(share * np.log(share)).sum()),
        accuracy=float((guess == y).mean()),
        base_accuracy=float(share.max()),
        calibration_error=error,
        uncalibrated_error=raw,
        temperature=temperature,
        labels=by_label,
        reliability=curve,
        confusion=(confusion / np.maximum(counts[:, None], 1)).tolist(),
    )
