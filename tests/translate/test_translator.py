"""The translator as a whole: it learns, whatever the loss, head and network, and nothing but the cells matters."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import unpaired as up
from unpaired.data.types import Truth
from unpaired.errors import DataError, NotFittedError, OptionError
from unpaired.translate import translator as module
from unpaired.translate.learning import Translation
from unpaired.translate.translator import Translator

LOSSES = ("unbiased", "mse", "barycentric")


def small(**options):
    return Translator(**({"members": 2, "epochs": 3} | options))


def with_X(data, **arrays):
    sides = {n: replace(m, X=arrays.get(n, m.X)) for n, m in data.modalities.items()}
    return replace(data, modalities=sides)


def some_pairs_known(data, truth, share=0.75):
    """A matching of some of the true pairs, and ``(source, target)`` rows of the others: nobody learned from these."""
    partner = truth.partners("rna", "image")
    test = np.flatnonzero(np.random.default_rng(0).random(len(partner)) > share)
    units = {n: u.copy() for n, u in truth.units.items()}
    units["rna"][test] = units["image"][partner[test]] = -1
    return up.match_pairs(data, Truth(units)), (test, partner[test])


def r2(predicted, data, pairs, values=None):
    """``(R2 of the prediction, R2 of the label's mean)`` on pairs that were not learned from."""
    target = data["image"]
    values = np.asarray(target.flat_features if values is None else values)
    learned = np.setdiff1d(np.arange(len(values)), pairs[1])
    means = [values[learned][target.labels[learned] == code].mean(axis=0) for code in range(len(data.classes))]
    y = values[pairs[1]]
    guesses = (predicted.mean[pairs[0]], np.array(means)[target.labels[pairs[1]]])
    return [1 - ((y - g) ** 2).sum() / ((y - y.mean(axis=0)) ** 2).sum() for g in guesses]


def same(one, other, X):
    first, second = one.predict(X), other.predict(X)
    return (
        one.history_ == other.history_
        and np.array_equal(first.mean, second.mean)
        and np.array_equal(first.spread, second.spread)
    )


# ------------------------------------------------------------------ it learns


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("space", ["features", "raw"])
def test_with_true_pairs_every_loss_beats_the_labels_means(toy, loss, space):
    data, truth = toy(60, spread=1.5)
    if space == "raw":  # columns of very different sizes
        data = with_X(data, image=data["image"].X * np.float32([1, 10, 100, 1, 10, 100]) + 50)
    matching, pairs = some_pairs_known(data, truth)
    model = Translator(members=2, epochs=60, loss=loss, space=space).fit(data, matching)
    found, of_label = r2(model.predict(data["rna"]), data, pairs)
    assert of_label < 0.6
    assert found > 0.9
    assert model.history_[-1] < 0.2 * model.history_[0]


def test_the_published_network_learns_too_in_its_own_time(toy):
    data, truth = toy(40, spread=1.5)
    matching, pairs = some_pairs_known(data, truth)
    model = Translator(members=2, epochs=400, network="published").fit(data, matching)
    assert r2(model.predict(data["rna"]), data, pairs)[0] > 0.1
    assert len(model.history_) == 400
    assert model.history_[-1] < 0.8 * model.history_[0]


def test_the_published_network_is_trained_as_published(toy, monkeypatch):
    """Adam at 1e-4, weight decay 5e-4, one cycle of 50 epochs, batches of 500 target cells."""
    seen = []
    monkeypatch.setattr("unpaired.embed.training.train_ensemble", lambda *a, **k: seen.append(a[:2]) or [0.0])
    data, _ = toy(450)  # 1,350 cells, a tenth of which is held out: 1,215
    for network in ("published", "default"):
        Translator(members=1, network=network).fit(data, up.match_uniform(data))
    (task, used), (own_task, own) = seen
    assert (used.batch, used.epochs, used.optimizer, used.rate, used.decay) == (500, 50, "adam", 1e-4, 5e-4)
    assert used.patience > used.epochs  # all of the cycle
    assert task.steps == 2
    assert {b.at.shape for b in task.batches(0)} == {(1, 607)}
    assert (own.batch, own_task.steps) == (256, 5)


@pytest.mark.parametrize("loss", LOSSES)
def test_counts_are_learned_by_the_head_of_counts(toy, loss):
    data, truth = toy(60, spread=1.0)
    counts = np.random.default_rng(0).poisson(np.exp(0.5 * data["image"].X + 2)).astype(np.float32)
    counts[5] = 0  # a cell that nothing was read of
    data = with_X(data, image=counts)
    matching, pairs = some_pairs_known(data, truth)
    model = Translator(members=2, epochs=40, loss=loss, space="raw", head="nb").fit(data, matching)
    found = model.predict(data["rna"])
    # Shares of a cell's total: that is all that a head of counts predicts.
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    of_model, of_label = r2(replace(found, mean=found.mean / found.mean.sum(1, keepdims=True)), data, pairs, shares)
    assert of_model > of_label + 0.1
    assert (found.mean >= 0).all()
    np.testing.assert_allclose(found.mean.sum(axis=1), model.model_.target.size, rtol=1e-4)


@pytest.mark.parametrize("head", ["gaussian", "nb"])
def test_a_sparse_target_teaches_what_a_dense_one_does(toy, head):
    data, truth = toy(30)
    counts = np.random.default_rng(0).poisson(1, size=(90, 8)).astype(np.float32)
    matching = up.match_pairs(data, truth)
    models = [
        small(space="raw", head=head).fit(with_X(data, image=x), matching) for x in (counts, sp.csr_matrix(counts))
    ]
    np.testing.assert_allclose(models[0].history_, models[1].history_, rtol=1e-4)
    found = [m.predict(data["rna"]).mean for m in models]
    np.testing.assert_allclose(*found, atol=1e-3)
    assert np.ptp(found[0]) > 0.05


def as_images(X):
    """Six readings as the brightness of parts of an image of 8 x 9 pixels, one channel."""
    return np.repeat(np.repeat(X.reshape(-1, 1, 2, 3), 4, axis=2), 3, axis=3).astype(np.float32)


def test_images_are_a_source(toy):
    data, truth = toy(30, spread=1.0)
    data = with_X(data, rna=as_images(data["rna"].X))
    matching, pairs = some_pairs_known(data, truth)
    model = Translator(members=1, epochs=20).fit(data, matching)
    found, of_label = r2(model.predict(data["rna"]), data, pairs)
    assert found > max(of_label, 0) + 0.1


@pytest.mark.parametrize("space", ["features", "raw"])
def test_images_are_a_target(toy, space):
    data, truth = toy(40, spread=1.5)
    data = up.prepare(with_X(data, image=as_images(data["image"].X)))
    matching, pairs = some_pairs_known(data, truth)
    model = Translator(members=2, epochs=60, space=space).fit(data, matching)
    found = model.predict(data["rna"])
    values = data["image"].X.reshape(120, 72) if space == "raw" else None
    of_model, of_label = r2(found, data, pairs, values)
    assert of_model > of_label + 0.1
    assert found.mean.shape == (120, 72)
    assert list(found.feature_names[:2]) == ["image 0", "image 1"]


@pytest.mark.parametrize("loss", LOSSES)
def test_what_has_no_partner_is_not_learned_from(toy, loss):
    """Readings of target cells that no mass goes to may be anything."""
    data, truth = toy(20)
    matching, pairs = some_pairs_known(data, truth)
    other = data["image"].X.copy()
    other[pairs[1]] = 1e3
    models = [small(loss=loss).fit(d, matching) for d in (data, with_X(data, image=other))]
    assert same(*models, data["rna"].X)
    assert "cells of image have no partner and were not learned from" in models[0].notes_[0]


# ------------------------------------------------------------------ what matters and what does not


@pytest.mark.parametrize("options", [{}, {"loss": "mse"}, {"loss": "barycentric"}, {"network": "published"}])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(toy, options):
    data, _ = toy(20)
    matching = up.match_uniform(data)
    models = [small(seed=seed, **options).fit(data, matching) for seed in (0, 0, 1)]
    assert same(models[0], models[1], data["rna"].X)
    assert models[0].history_ != models[2].history_
    assert not np.allclose(models[0].predict(data["rna"]).mean, models[2].predict(data["rna"]).mean, atol=1e-3)


def test_the_first_weights_are_of_the_seed_too(toy, monkeypatch):
    monkeypatch.setattr("unpaired.embed.training.train_ensemble", lambda *a, **k: [0.0])
    data, _ = toy(20)
    models = [small(seed=s).fit(data, up.match_uniform(data)).model_ for s in (0, 0, 1)]
    weights = [m.net.body.head.weight.detach().numpy() for m in models]
    assert np.array_equal(weights[0], weights[1])
    assert not np.allclose(weights[0], weights[2], atol=1e-3)


@pytest.mark.parametrize("loss", ["unbiased", "mse"])
def test_every_epoch_goes_through_the_cells_in_an_order_of_its_own_for_every_member(toy, monkeypatch, loss):
    data, _ = toy(30)
    seen, own = [], Translation.batches

    def batches(self, epoch):
        parts = list(own(self, epoch))
        seen.append((np.concatenate([b.at for b in parts], axis=1), np.concatenate([b.drawn for b in parts], axis=2)))
        rows, self_rows = seen[-1][0], self._rows.numpy()
        # Whoever is drawn for a cell is of its label: the draws go with the order.
        assert (data["rna"].labels[seen[-1][1]] == data["image"].labels[self_rows[rows]]).all()
        yield from parts

    monkeypatch.setattr(Translation, "batches", batches)
    monkeypatch.setattr(module, "_BATCH", 16)
    Translator(members=3, epochs=4, loss=loss).fit(data, up.match_uniform(data))
    orders = np.concatenate([at for at, _ in seen])
    assert orders.shape == (4 * 3, 80)  # five batches of 16, of 81 cells
    assert all(len(set(order)) == 80 for order in orders.tolist())
    assert len(np.unique(orders, axis=0)) == len(orders)
    drawn = np.concatenate([d.reshape(-1, 80) for _, d in seen])
    assert len(np.unique(drawn, axis=0)) == len(drawn) == len(orders) * {"unbiased": 2, "mse": 1}[loss]


def test_members_differ_and_the_spread_is_theirs(toy):
    data, _ = toy(20)
    model = small(members=3).fit(data, up.match_uniform(data))
    weights = model.model_.net.body.head.weight
    assert len(weights) == 3
    assert all(not np.allclose(weights[i].detach(), weights[j].detach()) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert (model.predict(data["rna"]).spread > 0).all()


def test_of_a_single_network_there_is_no_spread_and_a_note_says_so(toy):
    data, _ = toy(20)
    model = small(members=1).fit(data, up.match_uniform(data))
    found = model.predict(data["rna"])
    assert np.isnan(found.spread).all()
    assert np.isfinite(found.mean).all()
    assert model.notes_ == ("one network says nothing of how sure it is: the spread is NaN.",)


@pytest.mark.parametrize("name", ["rna", "image"])
@pytest.mark.parametrize(
    ("how", "loss"),
    [("pairs", "unbiased"), ("uniform", "mse"), ("random", "barycentric"), ("plan", "unbiased"), ("plan", "mse")],
)
def test_the_order_of_one_sides_rows_permutes_the_predictions_and_nothing_else(toy, reorder, matched, name, how, loss):
    data, truth = toy((20, 12, 7))
    other, moved, order = reorder(data, truth, name)
    make = {
        "pairs": up.match_pairs,
        "uniform": lambda d, _: up.match_uniform(d),
        "random": lambda d, _: up.match_random(d, seed=1),
        "plan": lambda d, _: matched(d, "plan"),
    }[how]
    one = small(loss=loss).fit(data, make(data, truth))
    two = small(loss=loss).fit(other, make(other, moved))
    found = [m.predict(d["rna"]) for m, d in ((one, data), (two, other))]
    order = order if name == "rna" else np.arange(len(data["rna"]))
    for part in ("mean", "spread"):
        np.testing.assert_allclose(getattr(found[1], part), getattr(found[0], part)[order], atol=1e-5)
    np.testing.assert_allclose(one.history_, two.history_, rtol=1e-6)
    assert one.notes_ == two.notes_
    assert one.used() == two.used()


def test_the_direction_is_the_callers_and_the_matchings_the_default(toy):
    data, _ = toy((12, 9, 2))
    matching = up.match_random(data, seed=2)
    assert (matching.source, matching.target) == ("rna", "image")
    there = small().fit(data, matching)
    assert (there.used()["source"], there.used()["target"]) == ("rna", "image")
    back = small().fit(data, matching, source="image")
    found = back.predict(data["image"])
    assert (found.source, found.target, found.cells) == ("image", "rna", 23)
    assert same(back, small().fit(data, matching.transpose), data["image"].X)
    assert same(there, small().fit(data, matching.transpose, target="image"), data["rna"].X)


def test_fitting_writes_to_nothing_that_it_was_given(toy, matched, kind):
    data = up.prepare(toy(12)[0])
    matching = matched(data, kind)
    before = [data[n].X.copy() for n in data], [b.dense().copy() for b in matching.matched]
    arrays = {n: {k: v.copy() for k, v in data[n].recipe.arrays.items()} for n in data}
    model = small(space="raw").fit(data, matching)
    model.predict(data["rna"])
    assert all(np.array_equal(data[n].X, x) for n, x in zip(data, before[0], strict=True))
    assert all(np.array_equal(b.dense(), w) for b, w in zip(matching.matched, before[1], strict=True))
    assert all(np.array_equal(data[n].recipe.arrays[k], v) for n in data for k, v in arrays[n].items())


def test_fitting_changes_no_option_and_nothing_of_an_earlier_fit_stays(toy):
    first, second = toy(12, seed=1)[0], toy((9, 5), labels=("x", "y"), features=4, seed=2)[0]
    model = Translator(members=2, epochs=2, seed=5)
    before = dict(vars(model))
    model.fit(first, up.match_uniform(first)).fit(second, up.match_uniform(second))
    assert {k: v for k, v in vars(model).items() if not k.endswith("_")} == before
    assert same(model, Translator(**before).fit(second, up.match_uniform(second)), second["rna"].X)
    assert model.used()["epochs_run"] == len(model.history_) == 2


def test_a_sparse_raw_target_is_made_dense_a_batch_at_a_time(toy, monkeypatch, made_dense):
    data, truth = toy(40)
    X = sp.random(120, 500, density=0.05, random_state=0, format="csr", dtype=np.float32)
    data = with_X(data, image=X)
    monkeypatch.setattr(module, "_BATCH", 16)
    for head, values in (("gaussian", X), ("nb", X.ceil())):
        data = with_X(data, image=values)
        made_dense.clear()
        small(space="raw", head=head).fit(data, up.match_pairs(data, truth))
        assert made_dense
        assert max(n for n, _ in made_dense) <= 2 * 20  # of two members
        assert (values != data["image"].X).nnz == 0


# ------------------------------------------------------------------ what cannot be done


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"loss": "eq10"}, "loss must be one of barycentric, mse, unbiased; got 'eq10'."),
        ({"space": "pcs"}, "space must be one of features, raw; got 'pcs'."),
        ({"head": "poisson"}, "head must be one of gaussian, nb; got 'poisson'."),
        ({"network": None}, "network must be one of default, published; got None."),
        ({"members": 0}, "members must be a whole number from 1 to 100; got 0."),
        ({"members": 2.5}, "members must be a whole number from 1 to 100; got 2.5."),
        ({"members": True}, "members must be a whole number from 1 to 100; got True."),
        ({"epochs": 0}, "epochs must be a whole number of at least 1; got 0."),
        ({"epochs": "9"}, "epochs must be a whole number of at least 1; got '9'."),
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295; got -1."),
        ({"seed": 2**32}, "seed must be a whole number from 0 to 4294967295; got 4294967296."),
        ({"head": "nb"}, "head 'nb' predicts counts: use space='raw' with it; got 'features'."),
        ({"device": "tpu"}, "device must be one of auto, cpu, cuda, mps; got 'tpu'."),
    ],
)
def test_an_option_that_is_not_allowed_is_told_in_one_sentence_before_any_work(options, match):
    model = Translator(**options)
    for refuse in (model.check_options, lambda: model.fit(None, None)):
        with pytest.raises(OptionError) as caught:
            refuse()
        assert str(caught.value) == match


def test_a_matching_of_other_cells_is_refused(toy):
    data, more = toy(10)[0], toy(11)[0]
    with pytest.raises(OptionError, match=r"matching is of \(33, 33\) cells; the data have 30 and 30"):
        small().fit(data, up.match_uniform(more))
    others, _ = toy(10, modalities=("rna", "adt"))
    with pytest.raises(OptionError, match="modality must be one of rna, image; got 'adt'"):
        small().fit(data, up.match_uniform(others))
    with pytest.raises(OptionError, match="source and target must differ"):
        small().fit(data, up.match_uniform(data), source="rna", target="rna")
    with pytest.raises(OptionError, match="target must be one of image, rna; got 'adt'"):
        small().fit(data, up.match_uniform(data), target="adt")


def test_two_matched_cells_are_enough_and_one_is_not(toy):
    data, truth = toy(2, labels=("a",))
    assert len(small().fit(data, up.match_pairs(data, truth)).history_) == 3
    data, truth = toy(1, labels=("a",))
    with pytest.raises(DataError, match="gives 1 cells of image a partner; two are the least"):
        small().fit(data, up.match_pairs(data, truth))


def test_before_fit_nothing_can_be_asked():
    for ask in (lambda m: m.predict(np.zeros((1, 2))), Translator.used, lambda m: m.model_):
        with pytest.raises((NotFittedError, AttributeError)):
            ask(Translator())
