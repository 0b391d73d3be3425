"""The choice of the classifiers: what is tried, how it is compared, what the time allows, and what is taken."""

import json
from dataclasses import FrozenInstanceError, asdict, replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from unpaired.data.types import Dataset, Modality
from unpaired.embed import tune as module
from unpaired.embed.propensity import Propensity
from unpaired.embed.tune import Trial, Tuning, tune
from unpaired.errors import DataError, OptionError

FAST = {"folds": 2, "device": "cpu"}
TABLE = [("logistic", None), ("mlp", 2), ("mlp", 4), ("blend", 4), ("mlp", 8)]
NO_TIME = 1e-9


@pytest.fixture(scope="module")
def data(toy):
    """Overlapping labels in two tables, and some cells without a label."""
    return toy((15, 25, 20), spread=0.6, unlabelled=5)[0]


@pytest.fixture(autouse=True, scope="module")
def _short():
    """Networks learn for four epochs by default: two, four and eight are tried."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unpaired.embed.fit_network.default_epochs", lambda *_, **__: 4)
        yield


@pytest.fixture(scope="module")
def tuned(data):
    return tune(data, **FAST)


def images(n=10, size=16, seed=0):
    """Two labels: a bright square above or below."""
    rng = np.random.default_rng(seed)
    made = {}
    for name in ("left", "right"):
        y = np.repeat([0, 1], n)
        X = rng.normal(size=(2 * n, 1, size, size)).astype(np.float32)
        for i, t in enumerate(y):
            X[i, 0, 8 * t : 8 * t + 8] += 1
        made[name] = Modality(name, X, y, np.array([f"{name}:{i}" for i in range(2 * n)]))
    return Dataset(made, ("up", "down"))


def settings(tuning, name):
    return [(t.classifier, t.epochs) for t in tuning.trials if t.modality == name]


def found(tuning):
    """All that does not depend on the clock."""
    return tuning.choice, [replace(t, seconds=0) for t in tuning.trials], tuning.notes


def cell_losses(data, trial):
    """Out-of-fold losses of the labelled cells, by the estimator itself."""
    epochs = None if trial.epochs is None else {trial.modality: trial.epochs}
    model = Propensity(classifier={trial.modality: trial.classifier}, epochs=epochs, repeats=1, **FAST).fit(data)
    fit, y = model.fits_[trial.modality], data[trial.modality].labels
    logp = log_softmax(fit.logits[0] / fit.quality.temperature, axis=1)[y >= 0]
    return -logp[np.arange(len(logp)), y[y >= 0]], model.validation_[trial.modality]


class Clock:
    """A clock that stands still, but for a second an epoch."""

    def __init__(self, monkeypatch):
        self.now, self.fits = 0.0, []
        monkeypatch.setattr(module, "perf_counter", lambda: self.now)
        fit_modality = module.fit_modality

        def fit(modality, *arguments, kind, options, watch):
            def later(snapshot):
                self.now += 1
                watch(snapshot)

            self.fits.append((modality.name, kind, options.epochs))
            return fit_modality(modality, *arguments, kind=kind, options=options, watch=later)

        monkeypatch.setattr(module, "fit_modality", fit)


# ------------------------------------------------------------------ what is tried


def test_tables_get_a_regression_perceptrons_of_three_lengths_and_the_blend(data, tuned):
    for name in data:
        assert settings(tuned, name) == TABLE
    assert {t.status for t in tuned.trials} == {"tried"}
    assert [t.epochs_done for t in tuned.trials] == [0, 2, 4, 4, 8] * 2


def test_images_get_convolutional_nets_of_three_lengths():
    tuning = tune(images(), **FAST)
    assert settings(tuning, "left") == settings(tuning, "right") == [("conv", 2), ("conv", 4), ("conv", 8)]
    assert {c["classifier"] for c in tuning.choice.values()} == {"conv"}


def test_the_lengths_are_those_of_the_network_s_own_default(data, monkeypatch):
    monkeypatch.setattr("unpaired.embed.fit_network.default_epochs", lambda kind, *, images, cells: cells)
    model = Propensity(classifier="mlp", repeats=1, **FAST).fit(data)
    usual = {n: len(f.models.history) for n, f in model.fits_.items()}
    tuning = tune(data, seconds=NO_TIME, **FAST)
    for name, epochs in usual.items():
        assert epochs > 10
        assert settings(tuning, name)[1:3] == [("mlp", round(epochs / 2)), ("mlp", epochs)]
        assert settings(tuning, name)[3:] == [("blend", epochs), ("mlp", 2 * epochs)]


def test_modalities_take_turns_cheapest_first(data, monkeypatch):
    clock = Clock(monkeypatch)
    tune(data, **FAST)
    order = [(kind, epochs) for _, kind, epochs in clock.fits]
    assert order == [s for s in TABLE for _ in data]
    assert [name for name, *_ in clock.fits] == list(data) * 5


# ------------------------------------------------------------------ how it is compared


def test_a_setting_is_judged_as_the_estimator_judges_it(data, tuned):
    for trial in tuned.trials:
        losses, quality = cell_losses(data, trial)
        assert trial.cross_entropy == pytest.approx(losses.mean(), rel=1e-9)
        assert trial.cross_entropy == pytest.approx(quality.cross_entropy, rel=1e-9)
        assert (trial.accuracy, trial.calibration_error) == (quality.accuracy, quality.calibration_error)


def test_the_difference_to_the_best_is_paired_by_cell(data, tuned):
    for name in data:
        trials = [t for t in tuned.trials if t.modality == name]
        losses = [cell_losses(data, t)[0] for t in trials]
        best = losses[int(np.argmin([values.mean() for values in losses]))]
        for trial, values in zip(trials, losses, strict=True):
            assert trial.above_best == pytest.approx((values - best).mean(), abs=1e-9)
            expected = np.std(values - best, ddof=1) / np.sqrt(len(best))
            assert trial.standard_error == pytest.approx(expected, abs=1e-9)
        assert sum(t.above_best == 0 for t in trials) == 1


def test_what_is_taken_is_the_cheapest_within_one_standard_error_of_the_lowest(data, tuned):
    for name in data:
        trials = [t for t in tuned.trials if t.modality == name]
        near = [t for t in trials if t.above_best <= t.standard_error]
        assert tuned.choice[name] == {"classifier": near[0].classifier, "epochs": near[0].epochs}


BASE = np.array([0.5, 1.5, 1.0, 2.0, 0.2, 0.8])
NOISE = np.array([0.1, -0.1, 0.1, -0.1, 0.1, -0.1])


@pytest.mark.parametrize(
    ("losses", "taken"),
    [
        ([BASE, BASE - 0.2, BASE + 1], 1),  # the lowest, and surely so
        ([BASE + 0.01 + NOISE, BASE, BASE + 1], 0),  # within one standard error, 0.045: the cheaper one
        ([BASE + 0.06 + NOISE, BASE, BASE + 1], 1),  # beyond it, though the cells' own spread is ten times that
        ([BASE + 1, BASE + 0.02 + NOISE, BASE], 1),  # the cheapest of those within it, not the cheapest of all
        ([BASE, BASE + NOISE, BASE], 0),  # of equals the cheapest
        ([BASE + 0.3, None, BASE], 2),  # one that was stopped is nothing to take
        ([BASE, None, None], 0),
    ],
)
def test_the_rule_of_choice(losses, taken):
    tried = [
        (Trial("rna", "mlp", k, "stopped" if values is None else "tried"), values) for k, values in enumerate(losses)
    ]
    trials, chosen = module._compare(tried)
    assert chosen is trials[taken]
    assert [t.above_best is None for t in trials] == [values is None for values in losses]


def test_the_same_seed_finds_the_same_and_another_one_other_numbers(data, tuned):
    assert found(tune(data, **FAST)) == found(tuned)
    assert [t.cross_entropy for t in tune(data, seed=1, **FAST).trials] != [t.cross_entropy for t in tuned.trials]


def test_the_order_and_the_names_of_the_cells_change_nothing(data, tuned):
    rng = np.random.default_rng(3)
    moved = data.take({n: rng.permutation(len(data[n])) for n in data})
    named = {n: replace(m, ids=np.array([f"{n}:new{i}" for i in range(len(m))])) for n, m in moved.modalities.items()}
    assert found(tune(replace(moved, modalities=named), **FAST)) == found(tuned)


# ------------------------------------------------------------------ the time


def test_without_time_there_is_still_a_choice(data, tuned):
    tuning = tune(data, seconds=NO_TIME, **FAST)
    assert [t.status for t in tuning.trials] == ["tried", *["not tried"] * 4] * 2
    assert tuning.choice == {name: {"classifier": "logistic", "epochs": None} for name in data}
    for name in data:  # and a trial finds what it finds with time
        first = [next(t for t in run.trials if t.modality == name) for run in (tuning, tuned)]
        assert first[0].cross_entropy == first[1].cross_entropy
    for trial in tuning.trials:
        known = asdict(trial)
        unknown = {k for k, v in known.items() if v is None} - {"epochs"}
        assert bool(unknown) == (trial.status == "not tried")


def test_the_first_network_is_finished_whatever_the_time():
    tuning = tune(images(), seconds=NO_TIME, **FAST)
    assert [(t.status, t.epochs_done) for t in tuning.trials] == [("tried", 2), ("not tried", 0), ("not tried", 0)] * 2


def test_a_network_is_stopped_when_the_time_is_over(data, monkeypatch):
    clock = Clock(monkeypatch)
    tuning = tune(data, seconds=2.5, **FAST)
    assert [(t.classifier, t.epochs, t.status, t.epochs_done) for t in tuning.trials] == [
        ("logistic", None, "tried", 0),
        ("mlp", 2, "tried", 2),  # seconds 1 and 2
        ("mlp", 4, "not tried", 0),
        ("blend", 4, "not tried", 0),
        ("mlp", 8, "not tried", 0),
        ("logistic", None, "tried", 0),
        ("mlp", 2, "stopped", 1),  # second 3
        ("mlp", 4, "not tried", 0),
        ("blend", 4, "not tried", 0),
        ("mlp", 8, "not tried", 0),
    ]
    assert tuning.trials[6].seconds == 1
    assert tuning.trials[6].cross_entropy is None
    assert tuning.choice["image"] == {"classifier": "logistic", "epochs": None}
    assert tuning.seconds == clock.now == 3


def test_a_network_whose_last_epoch_is_over_the_time_is_not_thrown_away(data, monkeypatch):
    Clock(monkeypatch)
    tuning = tune(data, seconds=1.5, **FAST)
    assert [t.status for t in tuning.trials if t.epochs == 2] == ["tried", "not tried"]


def test_a_stopped_training_leaves_nothing_behind(data, tuned, monkeypatch):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with monkeypatch.context() as patch:
        Clock(patch)
        assert "stopped" in {t.status for t in tune(data, seconds=2.5, **FAST).trials}
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    assert found(tune(data, **FAST)) == found(tuned)


# ------------------------------------------------------------------ options, and what comes back


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seconds", 0),
        ("seconds", -1),
        ("seconds", float("nan")),
        ("seconds", "long"),
        ("folds", 1),
        ("folds", 2.5),
        ("jobs", 0),
        ("seed", -1),
        ("device", "gpu"),
        ("device", "cuda"),
    ],
)
def test_a_bad_option_is_one_sentence_before_any_work(data, monkeypatch, name, value):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(module, "fit_modality", lambda *_, **__: pytest.fail("fitted before the options were checked"))
    with pytest.raises(OptionError) as caught:
        tune(data, **{name: value})
    sentence = str(caught.value)
    assert sentence.startswith(f"{name} must be ")
    assert sentence.endswith(".")
    assert repr(value) in sentence


def test_labels_that_cannot_be_learned_are_named(toy):
    tuning = tune(toy((12, 12, 1))[0], seconds=NO_TIME, **FAST)
    assert any("'c'" in note for note in tuning.notes)
    with pytest.raises(DataError):
        tune(toy((12, 1, 1))[0], seconds=NO_TIME, **FAST)


def test_the_choice_makes_an_estimator(data, tuned):
    taken = {"rna": {"classifier": "mlp", "epochs": 3}, "image": {"classifier": "logistic", "epochs": None}}
    model = replace(tuned, choice=taken).propensity(repeats=2, **FAST)
    model.fit(data)
    assert {n: f.kind for n, f in model.fits_.items()} == {"rna": "mlp", "image": "logistic"}
    assert len(model.fits_["rna"].models.history) == 3
    assert (model.repeats, model.folds) == (2, 2)


def test_it_is_a_table_to_read_and_a_dictionary_for_json(tuned):
    lines = repr(tuned).splitlines()
    assert lines[0].startswith("Tuning(10 of 10 settings tried")
    assert len(lines) == 2 + len(tuned.trials)
    assert [line.split()[0] for line in lines[2:]] == [t.modality for t in tuned.trials]
    marked = [t for t, line in zip(tuned.trials, lines[2:], strict=True) if line.endswith("chosen")]
    assert {t.modality: {"classifier": t.classifier, "epochs": t.epochs} for t in marked} == tuned.choice
    assert len(marked) == len(tuned.choice)
    assert f"{tuned.trials[1].cross_entropy:.4f}" in lines[3]
    said = json.loads(json.dumps(tuned.to_dict(), allow_nan=False))
    assert said["choice"] == tuned.choice
    assert said["trials"] == [asdict(t) for t in tuned.trials]


def test_the_table_says_what_was_not_tried():
    left = (Trial("rna", "mlp", 9, "stopped", 5, seconds=1.0), Trial("rna", "mlp", 18))
    first = Trial("rna", "logistic", None, "tried", 0, 0.5, 0.0, 0.0, 0.1, 0.9, 0.01)
    lines = repr(Tuning({"rna": {"classifier": "logistic", "epochs": None}}, (first, *left), 2.0)).splitlines()
    assert lines[0] == "Tuning(1 of 3 settings tried in 2 s)"
    assert lines[3].endswith("stopped after 5 of 9 epochs, out of time")
    assert lines[4].endswith("not tried, no time")


def test_what_was_found_cannot_be_changed(tuned):
    with pytest.raises(FrozenInstanceError):
        tuned.seconds = 1
    with pytest.raises(FrozenInstanceError):
        tuned.trials[0].status = "stopped"
