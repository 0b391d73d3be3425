"""The multimodal autoencoder as a user meets it: options, the space, what it learns of toys, and what cannot matter."""

from dataclasses import replace

import numpy as np
import pytest

from unpaired.data.preprocess import prepare
from unpaired.data.types import Dataset, Modality
from unpaired.embed import fit_network
from unpaired.embed.embedding import Embedder
from unpaired.embed.vae import MultimodalVAE
from unpaired.errors import DataError, NotFittedError, OptionError

FAST = {"latent": 5, "hidden": 32, "epochs": 3, "batch": 16, "rate": 3e-3, "device": "cpu"}


def permuted(data, name, seed=0):
    rows = np.random.default_rng(seed).permutation(len(data[name]))
    return data.take({name: rows}), rows


def bytes_of(n=24, size=16, seed=0):
    """Two modalities of small pictures whose brightness is the label's."""
    rng = np.random.default_rng(seed)
    made = {}
    for name in ("left", "right"):
        labels = np.arange(n) % 2
        X = rng.integers(0, 100, size=(n, 3, size, size)) + 120 * labels[:, None, None, None]
        ids = np.array([f"{name}:{i}" for i in range(n)])
        made[name] = Modality(name=name, X=X.astype(np.uint8), labels=labels, ids=ids)
    return Dataset(made, ("dark", "bright"))


# ------------------------------------------------------------------ the space


def test_every_cell_gets_a_place_in_one_latent_space(toy):
    data, _ = toy({"rna": (12, 9, 7), "image": (6, 10, 15)})
    space = MultimodalVAE(**FAST).fit(data).transform(data)
    assert space.space == "latent"
    assert space.noise is None
    assert space.dims == tuple(f"latent {i}" for i in range(5))
    assert {n: a.shape for n, a in space.arrays.items()} == {"rna": (28, 5), "image": (31, 5)}
    assert all(a.dtype == np.float64 and np.isfinite(a).all() for a in space.arrays.values())


def test_it_is_an_embedder():
    assert isinstance(MultimodalVAE(), Embedder)


def test_the_provenance_says_what_was_used(toy):
    data, _ = toy(8)
    model = MultimodalVAE(**FAST, seed=3).fit(data)
    made_by = model.transform(data).made_by
    assert made_by.method == "MultimodalVAE"
    assert made_by.options == model.used()
    assert made_by.options | {"precision": None} == {
        "latent": 5,
        "hidden": 32,
        "adversary": "adversarial",
        "alpha": 1.0,
        "beta": 0.1,
        "kl": 1e-9,
        "epochs": 3,
        "batch": 16,
        "rate": 3e-3,
        "patience": None,
        "device": "cpu",
        "precision": None,
        "seed": 3,
    }
    assert made_by.options["precision"] == "float32"


@pytest.mark.parametrize("native", [True, False])
def test_only_where_there_are_images_it_is_learned_in_low_precision(monkeypatch, native):
    monkeypatch.setattr(fit_network, "native_bfloat16", lambda device: native)
    model = MultimodalVAE()
    assert model._settings(images=True, device="cpu").precision == ("bfloat16" if native else "float32")
    assert model._settings(images=False, device="cpu").precision == "float32"


@pytest.mark.parametrize(
    ("adversary", "beta", "used"), [("published", 0, "none"), ("adversarial", 1e-6, "adversarial")]
)
def test_the_adversary_that_was_used_is_said(toy, adversary, beta, used):
    model = MultimodalVAE(**FAST | {"epochs": 1}, adversary=adversary, beta=beta).fit(toy(4)[0])
    assert model.used()["adversary"] == used
    assert model.adversary == adversary


def test_new_cells_are_placed_by_what_was_learned(toy):
    """A cell's place does not depend on the company it comes in, and the recipe is the one that was fitted."""
    data, _ = toy(12)
    data = prepare(data, recipes="scale")
    model = MultimodalVAE(**FAST).fit(data)
    space = model.transform(data)
    few = Dataset(
        {n: replace(m.take(np.arange(4)), recipe=None) for n, m in data.modalities.items()}, classes=data.classes
    )
    some = model.transform(few)
    for name in data:
        np.testing.assert_allclose(some[name], space[name][:4], rtol=1e-4, atol=1e-5)
    only = Dataset({"rna": data["rna"]}, classes=data.classes)
    np.testing.assert_array_equal(model.transform(only)["rna"], space["rna"])


def test_readings_of_another_width_are_refused(toy):
    data, _ = toy(8)
    other, _ = toy(8, features=5)
    model = MultimodalVAE(**FAST).fit(data)
    with pytest.raises(DataError, match="rna: its readings have the shape 5, and 6 where"):
        model.transform(other)


def test_a_modality_that_was_not_fitted_is_refused(toy):
    data, _ = toy(8)
    other, _ = toy(8, modalities=("rna", "smell"))
    with pytest.raises(OptionError, match="modality must be one of image, rna; got 'smell'"):
        MultimodalVAE(**FAST).fit(data).transform(other)


@pytest.mark.parametrize("ask", [lambda m, d: m.transform(d), lambda m, _: m.used()])
def test_nothing_can_be_asked_before_fit(toy, ask):
    with pytest.raises(NotFittedError, match="call fit"):
        ask(MultimodalVAE(), toy(4)[0])


# ------------------------------------------------------------------ what it learns


@pytest.fixture(scope="module")
def learned(toy):
    data, _ = toy(40, spread=6.0)
    options = FAST | {"epochs": 15, "rate": 5e-3, "batch": 32}
    return {kind: MultimodalVAE(**options, adversary=kind).fit(data) for kind in ("adversarial", "published", "none")}


@pytest.mark.parametrize("kind", ["adversarial", "published", "none"])
def test_readings_are_rebuilt_and_labels_are_told(learned, kind):
    best = min(learned[kind].history_, key=lambda losses: losses.total)
    assert best.reconstruction < 0.4  # the mean reading would have one: features are standardised
    assert best.label < 0.3 < np.log(3)


def test_the_published_recipe_tells_the_modalities_apart_and_the_adversarial_one_less(learned):
    apart, mixed = (learned[k].history_[-1].modality for k in ("published", "adversarial"))
    assert apart < 0.15
    assert mixed > apart + 0.15


def test_the_epoch_is_chosen_by_what_each_recipe_learns_but_the_fight_with_the_adversary(learned):
    for kind, model in learned.items():
        for losses in model.history_:
            told = {"adversarial": 0.0, "published": losses.modality, "none": 0.0}[kind]
            parts = losses.reconstruction + losses.label + 1e-9 * losses.kl + 0.1 * told
            assert losses.total == pytest.approx(2 * parts, rel=1e-4)  # of two modalities
    assert all(losses.modality is None and losses.flipped is None for losses in learned["none"].history_)


def test_a_modality_loss_that_counts_nothing_needs_no_classifier(toy):
    data, _ = toy(8)
    none = MultimodalVAE(**FAST, adversary="none").fit(data).transform(data)
    zero = MultimodalVAE(**FAST, beta=0).fit(data).transform(data)
    for name in data:
        np.testing.assert_array_equal(none[name], zero[name])


def test_three_modalities_share_a_space(toy):
    data, _ = toy({"a": 10, "b": 25, "c": (3, 9, 4)}, modalities=("a", "b", "c"))
    model = MultimodalVAE(**FAST).fit(data)
    space = model.transform(data)
    assert [space[n].shape for n in data] == [(30, 5), (75, 5), (16, 5)]
    first = model.history_[0]  # nothing is known yet: of three, and evenly of the two others
    assert first.modality == pytest.approx(np.log(3), abs=0.15)
    assert first.flipped == pytest.approx(np.log(3), abs=0.15)


@pytest.mark.parametrize("recipe", ["image", "none"])
def test_images_of_bytes_are_learned_like_floats(recipe):
    data = prepare(bytes_of(), recipes=recipe)
    floats = Dataset(
        {n: replace(m, X=m.X.astype(np.float32)) for n, m in data.modalities.items()}, classes=data.classes
    )
    assert data["left"].X.dtype == np.uint8
    model = MultimodalVAE(**FAST).fit(data)
    space, same = model.transform(data), model.transform(floats)
    assert space["left"].shape == (24, 5)
    assert model.used()["epochs"] == 3
    for name in data:
        rows = np.arange(5)
        few = model.transform(data.take({name: rows}))
        np.testing.assert_allclose(few[name], space[name][rows], rtol=1e-3, atol=1e-4)
        # The canonical order is by the bytes of the readings, so that sums may differ in their last bits.
        np.testing.assert_allclose(same[name], space[name], rtol=1e-3, atol=1e-4)


def test_an_image_and_a_table_share_a_space():
    data = prepare(bytes_of(), recipes="image")
    right = data["right"]
    table = replace(right, X=right.X.mean(axis=(2, 3)).astype(np.float32), recipe=None)
    mixed = Dataset({"left": data["left"], "right": table}, classes=data.classes)
    space = MultimodalVAE(**FAST).fit(mixed).transform(mixed)
    assert space["left"].shape == space["right"].shape == (24, 5)


# ------------------------------------------------------------------ labels


def test_a_label_with_too_few_cells_is_not_trained_on_and_said(toy):
    data, _ = toy({"rna": (12, 1, 12), "image": (12, 12, 12)})
    model = MultimodalVAE(**FAST).fit(data)
    assert model.classes_ == ("a", "c")
    (note,) = model.notes_
    assert "'b'" in note
    assert model.transform(data).made_by.notes == model.notes_
    assert model.transform(data)["image"].shape == (36, 5)


def test_cells_without_a_label_are_rebuilt(toy):
    data, _ = toy(10, unlabelled=30)
    bare = data.take({n: np.flatnonzero(data[n].labels >= 0) for n in data})
    space = MultimodalVAE(**FAST).fit(data).transform(bare)
    alone = MultimodalVAE(**FAST).fit(bare).transform(bare)
    assert all(np.isfinite(a).all() for a in space.arrays.values())
    assert all(np.abs(space[n] - alone[n]).max() > 1e-3 for n in data)  # they were learned from


def test_two_cells_a_label_are_enough(toy):
    data, _ = toy(2)
    space = MultimodalVAE(**FAST).fit(data).transform(data)
    assert all(np.isfinite(a).all() for a in space.arrays.values())


def test_one_label_is_too_few(toy):
    data, _ = toy((5, 1, 1))
    with pytest.raises(DataError, match="Two such labels are needed"):
        MultimodalVAE(**FAST).fit(data)


def test_one_modality_is_too_few(toy):
    data, _ = toy(8)
    with pytest.raises(DataError, match="it has one modality, and a code of several needs two or more"):
        MultimodalVAE(**FAST).fit(Dataset({"rna": data["rna"]}, classes=data.classes))


def without_labels_to_judge_by(monkeypatch, names):
    """Let cells without a label choose the epoch in these modalities."""
    cells = MultimodalVAE._cells

    def made(self, modality, *args):
        of = cells(self, modality, *args)
        unknown = np.flatnonzero(of.y.numpy() < 0)
        return replace(of, valid=unknown) if modality.name in names else of

    monkeypatch.setattr(MultimodalVAE, "_cells", made)


@pytest.mark.parametrize("names", [(), ("rna",), ("rna", "image")])
def test_a_modality_whose_labels_nobody_judges_is_said(toy, monkeypatch, names):
    data, _ = toy(10, unlabelled=10)
    without_labels_to_judge_by(monkeypatch, names)
    model = MultimodalVAE(**FAST).fit(data)
    assert all(np.isnan(losses.label) == (len(names) == 2) for losses in model.history_)
    assert all(np.isfinite(losses.total) for losses in model.history_)
    if not names:
        assert model.notes_ == ()
        return
    (note,) = model.notes_
    assert "no cell that chooses the epoch has a label" in note
    assert note.startswith("rna: ") == (len(names) == 1)
    assert model.transform(data).made_by.notes == model.notes_


# ------------------------------------------------------------------ what cannot matter


def test_permuting_one_side_permutes_its_answer_and_nothing_else(toy):
    data, _ = toy({"rna": 12, "image": 9}, unlabelled=4)
    moved, rows = permuted(data, "rna")
    before, after = (MultimodalVAE(**FAST).fit(d).transform(d) for d in (data, moved))
    np.testing.assert_array_equal(after["rna"], before["rna"][rows])
    np.testing.assert_array_equal(after["image"], before["image"])


def test_the_seed_decides_and_nothing_else(toy):
    import torch

    data, _ = toy(9)
    one = MultimodalVAE(**FAST).fit(data).transform(data)
    torch.manual_seed(99)
    same = MultimodalVAE(**FAST).fit(data).transform(data)
    other = MultimodalVAE(**FAST, seed=1).fit(data).transform(data)
    for name in data:
        np.testing.assert_array_equal(one[name], same[name])
        assert np.abs(one[name] - other[name]).max() > 1e-3


def test_who_watches_changes_nothing(toy):
    data, _ = toy(9)
    quiet = MultimodalVAE(**FAST).fit(data)
    watched = MultimodalVAE(**FAST).fit(data, watch=lambda s: s.embed(data))
    assert watched.history_ == quiet.history_
    for name in data:
        np.testing.assert_array_equal(watched.transform(data)[name], quiet.transform(data)[name])


# ------------------------------------------------------------------ watching


def test_every_epoch_is_shown_and_the_best_is_kept(toy):
    data, _ = toy(15)
    other, _ = toy(6, seed=1)
    shown = []

    def watch(snapshot):
        shown.append((snapshot, snapshot.embed(other)))

    model = MultimodalVAE(**FAST | {"epochs": 12, "rate": 2e-2}).fit(data, watch=watch)
    assert [s.epoch for s, _ in shown] == list(range(12))
    assert all(s.modality is None for s, _ in shown)
    assert [s.loss for s, _ in shown] == [losses.total for losses in model.history_]
    assert [s.cross_entropy for s, _ in shown] == [losses.label for losses in model.history_]
    best = int(np.argmin([s.loss for s, _ in shown]))
    for name in other:
        np.testing.assert_array_equal(shown[best][1][name], model.transform(other)[name])
        others = [places[name] for e, (_, places) in enumerate(shown) if e != best]
        assert all(np.abs(places - shown[best][1][name]).max() > 1e-6 for places in others)


def test_patience_stops(toy):
    data, _ = toy(6, spread=0.0)
    model = MultimodalVAE(**FAST | {"epochs": 60, "rate": 3e-2}, patience=3).fit(data)
    totals = [losses.total for losses in model.history_]
    assert len(totals) < 60
    assert int(np.argmin(totals)) == len(totals) - 4


# ------------------------------------------------------------------ options


def test_the_published_recipe_by_name():
    model = MultimodalVAE.published(epochs=7, device="cpu", seed=2)
    assert (model.adversary, model.latent, model.hidden, model.alpha, model.beta, model.kl) == (
        "published",
        128,
        1024,
        1.0,
        0.1,
        1e-9,
    )
    assert (model.batch, model.rate, model.epochs, model.device, model.seed) == (256, 1e-4, 7, "cpu", 2)


@pytest.mark.parametrize(("images", "epochs"), [(True, 100), (False, 250)])
def test_the_published_epochs_are_the_default(images, epochs):
    assert MultimodalVAE()._settings(images=images, device="cpu").epochs == epochs


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("latent", 0, "latent must be a whole number of at least 1"),
        ("hidden", 1.5, "hidden must be a whole number of at least 1"),
        ("adversary", "yes", "adversary must be one of adversarial, none, published"),
        ("alpha", -1, "alpha must be at least 0"),
        ("beta", float("nan"), "beta must be a finite number"),
        ("kl", -1e-9, "kl must be at least 0"),
        ("epochs", 0, "epochs must be a whole number of at least 1"),
        ("batch", 1, "batch must be a whole number of at least 2"),
        ("rate", 0, "rate must be a finite number larger than 0"),
        ("patience", 0, "patience must be a whole number of at least 1"),
        ("device", "tpu", "device must be one of"),
        ("seed", -1, "seed must be a whole number"),
    ],
)
def test_a_wrong_option_is_told_before_any_work(name, value, says):
    with pytest.raises(OptionError, match=says):
        MultimodalVAE(**{name: value}).fit(None)
