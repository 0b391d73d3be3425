"""Whether two modalities' scores look like scores of the same cells: what it is, and what must not change it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unpaired.evaluate.agreement import compare_modalities

NAMES = ("rna", "image")


def compare(data, space, *names):
    return compare_modalities(data, space, *(names or NAMES))


def changed(space, name, change):
    return replace(space, arrays={**space.arrays, name: change(space[name].copy())})


def residuals(table, used):
    """Least squares: what rows and columns do not explain of the entries in use."""
    rows, cols = np.nonzero(used)
    design = np.concatenate([np.eye(table.shape[0])[rows], np.eye(table.shape[1])[cols]], axis=1)
    values = table[rows, cols]
    return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]


@pytest.mark.parametrize(("labels", "extra"), [(5, 0), (12, 0), (6, 3)])
def test_the_spread_is_a_correlation_of_residuals_of_least_squares(scored, labels, extra):
    """``extra`` labels have no cells on one side: dimensions, but not rows."""
    counts = {"rna": [50] * labels + [0] * extra, "image": [40] * (labels + extra)}
    data, _, space = scored(counts, labels=labels + extra, error=1.0, seed=labels)
    tables = [np.log([space[n][data[n].labels == t].std(axis=0) for t in range(labels)]) for n in NAMES]
    used = np.arange(labels)[:, None] != np.arange(labels + extra)
    a, b = (residuals(t, used) for t in tables)
    wanted = max(0, a @ b / np.sqrt(a @ a * (b @ b))) * (1 - 3 / labels)
    assert wanted > 0.2
    assert compare(data, space).spread == pytest.approx(wanted, abs=1e-4)


def test_modalities_that_see_the_same_cells_agree_and_others_do_not(scored):
    same = compare(*scored(150, labels=20, seed=1)[::2])
    other = compare(*scored(150, labels=20, alike=False, seed=1)[::2])
    assert same.spread > 0.75
    assert other.spread < 0.1
    assert same.clouds.p_value > 0.01
    assert other.clouds.p_value == 1 / 200
    assert other.clouds.distance > same.clouds.distance + 0.2


def test_it_is_not_defined_of_three_labels_or_of_a_space_without_labels(scored):
    data, _, space = scored(20, labels=3)
    assert compare(data, space).spread is None
    data, _, space = scored({"rna": [20, 20, 20, 1], "image": 20}, labels=4)
    assert compare(data, space).spread is None
    data, _, space = scored(20, labels=4)
    assert compare(data, space).spread is not None
    assert compare(data, replace(space, space="latent")).spread is None
    assert compare(data, replace(space, dims=tuple("wxyz"))).spread is None


def test_rows_can_come_in_any_order(scored):
    data, _, space = scored([60, 7, 30, 3, 130], labels=5, unlabelled=9)
    rng = np.random.default_rng(0)
    perm = {n: rng.permutation(len(data[n])) for n in NAMES}
    turned = replace(space, arrays={n: space[n][p] for n, p in perm.items()})
    assert compare(data.take(perm), turned) == compare(data, space)
    assert compare(data.take({"image": perm["image"]}), changed(space, "image", lambda v: v[perm["image"]])) == compare(
        data, space
    )


def test_which_modality_is_the_source_does_not_matter(scored):
    data, _, space = scored(40, labels=8, error=1.0)
    there, back = compare(data, space), compare(data, space, "image", "rna")
    assert back.spread == pytest.approx(there.spread, abs=1e-12)
    assert back.clouds.distance == pytest.approx(there.clouds.distance, abs=1e-9)
    assert back.clouds.p_value == pytest.approx(there.clouds.p_value, abs=0.15)


def test_the_unit_of_a_coordinate_and_the_width_of_a_label_say_nothing(scored):
    data, _, space = scored(40, labels=8, error=1.0)
    wanted = compare(data, space).spread

    def column(v):
        v[:, 3] *= 4
        return v

    def label(v):
        v[data["rna"].labels == 2] *= 0.3
        return v

    for change in (column, label):
        other = changed(space, "rna", change)
        assert not np.array_equal(other["rna"], space["rna"])
        assert compare(data, other).spread == pytest.approx(wanted, abs=1e-4)


def test_its_place_says_nothing_of_the_spread(scored):
    data, _, space = scored(40, labels=6, error=1.0)
    moved = compare(data, changed(space, "rna", lambda v: v + np.arange(6.0)[data["rna"].labels][:, None]))
    assert moved.spread == pytest.approx(compare(data, space).spread, abs=1e-9)
    assert moved.clouds.distance > compare(data, space).clouds.distance + 0.1


@pytest.mark.parametrize("kind", ["constant", "of the label", "the same spread everywhere"])
def test_scores_without_any_difference_do_not_agree_by_rounding(scored, kind):
    data, _, space = scored(30, labels=6)
    sign = {n: np.where(np.arange(len(data[n])) % 2, 0.37, -0.37)[:, None] * np.ones(6) for n in NAMES}
    flat = {
        "constant": {n: np.full((len(data[n]), 6), 0.1) for n in NAMES},
        "of the label": {n: np.eye(6)[data[n].labels] / 3 for n in NAMES},
        "the same spread everywhere": sign,
    }[kind]
    for arrays in (flat, {**flat, "rna": space["rna"]}):
        found = compare(data, replace(space, arrays=arrays))
        assert found.spread == 0
    assert np.isfinite(found.clouds.distance)


def test_only_labels_with_two_cells_on_both_sides_are_compared(scored):
    data, _, space = scored({"rna": [20, 1, 20, 0, 20, 2], "image": [20, 20, 0, 20, 20, 2]}, unlabelled=5)
    assert list(compare(data, space).clouds.labels) == ["label 0", "label 4", "label 5"]
