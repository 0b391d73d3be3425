"""The one result of every way of matching, against dense algebra."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from unpaired.embed.embedding import Provenance
from unpaired.errors import OptionError
from unpaired.match import block as module
from unpaired.match.block import Block, Product, Status
from unpaired.match.matching import Matching

MADE = Provenance("test", {})
KINDS = ["dense", "csr", "product"]


def weights_of(kind, rng, n, m):
    if kind == "product":
        return Product(rng.random(n) + 0.1, rng.random(m) + 0.1)
    w = rng.random((n, m)) * (rng.random((n, m)) < 0.6)
    w[np.arange(n), rng.integers(m, size=n)] += 0.1  # no row, and below no column, without weight
    w[rng.integers(n, size=m), np.arange(m)] += 0.1
    return sp.csr_matrix(w) if kind == "csr" else w


def make(kind="dense", sizes=((4, 6), (5, 3), (1, 2)), *, spare=2, seed=0):
    """A matching of some labels, whose cells lie scattered, and ``spare`` cells a side that are in no block."""
    rng = np.random.default_rng(seed)
    n, m = (sum(s[i] for s in sizes) + spare for i in (0, 1))
    rows, cols = rng.permutation(n), rng.permutation(m)
    blocks, i, j = [], 0, 0
    for k, (a, b) in enumerate(sizes):
        w = weights_of(KINDS[k % 3] if kind == "mixed" else kind, rng, a, b)
        blocks.append(Block("abcdefgh"[k], rows[i : i + a], cols[j : j + b], w, Status("ok")))
        i, j = i + a, j + b
    return Matching("left", "right", (n, m), tuple(blocks), MADE)


def unmatched(label, rows, cols, state="absent", advice="nothing there."):
    return Block(label, np.array(rows, dtype=int), np.array(cols, dtype=int), None, Status(state, advice))


def with_blocks(matching, *blocks):
    return Matching("left", "right", matching.shape, (*matching.blocks, *blocks), MADE)


def densify(matching):
    """The same matching with plain arrays for weights."""
    blocks = tuple(Block(b.label, b.rows, b.cols, b.dense(), b.status) for b in matching.blocks)
    return Matching(matching.source, matching.target, matching.shape, blocks, MADE)


def conditional(coupling):
    total = coupling.sum(axis=1, keepdims=True)
    return coupling / np.where(total > 0, total, 1)


# ------------------------------------------------------------------ pull and push


@pytest.mark.parametrize("kind", [*KINDS, "mixed"])
def test_pull_is_the_conditional_mean_of_the_targets(kind, full):
    matching = make(kind)
    values = np.random.default_rng(1).normal(size=(matching.shape[1], 3))
    dense = full(matching)
    expected = conditional(dense) @ values
    expected[dense.sum(axis=1) == 0] = np.nan
    np.testing.assert_allclose(matching.pull(values), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [*KINDS, "mixed"])
def test_push_is_the_conditional_mean_of_the_sources(kind, full):
    matching = make(kind)
    values = np.random.default_rng(1).normal(size=(matching.shape[0], 3))
    dense = full(matching).T
    expected = conditional(dense) @ values
    expected[dense.sum(axis=1) == 0] = np.nan
    np.testing.assert_allclose(matching.push(values), expected, rtol=1e-6)


@pytest.mark.parametrize("fill", [np.nan, 0.0, -7.0], ids=str)
def test_cells_in_no_block_get_the_fill(fill):
    matching = make(spare=2)
    covered = np.zeros(matching.shape[0], dtype=bool)
    for block in matching.blocks:
        covered[block.rows] = True
    out = matching.pull(np.ones((matching.shape[1], 1)), fill=fill)[:, 0]
    np.testing.assert_allclose(out[covered], 1)
    np.testing.assert_array_equal(out[~covered], np.full(2, fill))


def test_cells_of_a_label_without_a_coupling_get_the_fill():
    base = make(spare=2)
    free = np.setdiff1d(np.arange(base.shape[0]), np.concatenate([b.rows for b in base.blocks]))
    out = with_blocks(base, unmatched("z", free, [])).pull(np.ones((base.shape[1], 1)), fill=-1)
    assert (out[free] == -1).all()


@pytest.mark.parametrize("as_csr", [False, True])
def test_a_row_without_weight_gets_the_fill(as_csr):
    w = np.array([[0.0, 0.0], [0.5, 0.5]])
    block = Block("a", np.arange(2), np.arange(2), sp.csr_matrix(w) if as_csr else w, Status("ok"))
    out = Matching("left", "right", (2, 2), (block,), MADE).pull(np.array([[1.0], [3.0]]), fill=-1)
    assert out.tolist() == [[-1.0], [2.0]]


@pytest.mark.parametrize("as_csr", [False, True])
def test_a_whole_number_as_fill_does_not_round_the_values(as_csr):
    w = np.array([[0.25, 0.75]])
    block = Block("a", np.arange(1), np.arange(2), sp.csr_matrix(w) if as_csr else w, Status("ok"))
    out = Matching("left", "right", (2, 2), (block,), MADE).pull(np.array([[0.0], [1.0]]), fill=0)
    assert out.tolist() == [[0.75], [0.0]]


@pytest.mark.parametrize("shape", [(10, 2), (14, 2), (13,), (13, 2, 1)], ids=str)
def test_values_that_are_not_one_row_a_cell_are_refused(shape):
    matching = make(spare=2)
    assert matching.shape == (12, 13)
    with pytest.raises(OptionError, match="values must be 13 rows"):
        matching.pull(np.zeros(shape))


def test_a_constant_is_pulled_as_it_is():
    matching = make("mixed", spare=0)
    np.testing.assert_allclose(matching.pull(np.full((matching.shape[1], 2), 4.2)), 4.2)


@pytest.mark.parametrize("kind", KINDS)
def test_conditional_weights_can_be_read_at_given_positions(kind):
    block = make(kind).blocks[0]
    rows, cols = np.array([3, 0, 0, 1]), np.array([5, 2, 2, 0])
    np.testing.assert_allclose(block.at(rows, cols), conditional(block.dense())[rows, cols])


def test_conditional_weights_of_a_row_without_weight_are_zero():
    block = Block("a", np.arange(2), np.arange(2), np.array([[0.0, 0.0], [0.5, 0.5]]), Status("ok"))
    assert block.at(np.array([0, 1]), np.array([0, 1])).tolist() == [0, 0.5]


# ------------------------------------------------------------------ partners and samples


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 3, 50])
def test_partners_are_the_largest_conditional_weights(kind, k, full):
    matching = make(kind)
    rows, probability = matching.partners(k)
    assert rows.shape == probability.shape == (matching.shape[0], k)
    p = conditional(full(matching))
    for i in range(matching.shape[0]):
        top = np.sort(p[i][p[i] > 0])[::-1][:k]
        np.testing.assert_allclose(probability[i], np.r_[top, np.zeros(k - len(top))], atol=1e-12)
        np.testing.assert_allclose(p[i, rows[i, : len(top)]], top)
        assert (rows[i, len(top) :] == -1).all()
        assert len(set(rows[i, : len(top)])) == len(top)


@pytest.mark.parametrize("k", [0, -1, 1.5, True])
def test_a_number_of_partners_that_is_none_is_refused(k):
    with pytest.raises(OptionError, match="k must be a whole number"):
        make().partners(k)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_follow_the_weights(kind):
    n, p = 6000, np.array([0.05, 0.0, 0.45, 0.2, 0.3])
    row = 0.7 * p
    weights = {
        "dense": np.tile(row, (n, 1)),
        "csr": sp.csr_matrix(np.tile(row, (n, 1))),
        "product": Product(np.ones(n), row),
    }
    block = Block("a", np.arange(n), np.array([4, 3, 2, 1, 0]), weights[kind], Status("ok"))
    drawn = Matching("left", "right", (n, 5), (block,), MADE).sample(np.random.default_rng(0))
    count = np.bincount(4 - drawn, minlength=5)
    assert count[1] == 0
    assert chisquare(count[p > 0], n * p[p > 0]).pvalue > 1e-3


def test_every_row_is_sampled_from_its_own_weights():
    w = np.tile(np.eye(3)[[2, 0, 1]], (40, 1))
    block = Block("a", np.arange(120), np.array([10, 11, 12]), w, Status("ok"))
    drawn = Matching("left", "right", (120, 13), (block,), MADE).sample(np.random.default_rng(0))
    assert drawn.tolist() == [12, 10, 11] * 40


def test_rows_are_sampled_independently():
    block = Block("a", np.arange(400), np.arange(2), Product(np.ones(400), np.ones(2)), Status("ok"))
    drawn = Matching("left", "right", (400, 2), (block,), MADE).sample(np.random.default_rng(0))
    together = np.mean(drawn[:-1] == drawn[1:])
    assert 0.4 < together < 0.6


def test_cells_without_a_partner_sample_none():
    w = np.array([[0.0, 0.0], [0.5, 0.5]])
    block = Block("a", np.array([0, 1]), np.arange(2), w, Status("ok"))
    drawn = Matching("left", "right", (3, 2), (block,), MADE).sample(np.random.default_rng(0))
    assert drawn[[0, 2]].tolist() == [-1, -1]
    assert drawn[1] in (0, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_many_draws_a_row_follow_its_own_weights(kind):
    block = make(kind, sizes=((4, 6),), spare=0).blocks[0]
    drawn = block.sample(np.random.default_rng(0), 20_000)
    assert drawn.shape == (4, 20_000)
    for own, p in zip(drawn, conditional(block.dense()), strict=True):
        count = np.bincount(own, minlength=6)
        assert (count[p == 0] == 0).all()
        assert chisquare(count[p > 0], len(own) * p[p > 0]).pvalue > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_the_draws_of_a_row_are_independent_of_each_other(kind):
    w = {
        "dense": np.ones((500, 2)),
        "csr": sp.csr_matrix(np.ones((500, 2))),
        "product": Product(np.ones(500), np.ones(2)),
    }
    drawn = Block("a", np.arange(500), np.arange(2), w[kind], Status("ok")).sample(np.random.default_rng(0), 2)
    assert 0.42 < np.mean(drawn[:, 0] == drawn[:, 1]) < 0.58


@pytest.mark.parametrize("kind", KINDS)
def test_one_draw_asked_for_by_number_is_the_draw_without_a_number(kind):
    block = make(kind).blocks[0]
    one, two = (block.sample(np.random.default_rng(0), draws) for draws in (None, 1))
    assert one.shape == (4,)
    assert np.array_equal(one[:, None], two)


def test_a_draw_is_the_first_column_that_the_cumulative_weights_pass():
    w = np.random.default_rng(1).random((50, 9)) * (np.random.default_rng(2).random((50, 9)) < 0.5)
    w[:, 3] += 0.1
    u = np.random.default_rng(0).random((50, 7))
    cumulative = conditional(w).cumsum(axis=1)
    expected = (cumulative[:, None] <= u[:, :, None] * cumulative[:, None, -1:]).sum(axis=2)
    for weights in (w, sp.csr_matrix(w)):
        block = Block("a", np.arange(50), np.arange(9), weights, Status("ok"))
        assert np.array_equal(block.sample(np.random.default_rng(0), 7), expected)


def test_sampling_does_not_change_the_weights():
    matching = make("dense")
    before = [b.weights.copy() for b in matching.blocks]
    matching.sample(np.random.default_rng(0))
    assert all(np.array_equal(b.weights, w) for b, w in zip(matching.blocks, before, strict=True))


# ------------------------------------------------------------------ some of the cells


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("rows", "cols"),
    [([2, 0], [5, 1, 1]), ([3], None), (None, [0, 4]), (None, None)],
    ids=["both", "row", "cols", "all"],
)
def test_a_block_can_be_cut_to_some_cells_in_any_order(kind, rows, cols):
    block = make(kind, sizes=((4, 6),)).blocks[0]
    cut = block.take(*(None if at is None else np.array(at) for at in (rows, cols)))
    i, j = rows or range(4), cols or range(6)
    assert np.array_equal(cut.rows, block.rows[i])
    assert np.array_equal(cut.cols, block.cols[j])
    np.testing.assert_allclose(cut.dense(), block.dense()[np.ix_(i, j)])
    assert type(cut.weights) is type(block.weights)
    np.testing.assert_allclose(cut.sums(1), block.dense()[np.ix_(i, j)].sum(axis=1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_that_loses_a_side_has_no_coupling(kind):
    cut = make(kind).blocks[0].take(np.array([], dtype=int))
    assert (cut.matched, cut.status.state) == (False, "absent")
    assert len(cut.cols) == 6


def test_a_block_without_a_coupling_is_cut_too_and_keeps_its_reason():
    cut = unmatched("z", [4, 2], [7], "failed", "why.").take(np.array([1]))
    assert (cut.rows.tolist(), cut.status.state, cut.status.advice) == ([2], "failed", "why.")


# ------------------------------------------------------------------ sparse


@pytest.mark.parametrize("kind", ["dense", "product"])
@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999, 1.0])
def test_every_row_keeps_the_asked_mass_and_no_entry_more_than_needed(kind, keep, full):
    matching = make(kind, sizes=((9, 12), (5, 3)))
    thin = matching.sparsify(keep)
    before, after = full(matching), full(thin)
    best = np.zeros(before.shape, dtype=bool)  # the largest of a column stays whatever its row needs
    best[before.argmax(axis=0), np.arange(before.shape[1])] = True
    for whole, kept, extra in zip(before, after, best & (before > 0), strict=True):
        np.testing.assert_allclose(kept[kept > 0], whole[kept > 0], rtol=1e-6)
        assert (kept[extra] > 0).all()
        some = (kept > 0) & ~extra
        assert kept.sum() >= keep * whole.sum() * (1 - 1e-6)
        if some.any():
            least = kept[some].min()
            assert whole[kept == 0].max(initial=0) <= least * (1 + 1e-6)  # the largest stay
            assert whole[whole > least].sum() < keep * whole.sum()  # and without the least it is not enough
    assert all(sp.issparse(b.weights) for b in thin.blocks)


def test_keeping_all_keeps_all(full):
    matching = make("mixed")
    np.testing.assert_allclose(full(matching.sparsify(1.0)), full(matching), rtol=1e-6)


def test_mass_that_is_tiny_is_not_lost():
    w = np.array([[1e-60, 3e-60], [0.5, 0.5]])
    block = Block("a", np.arange(2), np.arange(2), w, Status("ok"))
    thin = Matching("left", "right", (2, 2), (block,), MADE).sparsify(1.0)
    np.testing.assert_allclose(thin.pull(np.array([[0.0], [4.0]])), [[3.0], [2.0]])


def test_no_cell_loses_all_its_partners(full):
    matching = make("product", sizes=((40, 35),), spare=0)
    whole, thin = full(matching), full(matching.sparsify(0.5))
    for axis in (0, 1):
        assert np.array_equal(thin.sum(axis=axis) > 0, whole.sum(axis=axis) > 0)
    assert ((thin == 0) & (whole > 0)).any()


def test_thinning_twice_is_thinning_once(full):
    thin = make("dense", sizes=((9, 12),)).sparsify(0.9)
    assert np.array_equal(full(thin.sparsify(0.9)), full(thin))
    assert thin.blocks[0].status.used["row_mass_kept"] == 0.9


def test_a_coupling_that_is_already_sparse_is_thinned_too():
    matching = make("dense", sizes=((9, 12),))
    assert matching.sparsify(1.0).sparsify(0.5).blocks[0].weights.nnz == matching.sparsify(0.5).blocks[0].weights.nnz


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**20), keep=st.sampled_from([0.2, 0.5, 0.9, 0.999]), sizes=st.tuples(*[st.integers(1, 9)] * 2)
)
def test_a_sparse_coupling_is_thinned_to_the_same_entries_as_a_dense_one(seed, keep, sizes):
    rng = np.random.default_rng(seed)
    w = np.exp(3 * rng.normal(size=sizes)) * (rng.random(sizes) < 0.6)
    w[rng.random(sizes[0]) < 0.2] = 0
    dense, csr = (
        Block("a", np.arange(sizes[0]), np.arange(sizes[1]), kind, Status("ok")).sparsify(keep).weights
        for kind in (w, sp.csr_matrix(w))
    )
    assert np.array_equal(dense.toarray(), csr.toarray())
    assert dense.nnz == csr.nnz


@pytest.mark.parametrize("keep", [0, -0.5, 1.1, np.nan, "most"])
def test_a_fraction_that_is_none_is_refused(keep):
    with pytest.raises(OptionError, match="keep must be"):
        make().sparsify(keep)


def test_sparsify_leaves_the_matching_as_it_is(full):
    matching = make("dense")
    before = full(matching)
    matching.sparsify(0.5)
    assert np.array_equal(full(matching), before)


@pytest.mark.parametrize("kind", [*KINDS, "mixed"])
def test_the_joint_coupling_sums_to_one_and_a_label_weighs_as_its_source_cells(kind):
    matching = make(kind)
    joint = matching.to_sparse()
    assert joint.shape == matching.shape
    assert joint.sum() == pytest.approx(1, abs=1e-6)
    covered = sum(len(b.rows) for b in matching.blocks)
    for block in matching.blocks:
        share = joint[block.rows][:, block.cols].sum()
        assert share == pytest.approx(len(block.rows) / covered, abs=1e-6)


@pytest.mark.parametrize("kind", [*KINDS, "mixed"])
def test_within_a_label_the_joint_coupling_is_proportional_to_the_weights(kind):
    matching = make(kind)
    joint = matching.to_sparse().toarray()
    for block in matching.blocks:
        own, w = joint[np.ix_(block.rows, block.cols)], block.dense()
        np.testing.assert_allclose(own / own.sum(), w / w.sum(), rtol=1e-5)


@pytest.mark.parametrize("kind", [*KINDS, "mixed"])
def test_rows_of_the_conditional_coupling_sum_to_one_where_there_is_a_partner(kind, full):
    matching = make(kind)
    rows = matching.to_sparse("rows")
    np.testing.assert_allclose(rows.toarray(), conditional(full(matching)), rtol=1e-5, atol=1e-9)


def test_a_row_without_weight_stays_empty_in_the_conditional_coupling():
    block = Block("a", np.arange(2), np.arange(2), np.array([[0.0, 0.0], [0.5, 0.5]]), Status("ok"))
    out = Matching("left", "right", (2, 2), (block,), MADE).to_sparse("rows")
    assert out.toarray().tolist() == [[0, 0], [0.5, 0.5]]


def test_without_any_coupling_the_sparse_one_is_empty():
    matching = Matching("left", "right", (3, 4), (unmatched("a", [0], []),), MADE)
    assert matching.to_sparse().shape == (3, 4)
    assert matching.to_sparse().nnz == 0


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(OptionError, match="normalise must be one of joint, rows; got 'columns'"):
        make().to_sparse("columns")


# ------------------------------------------------------------------ transpose, coverage, repr


@pytest.mark.parametrize("kind", [*KINDS, "mixed"])
def test_the_transpose_is_the_transposed_coupling(kind, full):
    matching = make(kind)
    turned = matching.transpose
    assert (turned.source, turned.target, turned.shape) == ("right", "left", matching.shape[::-1])
    np.testing.assert_allclose(full(turned), full(matching).T)


@pytest.mark.parametrize("kind", [*KINDS, "mixed"])
def test_the_transpose_of_the_transpose_is_the_matching(kind, full):
    matching = make(kind)
    twice = matching.transpose.transpose
    assert (twice.source, twice.target, twice.shape) == ("left", "right", matching.shape)
    for a, b in zip(matching.blocks, twice.blocks, strict=True):
        assert type(a.weights) is type(b.weights)
        assert np.array_equal(a.rows, b.rows)
        assert np.array_equal(a.dense(), b.dense())


def test_a_label_without_a_coupling_can_be_transposed():
    turned = Matching("left", "right", (3, 4), (unmatched("a", [0, 2], []),), MADE).transpose
    assert turned.blocks[0].rows.size == 0
    assert turned.blocks[0].cols.tolist() == [0, 2]


def test_coverage_counts_labels_and_cells_and_says_why_others_are_left_out():
    base = make(sizes=((4, 6), (5, 3)), spare=4)
    free = np.setdiff1d(np.arange(base.shape[0]), np.concatenate([b.rows for b in base.blocks]))
    matching = with_blocks(base, unmatched("y", free[:3], []), unmatched("z", free[3:], [], "failed", ""))
    coverage = matching.coverage
    assert (coverage.labels, coverage.labels_total) == (2, 4)
    assert (coverage.source, coverage.source_total) == (9, 13)
    assert (coverage.target, coverage.target_total) == (9, 13)
    assert coverage.left_out == {"y": "nothing there.", "z": "failed"}


def test_the_repr_says_what_it_is_and_how_it_went():
    matching = with_blocks(make(sizes=((4, 6), (5, 3)), spare=1), unmatched("z", [8], []))
    assert repr(matching) == "Matching(left 10 -> right 10; labels: 1 absent, 2 ok)"


# ------------------------------------------------------------------ products and chunks


def every_answer(matching):
    rng = np.random.default_rng(3)
    left, right = rng.normal(size=(matching.shape[0], 2)), rng.normal(size=(matching.shape[1], 2))
    rows, probability = matching.partners(3)
    return {
        "pull": matching.pull(right),
        "push": matching.push(left),
        "partners": rows,
        "probabilities": probability,
        "sample": matching.sample(np.random.default_rng(4)),
        "joint": matching.to_sparse().toarray(),
        "rows": matching.to_sparse("rows").toarray(),
        "thin": matching.sparsify(0.8).to_sparse().toarray(),
        "sums": np.concatenate([b.sums(1) for b in matching.blocks] + [b.sums(0) for b in matching.blocks]),
        "dot": np.vstack([b.dot(right[b.cols]) for b in matching.blocks]),
        "project": np.vstack([b.project(right[b.cols]) for b in matching.blocks]),
        "part": matching.blocks[0].dense(1, 3),
        "transposed": matching.transpose.to_sparse().toarray(),
    }


@pytest.mark.parametrize("kind", ["product", "csr", "mixed"])
def test_how_the_weights_are_kept_makes_no_difference(kind):
    matching = make(kind, sizes=((4, 6), (5, 3), (3, 7)))
    ours, dense = every_answer(matching), every_answer(densify(matching))
    assert ours.pop("thin").shape == dense.pop("thin").shape  # which entries stay is tested above
    for name, value in dense.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("chunk", [1, 7, 13])
@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_a_chunk_makes_no_difference(kind, chunk, monkeypatch):
    matching = make(kind, sizes=((9, 6), (5, 3)))
    whole = every_answer(matching)
    monkeypatch.setattr(module, "_CHUNK", chunk)
    assert len(list(matching.blocks[0].chunks())) > 1
    for name, value in every_answer(matching).items():
        np.testing.assert_allclose(value, whole[name], err_msg=name)


def test_a_product_knows_its_shape():
    assert Product(np.ones(3), np.ones(5)).shape == (3, 5)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from([*KINDS, "mixed"]),
    sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4),
    spare=st.integers(0, 3),
    seed=st.integers(0, 2**20),
)
def test_pull_and_push_are_adjoint_under_the_coupling(kind, sizes, spare, seed):
    """<u, pull v> weighted by the rows' mass equals <push u, v> weighted by the columns'."""
    matching = make(kind, sizes=tuple(sizes), spare=spare, seed=seed)
    coupling = np.zeros(matching.shape)
    for block in matching.blocks:
        coupling[np.ix_(block.rows, block.cols)] = block.dense()
    rng = np.random.default_rng(seed)
    u, v = rng.normal(size=(matching.shape[0], 1)), rng.normal(size=(matching.shape[1], 1))
    left = np.sum(coupling.sum(axis=1)[:, None] * u * matching.pull(v, fill=0.0))
    right = np.sum(coupling.sum(axis=0)[:, None] * v * matching.push(u, fill=0.0))
    assert left == pytest.approx(right, abs=1e-9)
