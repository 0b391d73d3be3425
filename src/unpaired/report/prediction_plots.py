"""Plots of predicted readings beside measured ones: plain numbers in, Axes out, as in :mod:`unpaired.report.plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired.data.types import Array
from unpaired.report.axes import COLOURS, GREY, INK, SIZE, literal, name_ticks, new_axes, room, tidy
from unpaired.report.plots import label_bars
from unpaired.report.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FLOOR", "distance_panels", "feature_bars", "feature_histogram", "scatter_panels", "training_curve"]

FLOOR = -1.0
"""R² below which a plot says no more than that the feature is not predicted."""

_WIDE = 100.0  # ratio of the largest to the smallest distance, above which the scale is logarithmic


def feature_bars(
    names: Sequence[str],
    values: Sequence[float],
    *,
    points: Mapping[str, Sequence[float]] | None = None,
    name: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw R² of every feature, one bar each, the first at the top.

    What is below -1 is drawn at -1, the bars with their value, so that one bad feature does not hide the others.

    Parameters
    ----------
    names
        Names of the features.
    values
        R² of each.
    points
        R² of each on other cells, drawn as dots: legend entry -> one a feature, NaN where there is none.
    name
        Legend entry of the bars.
    ax
        Where to draw; a new figure, as high as the features need, by default.
    """
    true = np.asarray(values, dtype=float)
    dots = {k: np.asarray(v, dtype=float) for k, v in (points or {}).items()}
    bars = np.maximum(true, FLOOR)
    ax = label_bars(
        names,
        bars.tolist(),
        points={k: np.maximum(v, FLOOR).tolist() for k, v in dots.items()},
        line=0.0,
        line_name="knowing nothing",
        name=name,
        xlabel="R² (higher is better, 1 is perfect)",
        ax=ax,
    )
    lowest = np.nanmin([*bars, *(x for v in dots.values() for x in np.maximum(v, FLOOR)), 0.0])
    ax.set_xlim(min(0.0, 1.06 * float(lowest)), 1.02)
    for at in map(int, np.flatnonzero(true < FLOOR)):
        ax.text(FLOOR + 0.02, at, f"‹ {true[at]:.1f}".replace("-", "−"), va="center", fontsize=SIZE - 1, color=INK)  # noqa: RUF001
    return ax


def feature_histogram(
    values: Sequence[float], *, xlabel: str = "R² (higher is better, 1 is perfect)", ax: Axes | None = None
) -> Axes:
    """Draw how many features are predicted how well; what is below -1 is counted in the first bar.

    Parameters
    ----------
    values
        R², or another score that is 1 at best, of the features.
    xlabel
        Name of the score.
    ax
        Where to draw; a new figure by default.
    """
    ax = new_axes(ax, 8.4, 2.4)
    shown = np.clip(np.asarray(values, dtype=float), FLOOR, 1.0)
    low = np.floor(20 * min(0.0, float(np.nanmin(shown)))) / 20
    ax.hist(shown, bins=np.arange(low, 1.0 + 1e-9, 0.05).tolist(), color=COLOURS[5], edgecolor="white", linewidth=0.5)
    ax.axvline(0.0, color=INK, linestyle="--", linewidth=1)
    ax.set(xlim=(low - 0.02, 1.02), xlabel=xlabel, ylabel="features")
    ax.locator_params(axis="y", integer=True)
    return tidy(ax)


def scatter_panels(examples: Sequence[Mapping[str, Any]], titles: Sequence[str]) -> Axes:
    """Draw predicted against measured readings of a few features, one panel each.

    Parameters
    ----------
    examples
        ``{"measured", "predicted"}`` of each feature.
    titles
        A title of each.

    Returns
    -------
    The first panel's Axes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(3.0, 2.9 * len(examples)), 3.2), layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, len(examples), squeeze=False)[0])
    for i, (ax, example, title) in enumerate(zip(panels, examples, titles, strict=True)):
        x, y = (np.asarray(example[k], dtype=float) for k in ("measured", "predicted"))
        low, high = _span(np.concatenate([x, y]))
        ax.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1, zorder=1)
        ax.scatter(x, y, s=9, color=COLOURS[0], alpha=0.45, linewidths=0, zorder=2)
        ax.set(xlim=(low, high), ylim=(low, high), xlabel="measured", ylabel="" if i else "predicted")
        ax.set_aspect("equal")
        ax.set_title(literal(title), fontsize=9, color=INK)
        ax.locator_params(nbins=5)
        tidy(ax)
    return panels[0]


def distance_panels(labels: Sequence[str], panels: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Axes:
    """Draw distances by label, one panel each: bars, with the baselines as diamonds.

    A distance that differs a hundredfold between labels is drawn on a logarithmic scale, as dots, since bars have no
    length there.

    Parameters
    ----------
    labels
        Names of the labels; thinned where there is no room for all.
    panels
        Name of the distance -> its values and those of the baseline, one a label, NaN where there is none.

    Returns
    -------
    The first panel's Axes.
    """
    from matplotlib.figure import Figure

    n = len(labels)
    figure = Figure(figsize=(9.6, float(np.clip(1.3 + 0.2 * n, 1.6, 10))), layout="constrained")
    axes: list[Axes] = list(figure.subplots(1, len(panels), squeeze=False)[0])
    handles: list[Any] = []
    for i, (ax, (title, (values, baseline))) in enumerate(zip(axes, panels.items(), strict=True)):
        own = _distances(ax, np.asarray(values, dtype=float), np.asarray(baseline, dtype=float))
        handles = handles or own
        name_ticks(ax.yaxis, labels, room(ax, "y"))
        if i:
            ax.tick_params(axis="y", labelleft=False)
        ax.set(xlabel=f"{title} (logarithmic)" if ax.get_xscale() == "log" else title, ylim=(n - 0.4, -0.6))
        ax.grid(axis="x", color="#E5E5E5", linewidth=0.6, zorder=0)
        tidy(ax)
    figure.legend(
        handles,
        ["predicted", "baseline"][: len(handles)],
        loc="outside upper left",
        ncols=2,
        frameon=False,
        fontsize=SIZE,
    )
    return axes[0]


def training_curve(
    history: Sequence[float],
    *,
    burn_in: int = 0,
    ylabel: str = "loss on held-out matched cells",
    ax: Axes | None = None,
) -> Axes:
    """Draw the loss on cells that training did not see, by epoch, and its lowest point.

    Parameters
    ----------
    history
        The loss after each epoch; NaN where it is not known.
    burn_in
        First epochs that are not judged: they are shaded, and the lowest point is not among them.
    ylabel
        What the loss is of.
    ax
        Where to draw; a new figure by default.
    """
    ax = new_axes(ax, 5.6, 2.6)
    loss = np.asarray(history, dtype=float)
    epoch = np.arange(1, len(loss) + 1)
    if burn_in:
        ax.axvspan(0.5, burn_in + 0.5, color=GREY, alpha=0.25, linewidth=0, zorder=0)
        place = ax.get_xaxis_transform()
        ax.text(0.8, 0.04, "burn-in", transform=place, ha="left", va="bottom", fontsize=SIZE, color=INK)
    ax.plot(epoch, loss, color=COLOURS[0], linewidth=1.4, marker="o" if len(loss) < 20 else None, markersize=3)
    judged = np.where(epoch > burn_in, loss, np.nan)
    if np.isfinite(judged).any():
        best = int(np.nanargmin(judged))
        ax.scatter([epoch[best]], [loss[best]], s=36, color=COLOURS[4], zorder=3, clip_on=False)
        text = f"lowest: {number(float(loss[best]))}, epoch {epoch[best]}"
        ax.text(0.98, 0.96, text, transform=ax.transAxes, ha="right", va="top", fontsize=SIZE, color=COLOURS[4])
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.locator_params(axis="x", integer=True)
    return tidy(ax)


def _distances(ax: Axes, values: Array, baseline: Array) -> list[Any]:
    at = np.arange(len(values))
    known = np.concatenate([values, baseline])
    known = known[np.isfinite(known)]
    if known.size and known.min() > 0 and known.max() > _WIDE * known.min():
        ax.set_xscale("log")
        shown: Any = ax.scatter(values, at, s=30, color=COLOURS[5], edgecolor=INK, linewidths=0.6, zorder=3)
    else:
        shown = ax.barh(at, values, height=0.65, color=COLOURS[5], zorder=2)
        ax.locator_params(axis="x", nbins=5)
    if np.isnan(baseline).all():
        return [shown]
    return [shown, ax.scatter(baseline, at, s=18, color=COLOURS[4], marker="D", zorder=4, linewidths=0)]


def _span(values: Array) -> tuple[float, float]:
    """Return limits around the values, with a margin."""
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin
