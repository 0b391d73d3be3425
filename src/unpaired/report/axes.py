"""What the plots share: colours, and axes that leave room for their names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unpaired.report.words import short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = ["COLOURS", "GREY", "INK", "SIZE", "literal", "name_ticks", "new_axes", "outside_legend", "room", "tidy"]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
"""Okabe and Ito's palette without yellow, which is lost on white."""

GREY = "#BBBBBB"
INK = "#333333"
SIZE = 8
"""Points, of tick labels and legends."""


def new_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return ``ax``, or the Axes of a new figure of that size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").add_subplot() if ax is None else ax


def tidy(ax: Axes) -> Axes:
    """Take away what is not needed to read a plot."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    ax.tick_params(labelsize=SIZE, color=GREY)
    ax.xaxis.label.set_fontsize(9)
    ax.yaxis.label.set_fontsize(9)
    return ax


def room(ax: Axes, side: str) -> float:
    """Length of an axis in points, less what titles and long names will take of it."""
    box, figure = ax.get_position(), ax.figure.get_figure(root=True)
    width, height = figure.get_size_inches() if figure is not None else (0.0, 0.0)
    return 72 * float(box.width * width * 0.65 if side == "x" else box.height * height * (0.65 if height < 5 else 0.9))


def name_ticks(axis: Axis, names: Sequence[str], length: float) -> None:
    """Write the names at 0, 1, 2, ...; some of them where ``length`` points have no room for all."""
    step = max(1, math.ceil(len(names) * 1.35 * SIZE / length))
    at = range(0, len(names), step)
    shown = short_names(names)
    axis.set_ticks(at, [literal(shown[i]) for i in at], fontsize=SIZE)


def literal(text: str) -> str:
    """Keep matplotlib from reading a name with dollars as a formula."""
    return text.replace("$", r"\$")


def outside_legend(ax: Axes, handles: Sequence[Any], entries: Sequence[str], title: str) -> None:
    """Write the legend to the right of the plot."""
    options: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "frameon": False, "fontsize": SIZE}
    legend = ax.legend(handles, ["."] * len(handles), title=literal(title), title_fontsize=SIZE, **options)
    # Set afterwards, because matplotlib hides an entry whose name starts with an underscore.
    for text, entry in zip(legend.get_texts(), entries, strict=True):
        text.set_text(literal(entry))
