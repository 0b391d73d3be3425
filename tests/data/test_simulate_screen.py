"""A simulated screen: what is read, the truth, and what every option does to the assumptions."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_score

from unpaired.data.simulate import screen
from unpaired.data.simulate.cells import CONTROL, NOISE, Design, draw_cells
from unpaired.data.simulate.readings import read_genes, read_pictures, seen
from unpaired.errors import OptionError

DESIGN = Design(
    cells=60,
    perturbations=12,
    latents=6,
    effect=1.0,
    batches=1,
    guide_efficiency=1.0,
    violate_a1=0.0,
    violate_a2=0.0,
    seed=2,
)


def drawn_with(**options):
    return draw_cells(replace(DESIGN, **options))


def centred(x, groups):
    """Values without their group's mean."""
    return x - np.stack([x[groups == g].mean(axis=0) for g in range(groups.max() + 1)])[groups]


def r2(x, y):
    """How much of ``y`` a ridge regression on ``x`` tells, of cells that it has not seen."""
    half = len(x) // 2
    rows = np.random.default_rng(0).permutation(len(x))
    a, b = rows[:half], rows[half:]
    error = y[b] - Ridge(10.0).fit(x[a], y[a]).predict(x[b])
    return 1 - np.sum(error**2) / np.sum((y[b] - y[b].mean(axis=0)) ** 2)


@pytest.fixture(scope="module")
def default():
    return screen(cells=60, seed=1)


# --------------------------------------------------------------------------------------------------------- data set


def test_the_default_is_like_the_screen_of_the_paper(default):
    data, truth = default
    n = 25 * 60
    assert data["rna"].X.shape == (n, 200)
    assert data["image"].X.shape == (n, 1024)
    assert data.classes == ("control", *(f"gene{k:02d}" for k in range(1, 25)))
    assert data.pairs is None
    for name, modality in data.modalities.items():
        assert modality.X.dtype == np.float32
        assert np.array_equal(np.bincount(modality.labels), np.full(25, 60))
        assert modality.batch is None
        assert truth.latents[name].shape == (n, 8)
    assert data["rna"].feature_names[[0, -1]].tolist() == ["transcript001", "transcript200"]
    assert data.notes == ()


def test_recipes_are_those_of_counts_and_of_many_real_values(default):
    data, _ = default
    assert data["rna"].recipe.name == "counts"
    assert (data["image"].recipe.name, data["image"].recipe.options["pcs"]) == ("scale", 50)
    assert screen(cells=3, genes=20, features=5)[0]["rna"].recipe.name == "counts"


def test_the_truth_brings_the_shuffled_sides_together(default):
    data, truth = default
    partner = truth.partners("rna", "image")
    n = len(data["rna"])
    assert np.array_equal(np.sort(partner), np.arange(n))
    assert np.mean(partner == np.arange(n)) < 0.02
    assert np.mean(np.diff(data["rna"].labels) == 0) < 0.1  # the labels are shuffled, too
    assert np.array_equal(truth.latents["rna"], truth.latents["image"][partner])
    assert np.array_equal(data["rna"].labels, data["image"].labels[partner])


def test_the_same_seed_gives_the_same_screen_and_another_seed_another(default):
    data, truth = default
    again, same = screen(cells=60, seed=1)
    other, _ = screen(cells=60, seed=2)
    for name in data:
        assert np.array_equal(data[name].X, again[name].X)
        assert np.array_equal(truth.units[name], same.units[name])
        assert np.array_equal(truth.latents[name], same.latents[name])
        assert not np.array_equal(data[name].X, other[name].X)


def test_both_modalities_tell_the_labels_but_far_from_surely(default):
    data, _ = default
    for modality in data.modalities.values():
        x = modality.features / modality.features.std(axis=0).mean()
        accuracy = cross_val_score(LogisticRegression(C=0.1, max_iter=300), x, modality.labels, cv=3).mean()
        assert 0.2 < accuracy < 0.6  # chance is 0.04


def test_partners_have_something_in_common_within_their_label_and_strangers_have_not(default):
    data, truth = default
    labels = data["rna"].labels
    partner = truth.partners("rna", "image")
    rna = centred(data["rna"].features, labels)
    image = centred(data["image"].features[partner], labels)
    latents = centred(truth.latents["rna"], labels)
    assert r2(rna, latents) > 0.35
    assert r2(image, latents) > 0.35
    assert r2(rna, image[:, :10]) > 0.03
    assert r2(rna, np.random.default_rng(0).permutation(image[:, :10])) < 0


# ------------------------------------------------------------------------------------------------------------ cells


def test_perturbed_cells_are_control_cells_moved_and_stretched():
    cells, still = drawn_with(cells=4000), drawn_with(cells=4000, effect=0.0)
    control = cells.latents[cells.labels == CONTROL]
    assert np.allclose(control.mean(axis=0), 0, atol=0.06)
    assert np.allclose(control.std(axis=0), 1, atol=0.05)
    shifts = cells.latents - still.latents  # what is left is the label's shift, the same for all of its cells
    assert np.allclose(centred(shifts, cells.labels), 0, atol=1e-12)
    by_label = np.stack([shifts[cells.labels == t].mean(axis=0) for t in range(13)])
    assert np.all(by_label[CONTROL] == 0)
    assert by_label[1:].std() == pytest.approx(1, abs=0.2)
    spreads = np.stack([cells.latents[cells.labels == t].std(axis=0) for t in range(1, 13)])
    assert np.log(spreads).std() == pytest.approx(0.3, abs=0.08)


def test_effect_scales_how_far_labels_are_apart():
    def between(cells):
        return np.var([cells.latents[cells.labels == t].mean(axis=0) for t in range(13)], axis=0).sum()

    assert between(drawn_with(effect=2.0)) > 3 * between(drawn_with(effect=1.0))


def test_the_counts_are_negative_binomial():
    cells = drawn_with(cells=1)
    many = 15_000  # of the same cell, read again and again
    same = replace(
        cells,
        labels=np.zeros(many, int),
        batches=np.zeros(many, int),
        latents=np.zeros((many, 6)),
        noise={k: np.zeros((many, d)) for k, d in NOISE.items()},
    )
    counts = read_genes(same, DESIGN, 200)
    assert np.array_equal(counts, np.round(counts))
    assert counts.min() == 0
    mean, variance = counts.mean(axis=0), counts.var(axis=0)
    # The depth varies, too: var = m + m^2 ((1 + 1/theta) exp(0.35^2) - 1), theta around 5.
    high = mean > 3
    theta = 1 / (((variance - mean) / mean**2 + 1)[high] / np.exp(0.35**2) - 1)
    assert np.median(theta) == pytest.approx(5, rel=0.25)
    assert counts.sum(axis=1).mean() == pytest.approx(1.5 * 200 * np.exp(0.35**2 / 2), rel=0.02)


# ---------------------------------------------------------------------------------------------------------- options


def test_guides_that_fail_leave_cells_like_the_control():
    full, half = drawn_with(violate_a1=1.0), drawn_with(violate_a1=1.0, guide_efficiency=0.5)
    perturbed = full.labels != CONTROL
    assert np.array_equal(full.responds, perturbed)
    assert half.responds[perturbed].mean() == pytest.approx(0.5, abs=0.06)
    assert not half.responds[~perturbed].any()
    failed = perturbed & ~half.responds
    still = drawn_with(effect=0.0)
    for values, control in ((half.latents, still.latents), *((half.noise[m], still.noise[m]) for m in NOISE)):
        assert np.allclose(values[failed].mean(axis=0), 0, atol=0.25)
        assert np.allclose(values[failed].std(axis=0), 1, atol=0.2)
        assert values.shape == control.shape
    for name in NOISE:
        assert np.array_equal(half.noise[name][failed], still.noise[name][failed])
    # Those in whom it works are as they were.
    assert np.array_equal(half.latents[half.responds], full.latents[half.responds])


def test_guide_efficiency_moves_the_readings_towards_the_control():
    def near(efficiency):
        data, truth = screen(cells=60, perturbations=6, features=60, effect=3.0, guide_efficiency=efficiency, seed=3)
        labels, z = data["rna"].labels, truth.latents["rna"]
        radius = np.quantile(np.linalg.norm(z[labels == CONTROL], axis=1), 0.95)
        return np.mean(np.linalg.norm(z[labels != CONTROL], axis=1) < radius)

    assert near(1.0) < 0.1
    assert near(0.3) == pytest.approx(0.7 * 0.95 + 0.3 * near(1.0), abs=0.07)


@pytest.mark.parametrize("name", sorted(NOISE))
def test_violating_a1_lets_the_label_move_the_modalitys_own_noise(name):
    def told(strength):
        """Share of the variance of ``U`` that the label tells."""
        cells = drawn_with(violate_a1=strength)
        u = cells.noise[name]
        return 1 - np.sum(centred(u, cells.labels) ** 2) / np.sum((u - u.mean(axis=0)) ** 2)

    by_chance = 12 / (13 * 60 - 1)
    assert told(0.0) == pytest.approx(by_chance, abs=0.01)
    assert told(0.0) + 0.1 < told(0.5) < told(1.0) - 0.1
    moved = drawn_with(violate_a1=1.0).noise[name] - drawn_with().noise[name]
    by_label = np.stack([moved[60 * t] for t in range(13)])
    assert np.all(by_label[CONTROL] == 0)
    assert by_label[1:].std() == pytest.approx(1, abs=0.25)  # as far as Z, in its own standard deviations
    assert np.array_equal(drawn_with(violate_a1=1.0).latents, drawn_with().latents)


def test_violating_a1_is_seen_in_what_the_label_tells_beyond_the_latents():
    def beyond(strength):
        data, truth = screen(cells=40, perturbations=8, features=100, violate_a1=strength, seed=5)
        out = []
        for name, modality in data.modalities.items():
            x, z = modality.features, truth.latents[name]
            z = np.concatenate([z, z**2], axis=1)  # what depends on Z is not all linear
            left = x - Ridge(1.0).fit(z, x).predict(z)
            out.append(1 - np.sum(centred(left, modality.labels) ** 2) / np.sum(left**2))
        return np.array(out)

    by_chance = 8 / (9 * 40 - 1)
    assert np.all(beyond(0.0) < 2 * by_chance)
    assert np.all(beyond(1.0) > 1.5 * beyond(0.0))


def test_violating_a2_hides_directions_of_the_latents_from_the_pictures():
    z = drawn_with().latents
    assert np.allclose(seen(z, DESIGN) @ seen(z, DESIGN).T, z @ z.T)  # a rotation: nothing is lost
    for share, hidden in ((0.5, 3), (1.0, 6)):
        ranks = np.linalg.matrix_rank(seen(z, replace(DESIGN, violate_a2=share)))
        assert ranks == 6 - hidden
    faint = seen(z, replace(DESIGN, violate_a2=0.25))  # one and a half of six directions
    assert np.allclose(faint.std(axis=0) / seen(z, DESIGN).std(axis=0), [1, 1, 1, 1, 0.5, 0])


def test_violating_a2_lowers_what_the_pictures_tell_of_the_latents_and_leaves_the_counts():
    cells = drawn_with(cells=100)
    told = [r2(read_pictures(cells, replace(DESIGN, violate_a2=q), 300), cells.latents) for q in (0, 0.25, 0.5, 0.75)]
    assert np.all(np.diff(told) < -0.08)
    nothing = read_pictures(cells, replace(DESIGN, violate_a2=1.0), 300)
    assert r2(nothing, cells.latents) < 0.02
    a, b = (screen(cells=5, features=30, violate_a2=q)[0]["rna"].X for q in (0.0, 1.0))
    assert np.array_equal(a, b)


def test_batches_are_named_and_shift_the_readings_but_not_the_state():
    options = {"cells": 40, "perturbations": 8, "features": 100, "seed": 6}
    data, truth = screen(batches=3, **options)
    plain, alone = screen(**options)
    assert np.array_equal(truth.latents["image"], alone.latents["image"])
    partner = truth.partners("rna", "image")
    assert np.array_equal(data["rna"].batch, data["image"].batch[partner])
    for name, modality in data.modalities.items():
        assert sorted(set(modality.batch.tolist())) == ["batch1", "batch2", "batch3"]
        codes = np.unique(modality.batch, return_inverse=True)[1]

        def told(x, codes=codes):
            return 1 - np.sum(centred(x, codes) ** 2) / np.sum((x - x.mean(axis=0)) ** 2)

        assert told(plain[name].features) < 0.02  # two of 359 degrees of freedom
        assert told(modality.features) > 3 * told(plain[name].features)
        table = np.stack([np.bincount(modality.labels[codes == k], minlength=9) for k in range(3)])
        assert table.min() >= 3  # every label is in every batch


def test_more_of_an_option_leaves_the_rest_as_it_was():
    a, b = drawn_with(), drawn_with(guide_efficiency=0.4, violate_a1=0.7, batches=4)
    assert np.array_equal(a.labels, b.labels)
    assert np.array_equal(a.latents[b.responds], b.latents[b.responds])
    assert np.array_equal(a.noise["rna"][~b.responds], b.noise["rna"][~b.responds])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cells": 0}, "cells must be a whole number of at least 1; got 0."),
        ({"perturbations": 1.5}, "perturbations must be a whole number of at least 1; got 1.5."),
        ({"genes": 2}, "genes must be a whole number of at least 3; got 2."),
        ({"features": 0}, "features must be"),
        ({"latents": 0}, "latents must be"),
        ({"batches": 0}, "batches must be"),
        ({"effect": -1}, "effect must be 0 or more; got -1."),
        ({"effect": float("nan")}, "effect must be a finite number; got nan."),
        ({"guide_efficiency": 0.0}, "guide_efficiency must be a finite number larger than 0 and at most 1; got 0.0."),
        ({"guide_efficiency": 1.1}, "guide_efficiency must be"),
        ({"violate_a1": -0.1}, "violate_a1 must be from 0 to 1; got -0.1."),
        ({"violate_a1": 1.1}, "violate_a1 must be a finite number at most 1; got 1.1."),
        ({"violate_a2": "much"}, "violate_a2 must be"),
        ({"seed": None}, "seed must be"),
    ],
)
def test_a_wrong_option_is_one_sentence(options, sentence):
    with pytest.raises(OptionError) as error:
        screen(**options)
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)
