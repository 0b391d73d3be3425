"""Cells held out: whole labels and fractions, partners together, and nothing of them left in what is learned."""

from dataclasses import replace

import numpy as np
import pytest

from unpaired.data.split import hold_out, hold_out_pairs
from unpaired.data.types import Dataset, Pairs, Truth
from unpaired.errors import DataError, OptionError


def ids(data):
    return {n: set(m.ids.tolist()) for n, m in data.modalities.items()}


def names(data, modality):
    return np.array([*data.classes, ""], dtype=object)[data[modality].labels]


def sizes(data, modality):
    label, count = np.unique(names(data, modality).astype(str), return_counts=True)
    return dict(zip(label.tolist(), count.tolist(), strict=True))


def linked(data, truth):
    """The pairs as names of cells."""
    partner = truth.partners("rna", "image")
    return {(data["rna"].ids[i], data["image"].ids[j]) for i, j in enumerate(partner) if j >= 0}


# ------------------------------------------------------------------ which cells


def test_every_cell_is_in_one_of_the_two(toy):
    data, truth = toy(unlabelled=4)
    train, _, held = hold_out(data, truth, labels=["b"], fraction=0.3)
    for name in data:
        assert ids(train)[name] | ids(held.data)[name] == ids(data)[name]
        assert not ids(train)[name] & ids(held.data)[name]


def test_a_held_out_label_leaves_no_cell_and_no_class_behind(toy):
    data, _ = toy({"rna": (20, 10, 12), "image": (5, 7, 9)})
    train, _, held = hold_out(data, labels=["b"])
    assert train.classes == ("a", "c")
    assert sizes(train, "rna") == {"a": 20, "c": 12}
    assert sizes(train, "image") == {"a": 5, "c": 9}
    assert held.data.classes == ("a", "b", "c")
    assert sizes(held.data, "rna") == {"b": 10}
    assert (held.labels, held.counts["image"]) == (("b",), {"test": 0, "label": 7})


def test_the_training_labels_mean_what_they_meant(toy):
    data, _ = toy(unlabelled=3)
    train, _, held = hold_out(data, labels=["a"], fraction=0.5)
    before = {n: dict(zip(data[n].ids, names(data, n), strict=True)) for n in data}
    for part in (train, held.data):
        for name in data:
            assert {i: before[name][i] for i in part[name].ids} == dict(
                zip(part[name].ids, names(part, name), strict=True)
            )


@pytest.mark.parametrize(("fraction", "expected"), [(0.2, (4, 2, 0)), (0.5, (10, 5, 1)), (0.99, (19, 9, 1))])
def test_a_fraction_of_every_label_is_held_out_and_one_cell_always_stays(toy, fraction, expected):
    data, _ = toy((20, 10, 2))
    _, _, held = hold_out(data, fraction=fraction)
    for name in data:
        assert tuple(sizes(held.data, name).get(c, 0) for c in "abc") == expected


def test_a_label_with_one_cell_keeps_it(toy):
    data, _ = toy((20, 1), labels=("a", "b"))
    train, _, _ = hold_out(data, fraction=0.9)
    assert sizes(train, "rna")["b"] == 1


def test_cells_without_a_label_stay(toy):
    data, _ = toy(unlabelled=7)
    train, _, _ = hold_out(data, labels=["a"], fraction=0.5)
    assert sizes(train, "rna")[""] == 7


def test_nothing_asked_for_holds_nothing_out(toy):
    data, truth = toy()
    train, known, held = hold_out(data, truth)
    assert ids(train) == ids(data)
    assert linked(train, known) == linked(data, truth)
    assert held.counts == {n: {"test": 0, "label": 0} for n in data}
    assert train.notes == data.notes


def test_the_seed_chooses(toy):
    data, _ = toy()
    one, two, three = (ids(hold_out(data, fraction=0.3, seed=s)[2].data) for s in (0, 0, 1))
    assert one == two
    assert one != three


@pytest.mark.parametrize("known", [True, False])
def test_neither_the_order_of_the_rows_nor_their_names_choose(toy, known):
    data, truth = toy(unlabelled=2)
    rng = np.random.default_rng(5)
    rows = {n: rng.permutation(len(data[n])) for n in data}
    other = data.take(rows)
    renamed = {n: replace(m, ids=rng.permutation(m.ids)) for n, m in other.modalities.items()}
    other = replace(other, modalities=renamed)
    units = {n: 1000 - truth.units[n][rows[n]] for n in data}
    held = [
        hold_out(d, t if known else None, labels=["b"], fraction=0.3)[2]
        for d, t in ((data, truth), (other, Truth(units)))
    ]
    for name in data:
        one, two = ({tuple(x) for x in h.data[name].X.tolist()} for h in held)
        assert one == two


def test_sides_that_are_not_known_to_belong_together_are_drawn_apart(toy):
    data, truth = toy(60)
    _, _, held = hold_out(data, fraction=0.5)
    row = {i: k for k, i in enumerate(data["rna"].ids)}
    units = {n: truth.units[n][[row[i] for i in held.data[n].ids]] for n in ("rna",)}
    other = {i: k for k, i in enumerate(data["image"].ids)}
    image = truth.units["image"][[other[i] for i in held.data["image"].ids]]
    assert 0.3 < np.isin(units["rna"], image).mean() < 0.7


# ------------------------------------------------------------------ partners


@pytest.mark.parametrize("offered", [True, False], ids=["pairs", "truth"])
def test_partners_stay_together(toy, offered):
    data, truth = toy({"rna": (20, 10, 12), "image": (9, 16, 12)}, unlabelled=5)
    if offered:
        data = replace(data, pairs=Pairs(truth.units))
    train, known, held = hold_out(data, None if offered else truth, labels=["b"], fraction=0.25)
    sides = [(train, train.pairs if offered else known), (held.data, held.data.pairs if offered else held.truth)]
    assert linked(*sides[0]) | linked(*sides[1]) == linked(data, truth)
    assert all(linked(*side) for side in sides)
    assert linked(held.data, held.truth) == linked(*sides[1])  # what was offered for learning serves for judging here
    assert (known is None) == offered
    assert (held.counts["rna"], held.counts["image"]) == ({"test": 8, "label": 10}, {"test": 5, "label": 16})


def test_a_cell_whose_partner_has_a_held_out_label_goes_with_it(toy):
    data, truth = toy(10)
    rna = data["rna"]
    row = int(np.flatnonzero(rna.labels == 0)[0])
    labels = rna.labels.copy()
    labels[row] = 1  # its image says "a", its profile "b"
    data = replace(data, modalities={**data.modalities, "rna": replace(rna, labels=labels)})
    train, _, held = hold_out(data, truth, labels=["b"])
    image = data["image"].ids[truth.partners("rna", "image")[row]]
    assert image in ids(held.data)["image"]
    assert held.part["image"][held.data["image"].ids == image] == "label"
    assert sizes(train, "image")["a"] == 9


def test_cells_of_one_side_do_not_crowd_out_the_pairs(toy):
    data, truth = toy({"rna": 10, "image": 100})
    _, _, held = hold_out(data, truth, fraction=0.5)
    assert held.counts["rna"]["test"] == 15
    assert len(linked(held.data, held.truth)) == 15


def test_latents_go_along(toy):
    data, truth = toy()
    train, known, held = hold_out(data, truth, labels=["c"], fraction=0.2)
    state = {tuple(x): tuple(z) for x, z in zip(data["rna"].X.tolist(), truth.latents["rna"].tolist(), strict=True)}
    for part, own in ((train, known), (held.data, held.truth)):
        x, z = part["rna"].X.tolist(), own.latents["rna"].tolist()
        assert [state[tuple(row)] for row in x] == [tuple(row) for row in z]


def test_one_part_can_be_taken(toy):
    data, truth = toy()
    _, _, held = hold_out(data, truth, labels=["c"], fraction=0.2)
    test, known = held.take("test")
    assert sizes(test, "rna") == {"a": 4, "b": 4}
    assert len(linked(test, known)) == 8
    label, _ = held.take("label")
    assert sizes(label, "image") == {"c": 20}
    with pytest.raises(OptionError, match="part must be one of"):
        held.take("train")
    assert repr(held) == "HeldOut(rna: 8 test, 20 label; image: 8 test, 20 label)"


# ------------------------------------------------------------------ recipes


def made(X, y, **options):
    return Dataset.from_arrays(X, y, **options)


def test_recipes_learn_from_the_training_cells_alone():
    rng = np.random.default_rng(0)
    X = {n: np.vstack([rng.normal(size=(30, 4)), 50 + rng.normal(size=(15, 4))]) for n in ("rna", "image")}
    X["rna"][3, 1] = np.nan
    data = made(X, dict.fromkeys(X, ["a"] * 15 + ["b"] * 15 + ["c"] * 15), recipes={"image": "scale:pcs=2"})
    train, _, held = hold_out(data, labels=["c"])
    for name in data:
        old, new = data[name].recipe, train[name].recipe
        assert (new.name, new.reason, dict(new.options)) == (old.name, old.reason, dict(old.options))
        assert new.arrays.keys() == old.arrays.keys()
        assert held.data[name].recipe is new
    np.testing.assert_allclose(train["rna"].recipe.arrays["mean"], 0, atol=1)  # the 50 of label c is not in it
    np.testing.assert_allclose(train["rna"].recipe.arrays["median"], np.nanmedian(X["rna"][:30], axis=0), rtol=1e-6)
    fresh = made(
        {n: x[:30] for n, x in X.items()}, dict.fromkeys(X, ["a"] * 15 + ["b"] * 15), recipes={"image": "scale:pcs=2"}
    )
    assert np.array_equal(train["image"].features, fresh["image"].features)


def test_counts_keep_their_options():
    rng = np.random.default_rng(0)
    X = {n: rng.poisson(2, size=(40, 9)) for n in ("rna", "other")}
    data = made(X, dict.fromkeys(X, ["a", "b"] * 20), recipes="counts:pcs=3,hvg=5")
    train, _, held = hold_out(data, fraction=0.25)
    assert train["rna"].features.shape == (30, 3)
    assert held.data["rna"].features.shape == (10, 3)
    assert len(train["rna"].recipe.arrays["keep"]) == 5


def test_a_feature_without_a_training_value_is_an_error():
    x = np.random.default_rng(0).normal(size=(20, 3))
    x[:10, 2] = np.nan
    data = made({"rna": x, "image": x[:, :2]}, dict.fromkeys(("rna", "image"), ["a"] * 10 + ["b"] * 10))
    with pytest.raises(DataError, match="no value in any training cell"):
        hold_out(data, labels=["b"])


# ------------------------------------------------------------------ words and refusals


def test_the_notes_say_what_was_held_out(toy):
    data, _ = toy({"rna": 20, "image": 10})
    train, _, held = hold_out(data, labels=["b"], fraction=0.2)
    assert train.notes == held.data.notes
    assert train.notes[-2:] == (
        "Held out with all their cells: the labels 'b' (20 cells of rna and 10 cells of image).",
        "Held out of every other label: 0.2 (8 cells of rna and 4 cells of image).",
    )


def test_a_mistyped_label_gets_a_suggestion(toy):
    data, _ = toy(labels=("mono", "b cell"))
    with pytest.raises(OptionError, match=r"no label 'Mono1' to hold out\. Did you mean 'mono'\?"):
        hold_out(data, labels=["Mono1"])
    with pytest.raises(OptionError, match="labels must be a list of names; got 'mono'"):
        hold_out(data, labels="mono")


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan"), "half"])
def test_a_fraction_that_is_none_is_refused(toy, fraction):
    with pytest.raises(OptionError, match="fraction must be"):
        hold_out(toy()[0], fraction=fraction)


def test_holding_out_everything_is_refused(toy):
    with pytest.raises(OptionError, match="no labelled cell of 'rna' would be left"):
        hold_out(toy()[0], labels=["a", "b", "c"])


def test_where_some_pairs_are_known_a_fraction_of_them_is_held_out_and_not_all(toy):
    """Twelve of sixty cells of each label are paired: a fifth of the pairs is held out, as of all other cells."""
    data, truth = toy(60, labels=("a", "b", "c"))
    units = {name: np.where(u % 60 < 12, u, -1) for name, u in truth.units.items()}
    paired = replace(data, pairs=Pairs(units))
    train, _, held = hold_out(paired, fraction=0.2)
    left = (train.pairs.partners("rna", "image") >= 0).sum()
    out = (held.truth.partners("rna", "image") >= 0).sum()
    assert left + out == 36
    assert 5 <= out <= 9
    for name in data:
        assert [(held.data[name].labels == code).sum() for code in range(3)] == [12, 12, 12]


# ------------------------------------------------------------------ cells known in several modalities


@pytest.fixture
def paired(toy):
    data, truth = toy()
    units = {n: np.where(u % 3 == 0, -1, u) for n, u in truth.units.items()}  # a third is not known
    return replace(data, pairs=Pairs(units))


def test_pairs_are_held_out_together_and_single_cells_stay(paired):
    kept, held = hold_out_pairs(paired, fraction=0.25, seed=0)
    partners = paired.pairs.partners("rna", "image")
    assert len(held.data["rna"]) == len(held.data["image"]) == round(0.25 * (partners >= 0).sum())
    assert held.data.pairs is None
    assert (held.truth.partners("rna", "image") >= 0).all()
    out = np.isin(paired["rna"].ids, held.data["rna"].ids)
    assert (partners[out] >= 0).all()
    assert sorted(kept["rna"].ids) == sorted(paired["rna"].ids[~out])
    assert (kept.pairs.partners("rna", "image") >= 0).sum() == (partners >= 0).sum() - out.sum()


def test_which_pairs_are_held_out_does_not_depend_on_the_order_of_the_rows(paired):
    rows = {"rna": np.random.default_rng(1).permutation(60)}
    first, again = (hold_out_pairs(d, fraction=0.25, seed=3)[1] for d in (paired, paired.take(rows)))
    assert set(first.data["rna"].ids) == set(again.data["rna"].ids)
    assert set(first.data["rna"].ids) != set(hold_out_pairs(paired, fraction=0.25, seed=4)[1].data["rna"].ids)


def test_which_pairs_are_held_out_does_not_depend_on_labels(paired):
    one = {n: replace(m, labels=np.zeros_like(m.labels)) for n, m in paired.modalities.items()}
    first, again = (hold_out_pairs(d, fraction=0.25)[1] for d in (paired, replace(paired, modalities=one)))
    assert first.data["rna"].ids.tolist() == again.data["rna"].ids.tolist()


def test_cells_without_label_can_be_held_out_and_one_pair_stays(paired):
    blind = replace(
        paired, modalities={n: replace(m, labels=np.full_like(m.labels, -1)) for n, m in paired.modalities.items()}
    )
    kept, held = hold_out_pairs(blind, fraction=0.999, seed=0)
    assert (kept.pairs.partners("rna", "image") >= 0).sum() == 1
    assert len(held.data["rna"]) == (paired.pairs.partners("rna", "image") >= 0).sum() - 1


def test_without_pairs_there_is_nothing_to_hold_out(toy):
    with pytest.raises(OptionError, match="needs a data set with pairs"):
        hold_out_pairs(toy()[0], fraction=0.1)
