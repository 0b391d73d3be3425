"""What the plots draw."""

import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure

from unpaired.report import plots

CURVE = {"confidence": [0.4, 0.7, 0.95], "accuracy": [0.5, 0.6, 0.9], "cells": [10, 40, 160]}


def draw(ax):
    figure = ax.get_figure(root=True)
    FigureCanvasAgg(figure).draw()
    return figure


def overlapping(axis):
    """Pairs of neighbouring tick labels that cover each other."""
    boxes = [t.get_window_extent() for t in axis.get_ticklabels() if t.get_text()]
    return sum(a.overlaps(b) for a, b in pairwise(boxes))


@pytest.mark.parametrize(
    "plot",
    [
        lambda ax: plots.reliability(CURVE, ax=ax),
        lambda ax: plots.confusion(np.eye(3), list("abc"), ax=ax),
        lambda ax: plots.space(np.zeros((4, 2)), np.array([0, 1, 0, 1]), ["x", "y"], ax),
        lambda ax: plots.label_bars(["a", "b"], [1, 2], ax=ax),
        lambda ax: plots.selective_risk([0.5, 1.0], [0.1, 0.2], 0.2, ax=ax),
    ],
    ids=["reliability", "confusion", "space", "label_bars", "selective_risk"],
)
def test_draws_on_the_axes_it_is_given_or_on_its_own(plot):
    ax = Figure().add_subplot()
    assert plot(ax) is ax
    own = plot(None)
    assert own is not ax
    assert own.get_figure() is not None
    draw(own)


def test_pyplot_is_never_touched():
    code = (
        "import sys, unpaired.report.page, unpaired.report.plots as p\n"
        "assert not {'matplotlib', 'jinja2', 'h5py'} & set(sys.modules), 'imported too early'\n"
        "p.label_bars(['a'], [1], name='n'); p.confusion([[1.0]], ['a'])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_reliability_draws_the_curve_and_the_diagonal():
    ax = plots.reliability(CURVE, error=0.0257)
    diagonal, curve = ax.lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert curve.get_xydata().tolist() == [[0.4, 0.5], [0.7, 0.6], [0.95, 0.9]]
    sizes = ax.collections[0].get_sizes()
    assert sizes[2] > sizes[1] > sizes[0] > 0
    assert [t.get_text() for t in ax.texts] == ["calibration error 0.026"]


def test_confusion_of_few_labels_names_and_numbers_all():
    matrix = [[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.0, 0.004, 0.996]]
    ax = plots.confusion(matrix, ["a", "b", "c"])
    assert ax.images[0].get_array().tolist() == matrix
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
    assert [t.get_text() for t in ax.texts] == [".90", ".10", ".20", ".80", "1.00"]
    assert to_hex(ax.texts[0].get_color()) == "#ffffff"
    draw(ax)
    assert overlapping(ax.xaxis) == overlapping(ax.yaxis) == 0


@pytest.mark.parametrize("name", ["{}", "a label with a long name, number {}", "w" * 30 + "{}"])
@pytest.mark.parametrize("n", [20, 60, 200])
def test_names_of_many_labels_do_not_overlap(n, name):
    labels = [name.format(i) for i in range(n)]
    matrix = plots.confusion(np.eye(n), labels)
    bars = plots.label_bars(labels, np.arange(n))
    for ax in (matrix, bars):
        draw(ax)
        assert overlapping(ax.yaxis) == 0
        assert len(ax.get_yticklabels()) >= 8
    assert overlapping(matrix.xaxis) == 0
    assert not matrix.texts
    box = matrix.get_window_extent()
    assert box.width > 100, "the names must leave room for the matrix"


def test_space_draws_every_point_once_in_mixed_order():
    xy = np.random.default_rng(1).normal(size=(400, 2))
    groups = np.repeat([0, 1], 200)
    ax = plots.space(xy, groups, ["x", "y"])
    (points,) = ax.collections
    assert points.get_rasterized()
    drawn = np.asarray(points.get_offsets())
    assert sorted(map(tuple, drawn)) == sorted(map(tuple, xy))
    at = {tuple(p): g for p, g in zip(xy, groups, strict=True)}
    order = [at[tuple(p)] for p in drawn]
    colours = [to_hex(c) for c in points.get_facecolors()]
    assert colours == [plots.COLOURS[g].lower() for g in order]
    for part in (order[:50], order[-50:]):
        assert 10 < sum(part) < 40, "neither group lies above the other"
    again = plots.space(xy, groups, ["x", "y"]).collections[0].get_offsets()
    other = plots.space(xy, groups, ["x", "y"], seed=1).collections[0].get_offsets()
    assert np.array_equal(again, drawn)
    assert not np.array_equal(other, drawn)


def test_space_of_twelve_groups_tells_all_apart():
    groups = np.arange(12)
    ax = plots.space(np.zeros((12, 2)), groups, [f"g{i}" for i in groups])
    legend = ax.get_legend()
    assert [t.get_text() for t in legend.get_texts()] == [f"g{i}" for i in groups]
    looks = {(to_hex(h.get_color()), h.get_marker()) for h in legend.legend_handles}
    assert len(looks) == 12
    points = ax.collections[0]
    drawn = Counter(
        (to_hex(c), len(p.vertices)) for c, p in zip(points.get_facecolors(), points.get_paths(), strict=True)
    )
    assert len(drawn) == 12


def test_space_of_many_groups_colours_the_largest():
    sizes = [3] * 20
    for big in range(5, 16):
        sizes[big] = 10
    groups = np.repeat(np.arange(20), sizes)
    groups = np.append(groups, -1)
    ax = plots.space(np.zeros((len(groups), 2)), groups, [f"g{i}" for i in range(20)], title="label")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        *(f"g{i}" for i in range(5, 16)),
        "9 others",
        "no label",
    ]
    drawn = Counter(to_hex(c) for c in ax.collections[0].get_facecolors())
    assert drawn["#bbbbbb"] == 27
    assert drawn["#777777"] == 1
    assert sum(drawn.values()) == len(groups)


def test_bars_end_at_the_values():
    ax = plots.label_bars(
        ["a", "b", "c"],
        [4, 1, 2.5],
        points={"candidates": [10, 20, 30]},
        line=5,
        line_name="five",
        start=1,
        log=True,
        name="partners",
    )
    ends = [(p.get_x(), p.get_x() + p.get_width()) for p in ax.patches]
    assert ends == [(1, 4), (1, 1), (1, 2.5)]
    assert ax.get_xscale() == "log"
    assert [tuple(o) for o in ax.collections[0].get_offsets()] == [(10, 0), (20, 1), (30, 2)]
    assert list(ax.lines[0].get_xdata()) == [5, 5]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["partners", "candidates", "five"]
    assert ax.yaxis_inverted()
    assert ax.get_figure().get_figheight() < plots.label_bars(list("abcdefghijkl"), [1] * 12).figure.get_figheight()


def test_a_missing_value_has_no_bar():
    ax = plots.label_bars(["a", "b"], [float("nan"), 1.0])
    assert np.isnan(ax.patches[0].get_width())
    draw(ax)


def test_names_are_text_and_not_formulas():
    names = ["_hidden", r"$\nosuchcommand$", r"\alpha$"]
    ax = plots.space(np.zeros((3, 2)), np.arange(3), names)
    draw(ax)
    shown = [t.get_text().replace(r"\$", "$") for t in ax.get_legend().get_texts()]
    assert shown == names
    draw(plots.label_bars(names, [1, 2, 3]))
    draw(plots.confusion(np.eye(3), names))


def test_colours_are_okabe_and_ito():
    assert len(set(plots.COLOURS)) == 7
    assert to_rgba(plots.COLOURS[0]) == to_rgba("#0072B2")


def test_selective_risk_draws_the_curve_and_the_line_of_random_order():
    kept, risk = [0.1, 0.5, 1.0], [0.1, 0.3, 0.4]
    ax = plots.selective_risk(kept, risk, 0.4)
    draw(ax)
    random, curve = ax.lines
    assert set(random.get_ydata()) == {0.4}
    assert (list(curve.get_xdata()), list(curve.get_ydata())) == (kept, risk)
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylim()[1] > 0.4
