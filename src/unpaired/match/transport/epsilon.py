"""The weight of the entropy: a number, the classifiers' own noise, or so many times the median cost."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from unpaired.data.types import Array, Dataset
from unpaired.embed.embedding import Embedding
from unpaired.errors import OptionError
from unpaired.options import check_number

__all__ = ["check_eps", "resolve_eps"]

_TIMES_MEDIAN = "*median"
_COSTS = 4e6  # that tell the median, all labels together
_PROBE = 200  # cells a side of a label whose costs tell the median


def check_eps(eps: float | str, cost: str) -> None:
    """Raise :class:`~unpaired.errors.OptionError` if ``eps`` cannot be used with the cost."""
    if eps == "auto":
        if cost != "sqeuclidean":
            msg = "eps='auto' is derived for cost='sqeuclidean'; give a number (published: 0.05) with cost='euclidean'."
            raise OptionError(msg)
    elif isinstance(eps, str):
        _times_median(eps)
    else:
        check_number("eps", eps, above=0)


def resolve_eps(
    data: Dataset, embedding: Embedding, eps: float | str, cost: str, source: str, target: str
) -> tuple[float, str]:
    """Return the number that ``eps`` means, and where it comes from: ``"given"`` or ``"median"``.

    What ``"auto"`` means is no number of this space: see :mod:`unpaired.match.transport.posterior`.

    Raises
    ------
    OptionError
        If it cannot be found.
    """
    if not isinstance(eps, str):
        return float(eps), "given"
    median = _median_cost(data, embedding, cost, source, target)
    if not median > 0:
        msg = f"eps={eps!r}: the median cost within a label is {median}; give a number instead."
        raise OptionError(msg)
    return _times_median(eps) * median, "median"


def _times_median(text: str) -> float:
    number, times, rest = text.replace(" ", "").partition(_TIMES_MEDIAN)
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if not times or rest or not 0 < value < float("inf"):
        msg = (
            f"eps must be a positive number, 'auto', or so many times the median cost, as '0.05*median'; got {text!r}."
        )
        raise OptionError(msg)
    return value


def _median_cost(data: Dataset, embedding: Embedding, cost: str, source: str, target: str) -> float:
    """Return the median over labels and cells; of a large label, over cells that are spread evenly over it."""
    parts: list[Array] = []
    probe = max(3, min(_PROBE, int((_COSTS / len(data.classes)) ** 0.5)))
    for code in range(len(data.classes)):
        sides = []
        for name in (source, target):
            order = data[name].order
            cells = order[data[name].labels[order] == code]
            sides.append(embedding[name][cells[:: max(1, -(-len(cells) // probe))]])
        if len(sides[0]) and len(sides[1]):
            parts.append(cdist(sides[0], sides[1], metric=cost).ravel())
    return float(np.median(np.concatenate(parts))) if parts else float("nan")
