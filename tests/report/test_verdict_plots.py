"""What the plots of a diagnosis draw."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from unpaired.report import verdict_plots as plots
from unpaired.report.verdict_plots import STATES


def draw(ax):
    figure = ax.get_figure(root=True)
    FigureCanvasAgg(figure).draw()
    return figure


def texts(ax):
    return [t.get_text() for t in ax.texts]


@pytest.mark.parametrize(
    "plot",
    [
        lambda ax: plots.signal_bars(["x", "y"], [0.5, 0.1], ["good", "good"], needed=0.05, ax=ax),
        lambda ax: plots.distance_dots(["a", "b"], [0.1, 0.9], [True, False], limits=(0.3, 0.7), ax=ax),
        lambda ax: plots.partner_lines(["a", "b"], [1.0, 3.0], [5, 5], ax=ax),
        lambda ax: plots.confidence_histogram({"x": np.array([0.1, 0.5])}, ax=ax),
    ],
    ids=["signal_bars", "distance_dots", "partner_lines", "confidence_histogram"],
)
def test_draws_on_the_axes_it_is_given_or_on_its_own(plot):
    ax = Figure().add_subplot()
    assert plot(ax) is ax
    own = plot(None)
    assert own is not ax
    draw(own)


def test_expected_scales_have_better_to_the_right_and_show_the_truth_where_it_is_known():
    ax = plots.expected_scales((2.0, 5.0, 9.0), (0.3, 0.4, 0.45), needed=(2.0, 0.42), measured=(30.0, 0.05))
    trace, foscttm = draw(ax).axes
    left, right = trace.get_xlim()
    assert left < 1
    assert right > 30
    left, right = foscttm.get_xlim()
    assert left > 0.5
    assert right < 0
    for axis, low, middle, high, measured in ((trace, 2, 5, 9, 30), (foscttm, 0.3, 0.4, 0.45, 0.05)):
        assert sorted(axis.lines[0].get_xdata()) == [low, high]
        assert [float(c.get_offsets()[0][0]) for c in axis.collections] == [middle, measured]
    unknown = plots.expected_scales((2.0, 5.0, 9.0), (0.3, 0.4, 0.45), needed=(2.0, 0.42))
    assert [len(a.collections) for a in draw(unknown).axes] == [1, 1]


def test_what_is_worse_than_chance_is_still_on_the_scale():
    ax = plots.expected_scales((0.2, 0.5, 1.0), (0.5, 0.6, 0.7), needed=(2.0, 0.42), measured=(0.1, 0.8))
    trace, foscttm = draw(ax).axes
    assert trace.get_xlim()[0] < 0.1
    assert foscttm.get_xlim()[0] > 0.8


def test_signal_bars_say_their_value_and_are_coloured_by_their_state():
    ax = plots.signal_bars(["x", "y", "z"], [0.98, -0.1, None], ["good", "bad", "unknown"], needed=0.05)
    draw(ax)
    assert texts(ax) == ["98%", "0%", "not known"]
    assert [to_hex(p.get_facecolor()) for p in ax.patches] == [STATES[s].lower() for s in ("good", "bad", "unknown")]
    assert ax.patches[1].get_width() == 0
    inside, *outside = [t.get_position()[0] for t in ax.texts]
    assert inside < 0.98
    assert all(x > 0.05 for x in outside), "beside the line, not across it"


def test_distances_are_sorted_coloured_by_zone_and_hollow_where_chance_makes_as_much():
    ax = plots.distance_dots(["a", "b", "c"], [0.1, 1.2, 0.5], [False, True, True], limits=(0.3, 0.7))
    draw(ax)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["b", "c", "a"]
    (dots,) = ax.collections
    assert dots.get_offsets()[:, 0].tolist() == [1.2, 0.5, 0.1]
    assert [to_hex(c) for c in dots.get_edgecolors()] == [STATES[s].lower() for s in ("bad", "caution", "good")]
    assert [to_hex(c) == "#ffffff" for c in dots.get_facecolors()] == [False, False, True]
    assert ax.get_xlim()[1] > 1.2


def test_partners_are_sorted_by_how_undecided_they_are():
    ax = plots.partner_lines(["few", "half", "all"], [2.0, 5.0, 4.0], [100, 10, 4])
    draw(ax)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["all", "half", "few"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["undecided between", "candidates"]
    assert ax.get_xlim()[0] == 1


@pytest.mark.parametrize("n", [1, 12, 300])
def test_many_labels_stay_in_a_small_picture_with_names_that_do_not_overlap(n):
    names = [f"gene {i}" for i in range(n)]
    for ax in (
        plots.distance_dots(names, np.linspace(0, 2, n), [True] * n, limits=(0.3, 0.7)),
        plots.partner_lines(names, np.linspace(1, 9, n), [9] * n),
    ):
        figure = draw(ax)
        assert figure.get_figheight() <= 3.6
        boxes = [t.get_window_extent() for t in ax.get_yticklabels() if t.get_text()]
        assert boxes
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))


def test_confidence_counts_every_cell_that_has_one():
    nan = float("nan")
    ax = plots.confidence_histogram({"x": np.array([0.0, 1.0, 1.0, nan, -0.7]), "_y": np.array([0.5, 0.5])})
    draw(ax)
    lines = [p for p in ax.patches if not p.get_fill()]
    assert [float(np.sum(p.get_data().values)) for p in lines] == pytest.approx([100, 100])
    values, edges = lines[0].get_data().values, lines[0].get_data().edges
    assert (edges[0], edges[-1]) == pytest.approx((-0.2, 1.0))
    assert values[0] == pytest.approx(25), "far below zero: in the first bar"
    assert values[-1] == pytest.approx(50), "one is in the last bar"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["x: median 0.50", "_y: median 0.50"]


def test_a_modality_without_confidence_is_named():
    ax = plots.confidence_histogram({"x": np.array([np.nan]), "y": np.array([0.2])})
    draw(ax)
    assert ax.get_legend().get_texts()[0].get_text() == "x: no cell"
