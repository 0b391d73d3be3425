"""Cross-fitting: who learns from whom."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unpaired.embed.folds import deal_folds, make_splits

SIZES = (2, 3, 10, 57)


def codes(sizes=SIZES, unlabelled=9, seed=0):
    y = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), np.full(unlabelled, -1)])
    return np.random.default_rng(seed).permutation(y)


def splits_of(y, *, folds=5, repeats=3, valid=0.1, seed=0):
    return make_splits(y, folds=folds, repeats=repeats, valid=valid, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
def test_no_fold_holds_a_whole_label(folds):
    y = codes()
    fold = deal_folds(y, folds, np.random.default_rng(1))
    assert all(len(np.unique(fold[y == t])) > 1 for t in range(len(SIZES)))


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
def test_a_label_is_dealt_evenly_over_the_folds(folds):
    y = codes()
    fold = deal_folds(y, folds, np.random.default_rng(1))
    for t in range(len(SIZES)):
        sizes = np.bincount(fold[y == t], minlength=folds)
        assert sizes.max() - sizes.min() <= 1


def test_cells_without_a_label_are_in_no_fold():
    y = codes()
    assert np.array_equal(deal_folds(y, 5, np.random.default_rng(1)) == -1, y == -1)


def test_small_labels_do_not_all_begin_in_the_same_fold():
    y = np.repeat(np.arange(40), 2)
    fold = deal_folds(y, 5, np.random.default_rng(0))
    assert np.bincount(fold, minlength=5).min() > 0


@pytest.mark.parametrize(("folds", "repeats"), [(2, 1), (5, 3), (3, 4)])
def test_there_are_folds_times_repeats_models_repeat_by_repeat(folds, repeats):
    splits = splits_of(codes(), folds=folds, repeats=repeats)
    assert [s.repeat for s in splits] == [r for r in range(repeats) for _ in range(folds)]


def test_every_labelled_cell_is_held_out_by_exactly_one_model_of_every_repeat():
    y = codes()
    splits = splits_of(y)
    for repeat in range(3):
        times = np.sum([s.held_out for s in splits if s.repeat == repeat], axis=0)
        assert np.all(times[y >= 0] == 1)


def test_every_labelled_cell_is_learned_from_by_all_models_that_do_not_hold_it_out():
    y = codes()
    for split in splits_of(y):
        seen = np.zeros(len(y), dtype=bool)
        seen[np.r_[split.train, split.valid]] = True
        assert np.array_equal(seen, (y >= 0) & ~split.held_out)


def test_cells_without_a_label_are_scored_by_every_model_and_learned_from_by_none():
    y = codes()
    for split in splits_of(y):
        assert split.held_out[y == -1].all()
        assert (y[np.r_[split.train, split.valid]] >= 0).all()


def test_the_cells_that_choose_the_epoch_are_not_learned_from():
    for split in splits_of(codes()):
        assert not np.intersect1d(split.train, split.valid).size


def test_every_label_of_two_or_more_cells_is_learned_from_by_every_model():
    y = codes()
    for split in splits_of(y):
        assert np.array_equal(np.unique(y[split.train]), np.arange(len(SIZES)))


def test_no_cell_is_listed_twice():
    for split in splits_of(codes()):
        rows = np.r_[split.train, split.valid]
        assert len(np.unique(rows)) == len(rows)


def test_about_the_asked_fraction_chooses_the_epoch():
    y = np.repeat(np.arange(20), 7)  # labels too small to hold a tenth on their own
    parts = [len(s.valid) / (len(s.valid) + len(s.train)) for s in splits_of(y, folds=5, repeats=20, valid=0.1)]
    assert np.mean(parts) == pytest.approx(0.1, abs=0.015)


def test_the_fraction_is_taken_of_every_label():
    y = np.repeat([0, 1], [400, 100])
    for split in splits_of(y, valid=0.2):
        assert np.bincount(y[split.valid]).tolist() == [64, 16]


def test_with_labels_of_two_cells_each_model_learns_from_one_cell_of_each():
    y = np.repeat(np.arange(4), 2)
    for split in splits_of(y, folds=2, repeats=5, valid=0.4):
        assert sorted(y[split.train]) == [0, 1, 2, 3]


def test_where_no_cell_can_be_spared_the_training_cells_choose_the_epoch():
    y = np.repeat(np.arange(4), 2)
    for split in splits_of(y, folds=2, repeats=5, valid=0.4):
        assert np.array_equal(np.sort(split.valid), np.sort(split.train))


def test_one_fold_is_one_split_that_scores_every_cell():
    y = codes()
    (split,) = splits_of(y, folds=1, repeats=1, valid=0.2)
    assert split.held_out.all()
    assert np.array_equal(np.sort(np.r_[split.train, split.valid]), np.flatnonzero(y >= 0))


def test_one_fold_repeated_is_a_new_split_each_time():
    first, second = splits_of(codes(), folds=1, repeats=2, valid=0.2)
    assert (first.repeat, second.repeat) == (0, 1)
    assert not np.array_equal(first.valid, second.valid)


def test_every_repeat_deals_the_cells_anew():
    splits = splits_of(codes())
    by_repeat = [tuple(s.held_out.tobytes() for s in splits if s.repeat == r) for r in range(3)]
    assert len(set(by_repeat)) == 3


def test_the_same_generator_gives_the_same_splits():
    one, two = splits_of(codes(), seed=3), splits_of(codes(), seed=3)
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a.train, b.train)
        assert np.array_equal(a.valid, b.valid)
        assert np.array_equal(a.held_out, b.held_out)


def test_equal_readings_go_to_the_same_fold():
    y = np.repeat([0, 1], [30, 20])
    keys = np.random.default_rng(0).integers(8, size=50) + 100 * y
    fold = deal_folds(y, 3, np.random.default_rng(1), keys)
    assert all(len(set(fold[keys == key])) == 1 for key in keys)
    assert all(len(np.unique(fold[y == t])) == 3 for t in (0, 1))


def test_equal_readings_with_different_labels_go_to_the_same_fold():
    y = np.arange(40) % 2
    keys = np.arange(40) // 2
    fold = deal_folds(y, 3, np.random.default_rng(1), keys)
    assert np.array_equal(fold[::2], fold[1::2])


def test_a_cell_without_a_label_shares_the_fold_of_the_cell_that_reads_the_same():
    y = np.r_[np.repeat([0, 1], 10), -1, -1]
    fold = deal_folds(y, 3, np.random.default_rng(1), np.r_[np.arange(20), 3, 99])
    assert fold[20] == fold[3]
    assert fold[21] == -1
    assert (fold[:20] >= 0).all()


def test_a_fold_that_a_small_data_set_leaves_empty_is_no_error():
    y = np.repeat([0, 1], 2)
    splits = splits_of(y, folds=5, repeats=4)
    assert any(len(s.judge) == 0 for s in splits)
    assert all(np.array_equal(np.unique(y[s.learn]), [0, 1]) for s in splits)


def test_a_model_is_judged_on_the_labelled_cells_it_holds_out_and_learns_from_the_others():
    y = codes()
    for split in splits_of(y):
        assert np.array_equal(np.sort(split.judge), np.flatnonzero(split.held_out & (y >= 0)))
        assert np.array_equal(np.sort(split.learn), np.flatnonzero(~split.held_out))


def test_with_one_fold_a_model_is_judged_on_the_cells_set_aside_and_learns_from_the_others():
    y = codes()
    (split,) = splits_of(y, folds=1, repeats=1, valid=0.2)
    assert np.array_equal(np.sort(split.judge), np.sort(split.valid))
    assert np.array_equal(np.sort(split.learn), np.sort(split.train))


def test_with_one_fold_there_is_always_something_to_learn_from():
    y = np.repeat(np.arange(3), 2)
    for seed in range(20):
        (split,) = splits_of(y, folds=1, repeats=1, valid=0.2, seed=seed)
        assert np.array_equal(np.unique(y[split.learn]), np.arange(3))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 12), min_size=1, max_size=6),
    unlabelled=st.integers(0, 4),
    folds=st.integers(2, 7),
    valid=st.floats(0.0, 0.9),
    seed=st.integers(0, 2**20),
)
def test_whatever_the_labels_no_model_sees_what_it_scores(sizes, unlabelled, folds, valid, seed):
    y = codes(sizes, unlabelled, seed)
    splits = splits_of(y, folds=folds, repeats=2, valid=valid, seed=seed)
    for split in splits:
        assert not split.held_out[split.train].any()
        assert not split.held_out[split.valid].any()
        assert np.array_equal(np.unique(y[split.train]), np.arange(len(sizes)))
    assert np.sum([s.held_out for s in splits], axis=0)[y >= 0].tolist() == [2] * sum(sizes)
