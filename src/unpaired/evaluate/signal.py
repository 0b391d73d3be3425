"""What a space of propensity scores knows of the labels, judged from its coordinates alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from unpaired.data.types import Dataset
from unpaired.embed.calibration import fit_temperature, reliability
from unpaired.embed.embedding import Embedding
from unpaired.match.blocks import evenly
from unpaired.seeds import named_rng

__all__ = ["Signal", "label_signal"]

_CELLS = 5000  # judged of one modality, spread evenly over its canonical order
_PERMUTATIONS = 199  # the smallest p-value is one in 200


@dataclass(frozen=True)
class Signal:
    """What one modality's scores say of its labels.

    Attributes
    ----------
    explained
        Share of the labels' entropy that the scores take away: 1 - cross-entropy / entropy of the frequencies. 1: they
        name every label; 0 or less: nothing is known beyond how frequent each label is.
    p_value
        How often the same scores do as well on permuted labels (199 permutations).
    calibration_error
        Expected calibration error of the probabilities (15 bins).
    temperature
        What the coordinates would have to be divided by to be honest; 1 is honest.
    cells
        Cells judged.
    """

    explained: float
    p_value: float
    calibration_error: float
    temperature: float
    cells: int


def label_signal(data: Dataset, embedding: Embedding, name: str, *, seed: int = 0) -> Signal | None:
    """Judge one modality's coordinates as log-odds of the labels; ``None`` if they are none, or there is one label.

    The cells must not have been seen by the models that scored them: :class:`unpaired.Propensity` cross-fits; the
    published recipe does not, and its scores look better than they are.

    Parameters
    ----------
    data, embedding
        The data set and its space.
    name
        The modality.
    seed
        Seed of the permutations.
    """
    if embedding.space != "logit":
        return None
    modality = data[name]
    place = {label: i for i, label in enumerate(embedding.dims)}
    code = np.array([place.get(c, -1) for c in data.classes] + [-1])[modality.labels]
    known = modality.order[code[modality.order] >= 0]
    counts = np.bincount(code[known], minlength=len(place))
    if np.count_nonzero(counts) < 2:
        return None
    rows = evenly(known, _CELLS)
    logits, y = np.array(embedding[name][rows]), code[rows]
    if embedding.made_by.options.get("calibrate", True):  # the labels' frequencies were taken out
        logits += np.log(np.maximum(counts, 0.5) / counts.sum())
    logp = log_softmax(logits, axis=1)
    gain = float(logp[np.arange(len(y)), y].mean())
    rng = named_rng(seed, "signal", name)
    chance = [float(logp[np.arange(len(y)), rng.permutation(y)].mean()) for _ in range(_PERMUTATIONS)]
    share = counts[counts > 0] / counts.sum()
    return Signal(
        explained=1 - gain / float((share * np.log(share)).sum()),
        p_value=(1 + sum(c >= gain for c in chance)) / (1 + _PERMUTATIONS),
        calibration_error=reliability(np.exp(logp), y)[1],
        temperature=fit_temperature(logits, y),
        cells=len(y),
    )
