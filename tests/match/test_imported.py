"""Couplings made elsewhere: read from files and memory, checked, cut into labels, and nothing dropped in silence."""

import gzip
import hashlib
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.io import mmwrite

from unpaired.errors import DataError, OptionError
from unpaired.match.imported import read_matching


@pytest.fixture
def data(problem):
    return problem({"left": (4, 3), "right": (5, 6)})[0]


def same(data):
    """Which pairs of cells have the same label."""
    a, b = (data[n].labels for n in ("left", "right"))
    return (a[:, None] == b) & (a[:, None] >= 0)


def coupling_of(data, seed=0):
    rng = np.random.default_rng(seed)
    w = rng.random((len(data["left"]), len(data["right"]))) * same(data)
    return np.where(w > 0.5, w, 0) + 1e-3 * same(data)


def write(kind, path, w):
    if kind == "npz":
        sp.save_npz(path, sp.csr_matrix(w))
    elif kind == "mtx":
        mmwrite(path, sp.coo_matrix(w))
    elif kind == "dense mtx":
        mmwrite(path, w)
    else:
        mmwrite(path.with_suffix(".plain"), sp.coo_matrix(w))
        path.write_bytes(gzip.compress(path.with_suffix(".plain.mtx").read_bytes()))
    return path


@pytest.mark.parametrize("kind", ["npz", "mtx", "dense mtx", "mtx.gz"])
def test_a_file_is_read_as_what_it_holds(data, full, tmp_path, kind):
    w = coupling_of(data)
    path = write(kind, tmp_path / f"coupling.{kind.split()[-1]}", w)
    matching = read_matching(path, data)
    np.testing.assert_allclose(full(matching), w, rtol=1e-6)
    assert all(sp.issparse(b.weights) for b in matching.blocks)
    assert [b.status.state for b in matching.blocks] == ["ok", "ok"]
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (matching.made_by.method, dict(matching.made_by.options)) == (
        "read_matching",
        {"path": str(path), "sha256": sha},
    )
    assert matching.made_by.notes == ()


@pytest.mark.parametrize(
    "form", [np.asarray, sp.csr_matrix, sp.csc_array, sp.coo_matrix, sp.lil_matrix, sp.dok_matrix, np.ndarray.tolist]
)
def test_a_matrix_in_memory_serves_in_any_form(data, full, form):
    w = coupling_of(data)
    np.testing.assert_allclose(full(read_matching(form(w), data)), w)
    assert dict(read_matching(form(w), data).made_by.options) == {"path": None, "sha256": None}


def test_the_matrix_given_is_not_changed(data):
    w = sp.csr_matrix(coupling_of(data))
    w.data[0] = 0  # a zero that is written out
    before = w.copy()
    matching = read_matching(w, data)
    matching.blocks[0].weights.data[:] = 7
    assert (w != before).nnz == 0
    assert w.nnz == before.nnz


def test_weights_that_are_given_twice_add_up(data, full):
    w = coupling_of(data)
    twice = sp.coo_matrix((np.tile(w[w > 0], 2), [np.tile(i, 2) for i in np.nonzero(w)]), shape=w.shape)
    np.testing.assert_allclose(full(read_matching(twice, data)), 2 * w)


def test_counts_and_truth_values_are_weights_too(data, full):
    assert np.array_equal(full(read_matching(same(data), data)), same(data))


def test_the_direction_can_be_named(data, full):
    matching = read_matching(coupling_of(data).T, data, source="right", target="left")
    assert (matching.source, matching.target) == ("right", "left")
    np.testing.assert_allclose(full(matching), coupling_of(data).T)
    with pytest.raises(OptionError, match="modality must be one of"):
        read_matching(coupling_of(data), data, source="middle")


def test_the_order_of_the_rows_changes_nothing(data):
    rng = np.random.default_rng(3)
    rows = {n: rng.permutation(len(data[n])) for n in data}
    one = read_matching(coupling_of(data), data)
    two = read_matching(coupling_of(data)[rows["left"]][:, rows["right"]], data.take(rows))
    for a, b in zip(one.blocks, two.blocks, strict=True):
        assert np.array_equal(data["left"].ids[a.rows], data.take(rows)["left"].ids[b.rows])
        assert np.array_equal(a.weights.toarray(), b.weights.toarray())
        assert np.array_equal(a.weights.indices, b.weights.indices)


# ------------------------------------------------------------------ what is dropped


def test_mass_between_labels_is_dropped_and_said(data, full):
    w = coupling_of(data)
    w[~same(data)] = 3 * w.sum() / (~same(data)).sum()
    matching = read_matching(w, data)
    np.testing.assert_allclose(full(matching), np.where(same(data), w, 0))
    assert matching.made_by.notes == (
        "75 % of the mass lay between cells of different or unknown labels; it was dropped.",
    )


def test_cells_without_a_label_are_in_no_block(problem):
    data, _ = problem({"left": (4, 3), "right": (5, 6)}, unlabelled=2)
    matching = read_matching(np.ones((9, 13)), data)
    assert sum(len(b.rows) for b in matching.blocks) == 7
    assert "unknown labels" in matching.made_by.notes[0]


def test_cells_that_lose_all_partners_are_counted(data):
    w = coupling_of(data)
    w[np.flatnonzero(data["left"].labels == 0)[:2]] = 0
    w[:, np.flatnonzero(data["right"].labels == 1)[0]] = 0
    assert read_matching(w, data).made_by.notes == (
        "2 cells of left in matched labels have no partner in it.",
        "1 cell of right in matched labels has no partner in it.",
    )


def test_a_label_without_mass_has_no_coupling_and_advice(data):
    w = coupling_of(data)
    w[data["left"].labels == 1] = 0
    blocks = read_matching(w, data).blocks
    assert [b.status.state for b in blocks] == ["ok", "absent"]
    assert not blocks[1].matched
    assert "no mass between its cells" in blocks[1].status.advice


def test_a_label_with_cells_on_one_side_is_absent_and_one_with_a_single_cell_says_nothing(problem):
    data, _ = problem({"left": (4, 0, 1), "right": (5, 6, 3)})
    blocks = read_matching(same(data), data).blocks
    assert [(b.label, b.status.state) for b in blocks] == [("a", "ok"), ("b", "absent"), ("c", "too_small")]
    assert blocks[1].status.advice == "left has no cell of this label."


# ------------------------------------------------------------------ what is refused


def test_a_coupling_without_mass_within_a_label_is_an_error(data):
    with pytest.raises(DataError, match="memory: holds no mass between cells of one label"):
        read_matching(np.where(same(data), 0, 1.0), data)


def test_all_problems_are_listed_at_once_with_the_file(data, tmp_path):
    w = coupling_of(data)[:, 1:]
    w[0, :2] = np.nan, -1
    path = write("npz", tmp_path / "c.npz", w)
    with pytest.raises(DataError) as caught:
        read_matching(path, data)
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert text.count(str(path)) == 3
    for part in ("the shape (7, 10), but left has 7 cells and right has 11", "1 weight missing", "1 negative weight"):
        assert part in text


def test_a_coupling_of_the_other_direction_is_recognised(data):
    with pytest.raises(DataError, match="Transpose it"):
        read_matching(coupling_of(data).T, data)


@pytest.mark.parametrize("values", [np.full((7, 11), 1j), np.full((7, 11), "1")], ids=["complex", "text"])
def test_weights_that_are_no_real_numbers_are_refused(data, values):
    with pytest.raises(DataError, match="Weights are real numbers"):
        read_matching(values, data)


def test_a_file_that_is_not_there_or_of_another_kind_is_named(data, tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        read_matching(tmp_path / "none.npz", data)
    other = tmp_path / "c.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"c\.csv: is neither a sparse matrix of scipy \(\.npz\) nor"):
        read_matching(other, data)


def test_broken_files_are_named(data, tmp_path):
    good = write("npz", tmp_path / "c.npz", coupling_of(data)).read_bytes()
    for name, content in {
        "cut.npz": good[: len(good) // 2],
        "cut.mtx": b"%%MatrixMarket matrix coordinate real general\n7 11 4\n1 1",
        "cut.gz": gzip.compress(b"%%MatrixMarket nonsense")[:-6],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: cannot be read"):
            read_matching(tmp_path / name, data)


def test_places_outside_of_the_matrix_are_noticed(data, tmp_path):
    w = sp.csr_matrix(coupling_of(data))
    w.indices[0] = 500
    sp.save_npz(tmp_path / "c.npz", w)
    with pytest.raises(DataError, match="cannot be read"):
        read_matching(tmp_path / "c.npz", data)


class _Trap:
    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


def test_nothing_is_unpickled(data, tmp_path):
    np.savez(tmp_path / "c.npz", format=np.array([_Trap()], dtype=object))
    with pytest.raises(DataError, match="cannot be read"):
        read_matching(tmp_path / "c.npz", data)
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(_Trap()))
    with pytest.raises(DataError, match="is neither"):
        read_matching(tmp_path / "c.pkl", data)
