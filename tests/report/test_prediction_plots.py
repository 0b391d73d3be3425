"""What the plots of predicted readings draw."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from unpaired.report import prediction_plots as plots

NAN = float("nan")


def draw(ax):
    figure = ax.get_figure(root=True)
    FigureCanvasAgg(figure).draw()
    return figure


def test_feature_bars_end_at_r2_and_dots_are_other_cells():
    ax = plots.feature_bars(["x", "y"], [0.5, -0.25], points={"train": [0.7, NAN]}, name="test")
    assert [p.get_width() for p in ax.patches] == [0.5, -0.25]
    assert ax.collections[0].get_offsets()[0].tolist() == [0.7, 0]
    assert list(ax.lines[0].get_xdata()) == [0, 0]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["test", "train", "knowing nothing"]
    low, high = ax.get_xlim()
    assert -0.3 < low < -0.25
    assert high > 1
    draw(ax)


def test_feature_bars_below_the_floor_are_cut_and_say_so():
    ax = plots.feature_bars(["x", "y", "z"], [0.5, -31.2, -1.0], points={"train": [-7.0, 0.0, 0.0]})
    assert [p.get_width() for p in ax.patches] == [0.5, -1, -1]
    (text,) = ax.texts
    assert "31.2" in text.get_text()
    assert text.get_position()[1] == 1
    assert ax.collections[0].get_offsets()[0].tolist() == [-1, 0]
    assert -1.1 < ax.get_xlim()[0] < -1


@pytest.mark.parametrize("names", [["one"], [f"a feature with a long name, number {i}" for i in range(120)]])
def test_feature_bars_of_one_and_of_many(names):
    ax = plots.feature_bars(names, np.linspace(0.9, 0.1, len(names)))
    assert draw(ax).get_figheight() <= 10
    assert len(ax.patches) == len(names)


def test_histogram_counts_every_feature_once():
    values = [1.0, 0.99, 0.01, -0.01, -0.5, -40.0]
    ax = plots.feature_histogram(values)
    counts = [p.get_height() for p in ax.patches]
    assert sum(counts) == len(values)
    assert counts[0] == 1
    assert counts[-1] == 2
    assert ax.patches[0].get_x() == pytest.approx(-1)
    assert plots.feature_histogram([0.2, 0.4]).patches[0].get_x() == pytest.approx(0)


def test_scatter_has_a_panel_a_feature_with_equal_scales():
    examples = [{"measured": [0, 1, 2.0], "predicted": [0.5, 1, 9]}, {"measured": [3, 3], "predicted": [3, 3]}]
    first = plots.scatter_panels(examples, ["best: $x", "worst: y"])
    figure = draw(first)
    assert len(figure.axes) == 2
    assert first.collections[0].get_offsets().tolist() == [[0, 0.5], [1, 1], [2, 9]]
    for ax in figure.axes:
        assert ax.get_xlim() == ax.get_ylim()
        low, high = ax.get_xlim()
        assert ax.lines[0].get_xydata().tolist() == [[low, low], [high, high]]
    assert first.get_title() == r"best: \$x"
    assert figure.axes[1].get_xlim() == (2.5, 3.5)


def test_distances_are_bars_beside_the_baseline():
    first = plots.distance_panels(["a", "b"], {"L2": ([1.0, 2.0], [3.0, 4.0]), "W1": ([NAN, 1.0], [2.0, NAN])})
    figure = draw(first)
    assert len(figure.axes) == 2
    assert [p.get_width() for p in first.patches] == [1, 2]
    assert first.collections[0].get_offsets().tolist() == [[3, 0], [4, 1]]
    assert first.yaxis_inverted()
    assert [t.get_text() for t in first.get_yticklabels()] == ["a", "b"]
    assert [a.get_xlabel() for a in figure.axes] == ["L2", "W1"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["predicted", "baseline"]


@pytest.mark.parametrize(("largest", "scale"), [(99.0, "linear"), (101.0, "log")])
def test_distances_far_apart_are_dots_on_a_logarithmic_scale(largest, scale):
    ax = plots.distance_panels(["a", "b"], {"KL": ([1.0, largest], [2.0, 3.0])})
    draw(ax)
    assert ax.get_xscale() == scale
    assert ax.get_xlabel() == ("KL" if scale == "linear" else "KL (logarithmic)")
    assert len(ax.patches) == (2 if scale == "linear" else 0)
    if scale == "log":
        assert ax.collections[0].get_offsets().tolist() == [[1, 0], [largest, 1]]


def test_negative_distances_have_no_logarithm():
    ax = plots.distance_panels(["a", "b"], {"KL": ([-0.01, 500.0], [2.0, 3.0])})
    assert ax.get_xscale() == "linear"


def test_without_any_baseline_the_legend_does_not_name_it():
    ax = plots.distance_panels(["a"], {"L2": ([1.0], [NAN])})
    assert [t.get_text() for t in draw(ax).legends[0].get_texts()] == ["predicted"]


@pytest.mark.parametrize("n", [1, 30, 200])
def test_distances_of_few_and_many_labels_fit(n):
    values = np.linspace(1, 2, n)
    first = plots.distance_panels([f"label {i}" for i in range(n)], dict.fromkeys("xyz", (values, values)))
    figure = draw(first)
    assert figure.get_figheight() <= 10
    boxes = [t.get_window_extent() for t in first.get_yticklabels() if t.get_text()]
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))


def test_training_curve_marks_the_lowest_loss():
    ax = plots.training_curve([3.0, 1.0, NAN, 2.0])
    assert ax.lines[0].get_xdata().tolist() == [1, 2, 3, 4]
    assert ax.collections[0].get_offsets().tolist() == [[2, 1]]
    assert ax.texts[0].get_text() == "lowest: 1.00, epoch 2"
    draw(ax)


def test_training_curve_of_nothing_known_is_empty():
    ax = plots.training_curve([NAN, NAN])
    assert not ax.texts
    draw(ax)
