"""The refinement on the page: what each round changed, and what can and cannot be read off it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unpaired.report.axes import COLOURS, GREY, new_axes, tidy
from unpaired.report.concerns import Concern
from unpaired.report.pictures import inline_svg

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

__all__ = ["find_refinement", "refinement_picture", "round_curve", "unsaid_of_refined"]

_OF_MATCHING = ("convergence", "coverage", "partners")  # checks of the matching itself, not of what it was made from


def find_refinement(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what ``run.json`` says of a refinement; ``None`` where none was asked for."""
    found: Mapping[str, Any] | None = record["matching"]["options"].get("refine")
    return found


def unsaid_of_refined(concerns: Sequence[Concern], refinement: Mapping[str, Any] | None) -> list[Concern]:
    """Return the warnings, those of a refined matching for themselves: the checks are of the matching before."""
    if refinement is None or not refinement["kept"]:
        return list(concerns)
    return [replace(c, check="") if c.check in _OF_MATCHING else c for c in concerns]


def refinement_picture(refinement: Mapping[str, Any] | None) -> Markup | None:
    """Return the curve of the rounds; ``None`` where no round was made."""
    if refinement is None or not refinement["rounds"]:
        return None
    ax = round_curve(refinement["first"]["information"], refinement["rounds"])
    return inline_svg(ax, "Information and agreement, round by round")


def round_curve(first: float, rounds: Sequence[Mapping[str, Any]], *, ax: Axes | None = None) -> Axes:
    """Draw the information that the coupling claims, and the agreement of the two ensembles, by round.

    Parameters
    ----------
    first
        Information of the matching that the refinement began with, in nats.
    rounds
        Records of the rounds: ``round``, ``information``, ``agreement``, ``kept``.
    ax
        Where to draw; a new figure by default. The agreement has an axis of its own on the right.
    """
    ax = new_axes(ax, 4.6, 2.8)
    other = ax.twinx()
    numbers = [r["round"] for r in rounds]
    lines = (
        (ax, [0, *numbers], [first, *(r["information"] for r in rounds)], [True, *(r["kept"] for r in rounds)], "o"),
        (other, numbers, [r["agreement"] for r in rounds], [r["kept"] for r in rounds], "^"),
    )
    for (axis, x, y, kept, marker), colour in zip(lines, (COLOURS[0], COLOURS[4]), strict=True):
        axis.plot(x, y, color=colour, linewidth=1.8, zorder=2)
        faces = [colour if k else "white" for k in kept]
        axis.scatter(x, y, c=faces, edgecolors=colour, marker=marker, s=28, zorder=3)
    ax.set_xticks([0, *numbers])
    ax.set(xlim=(-0.3, numbers[-1] + 0.3), xlabel="round (0: the matching it began with)")
    ax.set_ylabel("information, nats (circles)", color=COLOURS[0])
    ax.set_ylim(0, 1.15 * max(first, *(r["information"] for r in rounds), 1e-6))
    tidy(ax)
    tidy(other)
    other.set_ylim(min(0, *(1.15 * r["agreement"] for r in rounds)), 1)
    other.set_ylabel("agreement (triangles)", color=COLOURS[4])
    other.spines[["left", "bottom"]].set_visible(False)
    other.spines["right"].set(visible=True, color=GREY)
    return ax
