"""Plots of plain numbers: every function draws on the Axes it is given, or on a new Figure's, and returns it.

Matplotlib's object interface only: nothing here reads or changes what pyplot keeps. Colours are those of Okabe and
Ito, which people who do not see all colours can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired.data.types import Array
from unpaired.report.axes import COLOURS, GREY, INK, SIZE, name_ticks, new_axes, outside_legend, room, tidy
from unpaired.report.words import short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["COLOURS", "confusion", "label_bars", "plain_log_ticks", "reliability", "selective_risk", "space"]

_NO_GROUP = ("#777777", "s")
_MARKERS = ("o", "^", "s")
_COLOURED = 12  # groups that can be told apart; of more, the largest but one get a colour


def reliability(curve: Mapping[str, Sequence[float]], *, error: float | None = None, ax: Axes | None = None) -> Axes:
    """Draw how often a classifier is right against how sure it says it is.

    Parameters
    ----------
    curve
        ``{"confidence", "accuracy", "cells"}`` of the bins.
    error
        Expected calibration error, written into the plot.
    ax
        Where to draw; a new figure by default.
    """
    ax = new_axes(ax, 3.6, 3.6)
    cells = np.asarray(curve["cells"], dtype=float)
    ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, zorder=1)
    ax.plot(curve["confidence"], curve["accuracy"], color=COLOURS[0], linewidth=1.2, zorder=2)
    # The area of a dot is its number of cells: a far dot of six cells must not look like one of six hundred.
    area = 8 + 112 * cells / cells.max() if cells.size else cells
    ax.scatter(
        curve["confidence"], curve["accuracy"], s=area, color=COLOURS[0], edgecolor="white", zorder=3, clip_on=False
    )
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="probability of the guess", ylabel="guesses that are right")
    ax.set_aspect("equal")
    if error is not None:
        ax.text(0.03, 0.96, f"calibration error {error:.3f}", transform=ax.transAxes, va="top", fontsize=9, color=INK)
    return tidy(ax)


def confusion(matrix: Array | Sequence[Sequence[float]], labels: Sequence[str], ax: Axes | None = None) -> Axes:
    """Draw which label's cells are taken for which.

    Parameters
    ----------
    matrix
        Fractions: row = true label, column = likeliest label.
    labels
        Their names; thinned where there is no room for all.
    ax
        Where to draw; a new figure by default.
    """
    values = np.asarray(matrix, dtype=float)
    ax = new_axes(ax, 4.4, 3.9)
    image = ax.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="equal", interpolation="nearest")
    name_ticks(ax.yaxis, labels, room(ax, "y"))
    name_ticks(ax.xaxis, labels, room(ax, "x"))
    if max(map(len, labels), default=0) > 3:
        ax.tick_params(axis="x", rotation=90)
    if len(labels) <= _COLOURED:
        _write_fractions(ax, values)
    ax.set_xlabel("likeliest label", fontsize=9)
    ax.set_ylabel("true label", fontsize=9)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.7, ticks=[0, 0.5, 1])
    bar.ax.tick_params(labelsize=SIZE, length=0)
    bar.outline.set_visible(False)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_color(GREY)
    return ax


def space(
    xy: Array, groups: Array, names: Sequence[str], ax: Axes | None = None, *, title: str = "", seed: int = 0
) -> Axes:
    """Draw cells in the plane, coloured by group, in random order so that no group covers another.

    Parameters
    ----------
    xy
        ``(n, 2)`` coordinates.
    groups
        ``(n,)`` codes into ``names``; -1 for a cell of no group.
    names
        Names of the groups. Of more than 12, the 11 largest are coloured and the others are grey.
    ax
        Where to draw; a new figure by default.
    title
        Title of the legend.
    seed
        Seed of the order.
    """
    from matplotlib.colors import to_rgba_array

    ax = new_axes(ax, 5.6, 3.9)
    styles, handles, entries = _styles(np.asarray(groups), names)
    order = np.random.default_rng(seed).permutation(len(xy))
    colours = to_rgba_array([c for c, _ in styles])
    drawn = np.asarray(groups)[order]  # code -1 takes the last style, that of cells without a group
    size = float(np.clip(30000 / max(1, len(xy)), 2, 18))
    x, y = np.asarray(xy)[order].T
    points = ax.scatter(x, y, s=size, c=colours[drawn], alpha=0.75, linewidths=0, rasterized=True)
    if len({m for _, m in styles}) > 1:  # one artist with a marker a point: several would lie one above the other
        paths = {m: _marker_path(m) for m in _MARKERS}
        points.set_paths([paths[styles[g][1]] for g in drawn])
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel="first component", ylabel="second component", xticks=[], yticks=[])
    outside_legend(ax, handles, entries, title)
    return tidy(ax)


def label_bars(
    labels: Sequence[str],
    values: Sequence[float],
    *,
    points: Mapping[str, Sequence[float]] | None = None,
    line: float | None = None,
    line_name: str = "",
    start: float = 0.0,
    log: bool = False,
    name: str = "",
    xlabel: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw one bar a label, the first at the top.

    Parameters
    ----------
    labels
        Names of the labels; thinned where there is no room for all.
    values
        Where the bars end.
    points
        Further values of each label, drawn as dots: legend entry -> one a label.
    line, line_name
        A value to compare all labels with, and its name.
    start
        Where the bars begin.
    log
        Logarithmic scale; ``start`` must be positive.
    name, xlabel
        Legend entry of the bars, and name of the scale.
    ax
        Where to draw; a new figure, as high as the labels need, by default.
    """
    n = len(labels)
    ax = new_axes(ax, 8.4, float(np.clip(1.1 + 0.2 * n, 1.7, 10)))
    at = np.arange(n)
    if log:
        ax.set_xscale("log")
    bars = ax.barh(at, np.asarray(values, dtype=float) - start, left=start, height=0.65, color=COLOURS[5], zorder=2)
    handles: list[Any] = [bars]
    for i, series in enumerate((points or {}).values()):
        colour, marker = (COLOURS[0], COLOURS[4], COLOURS[2])[i % 3], ("D", "o", "^")[i % 3]
        handles.append(ax.scatter(series, at, s=16, color=colour, marker=marker, zorder=4, linewidths=0))
    entries = [name, *(points or {})]
    if line is not None:
        handles.append(ax.axvline(line, color=INK, linestyle="--", linewidth=1, zorder=3))
        entries.append(line_name)
    name_ticks(ax.yaxis, labels, room(ax, "y"))
    ax.set(xlabel=xlabel, ylim=(n - 0.4, -0.6))
    ax.grid(axis="x", color="#E5E5E5", linewidth=0.6, zorder=0)
    if log:
        plain_log_ticks(ax)
    if any(entries):
        outside_legend(ax, handles, entries, "")
    return tidy(ax)


def selective_risk(kept: Sequence[float], risk: Sequence[float], random: float, *, ax: Axes | None = None) -> Axes:
    """Draw what is gained by keeping only the surest cells.

    Parameters
    ----------
    kept
        Fractions of the cells that are kept, surest first.
    risk
        Their mean FOSCTTM.
    random
        That of cells kept at random.
    ax
        Where to draw; a new figure by default.
    """
    ax = new_axes(ax, 4.6, 2.8)
    lower = np.minimum(risk, random)
    ax.fill_between(kept, lower, random, color=COLOURS[2], alpha=0.15, linewidth=0, zorder=1)
    ax.axhline(random, color=INK, linestyle="--", linewidth=1, zorder=2)
    ax.plot(kept, risk, color=COLOURS[0], linewidth=1.8, zorder=3)
    ax.annotate("kept at random", (0, random), (2, 3), textcoords="offset points", fontsize=SIZE, color=INK)
    ax.set(xlim=(0, 1), xlabel="fraction of the cells kept, surest first", ylabel="their FOSCTTM (lower is better)")
    ax.set_ylim(0, 1.15 * max(random, float(np.max(risk, initial=0.0)), 1e-6))
    return tidy(ax)


def _write_fractions(ax: Axes, values: Array) -> None:
    size = min(SIZE, 90 / len(values)) if len(values) else SIZE
    for (row, column), value in np.ndenumerate(values):
        if value >= 0.005:
            text = f"{value:.2f}".removeprefix("0")
            ax.text(column, row, text, ha="center", va="center", size=size, color="white" if value > 0.5 else INK)


def _styles(groups: Array, names: Sequence[str]) -> tuple[list[tuple[str, str]], list[Line2D], list[str]]:
    """Colour and marker of every group, of cells without one last; and the entries of the legend."""
    from matplotlib.lines import Line2D

    sizes = np.bincount(groups[groups >= 0], minlength=len(names))
    crowded = len(names) > _COLOURED
    largest = np.sort(np.argsort(-sizes, kind="stable")[: _COLOURED - 1]) if crowded else np.arange(len(names))
    styles = [(GREY, "o")] * (len(names) + 1)
    for i, g in enumerate(largest):
        styles[g] = (COLOURS[i % len(COLOURS)], _MARKERS[i // len(COLOURS)])
    styles[-1] = _NO_GROUP
    shown = short_names(names, 24)
    entries = [(shown[g], *styles[g]) for g in largest]
    if crowded:
        entries.append((f"{len(names) - len(largest)} others", GREY, "o"))
    if (groups < 0).any():
        entries.append(("no label", *_NO_GROUP))
    handles = [Line2D([], [], color=c, marker=m, linestyle="none", markersize=5) for _, c, m in entries]
    return styles, handles, [e[0] for e in entries]


def _marker_path(marker: str) -> Any:
    from matplotlib.markers import MarkerStyle

    style = MarkerStyle(marker)
    return style.get_path().transformed(style.get_transform())


def plain_log_ticks(ax: Axes) -> None:
    """Write a logarithmic scale in whole numbers: 1, 2, 5, 10 and so on; fewer of them where it spans more."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ax.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=20))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
