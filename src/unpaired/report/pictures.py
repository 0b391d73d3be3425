"""The pictures of the page: figures of a run's saved numbers, as markup that needs nothing from outside."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired.data.types import Array
from unpaired.report import plots

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

__all__ = [
    "classifier_pictures",
    "codes",
    "foscttm_picture",
    "inline_png",
    "inline_svg",
    "partners_picture",
    "risk_picture",
    "space_pictures",
]

_DPI = 150
_FONTS = ["DejaVu Sans", "Verdana", "Arial"]  # drawn with the first; a browser without it takes the next


def classifier_pictures(quality: Mapping[str, Any], labels: Sequence[str], name: str) -> list[Markup]:
    """Return reliability curve and confusion matrix of one modality's classifier."""
    matrix = quality["confusion"]
    names = labels if len(labels) == len(matrix) else list(quality["labels"])
    curve = plots.reliability(quality["reliability"], error=quality["calibration_error"])
    return [
        inline_svg(curve, f"Reliability of the classifier of {name}"),
        inline_svg(plots.confusion(matrix, names), f"Confusion matrix of the classifier of {name}"),
    ]


def space_pictures(
    xy: Array, modality: Array, modalities: Sequence[str], label: Array, labels: Sequence[str]
) -> list[Markup]:
    """Return the space by modality and by label."""
    by_modality = plots.space(xy, modality, modalities, title="modality")
    by_label = plots.space(xy, label, labels, title="label")
    return [
        inline_png(by_modality, "The common space, cells coloured by modality"),
        inline_png(by_label, "The common space, cells coloured by label"),
    ]


def codes(values: Array, names: Sequence[str]) -> Array:
    """Codes into ``names``; -1 for what is not among them, an unknown label."""
    code = {n: i for i, n in enumerate(names)}
    return np.array([code.get(str(v), -1) for v in values], dtype=np.int64)


def partners_picture(blocks: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Return the effective numbers of partners and of candidates by label; ``None`` when no label is matched."""
    matched = [b for b in blocks if b["partners"] is not None]
    if not matched:
        return None
    ax = plots.label_bars(
        [b["label"] for b in matched],
        [b["partners"] for b in matched],
        points={"candidates": [b["target_cells"] for b in matched]},
        start=1,
        log=True,
        name="effective partners",
        xlabel="cells (logarithmic)",
    )
    ax.set_xlim(left=1)
    return inline_svg(ax, "Effective number of partners and number of candidates by label")


def foscttm_picture(scores: Mapping[str, Any]) -> Markup | None:
    """Return FOSCTTM by label, with the line of chance."""
    by_label = {n: s["foscttm"] for n, s in scores["per_label"].items()}
    if not by_label:
        return None
    sides = {f"judged in {scores[side]}": side for side in ("source", "target")}
    ax = plots.label_bars(
        list(by_label),
        [_or_nan(f["mean"]) for f in by_label.values()],
        points={title: [_or_nan(f[side]) for f in by_label.values()] for title, side in sides.items()},
        line=0.5,
        line_name="chance",
        name="mean of both",
        xlabel="FOSCTTM (lower is better)",
    )
    ax.set_xlim(0, max(0.6, ax.get_xlim()[1]))
    return inline_svg(ax, "FOSCTTM by label")


def risk_picture(scores: Mapping[str, Any]) -> Markup | None:
    """Return FOSCTTM of the surest cells, by how many are kept; ``None`` where it was not saved."""
    curve = scores.get("selective_risk")
    if curve is None:
        return None
    ax = plots.selective_risk(curve["kept"], curve["risk"], curve["area_random"])
    return inline_svg(ax, "FOSCTTM of the cells that the matching is surest of")


def inline_svg(ax: Axes, alt: str) -> Markup:
    """Return the figure of ``ax`` as an ``<svg>`` element that is as wide as its place, up to its own width."""
    from markupsafe import Markup, escape

    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with _saving(alt):
        _figure(ax).savefig(text, format="svg", dpi=_DPI, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    # Matplotlib's sizes are points; a browser's are pixels.
    size = re.search(r'<svg [^>]*?width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    width = float(size[1]) * 96 / 72 if size else 600
    start = f'<svg role="img" aria-label="{escape(alt)}" style="max-width:{width:.0f}px"'
    svg = re.sub(r'(<svg [^>]*?) width="[\d.]+pt" height="[\d.]+pt"', r"\1", svg, count=1)
    return Markup(start + svg.removeprefix("<svg"))  # matplotlib escaped the names in it


def inline_png(ax: Axes, alt: str) -> Markup:
    """Return the figure of ``ax`` as an ``<img>`` element that holds its own data."""
    from markupsafe import Markup

    data = io.BytesIO()
    figure = _figure(ax)
    with _saving(alt):
        figure.savefig(data, format="png", dpi=_DPI, metadata={"Software": None})
    width = figure.get_figwidth() * 96
    return Markup('<img alt="{}" style="max-width:{:.0f}px" src="data:image/png;base64,{}">').format(
        alt, width, base64.b64encode(data.getvalue()).decode("ascii")
    )


def _figure(ax: Axes) -> Any:
    return ax.get_figure(root=True)


def _or_nan(value: float | None) -> float:
    return float(np.nan) if value is None else value


@contextmanager
def _saving(salt: str) -> Iterator[None]:
    """Text as text, and the same file for the same numbers; ids differ between the figures of one page."""
    import matplotlib as mpl

    settings: dict[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": salt, "font.sans-serif": _FONTS}
    with mpl.rc_context(settings), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # names in other scripts; a browser has them
        yield
