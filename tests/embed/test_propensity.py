"""The propensity score as a user meets it: options, labels, the space and its noise."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from unpaired.data.preprocess import fit_recipe, prepare
from unpaired.data.types import Dataset, Modality
from unpaired.embed import fit_network
from unpaired.embed.propensity import Propensity
from unpaired.embed.training import TrainingSettings
from unpaired.errors import DataError, NotFittedError, OptionError, UnpairedError

FAST = {"folds": 2, "repeats": 2, "device": "cpu"}
LINEAR = {**FAST, "classifier": "logistic"}


def centred(scores):
    return scores - scores.mean(axis=-1, keepdims=True)


def permuted(data, seed=0, *, rename=False):
    """The same cells in another order, and with other names."""
    rng = np.random.default_rng(seed)
    rows = {n: rng.permutation(len(data[n])) for n in data}
    moved = data.take(rows)
    if rename:
        named = {
            n: replace(m, ids=np.array([f"{n}:new{i}" for i in range(len(m))])) for n, m in moved.modalities.items()
        }
        moved = replace(moved, modalities=named)
    return moved, rows


def variance(scores):
    """Mean over dimensions of the variance between scores of the same cells."""
    mean = sum(scores) / len(scores)
    return (sum((s - mean) ** 2 for s in scores) / (len(scores) - 1)).mean(axis=1)


@pytest.fixture(scope="module")
def fitted(toy):
    data, _ = toy((15, 25, 20), spread=1.0, unlabelled=6)
    return data, Propensity(**FAST).fit(data)


# ------------------------------------------------------------------ the space


def test_every_cell_of_every_modality_has_one_finite_coordinate_a_label(fitted):
    data, model = fitted
    space = model.transform(data)
    for name in data:
        assert space[name].shape == (len(data[name]), 3)
        assert np.isfinite(space[name]).all()
    assert space.dims == model.classes_ == ("a", "b", "c")
    assert space.space == "logit"


def test_coordinates_are_the_calibrated_logits_less_log_frequencies_less_their_mean(fitted):
    data, model = fitted
    space = model.transform(data)
    for name, fit in model.fits_.items():
        labels = data[name].labels
        share = np.bincount(labels[labels >= 0]) / np.sum(labels >= 0)
        expected = centred(fit.logits.mean(axis=0) / fit.quality.temperature - np.log(share))
        np.testing.assert_allclose(space[name], expected, atol=1e-12)


def test_the_temperature_is_learned_and_applied(toy):
    data, _ = toy((50, 25, 40), spread=0.7, features=30, noise=2.0)
    model = Propensity(**LINEAR).fit(data)
    raw = Propensity(**LINEAR, calibrate=False).fit(data)
    for name in data:
        temperature = model.fits_[name].quality.temperature
        assert temperature != pytest.approx(1, abs=0.02)
        assert raw.fits_[name].quality.temperature == 1
        prior = centred(raw.fits_[name].log_prior)
        np.testing.assert_allclose(
            model.transform(data)[name] + prior, centred(raw.transform(data)[name]) / temperature, atol=1e-9
        )


def test_without_calibration_the_space_is_the_raw_logits(toy):
    data, _ = toy((15, 25, 20), spread=1.0)
    model = Propensity(**LINEAR, calibrate=False).fit(data)
    space = model.transform(data)
    for name, fit in model.fits_.items():
        np.testing.assert_allclose(space[name], fit.logits.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(space.noise[name], fit.logits.var(axis=0, ddof=1).mean(axis=1))


def test_the_quality_is_that_of_the_out_of_fold_logits(fitted):
    data, model = fitted
    for name, q in model.validation_.items():
        y, scores = data[name].labels, model.fits_[name].logits.mean(axis=0)
        known = y >= 0
        assert q.cells == known.sum()
        assert q.accuracy == pytest.approx(np.mean(scores[known].argmax(axis=1) == y[known]))


def test_labels_that_are_easy_to_tell_are_told(toy):
    data, _ = toy(20, spread=6.0)
    assert all(q.accuracy > 0.9 for q in Propensity(**LINEAR).fit(data).validation_.values())


def test_two_modalities_with_different_label_frequencies_get_the_same_space():
    rng = np.random.default_rng(0)
    made = {}
    for name, counts in {"rna": (600, 150), "image": (150, 600)}.items():
        y = np.repeat([0, 1], counts)
        X = (rng.normal(size=(750, 2)) + np.array([[-0.6, 0], [0.6, 0]])[y]).astype(np.float32)
        made[name] = Modality(name, X, y, np.array([f"{name}:{i}" for i in range(750)]))
    data = Dataset(made, ("a", "b"))
    model = Propensity(classifier="logistic", folds=2, repeats=1).fit(data)
    grid = np.stack(np.meshgrid(np.linspace(-2, 2, 9), [-1, 0, 1]), axis=-1).reshape(-1, 2).astype(np.float32)
    ids = np.array([f"new:{i}" for i in range(len(grid))])
    probe = Dataset({n: Modality(n, grid, np.full(len(grid), -1), ids) for n in made}, data.classes)
    space = model.transform(probe)
    raw = {n: space[n] + centred(model.fits_[n].log_prior) for n in made}
    assert np.abs(raw["rna"] - raw["image"]).mean() > 1.0
    assert np.abs(space["rna"] - space["image"]).mean() < 0.25
    exact = 0.6 * grid[:, 0]  # half the log-likelihood ratio of two unit Gaussians at -0.6 and 0.6
    assert np.abs(space["rna"][:, 1] - exact).mean() < 0.25


def test_two_labels_are_a_binary_logistic_regression(toy):
    data, _ = toy(25, labels=("a", "b"), spread=1.0)
    model = Propensity(classifier="logistic", folds=2, repeats=1, calibrate=False).fit(data)
    space = model.transform(data)
    for name, fit in model.fits_.items():
        np.testing.assert_allclose(space[name][:, 0], -space[name][:, 1], atol=1e-12)
        known = data[name].labels
        p = expit(fit.logits[0, :, 1] - fit.logits[0, :, 0])
        loss = -np.mean(np.log(np.where(known == 1, p, 1 - p)))
        assert fit.quality.cross_entropy == pytest.approx(loss)


def test_the_noise_is_the_variance_between_the_repeats(fitted):
    data, model = fitted
    space = model.transform(data)
    for name, fit in model.fits_.items():
        known = data[name].labels >= 0
        repeats = [centred(r / fit.quality.temperature - fit.log_prior)[known] for r in fit.logits]
        np.testing.assert_allclose(model.noise_[name][known], variance(repeats), rtol=1e-9)
        assert np.array_equal(space.noise[name], model.noise_[name])


@pytest.mark.parametrize("calibrate", [True, False])
@pytest.mark.parametrize("classifier", ["logistic", "mlp", "blend"])
def test_a_cell_without_a_label_is_as_noisy_as_if_it_were_new(toy, classifier, calibrate):
    data, _ = toy((12, 14, 1), spread=1.0, unlabelled=6)  # the third label is not trained on
    bare = data.take({n: np.flatnonzero((m.labels >= 0) & (m.labels < 2)) for n, m in data.modalities.items()})
    options = {**FAST, "classifier": classifier, "calibrate": calibrate, "epochs": 2}
    model, other = Propensity(**options).fit(data), Propensity(**options).fit(bare)
    space = model.transform(data)
    for name, fit in model.fits_.items():
        own = (data[name].labels < 0) | (data[name].labels == 2)
        scores = fit.models.logits((data[name].X[own] - fit.center) / fit.scale)
        if calibrate:
            scores = [centred(s / fit.quality.temperature) for s in scores]
        np.testing.assert_allclose(space.noise[name][own], variance(scores), rtol=1e-4)
        np.testing.assert_allclose(model.noise_[name][own], variance(scores), rtol=1e-4)
        # The mean of the repeats is that of all models.
        np.testing.assert_allclose(space[name][own], fit.space(fit.logits[:, own]).mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(
            centred(space[name][own]), centred(sum(scores) / len(scores) - fit.log_prior * calibrate), atol=1e-6
        )
        # Models that never met them are about as far apart; their temperature, which a blend always has, is another.
        if not calibrate and classifier != "blend":
            new = other.transform(data).noise[name][own]
            assert 0.3 < np.median(space.noise[name][own] / new) < 3


def test_cells_that_all_models_score_have_noise_with_one_repeat_too(toy):
    data, _ = toy(10, unlabelled=4)
    model = Propensity(classifier="logistic", folds=3, repeats=1).fit(data)
    for name, fit in model.fits_.items():
        known = data[name].labels >= 0
        assert np.isnan(fit.noise[known]).all()
        assert (fit.noise[~known] > 0).all()
    assert model.noise_ is None
    assert model.transform(data).noise is None


def test_new_cells_have_noise_too(toy):
    data, _ = toy(20)
    other, _ = toy(20, seed=1)
    noise = Propensity(**LINEAR).fit(data).transform(other).noise
    assert all((noise[n] > 0).all() for n in data)


def test_with_one_repeat_the_noise_is_not_known(toy):
    data, _ = toy(10)
    model = Propensity(classifier="logistic", folds=2, repeats=1).fit(data)
    assert model.noise_ is None
    assert model.transform(data).noise is None


# ------------------------------------------------------------------ labels


@pytest.mark.parametrize("few", [0, 1])
def test_label_that_a_modality_lacks_is_left_out_with_a_sentence(toy, few):
    data, _ = toy({"rna": (12, few, 12), "image": (12, 12, 12)})
    model = Propensity(**LINEAR).fit(data)
    assert model.classes_ == ("a", "c")
    (note,) = model.notes_
    assert "'b'" in note
    assert "rna" in note
    assert model.transform(data).made_by.notes == model.notes_


@pytest.mark.parametrize("few", [0, 1])
def test_cells_of_a_label_left_out_still_have_coordinates_from_every_model(toy, few):
    data, _ = toy({"rna": (12, few, 12), "image": (12, 12, 12)})
    model = Propensity(**LINEAR).fit(data)
    fit, own = model.fits_["image"], data["image"].labels == 1
    space = model.transform(data)["image"]
    assert space.shape == (36, 2)
    every = fit.models.logits((data["image"].X[own] - fit.center) / fit.scale).mean(axis=0)
    np.testing.assert_allclose(space[own], centred(every / fit.quality.temperature - fit.log_prior), atol=1e-6)


def test_the_frequencies_are_those_of_the_labels_trained_on(toy):
    data, _ = toy({"rna": (12, 0, 4), "image": (12, 12, 12)}, unlabelled=5)
    model = Propensity(**LINEAR).fit(data)
    np.testing.assert_allclose(np.exp(model.fits_["rna"].log_prior), [0.75, 0.25])
    np.testing.assert_allclose(np.exp(model.fits_["image"].log_prior), [0.5, 0.5])


def test_labels_of_two_cells_are_enough(toy):
    data, _ = toy(2)
    space = Propensity(classifier="logistic", folds=5, repeats=2).fit(data).transform(data)
    assert all(np.isfinite(space[n]).all() for n in data)


def test_with_one_fold_labels_too_small_to_keep_a_cell_aside_are_said_and_not_guessed_at(toy):
    data, _ = toy(2)
    refused = []
    for seed in range(8):
        model = Propensity(classifier="logistic", folds=1, repeats=1, seed=seed)
        try:
            space = model.fit(data).transform(data)
        except OptionError as error:
            refused.append(str(error))
        else:
            assert all(np.isfinite(space[n]).all() for n in data)
    assert 0 < len(refused) < 8
    assert all("folds=1" in sentence for sentence in refused)


def test_a_label_whose_cells_all_read_the_same_does_not_stop_the_others(toy):
    data, _ = toy((12, 12, 4))
    X = data["rna"].X.copy()
    own = np.flatnonzero(data["rna"].labels == 2)
    X[own] = X[own[0]]
    twins = replace(data, modalities={**data.modalities, "rna": replace(data["rna"], X=X)})
    model = Propensity(**LINEAR).fit(twins)
    space = model.transform(twins)
    assert model.classes_ == ("a", "b")
    assert all(np.isfinite(space[n]).all() for n in data)


def test_a_label_whose_cells_read_like_those_of_another_does_not_stop_the_fit(toy):
    data, _ = toy((12, 12, 2))
    X, labels = data["rna"].X.copy(), data["rna"].labels
    X[labels == 2] = X[labels == 0][:2]
    twins = replace(data, modalities={**data.modalities, "rna": replace(data["rna"], X=X)})
    for seed in range(4):  # both twins may be dealt to one fold, whose model then knows nothing of their label
        space = Propensity(classifier="logistic", folds=2, repeats=1, seed=seed).fit(twins).transform(twins)
        assert np.isfinite(space["rna"]).all()


@pytest.mark.parametrize("seed", range(3))
def test_two_labels_of_which_one_only_repeats_readings_of_the_other_are_told_in_the_packages_own_words(toy, seed):
    data, _ = toy((6, 2), labels=("a", "b"))
    X, labels = data["rna"].X.copy(), data["rna"].labels
    X[labels == 1] = X[labels == 0][:2]
    twins = replace(data, modalities={**data.modalities, "rna": replace(data["rna"], X=X)})
    try:
        space = Propensity(classifier="logistic", folds=2, repeats=1, seed=seed).fit(twins).transform(twins)
    except UnpairedError:
        return
    assert np.isfinite(space["rna"]).all()


def test_three_modalities_share_one_space(toy):
    data, _ = toy(8, modalities=("rna", "image", "adt"))
    space = Propensity(classifier="logistic", folds=2, repeats=2).fit(data).transform(data)
    assert {n: a.shape for n, a in space.arrays.items()} == dict.fromkeys(data, (24, 3))


# ------------------------------------------------------------------ order and names


@pytest.mark.parametrize("classifier", ["logistic", "mlp", "blend"])
def test_neither_the_order_nor_the_names_of_the_cells_change_a_bit(toy, classifier):
    data, _ = toy(12, unlabelled=3)
    moved, rows = permuted(data, rename=True)
    options = {**FAST, "classifier": classifier, "epochs": 2}
    one = Propensity(**options).fit(data).transform(data)
    two = Propensity(**options).fit(moved).transform(moved)
    for name in data:
        assert np.array_equal(one[name][rows[name]], two[name])
        assert np.array_equal(one.noise[name][rows[name]], two.noise[name])
        assert np.array_equal(one.noise_covariance[name], two.noise_covariance[name])


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(toy):
    data, _ = toy(12)
    one, two, other = (Propensity(**LINEAR, seed=s).fit(data).transform(data)["rna"] for s in (4, 4, 5))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_workers_do_not_change_a_bit(toy):
    data, _ = toy(12)
    one, two = (Propensity(**LINEAR, jobs=jobs).fit(data).transform(data) for jobs in (1, 2))
    assert all(np.array_equal(one[n], two[n]) for n in data)


def test_modalities_do_not_influence_each_other(toy):
    data, _ = toy(12)
    other = replace(data["image"], X=data["image"].X[:, ::-1] * 3)
    changed = replace(data, modalities={"rna": data["rna"], "image": other})
    one = Propensity(**LINEAR).fit(data).transform(data)
    two = Propensity(**LINEAR).fit(changed).transform(changed)
    assert np.array_equal(one["rna"], two["rna"])
    assert not np.array_equal(one["image"], two["image"])


# ------------------------------------------------------------------ the estimator's manners


def options_of(model):
    return {k: v for k, v in vars(model).items() if not k.endswith("_")}


def test_fit_returns_itself_and_neither_it_nor_transform_changes_an_option(toy):
    data, _ = toy(6)
    model = Propensity(classifier={"rna": "mlp"}, folds=2, repeats=1, epochs=1, device="auto")
    before = options_of(model)
    assert model.fit(data) is model
    model.transform(data)
    assert options_of(model) == before
    assert model.classifier == {"rna": "mlp"}


def test_fitting_again_forgets_the_first_fit(toy):
    first, _ = toy(9, labels=("x", "y", "z"))
    second, _ = toy(9, labels=("a", "b"), seed=1)
    again = Propensity(**LINEAR).fit(first).fit(second)
    fresh = Propensity(**LINEAR).fit(second)
    assert again.classes_ == ("a", "b")
    assert np.array_equal(again.transform(second)["rna"], fresh.transform(second)["rna"])


def test_the_data_are_not_modified(toy):
    data, _ = toy(8)
    before = {n: (m.X.copy(), m.labels.copy()) for n, m in data.modalities.items()}
    Propensity(**LINEAR).fit(data).transform(data)
    for name, (X, labels) in before.items():
        assert np.array_equal(data[name].X, X)
        assert np.array_equal(data[name].labels, labels)


@pytest.mark.parametrize("ask", ["validation_", "noise_"])
def test_what_is_learned_cannot_be_asked_for_before_fit(ask):
    with pytest.raises(NotFittedError, match="fit"):
        getattr(Propensity(), ask)


def test_nothing_can_be_transformed_before_fit(toy):
    data, _ = toy(4)
    with pytest.raises(NotFittedError, match="fit"):
        Propensity().transform(data)
    with pytest.raises(NotFittedError, match="fit"):
        Propensity().used()


def test_a_modality_that_was_not_in_fit_is_refused(toy):
    model = Propensity(classifier="logistic", folds=2, repeats=1).fit(toy(6)[0])
    other, _ = toy(6, modalities=("rna", "adt"))
    with pytest.raises(OptionError, match="modality must be one of image, rna; got 'adt'"):
        model.transform(other)


@pytest.mark.parametrize("recipe", [None, "scale"])
def test_readings_of_another_width_are_refused(toy, recipe):
    data, other = (prepare(toy(6, features=n)[0], recipes=recipe or "none") for n in (6, 5))
    with pytest.raises(DataError, match="rna: its readings have the shape 5, and 6 where the model was fitted"):
        Propensity(classifier="logistic", folds=2, repeats=1).fit(data).transform(other)


def test_images_of_another_size_are_refused():
    data, other = (as_bytes(small_images(n=4, size=size)) for size in (32, 40))
    with pytest.raises(DataError, match="left: its readings have the shape 1x40x40, and 1x32x32 where"):
        Propensity(classifier="logistic", **FAST).fit(data).transform(other)


def test_the_options_as_used_name_the_classifier_that_auto_chose(fitted):
    _, model = fitted
    used = model.used()
    assert used["classifier"] == {"rna": "blend", "image": "blend"}
    assert used["device"] == {"rna": "cpu", "image": "cpu"}
    assert (used["folds"], used["repeats"], used["seed"]) == (2, 2, 0)


BAD = [
    ("folds", 0),
    ("folds", 2.5),
    ("folds", True),
    ("folds", "5"),
    ("repeats", 0),
    ("jobs", 0),
    ("jobs", -1),
    ("seed", -1),
    ("seed", 2**32),
    ("epochs", 0),
    ("epochs", 1.5),
    ("epochs", {"rna": 0}),
    ("epochs", {"rna": "5"}),
    ("epochs", {"image": None, "rna": True}),
    ("epochs", [5, 5]),
    ("classifier", "svm"),
    ("classifier", {"rna": "svm"}),
    ("classifier", {"rna": None}),
    ("classifier", None),
    ("device", "tpu"),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{n}={v!r}" for n, v in BAD])
def test_a_bad_option_is_one_sentence_that_names_it_before_any_work(toy, name, value):
    data, _ = toy(4)
    model = Propensity(**{name: value})
    with pytest.raises(OptionError) as caught:
        model.fit(data)
    sentence = str(caught.value)
    assert sentence.startswith(f"{name} must be ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert repr(value["rna"] if isinstance(value, dict) else value) in sentence
    assert not hasattr(model, "fits_")


def test_a_classifier_for_a_modality_that_is_not_there_is_refused(toy):
    with pytest.raises(OptionError, match="modality must be one of rna, image; got 'protein'"):
        Propensity(classifier={"protein": "mlp"}).fit(toy(4)[0])


def test_epochs_for_a_modality_that_is_not_there_are_refused(toy):
    with pytest.raises(OptionError, match="modality of epochs must be one of image, rna; got 'protein'"):
        Propensity(epochs={"protein": 3}).fit(toy(4)[0])


def test_epochs_for_a_logistic_regression_are_refused_where_both_are_named(toy):
    data, _ = toy(6)
    with pytest.raises(OptionError, match="'rna' is logistic"):
        Propensity(classifier={"rna": "logistic"}, epochs={"rna": 3}).fit(data)
    Propensity(classifier={"rna": "logistic"}, epochs={"rna": None}, folds=2, repeats=1).fit(data)


@pytest.mark.parametrize("classifier", ["mlp", "blend"])
def test_a_perceptron_for_images_is_refused(classifier):
    with pytest.raises(OptionError, match=f"classifier '{classifier}' does not fit modality 'left'"):
        Propensity(classifier=classifier, epochs=1, folds=2, repeats=1).fit(small_images(n=3))


def test_a_convolutional_net_for_a_table_is_refused(toy):
    with pytest.raises(OptionError, match="conv"):
        Propensity(classifier="conv", epochs=1, folds=2, repeats=1).fit(toy(4)[0])


# ------------------------------------------------------------------ classifiers


def test_each_modality_can_have_its_own_classifier_and_auto_chooses_the_rest(toy):
    data, _ = toy(8, modalities=("rna", "image", "adt"))
    model = Propensity(classifier={"rna": "mlp", "image": "logistic"}, folds=2, repeats=1, epochs=1).fit(data)
    assert {n: f.kind for n, f in model.fits_.items()} == {"rna": "mlp", "image": "logistic", "adt": "blend"}
    assert list(model.used()["device"]) == ["rna", "adt"]


def test_each_modality_can_have_its_own_epochs(toy, monkeypatch):
    monkeypatch.setattr(fit_network, "default_epochs", lambda *_, **__: 4)
    data, _ = toy(8, modalities=("rna", "image", "adt"))
    model = Propensity(classifier="mlp", epochs={"rna": 2, "image": None}, **FAST).fit(data)
    assert {n: len(f.models.history) for n, f in model.fits_.items()} == {"rna": 2, "image": 4, "adt": 4}
    assert model.used()["epochs"] == {"rna": 2, "image": None}
    alone = Propensity(classifier="mlp", epochs=2, **FAST).fit(data)
    np.testing.assert_array_equal(model.transform(data)["rna"], alone.transform(data)["rna"])


def small_images(n=12, size=32, seed=0):
    """Two labels: a bright square above or below."""
    rng = np.random.default_rng(seed)
    made = {}
    for name in ("left", "right"):
        y = rng.permutation(np.repeat([0, 1], n))
        X = 0.3 * rng.normal(size=(2 * n, 1, size, size))
        for i, t in enumerate(y):
            X[i, 0, 4 + 16 * t : 14 + 16 * t, 8:24] += 2
        made[name] = Modality(name, X.astype(np.float32), y, np.array([f"{name}:{i}" for i in range(2 * n)]))
    return Dataset(made, ("up", "down"))


def test_small_images_get_a_convolutional_net_that_learns():
    data = small_images()
    model = Propensity(folds=2, repeats=1, epochs=20, device="cpu").fit(data)
    assert {f.kind for f in model.fits_.values()} == {"conv"}
    assert all(q.accuracy > 0.9 for q in model.validation_.values())
    assert model.transform(data)["left"].shape == (24, 2)


def test_images_can_be_told_by_logistic_regression_too():
    model = Propensity(classifier="logistic", **FAST).fit(small_images())
    assert all(q.accuracy > 0.9 for q in model.validation_.values())


def as_bytes(data):
    """The same pictures in whole numbers, with the recipe of images."""
    made = {}
    for name, m in data.modalities.items():
        X = np.clip(60 * m.X + 80, 0, 255).astype(np.uint8)
        made[name] = replace(m, X=X, recipe=fit_recipe("image", X))
    return replace(data, modalities=made)


def as_floats(data):
    """The same readings as numbers with a point."""
    return replace(data, modalities={n: replace(m, X=m.X.astype(np.float32)) for n, m in data.modalities.items()})


@pytest.fixture
def float32(monkeypatch):
    monkeypatch.setattr(fit_network, "native_bfloat16", lambda device: False)


@pytest.mark.parametrize("classifier", ["conv", "logistic"])
@pytest.mark.usefixtures("float32")
def test_images_of_bytes_are_learned_as_their_features_are(classifier):
    data, new = as_bytes(small_images(n=8)), as_bytes(small_images(n=3, seed=1))
    options = {**FAST, "classifier": classifier, "epochs": 2, "calibrate": False}
    one = Propensity(**options).fit(data)
    two = Propensity(**options).fit(as_floats(data))
    for cells in (data, new):
        for name in data:
            np.testing.assert_allclose(
                one.transform(cells)[name], two.transform(as_floats(cells))[name], rtol=1e-3, atol=1e-3
            )


def test_images_of_bytes_never_become_numbers_as_a_whole():
    data = as_bytes(small_images(n=4))
    Propensity(**FAST, epochs=1).fit(data).transform(data)
    assert not any("features" in vars(m) for m in data.modalities.values())


def test_the_order_of_images_does_not_change_a_bit():
    data = as_bytes(small_images(n=6))
    moved, rows = permuted(data, rename=True)
    one, two = (Propensity(**FAST, epochs=2).fit(d).transform(d) for d in (data, moved))
    assert all(np.array_equal(one[n][rows[n]], two[n]) for n in data)


@pytest.mark.parametrize("native", [True, False])
def test_the_precision_is_the_one_the_processor_has_and_is_said(monkeypatch, native):
    monkeypatch.setattr(fit_network, "native_bfloat16", lambda device: native)
    data = small_images(n=4)
    used = Propensity(**FAST, classifier={"left": "logistic"}, epochs=1).fit(data).used()
    assert used["precision"] == {"right": "bfloat16" if native else "float32"}


def test_tables_are_learned_in_float32(toy):
    used = Propensity(**FAST, classifier="mlp", epochs=1).fit(toy(6)[0]).used()
    assert used["precision"] == {"rna": "float32", "image": "float32"}


# ------------------------------------------------------------------ watching it learn


def watched(data, **options):
    model, seen = Propensity(**{**FAST, **options}), []
    model.fit(data, watch=lambda s: seen.append((s, s.embed(data))))
    return model, seen


@pytest.mark.parametrize("calibrate", [True, False])
def test_every_epoch_of_every_modality_is_shown_with_its_loss(toy, calibrate):
    data, _ = toy(12)
    model, seen = watched(data, classifier="mlp", epochs=3, calibrate=calibrate)
    assert [(s.modality, s.epoch) for s, _ in seen] == [(n, e) for n in data for e in range(3)]
    for name, fit in model.fits_.items():
        losses = [s.loss for s, _ in seen if s.modality == name]
        np.testing.assert_allclose(losses, fit.models.history, rtol=1e-6)
        assert losses == [s.cross_entropy for s, _ in seen if s.modality == name]


@pytest.mark.parametrize("calibrate", [True, False])
def test_after_an_only_epoch_the_coordinates_shown_are_those_of_transform(toy, calibrate):
    data, _ = toy(12, unlabelled=3)
    other, _ = toy(5, seed=3)
    shown = []
    model = Propensity(**FAST, classifier="mlp", epochs=1, calibrate=calibrate)
    model.fit(data, watch=lambda s: shown.append((s.modality, s.embed(data), s.embed(other))))
    for name, own, new in shown:
        assert set(own) == set(new) == {name}
        np.testing.assert_allclose(own[name], model.transform(data)[name], atol=1e-6)
        np.testing.assert_allclose(new[name], model.transform(other)[name], atol=1e-6)


def test_watching_changes_nothing_of_what_is_learned(toy):
    data, _ = toy(12)
    options = {**FAST, "classifier": "mlp", "epochs": 4}
    one = Propensity(**options).fit(data).transform(data)
    two = watched(data, classifier="mlp", epochs=4)[0].transform(data)
    assert all(np.array_equal(one[n], two[n]) for n in data)


def test_a_logistic_regression_has_no_epochs_to_be_shown(toy):
    assert watched(toy(8)[0], classifier="logistic")[1] == []


# ------------------------------------------------------------------ the published recipe


@pytest.mark.parametrize(("images", "epochs"), [(True, 100), (False, 250)])
def test_the_published_training_is_that_of_the_paper(images, epochs):
    settings = fit_network._settings("published", None, images=images, cells=50, device="cpu")
    precision = "bfloat16" if images and fit_network.native_bfloat16("cpu") else "float32"
    assert settings == TrainingSettings(epochs, 256, 1e-4, 1e-4, "adam", 10**6, cycle="epoch", precision=precision)


def test_the_published_recipe_for_images_is_the_convolutional_encoder():
    model = Propensity.published(epochs=1, device="cpu").fit(small_images(n=6))
    assert [k.shape[1] for k in model.fits_["left"].models.net.kernels] == [32, 64, 128, 256, 512]


@pytest.mark.parametrize(("cells", "epochs"), [(24, 100), (900, 29), (3600, 8), (10**5, 8)])
def test_few_images_are_walked_through_more_often(cells, epochs):
    settings = fit_network._settings("conv", None, images=True, cells=cells, device="cpu")
    assert settings.epochs == epochs
    assert fit_network._settings("conv", 7, images=True, cells=cells, device="cpu").epochs == 7


@pytest.fixture(scope="module")
def published(toy):
    data, _ = toy({"rna": (30, 10, 20), "image": (20, 20, 20)})
    return data, Propensity.published(epochs=3, device="cpu").fit(data)


def test_the_published_recipe_is_one_wide_model_on_one_split(published):
    data, model = published
    assert (model.folds, model.repeats, model.calibrate) == (1, 1, False)
    for name, fit in model.fits_.items():
        assert fit.kind == "published"
        assert fit.logits.shape == (1, 60, 3)
        widths = [tuple(p.shape[1:]) for n, p in fit.models.net.named_parameters() if n.endswith("weight")]
        assert widths == [(6, 1024)] + [(1024, 1024)] * 4 + [(1024, 3)], name
        np.testing.assert_allclose(
            fit.logits[0], fit.models.logits((data[name].X - fit.center) / fit.scale)[0], atol=1e-5
        )


def test_the_published_recipe_is_judged_on_the_fifth_of_the_cells_it_did_not_learn_from(published):
    _, model = published
    assert {n: q.cells for n, q in model.validation_.items()} == {"rna": 12, "image": 12}


def test_the_space_of_the_published_recipe_is_its_raw_logits(published):
    data, model = published
    space = model.transform(data)
    for name, fit in model.fits_.items():
        np.testing.assert_allclose(space[name], fit.logits[0], atol=1e-6)
