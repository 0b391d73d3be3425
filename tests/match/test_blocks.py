"""The per-label loop: statuses, marginals, generators, workers."""

import pickle
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unpaired.data.types import Dataset, Modality
from unpaired.embed.embedding import Provenance
from unpaired.errors import OptionError
from unpaired.match.block import Product, Status
from unpaired.match.blocks import cells_by_label, evenly, match_labels, one_by_one
from unpaired.match.neighbours import match_snn
from unpaired.match.null import match_random, match_uniform
from unpaired.match.transport import match_ot

MADE = Provenance("test", {})


class Recorder:
    """A solver of one label that keeps what it was given."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, y, a, b, seed):
        self.calls.append((x, y, a, b, seed))
        return Product(a, b), Status("ok")


def record(data, space, **options):
    solver = Recorder()
    options = {"source": None, "target": None, **options}
    return solver.calls, match_labels(data, space, one_by_one(solver), MADE, **options)


def by_label(matching):
    return {b.label: b for b in matching.blocks}


# ------------------------------------------------------------------ statuses


def test_a_label_of_one_side_is_absent_with_advice_that_names_the_side(problem):
    data, space = problem({"left": (4, 0, 3), "right": (3, 5, 0)})
    blocks = by_label(match_ot(data, space, eps=1.0))
    assert [b.status.state for b in blocks.values()] == ["ok", "absent", "absent"]
    assert blocks["b"].weights is None
    assert blocks["b"].status.advice == "left has no cell of this label."
    assert blocks["c"].status.advice == "right has no cell of this label."
    assert np.isnan(blocks["b"].status.marginal_error)


def test_a_label_without_cells_on_both_sides_is_no_block(problem):
    data, _ = problem()
    matching = match_uniform(replace(data, classes=(*data.classes, "empty")))
    assert [b.label for b in matching.blocks] == ["a", "b"]


@pytest.mark.parametrize(("left", "right", "side"), [(1, 4, "left"), (4, 1, "right"), (1, 1, "left")])
@pytest.mark.parametrize("match", [lambda d, s: match_ot(d, s, eps=1.0), match_snn], ids=["ot", "snn"])
def test_one_cell_on_a_side_is_too_small_and_its_coupling_is_forced(problem, full, match, left, right, side):
    data, space = problem({"left": (left, 3), "right": (right, 3)})
    block = by_label(match(data, space))["a"]
    assert block.status.state == "too_small"
    assert side in block.status.advice
    assert block.status.marginal_error == 0
    np.testing.assert_allclose(block.dense(), np.full((left, right), 1 / (left * right)))


def test_the_solver_is_not_asked_about_labels_that_are_absent_or_too_small(problem):
    data, space = problem({"left": (4, 0, 1), "right": (3, 5, 6)})
    calls, _ = record(data, space)
    assert [(len(x), len(y)) for x, y, *_ in calls] == [(4, 3)]


@pytest.mark.parametrize("match", [lambda d, s: match_ot(d, s, eps=1.0), match_snn], ids=["ot", "snn"])
def test_the_time_of_every_label_is_kept(problem, match):
    assert all(b.status.seconds > 0 for b in match(*problem()).blocks)


# ------------------------------------------------------------------ all labels at once


def collect(data, space, solve_all, **options):
    return match_labels(data, space, solve_all, MADE, **{"source": None, "target": None, **options})


def test_all_labels_that_leave_a_choice_come_in_one_call_in_the_order_of_the_classes(problem):
    data, space = problem({"left": (4, 0, 1, 3, 2), "right": (3, 5, 6, 2, 4)})
    calls = []

    def solve_all(problems, seeds):
        calls.append([(len(x), len(y)) for x, y, _, _ in problems])
        assert len(seeds) == len(problems)
        for _, _, a, b in problems:
            yield Product(a, b), Status("ok", f"{len(a)} x {len(b)}")

    matching = collect(data, space, solve_all)
    assert calls == [[(4, 3), (3, 2), (2, 4)]]
    assert [b.status.state for b in matching.blocks] == ["ok", "absent", "too_small", "ok", "ok"]
    for block in matching.blocks:
        if block.status.state == "ok":
            assert block.status.advice == f"{len(block.rows)} x {len(block.cols)}"


def test_a_solver_is_not_called_where_no_label_leaves_a_choice(problem):
    data, space = problem({"left": (1, 0), "right": (3, 5)})

    def solve_all(problems, seeds):
        pytest.fail("there is nothing to solve")
        yield

    assert [b.status.state for b in collect(data, space, solve_all).blocks] == ["too_small", "absent"]


def test_an_answer_too_few_is_not_overlooked(problem):
    def solve_all(problems, seeds):
        yield Product(problems[0][2], problems[0][3]), Status("ok")

    with pytest.raises(ValueError, match="shorter"):
        collect(*problem(), solve_all)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_a_solver_that_is_interrupted_is_closed(problem, stop, monkeypatch):
    closed = []

    def solve_all(problems, seeds):
        try:
            for _, _, a, b in problems:
                yield Product(a, b), Status("ok")
        finally:
            closed.append(True)

    class Bar:
        def __init__(self, answers, **_):
            self.answers = answers

        def __iter__(self):
            yield next(self.answers)
            raise stop

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    with pytest.raises(stop):
        collect(*problem(), solve_all)
    assert closed == [True]


def test_threads_are_limited_once_and_not_for_every_label(problem, monkeypatch):
    import threadpoolctl

    entered, limits = [], threadpoolctl.threadpool_limits

    def counted(*args, **options):
        entered.append(True)
        return limits(*args, **options)

    monkeypatch.setattr(threadpoolctl, "threadpool_limits", counted)
    match_snn(*problem({"left": (3, 3, 3, 3), "right": (3, 3, 3, 3)}))
    assert entered == [True]


def test_many_small_labels_cost_little_each():
    n = 600
    X = np.arange(4.0 * n, dtype=np.float32).reshape(-1, 1)
    ids = np.arange(4 * n).astype(str)
    sides = {k: Modality(k, X, np.repeat(np.arange(n), 4), np.array([k + i for i in ids])) for k in ("left", "right")}
    data = Dataset(sides, tuple(map(str, range(n))))
    start = time.perf_counter()
    assert len(match_uniform(data).blocks) == n
    assert time.perf_counter() - start < 1e-3 * n


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), unlabelled=st.integers(0, 3))
def test_the_cells_of_a_label_come_in_canonical_order(problem, seed, unlabelled):
    data, _ = problem({"left": (5, 0, 3), "right": (2, 4, 1)}, unlabelled=unlabelled, seed=seed)
    for side in data.modalities.values():
        cells = cells_by_label(side, len(data.classes))
        assert len(cells) == len(data.classes)
        for code, rows in enumerate(cells):
            assert np.array_equal(rows, side.order[side.labels[side.order] == code])


@settings(max_examples=100, deadline=None)
@given(n=st.integers(0, 400), most=st.integers(1, 300))
def test_some_cells_are_spread_evenly_over_all(n, most):
    cells = np.arange(n)[::-1] * 3
    some = evenly(cells, most)
    assert len(some) == min(n, most)
    at = (n - 1) - some // 3
    assert (np.diff(at) > 0).all()
    if n > most:
        assert at[0] == 0
        steps = np.diff(np.r_[at, n])
        assert steps.max() - steps.min() <= 1
    else:
        assert some is cells


def test_of_rows_of_a_table_whole_rows_are_kept():
    table = np.arange(24).reshape(8, 3)
    assert np.array_equal(evenly(table, 3), table[[0, 2, 5]])


# ------------------------------------------------------------------ cells


def test_blocks_hold_the_cells_of_their_label_and_no_others(problem):
    data, space = problem({"left": (6, 5, 0, 3), "right": (4, 7, 2, 3)}, unlabelled=4)
    for block in match_ot(data, space, eps=1.0).blocks:
        code = data.classes.index(block.label)
        assert np.array_equal(np.sort(block.rows), np.flatnonzero(data["left"].labels == code))
        assert np.array_equal(np.sort(block.cols), np.flatnonzero(data["right"].labels == code))


def test_cells_without_a_label_are_in_no_block(problem):
    data, space = problem(unlabelled=4)
    matching = match_ot(data, space, eps=1.0)
    rows = np.concatenate([b.rows for b in matching.blocks])
    assert (data["left"].labels[rows] >= 0).all()
    unknown = data["left"].labels < 0
    assert np.isnan(matching.pull(np.ones((matching.shape[1], 1)))[unknown]).all()
    assert (matching.coverage.source, matching.coverage.source_total) == (11, 15)


def test_the_solver_gets_the_coordinates_of_the_blocks_own_cells(problem):
    data, space = problem()
    calls, matching = record(data, space)
    for (x, y, *_), block in zip(calls, matching.blocks, strict=True):
        assert np.array_equal(x, space["left"][block.rows])
        assert np.array_equal(y, space["right"][block.cols])


@pytest.mark.parametrize("match", [lambda d, s: match_ot(d, s, eps=1.0), match_snn], ids=["ot", "snn"])
def test_the_space_of_other_cells_is_refused(problem, match):
    data, space = problem()
    arrays = {**space.arrays, "right": space["right"][:-1]}
    with pytest.raises(OptionError, match="the embedding has 10 cells of 'right' and the data have 11"):
        match(data, replace(space, arrays=arrays))


def test_labels_come_in_the_order_of_the_classes(problem):
    data, space = problem({"left": (3, 3, 3), "right": (3, 3, 3)})
    assert [b.label for b in match_ot(data, space, eps=1.0).blocks] == list(data.classes)


def test_the_direction_can_be_turned(problem, full):
    data, space = problem()
    whole = {"eps": 1.0, "tol": 1e-9, "max_iter": 10**5, "keep": 1.0}
    there, back = match_ot(data, space, **whole), match_ot(data, space, **whole, source="right")
    assert (back.source, back.target, back.shape) == ("right", "left", (11, 11))
    np.testing.assert_allclose(full(back), full(there).T, atol=1e-8)


@pytest.mark.parametrize(
    "match", [lambda d, s, **k: match_ot(d, s, eps=1.0, **k), match_snn, lambda d, _, **k: match_random(d, **k)]
)
def test_with_three_modalities_source_and_target_have_to_be_named(problem, match):
    data, space = problem({"left": (3, 4), "right": (4, 3), "third": (5, 5)})
    for sides in ({}, {"source": "left"}, {"target": "third"}):
        with pytest.raises(OptionError, match="name the source and the target"):
            match(data, space, **sides)
    matching = match(data, space, source="third", target="left")
    assert matching.shape == (10, 7)


def test_source_and_target_must_exist_and_differ(problem):
    data, space = problem()
    with pytest.raises(OptionError, match="modality must be one of left, right; got 'up'"):
        match_snn(data, space, source="up")
    with pytest.raises(OptionError, match="must differ"):
        match_snn(data, space, source="left", target="left")


# ------------------------------------------------------------------ weights


def test_weights_are_uniform_by_default(problem):
    calls, matching = record(*problem())
    for (_, _, a, b, _), block in zip(calls, matching.blocks, strict=True):
        np.testing.assert_allclose(a, 1 / len(block.rows))
        np.testing.assert_allclose(b, 1 / len(block.cols))


def test_weights_are_made_to_sum_to_one_within_each_label(problem):
    data, space = problem()
    rng = np.random.default_rng(0)
    left, right = rng.random(11) + 0.1, rng.random(11) + 0.1
    calls, matching = record(data, space, source_weights=left, target_weights=right)
    for (_, _, a, b, _), block in zip(calls, matching.blocks, strict=True):
        np.testing.assert_allclose(a, left[block.rows] / left[block.rows].sum())
        np.testing.assert_allclose(b, right[block.cols] / right[block.cols].sum())


def test_weights_shape_the_forced_coupling_of_a_single_cell(problem):
    data, space = problem({"left": (1, 3), "right": (4, 3)})
    weights = np.arange(1.0, 8.0)
    block = by_label(match_ot(data, space, eps=1.0, target_weights=weights))["a"]
    np.testing.assert_allclose(block.dense()[0], weights[block.cols] / weights[block.cols].sum())


BAD = {
    "too few": np.ones(10),
    "two columns": np.ones((11, 1)),
    "a zero": np.r_[0.0, np.ones(10)],
    "a negative": np.r_[-1.0, np.ones(10)],
    "nan": np.r_[np.nan, np.ones(10)],
    "inf": np.r_[np.inf, np.ones(10)],
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize(("side", "name"), [("source_weights", "left"), ("target_weights", "right")])
def test_weights_that_are_none_are_refused_in_a_sentence(problem, side, name, bad):
    data, space = problem()
    with pytest.raises(OptionError, match=f"weights of modality '{name}' must be 11 positive numbers"):
        match_ot(data, space, eps=1.0, **{side: bad})


# ------------------------------------------------------------------ generators and workers


def test_every_label_has_its_own_seed(problem):
    calls, _ = record(*problem({"left": (4, 4, 4), "right": (4, 4, 4)}))
    assert len({seed for *_, seed in calls}) == 3


def test_the_seed_of_a_label_depends_on_its_name_and_not_on_the_other_labels(problem):
    data, space = problem({"left": (4, 4, 4), "right": (4, 4, 4)})
    few = data.take({n: np.flatnonzero(data[n].labels != 0) for n in data})
    arrays = {n: space[n][data[n].labels != 0] for n in data}
    every, _ = record(data, space)
    some, _ = record(few, replace(space, arrays=arrays))
    assert [seed for *_, seed in every[1:]] == [seed for *_, seed in some]


def test_the_seed_of_a_label_depends_on_the_given_seed(problem):
    data, space = problem()
    one, two = (record(data, space, seed=s)[0] for s in (0, 1))
    assert one[0][-1] != two[0][-1]


@pytest.mark.parametrize("method", ["ot", "snn"])
def test_workers_do_not_change_a_bit(problem, method):
    data, space = problem({"left": (30, 25, 1, 4), "right": (20, 35, 5, 0)}, d=4)
    run = {
        "ot": lambda jobs: match_ot(data, space, eps=0.3, jobs=jobs),
        "snn": lambda jobs: match_snn(data, space, k=3, jobs=jobs),
    }
    one, two = run[method](1), run[method](2)
    assert [b.label for b in one.blocks] == [b.label for b in two.blocks]
    for a, b in zip(one.matched, two.matched, strict=True):
        assert np.array_equal(a.dense(), b.dense())
        assert np.array_equal(a.rows, b.rows)
        assert a.status.state == b.status.state
        assert np.array_equal(a.status.marginal_error, b.status.marginal_error, equal_nan=True)


@pytest.mark.parametrize("match", [lambda d, s, **o: match_ot(d, s, eps=1.0, **o), match_snn], ids=["ot", "snn"])
@pytest.mark.parametrize("jobs", [0, -1, 1.5, None])
def test_a_number_of_workers_that_is_none_is_refused(problem, match, jobs):
    data, space = problem()
    with pytest.raises(OptionError, match="jobs must be a whole number of at least 1"):
        match(data, space, jobs=jobs)


def test_worker_processes_answer_in_order_however_the_labels_are_shared_out(problem):
    counts = tuple(range(2, 50))
    _, space = problem({"left": (50,), "right": (50,)})
    problems = [(space["left"][:k], space["right"][:k], np.full(k, 1 / k), np.full(k, 1 / k)) for k in counts]
    answers = list(one_by_one(_sizes, jobs=2)(problems, list(counts)))
    assert [weights for weights, _ in answers] == list(zip(counts, counts, strict=True))


def _sizes(x, y, a, b, seed):
    return (min(len(x), len(a)), seed), Status("ok")


def test_a_matching_can_be_sent_between_processes(problem, full):
    data, space = problem()
    matching = match_ot(data, space, eps=1.0)
    assert np.array_equal(full(pickle.loads(pickle.dumps(matching))), full(matching))


def test_the_data_and_the_space_are_not_modified(problem):
    data, space = problem()
    before = {n: (data[n].X.copy(), data[n].labels.copy(), space[n].copy()) for n in data}
    match_ot(data, space, eps=1.0)
    match_snn(data, space, metric="cosine")
    for name, (X, labels, places) in before.items():
        assert np.array_equal(data[name].X, X)
        assert np.array_equal(data[name].labels, labels)
        assert np.array_equal(space[name], places)
