"""CLUE as a user meets it: what it learns of toys, the space, imputing, growing, keeping, and what cannot matter."""

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import unpaired as up
from unpaired.data.preprocess import prepare
from unpaired.data.types import Dataset, Modality, Pairs
from unpaired.embed import clue_fit, clue_learning
from unpaired.embed.checkpoint import Checkpoint
from unpaired.embed.clue import Clue
from unpaired.embed.clue_learning import ClueTask
from unpaired.embed.clue_model import ClueConfig
from unpaired.embed.embedding import Embedder
from unpaired.errors import DataError, NotFittedError, OptionError, OutputError, UnpairedError

SMALL = ClueConfig(6, 1, 24, 1, 24, 1, 16, 0.1, lam_cross=1.0, lam_real_cross=1.0, lam_cos=1.0, lam_align=0.2)
TINY = ClueConfig(3, 1, 8, 1, 8, 1, 8)


def learner(**options):
    return Clue(**({"config": SMALL, "epochs": 25, "batch": 32, "rate": 1e-2, "device": "cpu"} | options))


def quick(**options):
    return learner(**({"config": TINY, "epochs": 2} | options))


def unpaired(data):
    return replace(data, pairs=None)


@pytest.fixture(scope="module")
def half(screen):
    """Half of the cells are paired."""
    return screen()


@pytest.fixture(scope="module")
def fitted(half):
    return learner().fit(half.data)


# ------------------------------------------------------------------ what it learns


def test_it_is_an_embedder():
    assert isinstance(Clue(), Embedder)


def test_cells_without_a_pair_are_matched_much_better_than_by_chance(half, fitted):
    space = fitted.transform(unpaired(half.data))
    assert half.foscttm(space) < 0.1  # by chance 0.5
    rows = {n: half.rest(n) for n in half.data}
    few = unpaired(half.data).take(rows)
    few = replace(few, modalities={n: replace(m, labels=np.zeros_like(m.labels)) for n, m in few.modalities.items()})
    matching = up.match_snn(few, fitted.transform(few), k=3, metric="cosine")
    true = half.place["rna"][rows["rna"]][:, None] == half.place["protein"][rows["protein"]][None]
    score = (matching.to_sparse("rows").toarray() * true).sum() / len(true)
    assert score > 4 / len(true)


def test_codes_have_length_one_and_say_how_they_were_made(half, fitted):
    space = fitted.transform(half.data)
    assert space.space == "latent"
    assert space.noise is None
    assert {n: a.shape for n, a in space.arrays.items()} == {"rna": (120, 12), "protein": (120, 12)}
    assert space.dims == tuple(f"{n} {i}" for n in half.data for i in range(6))
    for array in space.arrays.values():
        assert array.dtype == np.float64
        np.testing.assert_allclose(np.linalg.norm(array, axis=1), 1, rtol=1e-5)
    assert space.made_by.method == "Clue"
    assert space.made_by.options == fitted.used()
    assert space.made_by.options["likelihoods"] == {"rna": "nb", "protein": "normal"}
    told = " ".join(space.made_by.notes)
    assert "rna is decoded as counts" in told
    assert "protein is decoded as numbers" in told
    assert json.dumps(fitted.used())


def test_a_cell_with_a_pair_has_one_place_the_mean_of_its_codes(half, fitted):
    both, alone = fitted.transform(half.data), fitted.transform(unpaired(half.data))
    rows = {n: np.argsort(p)[:60] for n, p in half.place.items()}
    np.testing.assert_allclose(both["rna"][rows["rna"]], both["protein"][rows["protein"]], atol=1e-6)
    mean = alone["rna"][rows["rna"]] + alone["protein"][rows["protein"]]
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(both["rna"][rows["rna"]], mean, atol=1e-5)
    for name in half.data:
        np.testing.assert_array_equal(both[name][half.rest(name)], alone[name][half.rest(name)])


def test_the_place_of_a_cell_does_not_depend_on_its_company(half, fitted):
    few = unpaired(half.data).take({"rna": np.arange(5), "protein": np.arange(3)})
    all_of_them, some = fitted.transform(unpaired(half.data)), fitted.transform(few)
    for name in half.data:
        np.testing.assert_allclose(some[name], all_of_them[name][: len(some[name])], atol=1e-5)
    only = Dataset({"protein": half.data["protein"]}, half.data.classes)
    np.testing.assert_array_equal(fitted.transform(only)["protein"], all_of_them["protein"])


def test_three_modalities_with_any_of_them_missing(screen):
    rng = np.random.default_rng(3)
    lost = {n: rng.random(120) < 0.3 for n in ("rna", "protein", "peaks")}
    lost["rna"][lost["protein"] & lost["peaks"]] = False
    made = screen(paired=100, modalities=tuple(lost), lost=lost)
    model = learner(epochs=12).fit(made.data)
    assert model.used()["likelihoods"] == {"rna": "nb", "protein": "normal", "peaks": "bernoulli"}
    space = model.transform(made.data)
    assert {n: a.shape[1] for n, a in space.arrays.items()} == dict.fromkeys(lost, 18)
    apart = model.transform(unpaired(made.data))
    for one, other in (("rna", "protein"), ("peaks", "protein"), ("rna", "peaks")):
        rows = made.data.pairs.partners(one, other)
        known = rows >= 0
        close = apart[one][known] @ apart[other][rows[known]].T
        assert (close > np.diag(close)[:, None]).mean() < 0.3
        np.testing.assert_allclose(space[one][known], space[other][rows[known]], atol=1e-6)


def test_partners_drawn_from_a_matching_beat_none(screen):
    made = screen(paired=0)
    soft = up.match_uniform(made.data)  # all that it knows is in which of four quarters a cell is
    with_it, without = (
        made.foscttm(learner(epochs=10).fit(made.data, matching=m).transform(made.data)) for m in (soft, None)
    )
    assert with_it < 0.3
    assert with_it < without - 0.1


def test_without_pairs_and_matching_it_says_that_cells_cannot_be_told(screen):
    model = quick().fit(screen(paired=0).data)
    assert any("no cell is known in two modalities" in note for note in model.notes_)


def test_pairs_and_matchings_need_no_warning(half, fitted):
    assert not any("no cell is known" in note for note in fitted.notes_)
    data = unpaired(half.data)
    assert not any("no cell is known" in n for n in quick().fit(data, matching=up.match_uniform(data)).notes_)


def test_a_modality_that_nothing_ties_to_the_others_is_said_to_be(screen):
    data = screen(40, paired=20, modalities=("rna", "protein", "peaks")).data
    units = {**data.pairs.units, "peaks": np.full(len(data["peaks"]), -1)}
    data = replace(data, pairs=Pairs(units))
    (note,) = [n for n in quick().fit(data).notes_ if "discriminator" in n]
    assert note.startswith("no cell of peaks is known in another modality")
    matching = up.match_uniform(data, source="protein", target="peaks")
    assert not any("discriminator" in n for n in quick().fit(data, matching=matching).notes_)


# ------------------------------------------------------------------ imputing


def test_imputed_numbers_beat_the_mean_and_are_as_sure_as_they_are_right(half, fitted):
    rows = half.rest("rna")
    mean, spread = fitted.impute(half.data, "rna", "protein")
    truth = half.X["protein"][half.place["rna"]]
    assert mean.shape == spread.shape == truth.shape
    error = ((truth - mean)[rows] ** 2).mean()
    assert error < 0.6 * ((truth - truth.mean(0))[rows] ** 2).mean()
    assert 0.3 < error / (spread[rows] ** 2).mean() < 4


def test_imputed_counts_beat_the_mean_and_follow_the_library_size(half, fitted):
    rows, sizes = half.rest("protein"), half.X["rna"].sum(1)[half.place["protein"]]
    truth = half.X["rna"][half.place["protein"]]
    mean, spread = fitted.impute(half.data, "protein", "rna", library_size=sizes)
    np.testing.assert_allclose(mean.sum(1), sizes, rtol=1e-4)
    flat = sizes[:, None] * half.X["rna"].sum(0) / half.X["rna"].sum()
    assert ((truth - mean)[rows] ** 2).mean() < 0.8 * ((truth - flat)[rows] ** 2).mean()
    assert (spread**2 >= mean * (1 - 1e-6)).all()  # a negative binomial varies more than a Poisson
    twice, _ = fitted.impute(half.data, "protein", "rna", library_size=2 * sizes)
    np.testing.assert_allclose(twice, 2 * mean, rtol=1e-4)
    same, _ = fitted.impute(half.data, "protein", "rna", library_size=1000)
    np.testing.assert_allclose(same.sum(1), 1000, rtol=1e-4)


def test_without_a_library_size_numbers_get_the_median_and_counts_what_they_foretell(half, fitted):
    mean, _ = fitted.impute(half.data, "protein", "rna")
    np.testing.assert_allclose(mean.sum(1), np.median(half.X["rna"].sum(1)), rtol=1e-4)
    own, _ = fitted.impute(half.data, "rna", "rna")
    sizes = half.X["rna"].sum(1)[half.place["rna"]]
    assert np.corrcoef(own.sum(1), sizes)[0, 1] > 0.9


def test_readings_are_imputed_in_the_batch_asked_for(screen):
    made = screen(batches=2, paired=120)
    model = learner().fit(made.data)
    there, _ = model.impute(made.data, "rna", "protein", batch="b1")
    here, _ = model.impute(made.data, "rna", "protein", batch="b0")
    own, _ = model.impute(made.data, "rna", "protein")
    assert 5 < (there - here).mean() < 15  # by 10
    batch = made.batch[made.place["rna"]]
    np.testing.assert_allclose(own[batch == "b1"], there[batch == "b1"], atol=1e-5)
    np.testing.assert_allclose(own[batch == "b0"], here[batch == "b0"], atol=1e-5)
    mixed, _ = model.impute(made.data, "rna", "protein", batch=batch)
    np.testing.assert_array_equal(mixed, own)
    with pytest.raises(OptionError, match="batch of protein must be one of b0, b1; got 'b2'"):
        model.impute(made.data, "rna", "protein", batch="b2")


def test_0_and_1_are_imputed_as_shares(screen):
    made = screen(modalities=("protein", "peaks"))
    mean, spread = quick().fit(made.data).impute(made.data, "protein", "peaks")
    assert ((mean > 0) & (mean < 1)).all()
    np.testing.assert_allclose(spread**2, mean * (1 - mean), rtol=1e-6)


def test_a_feature_that_does_not_vary_is_imputed_as_it_is(half):
    X = half.data["protein"].X.copy()
    X[:, 2] = 3.0
    data = replace(half.data, modalities=dict(half.data.modalities) | {"protein": replace(half.data["protein"], X=X)})
    mean, spread = learner(epochs=10).fit(data).impute(data, "rna", "protein")
    assert np.isfinite(mean).all()
    assert np.isfinite(spread).all()
    assert np.abs(mean[:, 2] - 3).mean() < 0.5


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"source": "smell"}, "source must be one of protein, rna; got 'smell'"),
        ({"source": ("protein", "smell")}, "source must be one of protein, rna; got 'smell'"),
        ({"source": ()}, "source must be one of protein, rna"),
        ({"target": "smell"}, "target must be one of protein, rna; got 'smell'"),
        ({"library_size": -1.0}, "library_size must be a positive number"),
        ({"library_size": [1.0, 2.0]}, "one for each of the 120 cells"),
        ({"batch": ["a", "b"]}, "one for each of the 120 cells"),
    ],
)
def test_what_cannot_be_imputed_is_told(half, fitted, options, match):
    asked = {"source": "protein", "target": "rna"} | options
    with pytest.raises(OptionError, match=match):
        fitted.impute(half.data, **asked)


def test_several_sources_foretell_more_than_the_worse_of_them(screen):
    made = screen(paired=120, modalities=("rna", "protein", "peaks"))
    model = learner(epochs=12).fit(made.data)
    truth = made.X["rna"][made.place["peaks"]]
    both, one = (model.impute(made.data, s, "rna").mean for s in (("peaks", "protein"), "peaks"))
    errors = [((np.log1p(m) - np.log1p(truth)) ** 2).mean() for m in (both, one)]
    assert errors[0] < errors[1]
    # What the target itself reads has no say, and the order is that of the first source's rows.
    without = replace(made.data, modalities={n: made.data[n] for n in ("peaks", "protein")})
    np.testing.assert_array_equal(model.impute(without, ("peaks", "protein"), "rna").mean, both)
    turned = model.impute(made.data, ("protein", "peaks"), "rna", library_size=50).mean
    there = made.data.pairs.partners("peaks", "protein")
    straight = model.impute(made.data, ("peaks", "protein"), "rna", library_size=50).mean
    np.testing.assert_allclose(turned[there], straight, rtol=1e-4)


def test_of_several_sources_it_must_be_known_which_readings_are_of_one_cell(half, fitted):
    with pytest.raises(OptionError, match="several sources need data with pairs"):
        fitted.impute(unpaired(half.data), ("rna", "protein"), "rna")


# ------------------------------------------------------------------ a second stage


def test_it_learns_on_with_new_cells_and_what_it_was_stays_as_it_was(screen):
    made = screen(batches=2, paired=120)
    rows = {n: np.flatnonzero(made.batch[p] == "b0") for n, p in made.place.items()}
    others = {n: np.flatnonzero(made.batch[p] == "b1") for n, p in made.place.items()}
    old, new = made.data.take(rows), unpaired(made.data.take(others))
    model = quick().fit(old)
    before = model._fitted
    state = {k: v.clone() for k, v in before.model.state_dict().items()}
    model.extend(new)
    assert before.batches == ("b0",)
    assert model._fitted.batches == ("b0", "b1")
    assert model.used()["stages"] == 2
    assert len(model.history_) == 2
    assert all(bool((v == before.model.state_dict()[k]).all()) for k, v in state.items())
    assert model.impute(new, "rna", "protein")[0].shape == (60, 9)
    # Only learned from new cells, one modality at a time
    only = Dataset({"rna": new["rna"]}, new.classes)
    assert quick().fit(old).extend(only).transform(only)["rna"].shape == (60, 6)


def test_a_second_stage_does_not_forget_the_first(half, fitted, tmp_path):
    fitted.save(tmp_path / "model")
    model = Clue.load(tmp_path / "model", device="cpu")
    rest = {n: half.rest(n) for n in half.data}
    new = unpaired(half.data).take(rest)
    first = half.data.take({n: np.setdiff1d(np.arange(120), r) for n, r in rest.items()})
    with pytest.raises(OptionError, match="give it as data="):
        model.extend(new)
    model.epochs = 3
    model.extend(new, data=first)
    assert half.foscttm(model.transform(unpaired(half.data))) < 0.15


def test_a_second_stage_begins_where_the_first_ended(screen, monkeypatch):
    made = screen(batches=2, paired=120)
    rows = {n: np.flatnonzero(made.batch[p] == "b1") for n, p in made.place.items()}  # sorts after the new one
    model = quick().fit(made.data.take(rows))
    before = {k: v.clone() for k, v in model._fitted.model.named_parameters()}
    monkeypatch.setattr(clue_fit, "_SECOND_RATE", 1e-12)
    model.extend(unpaired(made.data))
    assert model._fitted.batches == ("b1", "b0")
    for name, value in model._fitted.model.named_parameters():
        old = value[:, :1] if "per_batch" in name.split(".") else value
        if name in before:  # the discriminator reads batches where there are several
            np.testing.assert_allclose(old.detach(), before[name].detach(), atol=1e-6)


def test_epochs_and_rates_are_as_planned(half, monkeypatch):
    seen = []

    def train(task, settings, **_):
        seen.append((task.burn_in, settings))
        return [0.0]

    monkeypatch.setattr(clue_fit, "train_ensemble", train)
    model = quick(epochs=None, rate=2e-3).fit(half.data)
    model.extend(half.data)
    first, second = (settings for _, settings in seen)
    assert [burn_in for burn_in, _ in seen] == [first.burn_in, 0]
    steps = round(162 / 32)  # of the 180 cells, of which 120 have one modality
    assert (first.burn_in, first.epochs, first.patience, first.plateau) == clue_learning.schedule(steps, 2e-3)
    assert (first.optimizer, first.rate, first.decay) == ("rmsprop", 2e-3, 0.0)
    assert (second.burn_in, second.epochs, second.patience, second.rate) == (0, 50, 8, 1e-3)


# ------------------------------------------------------------------ on disk


def test_a_model_that_was_saved_is_the_same(half, fitted, tmp_path):
    fitted.save(tmp_path / "model")
    again = Clue.load(tmp_path / "model", device="cpu")
    assert sorted(f.name for f in (tmp_path / "model").iterdir()) == ["model.json", "model.safetensors"]
    one, other = fitted.transform(half.data), again.transform(half.data)
    for name in half.data:
        np.testing.assert_allclose(one[name], other[name], atol=1e-6)
    assert one.made_by == other.made_by
    for pair in (("rna", "protein"), ("protein", "rna"), ("rna", "rna")):
        for a, b in zip(fitted.impute(half.data, *pair), again.impute(half.data, *pair), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_fitted_recipe_is_saved_with_it(screen, tmp_path):
    data = prepare(screen(batches=2).data, recipes={"rna": "counts:pcs=5", "protein": "scale"})
    model = quick().fit(data)
    model.save(tmp_path / "model")
    plain = replace(data, modalities={n: replace(m, recipe=None) for n, m in data.modalities.items()})
    again = Clue.load(tmp_path / "model", device="cpu")
    for name in data:
        np.testing.assert_allclose(model.transform(data)[name], again.transform(plain)[name], atol=1e-6)


def test_a_model_is_not_overwritten_by_accident(fitted, tmp_path):
    fitted.save(tmp_path)
    with pytest.raises(OutputError, match="force=True"):
        fitted.save(tmp_path)
    fitted.save(tmp_path, force=True)


@pytest.mark.parametrize("harm", ["weights", "no weights", "record", "version", "options", "modality"])
def test_a_damaged_file_ends_in_a_sentence(fitted, tmp_path, harm):
    fitted.save(tmp_path)
    record = json.loads((tmp_path / "model.json").read_text())
    if harm == "weights":
        (tmp_path / "model.safetensors").write_bytes(b"nothing")
    if harm == "no weights":
        (tmp_path / "model.safetensors").unlink()
    changes = {
        "record": {"format": "other"},
        "version": {"format_version": 99},
        "options": {"options": {}},
        "modality": {"modalities": record["modalities"][:1]},
    }
    (tmp_path / "model.json").write_text(json.dumps(record | changes.get(harm, {})))
    with pytest.raises(DataError):
        Clue.load(tmp_path, device="cpu")


# ------------------------------------------------------------------ interrupted


class Killed(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("after", [1, 4])
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not(half, monkeypatch, tmp_path, after):
    def batches(self, epoch, own=ClueTask.batches):
        if epoch == after:
            raise Killed
        yield from own(self, epoch)

    monkeypatch.setitem(Checkpoint.__init__.__kwdefaults__, "every", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(ClueTask, "batches", batches)
        with pytest.raises(Killed):
            quick(epochs=7).fit(half.data, checkpoint=tmp_path / "file")
    again = quick(epochs=7).fit(half.data, checkpoint=tmp_path / "file")
    whole = quick(epochs=7).fit(half.data)
    assert again.history_ == whole.history_
    assert again.notes_ == (*whole.notes_, "the training was taken up again where it had been interrupted.")
    for name in half.data:
        np.testing.assert_array_equal(again.transform(half.data)[name], whole.transform(half.data)[name])


@pytest.mark.parametrize("change", ["seed", "pairs", "matching", "config", "cells"])
def test_a_training_of_anything_else_is_not_taken_up(half, tmp_path, change):
    data = half.data
    matching = up.match_random(data, seed=0)
    quick().fit(data, matching=matching, checkpoint=tmp_path / "file")
    if change == "pairs":
        data = unpaired(data)
    if change == "matching":
        matching = up.match_random(data, seed=1)
    if change == "cells":
        data = replace(data, modalities=dict(data.modalities) | {"rna": replace(data["rna"], X=data["rna"].X + 1)})
    model = quick(seed=int(change == "seed"), config=replace(TINY, lam_cos=1.0) if change == "config" else TINY)
    model.fit(data, matching=matching, checkpoint=tmp_path / "file")
    assert not any("taken up" in note for note in model.notes_)


# ------------------------------------------------------------------ what cannot matter


@pytest.mark.parametrize("way", ["pairs", "matching"])
def test_the_order_of_the_rows_does_not_matter(half, way):
    data = half.data if way == "pairs" else unpaired(half.data)
    rows = np.random.default_rng(5).permutation(120)
    moved = data.take({"protein": rows})

    def learned(some):
        matching = up.match_uniform(some) if way == "matching" else None
        model = quick(epochs=3).fit(some, matching=matching)
        return model.transform(some), model.impute(some, "protein", "rna")

    (space, imputed), (other, moved_too) = learned(data), learned(moved)
    np.testing.assert_array_equal(other["rna"], space["rna"])
    np.testing.assert_array_equal(other["protein"], space["protein"][rows])
    for a, b in zip(imputed, moved_too, strict=True):
        np.testing.assert_array_equal(a[rows], b)


def test_it_is_the_same_every_time_and_another_with_another_seed(half):
    one, two, other = (quick(seed=s).fit(half.data).transform(half.data)["rna"] for s in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).max() > 0.01


def test_who_is_whose_partner_is_not_read_from_anything_but_the_pairs(half):
    """Rows in the same order and cells of the same names are no pairs."""
    order = {n: np.argsort(p) for n, p in half.place.items()}
    sorted_data = unpaired(half.data.take(order))
    named = replace(
        sorted_data,
        modalities={
            n: replace(m, ids=np.array([f"c{i}" for i in range(120)])) for n, m in sorted_data.modalities.items()
        },
    )
    one = quick().fit(unpaired(half.data)).transform(unpaired(half.data))
    other = quick().fit(named).transform(named)
    for name in half.data:
        np.testing.assert_array_equal(other[name], one[name][order[name]])


def test_sparse_readings_give_what_dense_ones_do(half):
    thin = replace(half.data["rna"], X=sp.csr_matrix(half.data["rna"].X))
    data = replace(half.data, modalities=dict(half.data.modalities) | {"rna": thin})
    one, other = quick().fit(half.data), quick().fit(data)
    np.testing.assert_allclose(other.transform(data)["rna"], one.transform(half.data)["rna"], atol=1e-4)
    np.testing.assert_allclose(other.impute(data, "rna", "rna")[0], one.impute(half.data, "rna", "rna")[0], rtol=1e-3)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"preset": "cite"}, "preset must be one of citeseq, default, multiome; got 'cite'"),
        ({"config": "citeseq"}, "config must be a ClueConfig"),
        ({"likelihoods": {"rna": "poisson"}}, "likelihood must be one of bernoulli, nb, normal"),
        ({"components": 0}, "components must be a whole number of at least 1"),
        ({"batch": 1}, "batch must be a whole number of at least 2"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"rate": float("nan")}, "rate must be a finite number"),
        ({"device": "tpu"}, "device must be one of"),
        ({"seed": -1}, "seed must be a whole number"),
    ],
)
def test_an_option_that_is_not_allowed_is_told_before_any_work(half, options, match):
    with pytest.raises(OptionError, match=match):
        learner(**options).fit(half.data)


def test_nothing_can_be_asked_before_fit(half, tmp_path):
    for ask in (
        lambda m: m.transform(half.data),
        lambda m: m.impute(half.data, "rna", "protein"),
        lambda m: m.extend(half.data),
        lambda m: m.save(tmp_path),
        lambda m: m.used(),
    ):
        with pytest.raises(NotFittedError, match="call fit"):
            ask(Clue())


def test_readings_that_are_not_numbers_are_told_with_their_modality(half, fitted):
    X = half.data["protein"].X.copy()
    X[3, 1] = np.nan
    bad = replace(half.data, modalities=dict(half.data.modalities) | {"protein": replace(half.data["protein"], X=X)})
    for ask in (quick().fit, fitted.transform):
        with pytest.raises(DataError, match="protein: 1 readings are missing or infinite") as caught:
            ask(bad)
        assert len(caught.value.problems) == 1
    assert np.isfinite(quick().fit(prepare(bad)).transform(prepare(bad))["protein"]).all()  # its recipe fills it


def test_a_rate_that_blows_the_weights_up_ends_in_advice(half):
    with pytest.raises(UnpairedError, match="smaller learning rate"):
        quick(rate=1e30).fit(half.data)


def test_other_data_are_refused(half, fitted, toy):
    one = Dataset({"rna": half.data["rna"]}, half.data.classes)
    with pytest.raises(DataError, match="it has one modality"):
        quick().fit(one)
    with pytest.raises(OptionError, match="modality must be one of protein, rna; got 'image'"):
        fitted.transform(toy(5)[0])
    wide = replace(half.data["rna"], X=half.data["rna"].X[:, :4])
    with pytest.raises(DataError, match="rna: its readings have the shape 4, and 20 where"):
        fitted.transform(Dataset({"rna": wide}, half.data.classes))
    logs = replace(half.data["rna"], X=np.log1p(half.data["rna"].X))
    with pytest.raises(DataError, match="rna: its readings are not counts"):
        fitted.transform(Dataset({"rna": logs}, half.data.classes))
    ids = np.array(["a", "b"])
    images = Modality("image", np.zeros((2, 1, 8, 8), np.float32), np.zeros(2, int), ids)
    with pytest.raises(DataError, match="image: these are images"):
        quick().fit(replace(half.data, pairs=None, modalities=dict(half.data.modalities) | {"image": images}))
    single = half.data.take({"rna": np.arange(1)})
    with pytest.raises(DataError, match="rna: it has 1 cells"):
        quick().fit(single)


def test_likelihoods_can_be_chosen_where_the_readings_allow_it(half):
    model = quick(likelihoods={"rna": "normal"}).fit(half.data)
    assert model.used()["likelihoods"]["rna"] == "normal"
    assert "rna is decoded as numbers, of a normal distribution, as asked for." in model.notes_
    assert model.impute(half.data, "protein", "rna")[0].shape == (120, 20)
    with pytest.raises(OptionError, match="likelihood of 'protein' cannot be 'nb'"):
        quick(likelihoods={"protein": "nb"}).fit(half.data)
    with pytest.raises(OptionError, match="modality of likelihoods must be one of protein, rna; got 'smell'"):
        quick(likelihoods={"smell": "nb"}).fit(half.data)


def test_a_matching_of_other_cells_is_refused(half, toy):
    data = half.data
    short = up.match_uniform(data.take({"rna": np.arange(50)}))
    with pytest.raises(OptionError, match="the matching is of"):
        quick().fit(data, matching=short)
    with pytest.raises(OptionError, match="modality of the matching must be one of"):
        quick().fit(data, matching=up.match_uniform(toy(5)[0]))
