"""Plots of the screens: how a metric goes as an assumption is violated more and more, method by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unpaired.report.axes import COLOURS, INK, SIZE, literal, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Line", "Panel", "knob_panels"]

_BROKEN = (":", "--", "-.")
_MARKS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True)
class Line:
    """One method in one panel.

    Attributes
    ----------
    at
        Values of the option, ascending or descending.
    middle, low, high
        Median, first and third quartile at each.
    """

    at: Sequence[float]
    middle: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One option that is turned.

    Attributes
    ----------
    title
        What it is.
    lines
        Legend entry -> its line.
    falls
        Whether it is violated towards smaller values; they are then drawn to the right.
    """

    title: str
    lines: Mapping[str, Line]
    falls: bool = False


def knob_panels(
    panels: Sequence[Panel],
    ylabel: str,
    *,
    level: float | None = None,
    level_name: str = "",
    dashed: Sequence[str] = (),
    logarithmic: bool = False,
) -> Axes:
    """Draw a metric against every option: a line a method, a band between the quartiles over seeds.

    Parameters
    ----------
    panels
        One an option. Violation grows to the right in all of them.
    ylabel
        What is drawn.
    level, level_name
        What knowing the label alone gives, drawn as a dashed line across, and its legend entry.
    dashed
        Legend entries that are drawn dotted, dashed, ... in grey: what others are compared with.
    logarithmic
        Scale of the metric.

    Returns
    -------
    The first panel's Axes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(4.2, 2.7 * len(panels) + 0.6), 3.3), layout="constrained")
    axes: list[Axes] = list(figure.subplots(1, len(panels), squeeze=False, sharey=True)[0])
    names = list(dict.fromkeys(n for p in panels for n in p.lines))
    style = {n: (COLOURS[i % len(COLOURS)], _MARKS[i % len(_MARKS)]) for i, n in enumerate(names)}
    broken = {n: _BROKEN[i % len(_BROKEN)] for i, n in enumerate(dashed)}
    handles: dict[str, Any] = {}
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        for name, line in panel.lines.items():
            colour, mark = style[name]
            grey = name in dashed
            handles[name] = ax.plot(
                line.at,
                line.middle,
                color=INK if grey else colour,
                linestyle=broken.get(name, "-"),
                marker=None if grey else mark,
                markersize=4,
                linewidth=1.4,
            )[0]
            ax.fill_between(line.at, line.low, line.high, color=INK if grey else colour, alpha=0.15, linewidth=0)
        if level is not None:
            handles[level_name] = ax.axhline(level, color=INK, linestyle="--", linewidth=1, zorder=1)
        if logarithmic:
            ax.set_yscale("log")
        _ticks(ax, panel)
        ax.set(xlabel=panel.title, ylabel="" if i else ylabel)
        ax.grid(axis="y", color="#E5E5E5", linewidth=0.6, zorder=0)
        tidy(ax)
        ax.xaxis.label.set_fontsize(SIZE)
    figure.legend(
        list(handles.values()),
        [literal(n) for n in handles],
        loc="outside upper left",
        ncols=min(4, len(panels), len(handles)),  # a panel's width holds one entry
        frameon=False,
        fontsize=SIZE,
    )
    return axes[0]


def _ticks(ax: Axes, panel: Panel) -> None:
    """Name the values that were tried, and turn the axis so that violation grows to the right."""
    at = sorted({v for line in panel.lines.values() for v in line.at})
    ax.set_xticks(at, [f"{v:g}" for v in at])
    if panel.falls:
        ax.invert_xaxis()
