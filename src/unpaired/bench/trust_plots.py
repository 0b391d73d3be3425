"""Plots of the trust bench: expected against measured quality, and what happens as an assumption is violated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unpaired.report.axes import COLOURS, GREY, INK, SIZE, outside_legend, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Point", "quality_panels", "violation_panels"]

_MARKERS = ("o", "s", "D")
_VERDICTS: Mapping[str, str] = {"use": "o", "average": "s", "do not use": "X"}


@dataclass(frozen=True)
class Point:
    """One matching, predicted without truth and measured.

    Attributes
    ----------
    group
        Its data set.
    ours
        Whether it is the default's; else the published recipe's.
    predicted, low, high, measured
        The quality.
    """

    group: str
    ours: bool
    predicted: float
    low: float
    high: float
    measured: float


def quality_panels(points: Mapping[str, Sequence[Point]]) -> list[Axes]:
    """Draw measured against expected trace over uniform, and 0.5 - FOSCTTM, one colour a data set.

    Parameters
    ----------
    points
        ``"trace"`` and ``"foscttm"`` -> points.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    axes = list(figure.subplots(1, 2))
    groups = list(dict.fromkeys(p.group for own in points.values() for p in own))
    titles = {"trace": "trace over uniform", "foscttm": "0.5 - FOSCTTM"}
    for ax, (what, own) in zip(axes, points.items(), strict=True):
        _scatter(ax, own, groups)
        if what == "trace":
            ax.set(xscale="log", yscale="log")
        low = 0.7 if what == "trace" else -0.05
        high = max(v for p in own for v in (p.predicted, p.measured)) * (1.5 if what == "trace" else 1.1)
        ax.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1, zorder=1)
        ax.set(xlim=(low, high), ylim=(low, high))
        ax.set(xlabel=f"{titles[what]}, expected without truth", ylabel=f"{titles[what]}, measured")
        tidy(ax)
    outside_legend(axes[1], *_legend(groups), "")
    return axes


def _style(at: int) -> tuple[str, str]:
    """Return colour and marker of a data set by its place."""
    return COLOURS[at % len(COLOURS)], _MARKERS[at // len(COLOURS) % len(_MARKERS)]


def _legend(groups: Sequence[str]) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    plain: dict[str, Any] = {"linestyle": "none", "markersize": 5}
    handles = [Line2D([], [], color=c, marker=m, **plain) for c, m in map(_style, range(len(groups)))]
    filled = Line2D([], [], color=INK, marker="o", **plain)
    hollow = Line2D([], [], color=INK, marker="o", fillstyle="none", **plain)
    return [*handles, filled, hollow], [*groups, "filled: the default", "hollow: published recipe"]


def _scatter(ax: Axes, points: Sequence[Point], groups: Sequence[str]) -> None:
    for p in points:
        colour, marker = _style(groups.index(p.group))
        ax.plot([p.low, p.high], [p.measured, p.measured], color=colour, linewidth=0.5, alpha=0.25, zorder=2)
        face = colour if p.ours else "none"
        own: dict[str, Any] = {"marker": marker, "facecolor": face, "edgecolor": colour}
        ax.scatter([p.predicted], [p.measured], s=18, linewidth=0.8, zorder=3, **own)


@dataclass(frozen=True)
class Step:
    """One step of a violated assumption.

    Attributes
    ----------
    verdict
        What is said of the matching.
    expected, low, high, measured
        FOSCTTM.
    """

    verdict: str
    expected: float
    low: float
    high: float
    measured: float


def violation_panels(curves: Mapping[str, Sequence[tuple[float, Step]]]) -> list[Axes]:
    """Draw expected and measured FOSCTTM, with the verdict, as an assumption is violated more and more.

    Parameters
    ----------
    curves
        ``"a1"`` and ``"a2"`` -> (how far it is violated, what was found).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    axes = list(figure.subplots(1, 2, sharey=True))
    titles = {"a1": "(A1) violated: the label moves the noise", "a2": "(A2) violated: share the image does not see"}
    for ax, (knob, steps) in zip(axes, curves.items(), strict=True):
        at = [v for v, _ in steps]
        band = ax.fill_between(
            at, [s.low for _, s in steps], [s.high for _, s in steps], color=COLOURS[5], alpha=0.2, linewidth=0
        )
        (line,) = ax.plot(at, [s.expected for _, s in steps], color=COLOURS[4], linewidth=1.5)
        (truth,) = ax.plot(at, [s.measured for _, s in steps], color=INK, linewidth=1.5)
        chance = ax.axhline(0.5, color=GREY, linestyle="--", linewidth=1)
        marks = []
        for verdict, marker in _VERDICTS.items():
            own = [(v, s.measured) for v, s in steps if s.verdict == verdict]
            x, y = zip(*own, strict=True) if own else ((), ())
            marks.append(ax.scatter(x, y, marker=marker, s=34, color=INK, zorder=4))
        ax.set(xlabel=titles[knob], ylim=(0, 0.56))
        tidy(ax)
    axes[0].set_ylabel("FOSCTTM (lower is better)", fontsize=SIZE + 1)
    entries = ["expected", "its interval", "measured", "chance", *(f"verdict: {v}" for v in _VERDICTS)]
    outside_legend(axes[1], [line, band, truth, chance, *marks], entries, "")
    return axes
