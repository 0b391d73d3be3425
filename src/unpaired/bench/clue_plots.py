"""The plot of the bench of CLUE: how much the share of the pairs that are known matters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired.bench.clue_methods import SHARES
from unpaired.bench.tables import Summary
from unpaired.report.axes import COLOURS, INK, SIZE, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["share_curves"]

_PANELS = (
    ("matching_score", "matching score (higher is better)"),
    ("foscttm", "FOSCTTM, all cells (lower is better)"),
    ("foscttm_label", "FOSCTTM within label (lower is better)"),
)
_CURVES = (("clue", "CLUE, the known pairs alone", COLOURS[0]), ("clue-soft", "... and partners by labels", COLOURS[4]))
_LEVELS = (("propensity", "propensity score, no pairs", COLOURS[2], "--"), ("random", "random", INK, ":"))


def share_curves(found: Mapping[tuple[str, str], Summary]) -> tuple[Axes, ...]:
    """Draw the scores against the share of known pairs: a line through the means, a point a seed.

    Parameters
    ----------
    found
        (method, metric) -> its summary. Methods without a share are level lines.
    """
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(3.5 * len(_PANELS), 3.2), layout="constrained")
    axes = figure.subplots(1, len(_PANELS), squeeze=False)[0]
    shares = sorted(SHARES)
    for ax, (metric, title) in zip(axes, _PANELS, strict=True):
        for name, told, colour in _CURVES:
            points = [(at, s) for at, share in enumerate(shares) if (s := _at(found, name, share, metric)) is not None]
            for at, s in points:
                ax.scatter([at] * len(s.values), s.values, s=9, color=colour, alpha=0.6, linewidths=0)
            means = [float(np.mean(s.values)) for _, s in points]
            ax.plot([at for at, _ in points], means, color=colour, linewidth=1.4, label=told)
        for name, told, colour, style in _LEVELS:
            level = found.get((name, metric))
            if level is not None and level.values:
                mean = float(np.mean(level.values))
                ax.axhline(mean, color=colour, linestyle=style, linewidth=1.2, label=told)
        ax.set(xlabel="pairs known (%)", ylabel=title)
        ax.set_xticks(range(len(shares)), [f"{100 * s:g}" for s in shares])
        ax.set_ylim(bottom=0)
        tidy(ax)
    handles, told_of = axes[0].get_legend_handles_labels()
    figure.legend(handles, told_of, loc="outside upper left", ncols=len(told_of), frameon=False, fontsize=SIZE)
    return tuple(axes)


def _at(found: Mapping[tuple[str, str], Summary], name: str, share: float, metric: str) -> Summary | None:
    method = "clue" if share == 1 else f"{name}-{share * 100:g}"
    summary = found.get((method, metric))
    return summary if summary is not None and summary.values else None
