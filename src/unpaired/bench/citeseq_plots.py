"""Plots of the bench of CITE-seq: plain numbers in, Axes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired.bench.tables import Summary
from unpaired.report.axes import COLOURS, GREY, SIZE, literal, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["points_by_method"]

_WIDTH, _NAMES, _ROW = 2.9, 1.6, 0.24  # inches of a panel, of the methods' names, and of a method


def points_by_method(panels: Sequence[tuple[str, str, Sequence[Summary], Mapping[str, str]]]) -> tuple[Axes, ...]:
    """Draw a metric a panel: a point a seed, a bar at the median, a ring at the published figure.

    Parameters
    ----------
    panels
        Metric, title, the summaries, and method -> its title, in the order of the rows from the top. The methods are
        those of the first panel.
    """
    from matplotlib.figure import Figure

    first = {s.method for s in panels[0][2]}
    titles = {m: t for m, t in panels[0][3].items() if m in first}
    place = {m: k for k, m in enumerate(titles)}
    size = (_NAMES + _WIDTH * len(panels), 0.9 + _ROW * max(2, len(place)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    ring: Any = None
    for ax, (metric, title, found, _) in zip(axes, panels, strict=True):
        for s in (s for s in found if s.metric == metric and s.method in place):
            y = place[s.method]
            ax.scatter(s.values, [y] * len(s.values), s=10, color=COLOURS[0], linewidths=0, alpha=0.7)
            if s.values:
                ax.plot([np.median(s.values)], [y], marker="|", markersize=9, color=COLOURS[0], markeredgewidth=1.8)
            if s.published:
                drawn = ax.scatter([float(s.published)], [y], s=34, facecolors="none", edgecolors=COLOURS[4])
                ring = drawn if ring is None else ring
        ax.set_xlabel(title)
        ax.grid(axis="y", color=GREY, linewidth=0.4)
        ax.set_axisbelow(True)
        tidy(ax)
    axes[0].set_yticks(range(len(place)), [literal(t) for t in titles.values()], fontsize=SIZE)
    axes[0].set_ylim(len(place) - 0.5, -0.5)
    if ring is not None:
        figure.legend([ring], ["published"], loc="outside upper right", frameon=False, fontsize=SIZE)
    return tuple(axes)
