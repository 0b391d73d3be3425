"""Who is learned from and who is held out, and partners drawn as the coupling says, whatever it is kept as."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import chi2

import unpaired as up
from unpaired.errors import DataError, OptionError
from unpaired.match.block import Product, Status
from unpaired.translate.partners import Partners, split_partners, turned

UNLIKELY = 1e-6  # how often a test of probabilities fails by chance; the seeds are fixed, so it does not


def split(matching, seed=0):
    """``(learn, valid, notes)`` of a matching whose rows are target cells."""
    return split_partners(matching, seed=seed)


def drawn(partners, draws, epochs, seed=0, first=0):
    """``(epochs, n, draws)`` partners."""
    return np.stack(list(islice(partners.epochs(draws, seed=seed, first=first), epochs)))


def cells_of(partners):
    return set(partners.rows.tolist()), set(partners.inputs.tolist())


def uniform(n, m):
    return Product(np.full(n, 1 / n), np.full(m, 1 / m))


# ------------------------------------------------------------------ the split


@pytest.mark.parametrize("how", ["pairs", "random"])
@pytest.mark.parametrize("counts", [40, (13, 27, 45), (30, 3, 1), (4, 4, 4)])
def test_under_one_to_one_pairs_both_ends_of_a_pair_are_held_out_together(toy, how, counts):
    data, truth = toy(counts)
    matching = up.match_pairs(data, truth) if how == "pairs" else up.match_random(data, seed=3)
    rows = turned(matching, "rna", "image")
    partner = np.asarray(rows.to_sparse().argmax(axis=1)).ravel()
    learn, valid, notes = split(rows)
    assert notes == ()
    assert not set(learn.rows) & set(valid.rows)
    for part in (learn, valid):
        assert set(partner[part.rows]) <= set(part.inputs)
        assert np.array_equal(part.draw(3, "x", seed=0), np.tile(partner[part.rows], (3, 1)).T)
    if counts == 40:
        assert len(valid.rows) == len(valid.inputs) == 12
        assert len(learn.rows) == len(learn.inputs) == 108
        assert not cells_of(learn)[1] & cells_of(valid)[1]


@pytest.mark.parametrize("kept", ["dense", "csr", "product"])
def test_under_a_uniform_coupling_a_tenth_of_each_side_is_held_out(blocky, kept):
    weights = [uniform(n, m) for n, m in ((100, 60), (50, 30))]
    if kept != "product":
        weights = [w.rows(0, len(w.a)) for w in weights]
    if kept == "csr":
        weights = [sp.csr_matrix(w) for w in weights]
    learn, valid, notes = split(blocky(weights))
    assert (len(valid.rows), len(valid.inputs)) == (15, 9)
    assert (len(learn.rows), len(learn.inputs)) == (135, 81)
    assert notes == ()


def test_every_kind_of_coupling_is_cut_without_overlap(blocky, couple, kind, full):
    rng = np.random.default_rng(0)
    matching = blocky([couple(kind, n, m, rng) for n, m in ((43, 31), (25, 52))])
    whole = full(matching)
    learn, valid, notes = split(matching)
    rows, inputs = cells_of(learn), cells_of(valid)
    assert not rows[0] & inputs[0]
    assert not rows[1] & inputs[1]
    assert rows[1] | inputs[1] == set(range(83))
    assert len(valid.inputs) == 3 + 5
    lost = 68 - len(learn.rows) - 6  # six target cells are dealt out; a few of them may find no mass
    assert 3 <= len(valid.rows) <= 6
    assert 0 <= lost <= 0.05 * 62
    assert (lost > 0) == any(n.startswith(f"{lost} of 68 matched cells of image") for n in notes)
    # What is left of a row is what the coupling says, and enough of it.
    for part, least in ((learn, 0.5), (valid, 0.05)):
        kept = whole[np.ix_(part.rows, part.inputs)]
        assert (kept.sum(axis=1) >= least * whole[part.rows].sum(axis=1)).all()
        assert np.allclose(full_rows(part), kept)


def full_rows(part):
    """The weights of the blocks, dense, in the order of rows and inputs."""
    out = np.zeros((len(part.rows), len(part.inputs)))
    row = col = 0
    for b in part.blocks:
        out[row : row + len(b.rows), col : col + len(b.cols)] = b.dense()
        row, col = row + len(b.rows), col + len(b.cols)
    return out


def test_the_sources_held_out_are_those_with_most_of_the_held_out_cells_mass(blocky):
    rng = np.random.default_rng(1)
    base = np.full((40, 40), 1e-3)
    partner = rng.permutation(40)
    base[np.arange(40), partner] = 1.0
    matching = blocky([base])
    _, valid, notes = split(matching)
    (block,) = matching.blocks
    place = {int(r): i for i, r in enumerate(block.rows)}
    assert {int(block.cols[partner[place[int(r)]]]) for r in valid.rows} == set(valid.inputs.tolist())
    assert notes == ()


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (3, 1), (3, 2), (3, 3)])
def test_labels_of_one_to_three_cells_give_their_share_of_targets_and_lose_none(blocky, couple, kind, shape):
    rng = np.random.default_rng(2)
    matching = blocky([couple(kind, *shape, rng) for _ in range(30)])
    learn, valid, notes = split(matching)
    total = 30 * shape[0]
    assert len(valid.rows) == total // 10
    assert len(learn.rows) == total - total // 10
    assert not set(learn.rows) & set(valid.rows)
    # They are too small for source cells of their own; a label of one target cell goes as a whole.
    used = [set(p.inputs[full_rows(p).sum(axis=0) > 0].tolist()) for p in (learn, valid)]
    assert bool(notes) == bool(used[0] & used[1])
    assert shape[0] > 1 or not notes


def test_few_cells_have_one_held_out(blocky, couple, kind):
    rng = np.random.default_rng(3)
    for shapes in ([(2, 2)], [(1, 1), (1, 1)], [(4, 3), (2, 3)], [(9, 9)]):
        learn, valid, _ = split(blocky([couple(kind, n, m, rng) for n, m in shapes]))
        assert len(valid.rows) == 1
        assert len(learn.rows) >= 1


@pytest.mark.parametrize("shapes", [[], [(1, 5)]])
def test_fewer_than_two_matched_cells_are_an_error(blocky, couple, shapes):
    weights = [couple("dense", n, m, np.random.default_rng(0)) for n, m in shapes]
    empty = sp.csr_matrix((3, 4))  # there, and without mass
    with pytest.raises(DataError, match=f"gives {len(shapes)} cells of image a partner; two are the least"):
        split(blocky([*weights, empty]))


@pytest.mark.parametrize("kept", ["dense", "csr", "product", "plan"])
def test_rows_and_labels_without_mass_are_in_neither_part(blocky, couple, kept):
    rng = np.random.default_rng(4)
    weights = couple(kept, 30, 30, rng)
    dead = rng.permutation(30)[:8]
    if kept == "product":
        weights.a[dead] = 0
    elif kept == "plan":
        weights.f[dead] = -np.inf
    elif kept == "csr":
        weights = sp.csr_matrix(weights.multiply(~np.isin(np.arange(30), dead)[:, None]))
    else:
        weights[dead] = 0
    matching = blocky([weights, sp.csr_matrix((5, 5))])
    learn, valid, notes = split(matching)
    assert notes[0] == "13 of 35 cells of image have no partner and were not learned from."
    without = {int(matching.blocks[0].rows[i]) for i in dead} | set(matching.blocks[1].rows.tolist())
    rows = cells_of(learn)[0] | cells_of(valid)[0]
    assert not rows & without
    assert len(valid.rows) == 2
    assert len(rows) >= 20
    assert not (cells_of(learn)[1] | cells_of(valid)[1]) & set(matching.blocks[1].cols.tolist())


def test_where_all_go_to_one_source_cell_it_is_learned_from_and_a_note_says_so(blocky):
    hub = np.zeros((20, 10))
    hub[:, 3] = 1
    matching = blocky([hub, uniform(30, 40)])
    learn, valid, notes = split(matching)
    assert (len(learn.rows), len(valid.rows), len(valid.inputs)) == (45, 5, 1 + 4)  # no cell without mass
    assert notes == (
        "2 of the 5 cells of image that choose the epoch share their partners with cells that are learned from.",
    )
    assert (learn.draw(2, "x", seed=0)[:18] == matching.blocks[0].cols[3]).all()


def test_the_note_counts_the_cells_that_lost_most_of_their_mass(blocky):
    weights = np.eye(100)
    (whole,) = blocky([weights]).blocks
    out = np.flatnonzero(np.isin(whole.rows, split(blocky([weights]))[1].rows))
    stay = np.setdiff1d(np.arange(100), out)
    weights[stay[:3]] = weights[out[0]]  # three others want the partner of one that is held out
    learn, valid, notes = split(blocky([weights]))
    assert (len(learn.rows), len(valid.rows)) == (87, 10)
    assert notes == (
        "3 of 100 matched cells of image were not learned from: most of their mass is on cells that are held out to "
        "choose the epoch.",
    )
    weights[stay[:6]] = weights[out[0]]  # six are too many to lose: the partner is learned from
    learn, valid, notes = split(blocky([weights]))
    assert len(learn.rows) == 90
    assert whole.cols[out[0]] in learn.inputs


def test_notes_name_labels_without_a_matching_and_those_that_did_not_converge(blocky):
    matching = blocky([uniform(20, 20)] * 4)
    blocks = list(matching.blocks)
    blocks[1] = replace(blocks[1], weights=None, status=Status("failed"))
    blocks[3] = replace(blocks[3], status=Status("not_converged"))
    learn, valid, notes = split(replace(matching, blocks=tuple(blocks)))
    assert notes == (
        "20 of 80 cells of image have no partner and were not learned from (no partner at all: label 1).",
        "learned from labels whose matching did not converge: label 3.",
    )
    assert len(learn.rows) + len(valid.rows) == 60


def test_of_many_cells_no_more_than_two_thousand_are_held_out(blocky):
    learn, valid, _ = split(blocky([uniform(30_000, 40)]))
    assert (len(valid.rows), len(learn.rows), len(valid.inputs)) == (2_000, 28_000, 3)


def test_another_seed_holds_out_others(blocky):
    matching = blocky([uniform(50, 50)])
    assert cells_of(split(matching, 0)[1])[0] != cells_of(split(matching, 1)[1])[0]
    assert cells_of(split(matching, 1)[1])[0] == cells_of(split(matching, 1)[1])[0]


# ------------------------------------------------------------------ the draws


def misfit(counts, p):
    """Pearson's statistic over its threshold: above 1 the counts do not come from ``p``."""
    some = p > 0
    assert counts[~some].sum() == 0
    expected = counts.sum(axis=-1, keepdims=True) * p
    statistic = ((counts - expected)[some] ** 2 / expected[some]).sum()
    return statistic / chi2.isf(UNLIKELY, df=some.sum() - p.size // p.shape[-1])


def test_draws_have_the_probabilities_of_the_coupling(blocky, couple, kind, full):
    """20,000 draws a row: a probability that is off by a tenth of itself is seen."""
    matching = blocky([couple(kind, n, m, np.random.default_rng(5)) for n, m in ((6, 5), (4, 7))])
    partners = Partners(matching.blocks)
    picked = partners.draw(20_000, "a test", seed=0)
    counts = np.stack([np.bincount(row, minlength=12) for row in picked])
    p = full(matching)[partners.rows]
    p /= p.sum(axis=1, keepdims=True)
    assert misfit(counts, p) < 1
    off = p * np.random.default_rng(0).choice([0.9, 1.1], size=p.shape)
    assert misfit(counts, off / off.sum(axis=1, keepdims=True)) > 1


def test_the_two_draws_of_an_epoch_are_independent_and_so_are_epochs(blocky, couple, kind, full):
    matching = blocky([couple(kind, 2, 3, np.random.default_rng(6))])
    partners = Partners(matching.blocks)
    p = full(matching)[partners.rows]
    p /= p.sum(axis=1, keepdims=True)
    epochs = drawn(partners, 2, 8000)
    pairs = {
        "draws": (epochs[:, :, 0], epochs[:, :, 1]),
        "epochs": (epochs[:-1:2, :, 0], epochs[1::2, :, 0]),
        "parts": (epochs[:-8:16, :, 0], epochs[8::16, :, 0]),  # drawn in two passes over the coupling
    }
    for one, other in pairs.values():
        for row in range(2):
            counts = np.bincount(3 * one[:, row] + other[:, row], minlength=9)
            assert misfit(counts[None], np.outer(p[row], p[row]).reshape(1, 9)) < 1


def test_epochs_members_draws_and_labels_all_differ(blocky):
    partners = Partners(blocky([uniform(40, 25)] * 2).blocks)
    epochs = drawn(partners, 6, 20)
    columns = epochs.transpose(0, 2, 1).reshape(-1, 80)
    assert len(np.unique(columns, axis=0)) == len(columns) == 120
    place = np.empty(50, dtype=int)
    for block in partners.blocks:
        place[block.cols] = np.arange(25)
    assert (place[epochs[0, :40]] != place[epochs[0, 40:]]).any()


@pytest.mark.parametrize("first", [1, 7, 8, 9, 16, 21])
def test_a_run_that_starts_later_draws_the_same(blocky, couple, kind, first):
    partners = Partners(blocky([couple(kind, 9, 6, np.random.default_rng(7))]).blocks)
    whole = drawn(partners, 4, 24)
    assert np.array_equal(drawn(partners, 4, 24 - first, first=first), whole[first:])
    assert not np.array_equal(drawn(partners, 4, 24, seed=1), whole)


def test_nothing_that_is_held_out_is_ever_drawn_for_training(toy, matched, kind):
    data, _ = toy((40, 30, 3))
    learn, valid, notes = split(turned(matched(data, kind), "rna", "image"))
    picked = drawn(learn, 4, 40)
    p = full_rows(learn) / full_rows(learn).sum(axis=1, keepdims=True)
    surely = learn.inputs[p.sum(axis=0) > 0.2]  # 160 draws a row
    assert set(surely) <= set(np.unique(picked)) <= cells_of(learn)[1]
    assert (len(valid.inputs), len(valid.rows) in range(4, 8)) == (7, True)
    assert not cells_of(learn)[1] & cells_of(valid)[1]
    assert not any("share" in note for note in notes)
    assert picked.shape == (40, len(learn.rows), 4)
    labels = {n: data[n].labels for n in data}
    assert (labels["rna"][picked] == labels["image"][learn.rows][None, :, None]).all()


@pytest.mark.parametrize("name", ["rna", "image"])
@pytest.mark.parametrize("how", ["uniform", "pairs", "random", "plan"])
def test_the_order_of_one_sides_rows_changes_their_numbers_only(toy, reorder, matched, name, how):
    data, truth = toy((20, 13, 4))
    make = {
        "uniform": lambda d, _: up.match_uniform(d),
        "pairs": up.match_pairs,
        "random": lambda d, _: up.match_random(d, seed=2),
        "plan": lambda d, _: matched(d, "plan"),
    }[how]
    found = []
    for d, t in ((data, truth), reorder(data, truth, name)[:2]):
        parts = split(turned(make(d, t), "rna", "image"))[:2]
        cells = [d["image"].keys[p.rows] for p in parts] + [d["rna"].keys[p.inputs] for p in parts]
        found.append([*cells, d["rna"].keys[drawn(parts[0], 4, 10)], d["rna"].keys[parts[1].draw(8, "x", seed=0)]])
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)


# ------------------------------------------------------------------ the rest


def test_a_matching_is_turned_either_way_and_refused_for_others(blocky, couple, kind, full):
    matching = blocky([couple(kind, 5, 4, np.random.default_rng(9))], names=("rna", "image"))
    there, back = turned(matching, "rna", "image"), turned(matching, "image", "rna")
    assert (there.source, there.target, there.shape) == ("image", "rna", (4, 5))
    assert back is matching
    assert np.allclose(full(there), full(matching).T)
    with pytest.raises(OptionError, match=r"of 'rna' and 'image'; asked for 'rna' to 'adt'"):
        turned(matching, "rna", "adt")


def test_no_partners_have_no_rows():
    assert len(Partners(()).rows) == len(Partners(()).inputs) == 0


def test_source_cells_without_mass_are_no_inputs(blocky):
    weights = np.full((20, 12), 1 / 240)
    weights[:, [2, 7]] = 0
    matching = blocky([weights])
    learn, valid, _ = split(matching)
    dead = set(matching.blocks[0].cols[[2, 7]].tolist())
    assert not dead & {*learn.inputs.tolist(), *valid.inputs.tolist()}
    assert len({*learn.inputs.tolist(), *valid.inputs.tolist()}) == 10
