"""What CLUE sees while it learns: cells from rows, readings from files, fillers, partners, and the schedule."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import unpaired as up
from unpaired.data.preprocess import prepare
from unpaired.data.types import Dataset, Modality, Pairs
from unpaired.embed.clue_fit import make_model
from unpaired.embed.clue_inputs import cells_of, slots_of
from unpaired.embed.clue_learning import ClueTask, Schedule, grown, schedule, split_cells
from unpaired.embed.clue_model import ClueConfig, ClueModality, ClueModel
from unpaired.embed.clue_partners import soft_partners
from unpaired.embed.clue_reader import fit_reader, read_modalities
from unpaired.embed.training import train_ensemble
from unpaired.embed.training_settings import TrainingSettings

TINY = ClueConfig(3, 1, 8, 1, 8, 1, 8, lam_align=0.5)


def table(name, X, batch=None):
    X = np.asarray(X, dtype=np.float32)
    ids = np.array([f"{name}:{i}" for i in range(len(X))])
    return Modality(name, X, np.zeros(len(X), dtype=int), ids, batch=batch)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def made_task(data, matching=None, config=TINY, *, batch=16, burn_in=0, seed=0):
    readers = read_modalities(data, components=100, likelihoods={})
    cells = cells_of(data, readers)
    known = sorted({b for names in cells.batches for b in names.tolist()})
    generator = torch.Generator().manual_seed(0)
    model = make_model(readers, config, batches=len(known), shared=True, generator=generator)
    soft = soft_partners(data, cells, matching)
    return ClueTask(
        model, cells, known, config, soft=soft, batch=batch, burn_in=burn_in, device="cpu", seed=seed
    ), cells


# ------------------------------------------------------------------ the schedule


def test_the_schedule_is_that_of_the_authors():
    assert schedule(466, 2e-3) == Schedule(13, 78, 10, 4)  # the competition's CITE-seq cells: 12 / 2e-3 steps and so on
    assert schedule(100_000, 2e-3) == Schedule(12, 72, 9, 3)
    assert schedule(1, 2e-3) == Schedule(6000, 36000, 4500, 1500)
    assert schedule(3, 2e-3) == Schedule(2000, 12000, 1500, 500)


def test_epochs_that_are_given_shorten_the_burn_in():
    assert schedule(466, 2e-3, 30) == Schedule(5, 30, 10, 4)
    assert schedule(466, 2e-3, 100) == Schedule(13, 100, 10, 4)
    assert schedule(466, 2e-3, 2).burn_in == 0


# ------------------------------------------------------------------ cells


def test_rows_are_one_cell_where_the_pairs_say_so():
    data = Dataset(
        {
            "a": table("a", numbers(4, 2)),
            "b": table("b", numbers(3, 2, seed=1)),
            "c": table("c", numbers(2, 2, seed=2)),
        },
        ("x",),
        Pairs({"a": np.array([7, -1, 3, 5]), "b": np.array([3, 7, -1]), "c": np.array([7, 8])}),
    )
    slots = slots_of(data, ["a", "b", "c"])
    orders = [m.order for m in data.modalities.values()]
    rows = {tuple(int(orders[k][s]) if s >= 0 else -1 for k, s in enumerate(slot)) for slot in slots}
    assert rows == {(0, 1, 0), (2, 0, -1), (1, -1, -1), (3, -1, -1), (-1, 2, -1), (-1, -1, 1)}
    apart = slots_of(replace(data, pairs=None), ["a", "b", "c"])
    assert len(apart) == 9
    assert ((apart >= 0).sum(1) == 1).all()


def test_of_two_rows_that_claim_to_be_one_cell_the_first_is_believed():
    data = Dataset(
        {"a": table("a", numbers(2, 2)), "b": table("b", numbers(1, 2, seed=1))},
        ("x",),
        Pairs({"a": np.array([1, 1]), "b": np.array([1])}),
    )
    assert sorted(map(tuple, slots_of(data, ["a", "b"]).tolist())) == [(0, 0), (1, -1)]


def test_cells_come_in_an_order_that_rows_have_no_say_in(screen):
    data = screen(modalities=("rna", "protein", "peaks")).data
    rows = np.random.default_rng(1).permutation(120)
    slots = slots_of(data, list(data))
    np.testing.assert_array_equal(slots, slots_of(data.take({"protein": rows}), list(data)))
    # Nor have the numbers that say which rows are one cell.
    other = {n: np.where(u < 0, u, rows[u]) for n, u in data.pairs.units.items()}
    np.testing.assert_array_equal(slots, slots_of(replace(data, pairs=Pairs(other)), list(data)))


def test_cells_of_two_data_sets_are_joined_row_by_row(screen):
    data = screen().data
    readers = read_modalities(data, components=100, likelihoods={})
    one, only = cells_of(data, readers), cells_of(Dataset({"protein": data["protein"]}, data.classes), readers)
    assert (only.slots[:, 0] == -1).all()
    both = one.joined(only)
    assert [len(x) for x in both.inputs] == [120, 240]
    assert [x.shape for x in both.readings] == [(120, 20), (240, 9)]
    assert len(both.slots) == len(one.slots) + 120
    np.testing.assert_array_equal(np.sort(both.slots[len(one.slots) :, 1]), np.arange(120, 240))
    np.testing.assert_array_equal(both.inputs[1][120:], one.inputs[1])


def test_a_tenth_of_every_pattern_chooses_the_epoch():
    slots = np.full((105, 2), -1)
    slots[:50], slots[50:90, 0], slots[90:, 1] = 1, 1, 1
    train, valid = split_cells(slots, np.random.default_rng(0))
    assert sorted([*train, *valid]) == list(range(105))
    assert [((valid >= a) & (valid < b)).sum() for a, b in ((0, 50), (50, 90), (90, 105))] == [5, 4, 1]
    few = split_cells(slots[48:54], np.random.default_rng(0))
    assert len(few[1]) == 1
    assert few[1][0] >= 2  # of the commonest pattern


# ------------------------------------------------------------------ readings


@pytest.mark.parametrize(
    ("X", "likelihood", "sized"),
    [
        ([[0, 1, 5], [2, 0, 0]], "nb", True),
        ([[0, 1, 1], [1, 0, 0]], "bernoulli", True),
        ([[0, 1.5, 1], [1, 0, 0]], "normal", False),
        ([[0, -1, 1], [1, 0, 0]], "normal", False),
    ],
)
def test_what_readings_are_is_decided_by_looking(X, likelihood, sized):
    reader = fit_reader(table("a", X), components=9, likelihood=None)
    assert (reader.likelihood, reader.sized) == (likelihood, sized)


def test_counts_without_a_recipe_are_encoded_as_logarithms_of_their_shares():
    X = np.random.default_rng(0).poisson(3, size=(30, 6)).astype(np.float32)
    modality = table("a", X)
    reader = fit_reader(modality, components=9, likelihood=None)
    expected = np.log1p(1e4 * X / X.sum(1, keepdims=True))
    inputs = np.empty_like(X)
    inputs[modality.order] = reader.inputs(modality)
    np.testing.assert_allclose(inputs * reader.scale, expected - expected.mean(0), atol=1e-4)
    np.testing.assert_allclose(inputs.var(0).mean(), 1, rtol=1e-4)
    np.testing.assert_array_equal(reader.readings(modality), X[modality.order])
    assert reader.size == np.median(X.sum(1))


@pytest.mark.parametrize("shape", [(40, 12), (8, 12)])
def test_many_features_are_encoded_as_principal_components(shape):
    X = numbers(*shape) * np.linspace(1, 3, shape[1], dtype=np.float32)
    modality = table("a", X)
    reader = fit_reader(modality, components=4, likelihood=None)
    inputs = reader.inputs(modality) * reader.scale
    centred = X[modality.order] - X.mean(0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(inputs), np.abs(centred @ axes[:4].T), atol=1e-4)
    np.testing.assert_allclose((inputs**2).sum(0), values[:4] ** 2, rtol=1e-4)
    assert reader.inputs_width == 4


def test_fewer_cells_than_components_are_no_matter():
    modality = table("a", numbers(5, 30))
    reader = fit_reader(modality, components=20, likelihood=None)
    assert reader.inputs(modality).shape == (5, 4)  # the fifth direction is nothing


def test_features_of_a_recipe_are_what_is_encoded_and_readings_what_is_decoded(screen):
    data = prepare(screen().data, recipes={"rna": "counts:pcs=5", "protein": "scale"})
    reader = fit_reader(data["rna"], components=100, likelihood=None)
    features = data["rna"].features[data["rna"].order]
    inputs = reader.inputs(data["rna"])
    np.testing.assert_allclose(inputs * reader.scale, features - features.mean(0), atol=1e-4)
    assert reader.readings(data["rna"]).shape == (120, 20)
    numeric = fit_reader(data["protein"], components=100, likelihood=None)
    readings = numeric.readings(data["protein"])
    np.testing.assert_allclose(readings.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(readings.std(0), 1, atol=1e-5)


# ------------------------------------------------------------------ fillers and partners


def test_slots_that_are_empty_are_filled_with_cells_of_the_same_part_anew_every_epoch(screen):
    task, cells = made_task(screen().data)
    own = cells.slots[task.train]
    rows, observed, trust = task.filled(task.train, 0)
    np.testing.assert_array_equal(trust, 1)
    np.testing.assert_array_equal(observed, own >= 0)
    np.testing.assert_array_equal(rows[observed], own[observed])
    assert (rows >= 0).all()
    for at in range(2):
        assert set(rows[:, at]) <= set(own[own[:, at] >= 0, at])
    again, other = task.filled(task.train, 0)[0], task.filled(task.train, 1)[0]
    np.testing.assert_array_equal(again, rows)
    assert (other != rows)[~observed].mean() > 0.5
    valid = task.filled(task.valid, None).rows
    assert set(valid[:, 0]) <= set(cells.slots[task.valid, 0])


def test_partners_are_drawn_from_the_matching_and_true_ones_stay(screen):
    made = screen()
    matching = up.match_uniform(made.data)
    task, cells = made_task(made.data, matching)
    own = cells.slots[task.train]
    paired = (own >= 0).all(1)
    labels = [m.labels[m.order] for m in made.data.modalities.values()]
    kept_out = set(cells.slots[task.valid, 1])
    seen = []
    for epoch in range(3):
        rows, observed, trust = task.filled(task.train, epoch)
        np.testing.assert_array_equal(rows[paired], own[paired])
        assert observed[~paired].all(1).mean() > 0.6  # a partner that chooses the epoch is none
        for a, b in rows[observed.all(1)]:
            assert labels[0][a] == labels[1][b]
        drawn = observed[:, 1] & (own[:, 1] < 0)
        assert not set(rows[drawn, 1]) & kept_out
        # Of a uniform matching a drawn partner is the true one once in as many times as the label has candidates.
        for modality, slot in ((0, 1), (1, 0)):
            mine = observed[:, slot] & (own[:, slot] < 0)
            label = labels[modality][rows[mine, modality]]
            size = np.bincount(labels[slot], minlength=4)[label]
            np.testing.assert_allclose(trust[mine] * size, trust[paired][0])
        lone = observed.sum(1) == 1  # would otherwise count like those of a true pair
        assert lone.any()
        np.testing.assert_allclose(trust[lone], trust[~paired & ~lone].mean())
        assert trust.mean() == pytest.approx(1)
        seen.append(rows)
    assert (seen[0] != seen[1])[~paired].any(1).mean() > 0.5
    assert task.seen_together().all()


def test_of_many_cells_that_share_a_partner_none_is_sure_of_it():
    labels = {"a": np.repeat([0, 1], [20, 5]), "b": np.repeat([0, 1], [20, 1])}
    rng = np.random.default_rng(0)
    arrays = {n: rng.normal(size=(len(v), 3)).astype(np.float32) for n, v in labels.items()}
    data = Dataset.from_arrays(arrays, {n: v.astype(str) for n, v in labels.items()}, recipes="none")
    readers = read_modalities(data, components=100, likelihoods={})
    (soft,) = soft_partners(data, cells_of(data, readers), up.match_uniform(data))
    for name, trust in zip("ab", soft.trust, strict=True):
        at = data[name].labels[data[name].order]
        np.testing.assert_allclose(trust[at == 0], 1 / 20)
        np.testing.assert_allclose(trust[at == 1], 1 / 5)


def test_cells_known_in_two_modalities_take_no_drawn_third(screen):
    made = screen(paired=60, modalities=("rna", "protein", "peaks"), lost={"peaks": np.arange(120) < 60})
    task, cells = made_task(made.data, up.match_uniform(made.data, source="rna", target="peaks"))
    own = cells.slots[task.train] >= 0
    _, observed, trust = task.filled(task.train, 0)
    several = own.sum(1) > 1
    assert several.any()
    np.testing.assert_array_equal(observed[several], own[several])
    assert (trust[several] > 1).all()


def test_the_digest_tells_matchings_that_no_cell_which_chooses_the_epoch_draws_from(screen):
    data = screen(paired=112).data  # too few other cells for one of them to choose
    first, again, other = (made_task(data, up.match_random(data, seed=s))[0] for s in (0, 0, 1))
    assert (first._cells.slots[first.valid] >= 0).all()
    assert first.digest() == again.digest()
    assert first.digest() != other.digest()


def test_without_pairs_and_matching_no_cell_is_seen_twice(screen):
    task, _ = made_task(screen(paired=0).data)
    np.testing.assert_array_equal(task.seen_together(), np.eye(2, dtype=bool))


def test_several_matchings_tell_of_several_modalities(screen):
    made = screen(paired=0, modalities=("rna", "protein", "peaks"))
    data = made.data
    all_three = [
        up.match_uniform(data, source="rna", target="protein"),
        up.match_uniform(data, source="peaks", target="rna"),
    ]
    task, _ = made_task(data, all_three)
    observed = task.filled(task.train, 0).observed
    assert observed.sum(1).max() == 3
    assert task.seen_together().all()


def test_partners_follow_the_matching_not_the_rows(screen):
    """A matching that is sure: every cell's partner is the true one, whatever the order of the rows."""
    made = screen(paired=0)
    task, cells = made_task(made.data, up.match_pairs(made.data, Pairs(made.place)))
    rows, observed, trust = task.filled(task.train, 0)
    np.testing.assert_allclose(trust, 1)
    places = [made.place[n][made.data[n].order] for n in made.data]
    whole = observed.all(1)
    assert whole.mean() > 0.8
    np.testing.assert_array_equal(places[0][rows[whole, 0]], places[1][rows[whole, 1]])
    assert len(cells.slots) == 240


# ------------------------------------------------------------------ the task


def test_an_epoch_sees_every_cell_once(screen):
    task, cells = made_task(screen().data, batch=20)
    batches = [b for b, _ in task.batches(0)]
    assert len(batches) == task.steps == round(len(task.train) / 20)
    own = np.concatenate([b.inputs[0][b.observed[:, 0]].numpy() for b in batches])
    expected = cells.inputs[0][cells.slots[task.train, 0][cells.slots[task.train, 0] >= 0]]
    np.testing.assert_array_equal(np.sort(own, axis=0), np.sort(expected, axis=0))


def test_the_noise_of_the_discriminator_falls_over_the_burn_in(screen):
    task, _ = made_task(screen().data, burn_in=4)
    noises = []
    for epoch in range(6):
        list(task.batches(epoch))
        noises.append(task._noise)
    assert noises == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert made_task(screen().data)[0]._noise == 0.0


def test_the_discriminator_plays_only_where_it_has_a_say(screen):
    assert len(made_task(screen().data)[0].players) == 2
    quiet, _ = made_task(screen().data, config=replace(TINY, lam_align=0.0))
    assert quiet.players == (quiet.net.generator,)


def test_either_player_moves_its_own_weights(screen):
    task, _ = made_task(screen().data)
    batch = next(task.batches(0))
    task.loss(batch, 0).backward()
    assert all(p.grad is None for p in task.net.discriminator.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in task.net.generator.parameters())
    task.net.zero_grad(set_to_none=True)
    task.loss(batch, 1).backward()
    assert all(p.grad is None for p in task.net.generator.parameters())
    assert any(p.grad.abs().sum() > 0 for p in task.net.discriminator.parameters())


def test_cells_are_judged_by_the_same_draws_every_time(screen):
    task, _ = made_task(screen().data, burn_in=3)
    list(task.batches(0))  # leaves noise, which judging has none of
    task.net.eval()
    with torch.no_grad():
        first, second = task.validate(), task.validate()
    assert first.shape == (1,)
    assert torch.equal(first, second)


def test_batches_are_known_by_name(screen):
    made = screen(batches=2)
    task, _ = made_task(made.data)
    for batch, _ in task.batches(0):
        shift = batch.readings[1].mean(1)[batch.observed[:, 1]]  # b1 reads all proteins higher
        code = batch.batches[:, 1][batch.observed[:, 1]]
        assert shift[code == 1].min() > shift[code == 0].max() - 0.5


def test_learning_brings_the_loss_down(screen):
    task, _ = made_task(screen().data)
    settings = TrainingSettings(8, 16, 1e-2, 0.0, "rmsprop", patience=100, plateau=5)
    history = train_ensemble(task, settings, device="cpu", seed=0, progress=False)
    assert history[-1] < history[0] - 0.3


# ------------------------------------------------------------------ growing


def grown_pair(shared=(True, True)):
    modalities = [ClueModality("a", 3, 4, "nb", sized=True), ClueModality("b", 2, 2, "normal", sized=False)]
    old, new = (
        ClueModel(modalities, batches=n, config=TINY, generator=torch.Generator().manual_seed(n), shared=s)
        for n, s in zip((2, 3), shared, strict=True)
    )
    for value in old.parameters():
        value.data += torch.rand(value.shape, generator=torch.Generator().manual_seed(9))
    first = {k: v.clone() for k, v in new.state_dict().items()}
    return old, grown(old, ["x", "y"], new, ["y", "z", "x"]), first


def test_what_belongs_to_a_batch_is_carried_over_by_its_name():
    old, new, first = grown_pair()
    theirs, ours = old.state_dict(), new.state_dict()
    per_batch = [k for k in ours if "per_batch" in k]
    assert (
        len(per_batch) == 9
    )  # three and one of the likelihoods, two layers of each decoder, the discriminator's first
    for key in per_batch:
        assert torch.equal(ours[key][:, 0], theirs[key][:, 1])
        assert torch.equal(ours[key][:, 2], theirs[key][:, 0])
        assert torch.equal(ours[key][:, 1], first[key][:, 1])
    for key in set(ours) - set(per_batch):
        assert torch.equal(ours[key], theirs[key])


@pytest.mark.parametrize("shared", [(True, False), (False, True)])
def test_a_discriminator_may_begin_or_cease_to_read_the_batch(shared):
    old, new, _ = grown_pair(shared)
    assert torch.equal(new.state_dict()["discriminator.head.weight"], old.state_dict()["discriminator.head.weight"])
