"""The pictures of a diagnosis, from the numbers that the run saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired.data.types import Array
from unpaired.evaluate.checks import DISTANCE, P_VALUE
from unpaired.evaluate.diagnose import FOSCTTM, TRACE
from unpaired.report import verdict_plots
from unpaired.report.pictures import inline_svg

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = [
    "VERDICT_STATES",
    "confidence_picture",
    "distance_picture",
    "expected_picture",
    "partner_picture",
    "signal_picture",
]

VERDICT_STATES: Mapping[str, str] = {"use": "good", "average": "caution", "do not use": "bad"}
"""The state, and so the colour, of every verdict."""


def expected_picture(diagnosis: Mapping[str, Any], scores: Mapping[str, Any] | None) -> Markup | None:
    """Return the expected quality, beside the measured one where that is known; ``None`` where nothing is expected."""
    expected = diagnosis["expected"]
    if expected is None or None in (*expected["trace_over_uniform"], *expected["foscttm"]):
        return None
    ax = verdict_plots.expected_scales(
        expected["trace_over_uniform"],
        expected["foscttm"],
        needed=(TRACE, FOSCTTM),
        measured=(None, None) if scores is None else (scores["trace_over_uniform"], scores["foscttm"]["mean"]),
        colour=verdict_plots.STATES[VERDICT_STATES.get(diagnosis["verdict"], "unknown")],
    )
    return inline_svg(ax, "Expected quality of the matching")


def signal_picture(checks: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Return what each modality knows of the labels, of the checks of that; ``None`` where there are none."""
    if all(c["value"] is None for c in checks):
        return None
    ax = verdict_plots.signal_bars(
        [c["name"].removeprefix("label signal of ") for c in checks],
        [c["value"] for c in checks],
        [c["state"] for c in checks],
        needed=checks[0]["threshold"],
    )
    return inline_svg(ax, "What the readings of each modality tell of the label")


def distance_picture(labels: Mapping[str, Mapping[str, Any]]) -> Markup | None:
    """Return the distances between the modalities by label; ``None`` where no label has one."""
    known = {n: v for n, v in labels.items() if v["distance"] is not None}
    if not known:
        return None
    ax = verdict_plots.distance_dots(
        list(known),
        [v["distance"] for v in known.values()],
        [v["p_value"] is not None and v["p_value"] <= P_VALUE for v in known.values()],
        limits=DISTANCE,
    )
    return inline_svg(ax, "Distance between the modalities by label")


def partner_picture(labels: Mapping[str, Mapping[str, Any]]) -> Markup | None:
    """Return partners and candidates by label; ``None`` where no label leaves a choice."""
    known = {n: v for n, v in labels.items() if v["partners"] is not None and v["cells"][1] > 1}
    if not known:
        return None
    partners, candidates = zip(*((v["partners"], v["cells"][1]) for v in known.values()), strict=True)
    ax = verdict_plots.partner_lines(list(known), partners, candidates)
    return inline_svg(ax, "Effective number of partners and number of candidates by label")


def confidence_picture(values: Mapping[str, Array]) -> Markup | None:
    """Return how the confidence of the cells is spread; ``None`` where no cell has one."""
    if not any(np.isfinite(v).any() for v in values.values()):
        return None
    return inline_svg(verdict_plots.confidence_histogram(values), "Confidence of the cells")
