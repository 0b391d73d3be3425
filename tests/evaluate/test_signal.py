"""What scores know of the labels: against integrals, and against chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest, norm

from unpaired.data.types import Dataset, Modality
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.evaluate.signal import label_signal


def two(n=4000, *, share=0.5, gap=2.0, calibrate=None, seed=0):
    """Two labels, normal around -gap/2 and gap/2; and their exact scores: with the prior, if not calibrated."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < share).astype(int)
    x = (y - 0.5) * gap + rng.normal(size=n)
    odds = gap * x + (np.log(share / (1 - share)) if calibrate is False else 0)
    modality = Modality("rna", x[:, None].astype(np.float32), y, np.arange(n).astype(str))
    options = {} if calibrate is None else {"calibrate": calibrate}
    scores = np.stack([-odds / 2, odds / 2], axis=1)
    space = Embedding({"rna": scores}, "logit", None, ("no", "yes"), Provenance("Propensity", options))
    return Dataset({"rna": modality}, ("no", "yes")), space


def known(share, gap):
    """1 - H(label | x) / H(label)."""

    def lost(x):
        p = np.array([1 - share, share]) * norm.pdf(x, [-gap / 2, gap / 2])
        return -(p * np.log(p / p.sum())).sum()

    prior = np.array([1 - share, share])
    return 1 - quad(lost, -12, 12)[0] / -(prior * np.log(prior)).sum()


@pytest.mark.parametrize("calibrate", [None, True, False])
@pytest.mark.parametrize(("share", "gap"), [(0.5, 2.0), (0.9, 2.0), (0.3, 1.0)])
def test_what_is_explained_is_what_there_is_to_know(share, gap, calibrate):
    found = label_signal(*two(share=share, gap=gap, calibrate=calibrate), "rna")
    assert found.explained == pytest.approx(known(share, gap), abs=0.03)
    assert found.temperature == pytest.approx(1, abs=0.12)
    assert found.calibration_error < 0.03
    assert found.p_value == 1 / 200
    assert found.cells == 4000


def test_published_scores_hold_the_frequencies_already():
    data, space = two(share=0.9, calibrate=False)
    twice = replace(space, made_by=Provenance("Propensity", {"calibrate": True}))
    assert label_signal(data, twice, "rna").explained < label_signal(data, space, "rna").explained - 0.02


def test_scores_that_boast_are_caught():
    data, space = two(gap=1.0)
    loud = label_signal(data, replace(space, arrays={"rna": 3 * space["rna"]}), "rna")
    fair = label_signal(data, space, "rna")
    assert loud.temperature == pytest.approx(3 * fair.temperature, rel=0.01)
    assert loud.calibration_error > fair.calibration_error + 0.1
    assert loud.explained < fair.explained


def test_scores_that_name_every_label_explain_all():
    data, space = two()
    sure = 60 * (np.eye(2)[data["rna"].labels] - 0.5)
    assert label_signal(data, replace(space, arrays={"rna": sure}), "rna").explained == pytest.approx(1)


def test_p_values_of_permuted_labels_are_uniform():
    data, space = two(80)
    rng = np.random.default_rng(0)
    found = []
    for s in range(150):
        permuted = replace(data["rna"], labels=rng.permutation(data["rna"].labels))
        found.append(label_signal(replace(data, modalities={"rna": permuted}), space, "rna", seed=s))
    p = [f.p_value for f in found]
    assert kstest(p, "uniform").pvalue > 1e-3
    assert np.mean(np.array(p) <= 0.01) < 0.06
    assert max(f.explained for f in found) < 0.05


def test_scores_that_know_nothing_explain_nothing():
    data, space = two(share=0.8)
    found = label_signal(data, replace(space, arrays={"rna": np.zeros((4000, 2))}), "rna")
    assert found.explained == pytest.approx(0, abs=1e-9)
    assert found.p_value > 0.01


def test_labels_that_are_no_dimension_and_unlabelled_cells_are_left_out():
    data, space = two(300)
    more = Modality(
        "rna",
        np.random.default_rng(9).normal(size=(40, 1)).astype(np.float32),
        np.r_[[2] * 20, [-1] * 20],
        np.arange(40).astype(str),
    )
    both = [data["rna"], more]
    X, labels = (np.concatenate([getattr(m, k) for m in both]) for k in ("X", "labels"))
    wide = Dataset({"rna": Modality("rna", X, labels, np.arange(340).astype(str))}, ("no", "yes", "rare"))
    arrays = {"rna": np.concatenate([space["rna"], np.full((40, 2), 50.0)])}
    assert label_signal(wide, replace(space, arrays=arrays), "rna") == label_signal(data, space, "rna")


def test_a_dimension_without_cells_costs_what_it_is_given():
    data, space = two(300)
    far = replace(space, arrays={"rna": np.c_[space["rna"], np.full(300, -40.0)]}, dims=("no", "yes", "never"))
    found, without = label_signal(data, far, "rna"), label_signal(data, space, "rna")
    assert found.explained == pytest.approx(without.explained, abs=1e-6)


def test_the_order_of_the_dimensions_is_that_of_their_names():
    data, space = two(300)
    turned = replace(space, arrays={"rna": space["rna"][:, ::-1]}, dims=("yes", "no"))
    assert label_signal(data, turned, "rna").explained == pytest.approx(label_signal(data, space, "rna").explained)


def test_rows_can_come_in_any_order():
    data, space = two(6000)
    perm = np.random.default_rng(1).permutation(6000)
    turned = replace(space, arrays={"rna": space["rna"][perm]})
    found = label_signal(data.take({"rna": perm}), turned, "rna")
    assert found == label_signal(data, space, "rna")
    assert found.cells == 5000


def test_the_seed_is_that_of_the_permutations_alone():
    data, space = two(60, gap=0.4, seed=7)
    one, other = (label_signal(data, space, "rna", seed=s) for s in (0, 1))
    assert replace(one, p_value=0) == replace(other, p_value=0)
    assert one.p_value != other.p_value
    assert one.p_value == pytest.approx(other.p_value, abs=0.15)


def test_the_scores_are_not_changed():
    data, space = two(50)
    before = space["rna"].copy()
    label_signal(data, space, "rna")
    assert np.array_equal(space["rna"], before)


@pytest.mark.parametrize("kind", ["latent", "feature"])
def test_a_space_without_labels_is_not_asked(kind):
    data, space = two(50)
    assert label_signal(data, replace(space, space=kind), "rna") is None


@pytest.mark.parametrize("label", [0, -1, 2])
def test_one_label_or_none_cannot_be_asked(label):
    data, space = two(50)
    same = replace(data["rna"], labels=np.full(50, label))
    assert label_signal(Dataset({"rna": same}, ("no", "yes", "rare")), space, "rna") is None
