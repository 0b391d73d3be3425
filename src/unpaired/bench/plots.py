"""Plots of the benches of images and of the monitor, plain numbers in, Axes out; and how all benches keep a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired.report.axes import COLOURS, GREY, INK, SIZE, literal, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Curve", "EpsRun", "eps_panels", "monitor_panels", "save_figure"]

_METRICS = {"latent_mse": "latent MSE (lower is better)", "trace_over_uniform": "trace / uniform (higher is better)"}


@dataclass(frozen=True)
class EpsRun:
    """One seed of a sweep over the regularisation (eps); as many values in each.

    Attributes
    ----------
    eps, latent_mse, trace_over_uniform
        The regularisations, from the smallest, and the scores with each.
    default
        The calibrated one (auto), if it is among them.
    """

    eps: tuple[float, ...]
    latent_mse: tuple[float, ...]
    trace_over_uniform: tuple[float, ...]
    default: float | None = None


@dataclass(frozen=True)
class Curve:
    """One seed of a training that was watched; as many values in each.

    Attributes
    ----------
    epoch
        From 1.
    cross_entropy, foscttm
        Validation cross-entropy of the labels and FOSCTTM of the matching as of each.
    """

    epoch: tuple[int, ...]
    cross_entropy: tuple[float, ...]
    foscttm: tuple[float, ...]


def save_figure(ax: Axes, base: Path) -> None:
    """Write the figure that an Axes is on as ``base.png`` and ``base.svg``, each whole or not at all.

    Parameters
    ----------
    ax
        Any one of the figure's.
    base
        The path without its suffix.
    """
    figure: Any = ax.figure
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        path = base.with_name(f"{base.name}.{kind}")
        part = path.with_name(f"{path.name}.part")
        figure.savefig(part, format=kind, dpi=150, metadata=metadata)
        part.replace(path)


def eps_panels(
    runs: Sequence[EpsRun], *, uniform: Mapping[str, float], published: Mapping[str, float] | None = None
) -> tuple[Axes, ...]:
    """Draw latent MSE and trace against the regularisation (eps), a thin line a seed.

    Parameters
    ----------
    runs
        The seeds; a ring marks the calibrated eps.
    uniform
        Metric -> what the uniform coupling scores.
    published
        Metric -> what the published PS+OT scores; by default that is not drawn.
    """
    axes = _panels(1, len(_METRICS), 3.7, 3.0)[0]
    for ax, (metric, title) in zip(axes, _METRICS.items(), strict=True):
        for run in runs:
            values = getattr(run, metric)
            ax.plot(run.eps, values, color=COLOURS[0], linewidth=1.2, marker="o", markersize=3, alpha=0.8)
            ring = [(e, v) for e, v in zip(run.eps, values, strict=True) if e == run.default]
            for at in ring:
                ax.scatter(*at, s=40, facecolor="none", edgecolor=COLOURS[0], linewidths=1.2, zorder=3)
        shown = {"PS+OT (ours), a line a seed; ring: calibrated (auto)": ax.lines[0]}
        shown["uniform coupling"] = ax.axhline(uniform[metric], color=INK, linestyle="--", linewidth=1)
        if published is not None:
            shown["PS+OT, published"] = ax.axhline(published[metric], color=COLOURS[4], linestyle=":", linewidth=1.2)
        ax.set(xscale="log", xlabel="regularisation (eps), logarithmic", ylabel=title)
        tidy(ax)
    _legend(axes[0], list(shown.values()), list(shown))
    return tuple(axes)


def monitor_panels(curves: Mapping[str, Sequence[Curve]], *, title: str) -> tuple[Axes, ...]:
    """Draw cross-entropy and FOSCTTM along training, and one against the other: a row of two panels a method.

    Parameters
    ----------
    curves
        Title of the method -> its seeds.
    title
        Of the figure.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    rows = _panels(len(curves), 2, 3.9, 2.6)
    figure: Any = rows[0][0].figure
    figure.suptitle(literal(title), fontsize=10)
    figure.get_layout_engine().set(wspace=0.08)
    for (left, right), (name, seeds) in zip(rows, curves.items(), strict=True):
        twin: Any = left.twinx()
        span = Normalize(1, max(max(c.epoch) for c in seeds))
        for c in seeds:
            left.plot(c.epoch, c.cross_entropy, color=COLOURS[0], linewidth=1.2)
            twin.plot(c.epoch, c.foscttm, color=COLOURS[4], linewidth=1.2)
            right.scatter(c.cross_entropy, c.foscttm, c=c.epoch, cmap="viridis", norm=span, s=14, linewidths=0)
        left.set(xlabel="epoch", ylabel="validation cross-entropy")
        left.set_title(literal(name), fontsize=9, loc="left")
        twin.set_ylabel("FOSCTTM")
        right.set(xlabel="validation cross-entropy", ylabel="FOSCTTM")
        for ax in (left, twin, right):
            tidy(ax)
        twin.spines["right"].set(visible=True, color=GREY)
        for ax, colour in ((left, COLOURS[0]), (twin, COLOURS[4])):
            ax.yaxis.label.set_color(colour)
            ax.tick_params(axis="y", labelcolor=colour)
        bar = figure.colorbar(ScalarMappable(span, "viridis"), ax=right, aspect=30)
        bar.set_label("epoch", fontsize=SIZE)
        bar.ax.tick_params(labelsize=SIZE, color=GREY)
        bar.outline.set_visible(False)
    return tuple(ax for row in rows for ax in row)


def _panels(rows: int, columns: int, width: float, height: float) -> list[list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    found = figure.subplots(rows, columns, squeeze=False)
    return [list(row) for row in np.asarray(found)]


def _legend(ax: Axes, handles: Sequence[Any], entries: Sequence[str]) -> None:
    figure: Any = ax.figure
    figure.legend(handles, entries, loc="outside upper left", ncols=len(entries), frameon=False, fontsize=SIZE)
