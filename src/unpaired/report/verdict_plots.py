"""Plots of a diagnosis: small ones, that can be read on a phone. Plain numbers in, Axes out, as in the other plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired.data.types import Array
from unpaired.report.axes import COLOURS, GREY, INK, SIZE, literal, name_ticks, new_axes, tidy
from unpaired.report.plots import plain_log_ticks
from unpaired.report.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["STATES", "confidence_histogram", "distance_dots", "expected_scales", "partner_lines", "signal_bars"]

STATES: Mapping[str, str] = {"good": COLOURS[2], "caution": COLOURS[1], "bad": COLOURS[4], "unknown": "#777777"}
"""Colour of every state of a check."""

_WIDE = 4.3  # inches: hardly wider than a phone, where letters must not shrink away
_GRID = "#E5E5E5"
_PALE = 0.12  # opacity of the ground of a zone
_FULL = 0.85  # a bar longer than that has its value inside
_LOWEST = -0.2  # confidence; the few cells below it are counted in the first bar


def expected_scales(
    trace: Sequence[float],
    foscttm: Sequence[float],
    *,
    needed: tuple[float, float],
    measured: tuple[float | None, float | None] = (None, None),
    colour: str = COLOURS[0],
) -> Axes:
    """Draw the expected quality on two scales, better to the right, with what is needed and what was measured.

    Parameters
    ----------
    trace, foscttm
        ``(low, expected, high)`` of trace over uniform and of FOSCTTM.
    needed
        From where on single matches are worth using: trace over uniform, FOSCTTM.
    measured
        The same by the truth, where it is known.
    colour
        Of the expected values.

    Returns
    -------
    The first scale's Axes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDE, 2.35), layout="constrained")
    above: Axes = figure.add_subplot(2, 1, 1)
    below: Axes = figure.add_subplot(2, 1, 2)
    ends = [v for v in (*trace, measured[0]) if v is not None]
    above.set_xscale("log")
    above.set_xlim(min(0.8, 0.8 * min(ends)), 1.4 * max(10.0, *ends))
    plain_log_ticks(above)
    below.set_xlim(max(0.56, *foscttm, *(v for v in measured[1:] if v is not None)) + 0.02, -0.02)
    titles = (
        "the true partner, times as likely as by the label alone",
        "FOSCTTM: share of cells nearer than the true partner",
    )
    chance = ((1.0, "label alone"), (0.5, "chance"))
    for i, (ax, values) in enumerate(zip((above, below), (trace, foscttm), strict=True)):
        _scale(ax, values, needed[i], measured[i], colour)
        at, word = chance[i]
        ax.axvline(at, color=INK, linestyle="--", linewidth=1, zorder=2)
        place: dict[str, Any] = {"xycoords": ax.get_xaxis_transform(), "textcoords": "offset points"}
        ax.annotate(word, (at, 1), (3, -2), va="top", fontsize=SIZE - 1, color=INK, **place)
        ax.set_title(titles[i], fontsize=9, color=INK, loc="left")
        ax.set(ylim=(-1, 1), yticks=[])
        tidy(ax).spines["left"].set_visible(False)
    return above


def _scale(ax: Axes, values: Sequence[float], needed: float, measured: float | None, colour: str) -> None:
    low, middle, high = values
    ax.axvspan(needed, ax.get_xlim()[1], color=STATES["good"], alpha=_PALE, linewidth=0, zorder=0)
    ax.plot([low, high], [-0.25, -0.25], color=colour, linewidth=4, alpha=0.45, solid_capstyle="round", zorder=3)
    ax.scatter([middle], [-0.25], s=60, color=colour, zorder=4, clip_on=False)
    if measured is not None:
        ax.scatter([measured], [-0.25], s=40, color="black", marker="D", edgecolor="white", zorder=5, clip_on=False)


def signal_bars(
    names: Sequence[str],
    values: Sequence[float | None],
    states: Sequence[str],
    *,
    needed: float,
    ax: Axes | None = None,
) -> Axes:
    """Draw how much each modality knows of the labels.

    Parameters
    ----------
    names
        The modalities.
    values
        Share of the labels' entropy that the scores take away; ``None`` where it is not known.
    states
        State of the check of each.
    needed
        The least that is enough.
    ax
        Where to draw; a new figure by default.
    """
    ax = new_axes(ax, _WIDE, 0.8 + 0.34 * len(names))
    shown = np.clip([np.nan if v is None else v for v in values], 0.0, 1.0)
    ax.barh(np.arange(len(names)), shown, height=0.6, color=[STATES[s] for s in states], zorder=2)
    for i, (value, end) in enumerate(zip(values, np.nan_to_num(shown), strict=True)):
        text = "not known" if value is None else f"{max(0.0, value):.0%}"
        inside = end > _FULL
        at, side, colour = (end - 0.015, "right", "white") if inside else (max(end, needed) + 0.015, "left", INK)
        ax.text(at, i, text, ha=side, va="center", fontsize=SIZE, color=colour, zorder=4)
    ax.axvline(needed, color=INK, linestyle="--", linewidth=1, zorder=3)
    name_ticks(ax.yaxis, names, 400)
    ax.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), xlabel="what the readings tell of the label (1: all)")
    ax.set_xticks([0, needed, 0.5, 1], ["0", f"{needed:g}", "0.5", "1"])
    return tidy(ax)


def distance_dots(
    labels: Sequence[str],
    values: Sequence[float],
    differ: Sequence[bool],
    *,
    limits: tuple[float, float],
    ax: Axes | None = None,
) -> Axes:
    """Draw how far apart the two modalities' cells of every label are, the farthest first.

    Parameters
    ----------
    labels
        Names of the labels; thinned where there is no room for all.
    values
        Energy distance of each: about 0 for clouds that lie alike, 2 for points apart.
    differ
        Whether it is more than chance makes.
    limits
        Below the first the clouds are alike, above the second they hardly overlap.
    ax
        Where to draw; a new figure by default.
    """
    order = np.argsort(-np.asarray(values, dtype=float), kind="stable")
    own = np.asarray(values, dtype=float)[order]
    ax, size = _rows(ax, [labels[i] for i in order])
    ends = (min(0.0, float(own.min(initial=0.0))) - 0.04, max(1.0, 1.06 * float(own.max(initial=0.0))))
    zones = zip((ends[0], *limits), (*limits, ends[1]), ("good", "caution", "bad"), strict=True)
    state = np.array(["good", "caution", "bad"])[np.digitize(own, limits)]
    for (start, end, name), word in zip(zones, ("alike", "partly", "hardly overlap"), strict=True):
        ax.axvspan(start, end, color=STATES[name], alpha=_PALE, linewidth=0, zorder=0)
        style: dict[str, Any] = {"ha": "center", "fontsize": SIZE - 1, "color": INK}
        ax.text((start + end) / 2, 1.01, word, transform=ax.get_xaxis_transform(), **style)
    edge = [STATES[s] for s in state]
    fill = [c if differ[i] else "white" for c, i in zip(edge, order, strict=True)]
    ax.scatter(own, np.arange(len(own)), s=size, color=fill, edgecolor=edge, linewidths=1.2, zorder=3, clip_on=False)
    ax.set(xlim=ends, xlabel="distance between the modalities within a label")
    ticks = (0.0, *limits, *(t for t in (1.0, 1.5, 2.0) if t <= ends[1]))
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    return tidy(ax)


def partner_lines(
    labels: Sequence[str], partners: Sequence[float], candidates: Sequence[float], *, ax: Axes | None = None
) -> Axes:
    """Draw how many of its candidates a cell of every label is undecided between, the least decided label first.

    Parameters
    ----------
    labels
        Names of the labels; thinned where there is no room for all.
    partners, candidates
        Effective number of partners, and number of candidates.
    ax
        Where to draw; a new figure by default.
    """
    left, right = np.asarray(partners, dtype=float), np.asarray(candidates, dtype=float)
    order = np.argsort(-left / right, kind="stable")
    left, right = left[order], right[order]
    at = np.arange(len(left))
    ax, size = _rows(ax, [labels[i] for i in order])
    ax.set_xscale("log")
    ax.hlines(at, left, right, color=GREY, linewidth=min(1.5, size / 12), zorder=2)
    dots = ax.scatter(left, at, s=size, color=COLOURS[0], zorder=4, linewidths=0, clip_on=False)
    ends = ax.scatter(right, at, s=size, color=COLOURS[4], marker="D", zorder=3, linewidths=0, clip_on=False)
    ax.set_xlim(1, 1.15 * max(2.0, float(right.max(initial=2.0))))
    ax.set_xlabel("cells (logarithmic)")
    plain_log_ticks(ax)
    _legend(ax, [dots, ends], ["undecided between", "candidates"])
    return tidy(ax)


def confidence_histogram(values: Mapping[str, Array], *, ax: Axes | None = None) -> Axes:
    """Draw how the confidence of the cells is spread, a line a modality; cells without one are left out.

    Parameters
    ----------
    values
        Modality -> confidence of its cells.
    ax
        Where to draw; a new figure by default.
    """
    ax = new_axes(ax, _WIDE, 2.4)
    known = {n: np.asarray(v, dtype=float)[np.isfinite(v)] for n, v in values.items()}
    low = max(_LOWEST, min([0.0, *(float(v.min(initial=0.0)) for v in known.values())]))
    bins = np.linspace(first := np.floor(20 * low) / 20, 1.0, round(20 * (1 - first)) + 1)
    handles, entries = [], []
    for (name, own), colour in zip(known.items(), COLOURS, strict=False):
        shares = np.histogram(np.clip(own, bins[0], 1.0), bins)[0] / max(1, len(own))
        handles.append(ax.stairs(100 * shares, bins, fill=True, color=colour, alpha=0.25, zorder=2))
        handles[-1] = ax.stairs(100 * shares, bins, color=colour, linewidth=1.6, zorder=3)
        middle = f"median {number(float(np.median(own)), 2)}" if len(own) else "no cell"
        entries.append(f"{name}: {middle}")
    ax.set(
        xlim=(float(bins[0]), 1.0), xlabel="confidence (0: no better than the label, 1: certain)", ylabel="% of cells"
    )
    ax.set_ylim(bottom=0)
    _legend(ax, handles, entries)
    return tidy(ax)


def _rows(ax: Axes | None, labels: Sequence[str]) -> tuple[Axes, float]:
    """Axes with a row a label, as high as they need up to that of a phone's half; and the area of a row's dot."""
    n = len(labels)
    height = float(np.clip(0.75 + 0.2 * n, 1.5, 3.6))
    ax = new_axes(ax, _WIDE, height)
    name_ticks(ax.yaxis, labels, 72 * (height - 0.75))
    ax.set(ylim=(n - 0.4, -0.6))
    ax.grid(axis="x", color=_GRID, linewidth=0.6, zorder=0)
    return ax, float(np.clip(36 * 15 / max(n, 1), 6, 36))


def _legend(ax: Axes, handles: Sequence[Any], entries: Sequence[str]) -> None:
    """Write the legend above the plot, in one line."""
    options: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "frameon": False, "fontsize": SIZE}
    legend = ax.legend(handles, ["."] * len(handles), ncols=len(handles), borderaxespad=0.1, **options)
    for text, entry in zip(legend.get_texts(), entries, strict=True):
        text.set_text(literal(entry))
