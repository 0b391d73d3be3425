"""Draw the picture of the README: ``python docs/make_picture.py`` writes docs/images/digits.png."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import unpaired as up
from unpaired.report import plots

OUT = Path(__file__).parent / "images" / "digits.png"


def main() -> None:
    """Match the halves of handwritten digits and draw the space, and what the matching makes of some halves."""
    data, _ = up.examples.digits(seed=0)
    space = up.Propensity(seed=0).fit(data).transform(data)
    matching = up.match_ot(data, space)
    guess = matching.pull(data["right"].X)

    figure = Figure(figsize=(12, 3.4), layout="constrained", dpi=150)
    left, right, strip = figure.subplots(1, 3, width_ratios=[1, 1, 1.4])
    both = np.concatenate([space["left"], space["right"]])
    axes = np.linalg.svd(both - both.mean(axis=0), full_matrices=False)[2][:2]
    plane = (both - both.mean(axis=0)) @ axes.T
    side = np.repeat([0, 1], [len(data["left"]), len(data["right"])])
    label = np.concatenate([data["left"].labels, data["right"].labels])
    plots.space(plane, side, ["left halves", "right halves"], left, title="instrument")
    plots.space(plane, label, data.classes, right, title="label")

    shown = [int(np.flatnonzero(data["left"].labels == t)[0]) for t in range(10)]
    tiles = [np.hstack([data["left"].X[i].reshape(8, 4), guess[i].reshape(8, 4)]) for i in shown]
    rows = [np.hstack([np.pad(t, 1) for t in tiles[k : k + 5]]) for k in (0, 5)]
    strip.imshow(np.vstack(rows), cmap="gray_r")
    strip.set_title("left halves, each with its matched right halves' mean", fontsize=10)
    strip.set_axis_off()
    OUT.parent.mkdir(exist_ok=True)
    figure.savefig(OUT)


if __name__ == "__main__":
    main()
