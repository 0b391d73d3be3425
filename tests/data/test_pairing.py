"""Pairs: found by id, used, hidden without a trace, and kept together when cells are left out."""

from dataclasses import replace

import numpy as np
import pytest

from unpaired.data.build import build_dataset, hide_pairing, tables_from_arrays
from unpaired.data.types import Dataset
from unpaired.errors import DataError, OptionError

N = 60
CLASSES = np.array(["a", "b", "c"])


def make(pairing, *, order=None, change=None, only_adt=0, seed=0, limit=None):
    """Return a data set of 60 cells in both modalities; adt's rows are those of rna reversed."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(N, 4)), CLASSES[np.arange(N) % 3]
    other = y.copy()
    for cell, name in (change or {}).items():
        other[cell] = name
    names = [f"cell{i}" for i in range(N)]
    rows = np.arange(N) if order is None else order
    extra = [f"extra{i}" for i in range(only_adt)]
    arrays = {"rna": X[rows], "adt": np.vstack([X[::-1, :2] + 10, rng.normal(size=(only_adt, 2))])}
    labels = {"rna": y[rows], "adt": [*other[::-1], *CLASSES[np.arange(only_adt) % 3]]}
    ids = {"rna": [names[r] for r in rows], "adt": [*names[::-1], *extra]}
    tables = tables_from_arrays(arrays, labels, ids=ids)
    options = {"label": "label", "pairing": pairing, "recipes": "none", "max_cells_per_label": limit, "seed": seed}
    return build_dataset(tables, **options)


def cell_of(data, name):
    return [i.removeprefix(f"{name}:") for i in data[name].ids]


def test_use_offers_the_pairs():
    data, truth = make("use", only_adt=3)
    assert truth is None
    assert data.pairs.partners("rna", "adt").tolist() == list(range(N - 1, -1, -1))
    assert data.pairs.partners("adt", "rna")[N:].tolist() == [-1, -1, -1]


def test_hide_shuffles_both_sides_and_the_truth_finds_the_partners():
    data, truth = make("hide", only_adt=3)
    assert data.pairs is None
    partners = truth.partners("rna", "adt")
    rna, adt = cell_of(data, "rna"), cell_of(data, "adt")
    assert [adt[p] for p in partners] == rna
    np.testing.assert_allclose(data["adt"].X[partners], data["rna"].X[:, :2] + 10, rtol=1e-6)
    shown, _ = make("use", only_adt=3)
    for name in data:
        assert sorted(data[name].ids) == sorted(shown[name].ids)
        assert np.mean(data[name].ids == shown[name].ids) < 0.2
    # Neither side follows the other, forwards or backwards.
    assert abs(np.corrcoef(np.arange(N), partners)[0, 1]) < 0.5


def test_hiding_is_repeatable_and_follows_the_seed():
    first, again, other = make("hide")[0], make("hide")[0], make("hide", seed=1)[0]
    assert first["rna"].ids.tolist() == again["rna"].ids.tolist()
    assert first["rna"].ids.tolist() != other["rna"].ids.tolist()


def attributes(value, path="data"):
    """Yield every attribute of a data set, with its path."""
    if hasattr(value, "__dataclass_fields__"):
        for field in value.__dataclass_fields__:
            yield from attributes(getattr(value, field), f"{path}.{field}")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from attributes(item, f"{path}.{key}")
    else:
        yield path, value


def test_only_the_ids_name_the_partner():
    """Two data sets that differ only in who is whose partner are equal, but for the names of the cells."""
    rng = np.random.default_rng(0)
    X, y = {"rna": rng.normal(size=(N, 4)), "adt": rng.normal(size=(N, 3))}, CLASSES[np.arange(N) % 3]
    names = np.array([f"cell{i}" for i in range(N)])
    swapped = names.reshape(-1, 3)[np.random.default_rng(1).permutation(N // 3)].ravel()  # within labels
    made = []
    for adt in (names, swapped):
        tables = tables_from_arrays(X, dict.fromkeys(X, y), ids={"rna": names, "adt": adt})
        data, truth = build_dataset(tables, label="label", pairing="hide", recipes="scale")
        _ = [(data[n].order, data[n].features) for n in data]
        made.append((dict(attributes(data)), truth.partners("rna", "adt")))
    (one, partners), (other, others) = made
    assert np.mean(partners == others) < 0.2
    assert np.mean(partners == np.arange(N)) < 0.2  # the sides, of equal order before, are not shuffled alike
    assert set(one) == set(other)
    assert one["data.pairs"] is None
    for path in set(one) - {"data.modalities.adt.ids"}:
        np.testing.assert_array_equal(one[path], other[path], err_msg=path)
    assert not any("cell" in note for note in one["data.notes"])


def test_pairing_needs_shared_ids():
    rng = np.random.default_rng(0)
    X, y = {"rna": rng.normal(size=(4, 2)), "adt": rng.normal(size=(4, 2))}, ["a", "b", "a", "b"]
    for ids in (None, {"rna": list("abcd"), "adt": list("efgh")}):
        tables = tables_from_arrays(X, {"rna": y, "adt": y}, ids=ids)
        for pairing in ("use", "hide"):
            with pytest.raises(DataError, match=f"pairing='{pairing}' needs cells with the same id"):
                build_dataset(tables, label="label", pairing=pairing)


def test_row_numbers_are_no_ids():
    """Of three modalities two share ids; the third is only numbered, with numbers that look like these ids."""
    X = {n: np.random.default_rng(0).normal(size=(4, 2)) for n in ("rna", "adt", "atac")}
    y = {name: ["a", "b", "a", "b"] for name in X}
    tables = tables_from_arrays(X, y, ids={"rna": list("3210"), "adt": list("0123")})
    data, _ = build_dataset(tables, label="label", pairing="use")
    assert data.pairs.partners("rna", "adt").tolist() == [3, 2, 1, 0]
    assert data.pairs.partners("rna", "atac").tolist() == [-1] * 4


def test_hide_pairing_needs_pairs():
    data, _ = make("none")
    with pytest.raises(OptionError, match="needs a data set with pairs"):
        hide_pairing(data)


def test_hide_pairing_leaves_its_input_alone():
    data, _ = make("use")
    before = data["rna"].ids.tolist(), data.pairs.units["rna"].tolist()
    hide_pairing(data, 3)
    assert before == (data["rna"].ids.tolist(), data.pairs.units["rna"].tolist())


# ---------------------------------------------------------------------------------------- cells that are left out


def sizes(data: Dataset, name: str) -> list[int]:
    return np.bincount(data[name].labels, minlength=len(data.classes)).tolist()


@pytest.mark.parametrize("pairing", ["none", "use", "hide"])
def test_at_most_so_many_cells_of_every_label(pairing):
    data, truth = make(pairing, limit=5)
    assert sizes(data, "rna") == sizes(data, "adt") == [5, 5, 5]
    assert data.notes == ("max_cells_per_label=5 left out 45 of 60 cells of rna and 45 of 60 cells of adt.",)
    pairs = {"none": None, "use": data.pairs, "hide": truth}[pairing]
    if pairs is None:
        assert set(cell_of(data, "rna")) != set(cell_of(data, "adt"))  # each side on its own
    else:
        assert (pairs.partners("rna", "adt") >= 0).all()


def test_nothing_is_left_out_below_the_limit():
    data, _ = make("use", limit=20)
    assert len(data["rna"]) == N
    assert data.notes == ()


def test_what_is_kept_does_not_depend_on_the_order_of_the_rows():
    order = np.random.default_rng(5).permutation(N)
    for pairing in ("none", "use"):
        kept = [set(make(pairing, limit=5, order=o)[0]["rna"].ids) for o in (None, order)]
        assert kept[0] == kept[1]
    assert kept[0] != set(make("use", limit=5, seed=1)[0]["rna"].ids)


def test_a_cell_with_two_labels_is_kept_or_left_out_as_one():
    change = {i: CLASSES[(i + 1) % 3] for i in range(0, N, 4)}
    data, _ = make("use", limit=5, change=change, only_adt=6)
    assert max(sizes(data, "rna") + sizes(data, "adt")) <= 5
    both = [c for c in cell_of(data, "adt") if not c.startswith("extra")]
    assert sorted(both) == sorted(cell_of(data, "rna"))
    assert any(data["rna"].labels != data["adt"].labels[data.pairs.partners("rna", "adt")])


def test_cells_without_a_label_stay():
    rng = np.random.default_rng(0)
    X = {n: rng.normal(size=(30, 2)) for n in ("rna", "adt")}
    y = [None] * 10 + ["a", "b"] * 10
    data, _ = build_dataset(tables_from_arrays(X, dict.fromkeys(X, y)), label="label", max_cells_per_label=2)
    assert (data["rna"].labels == -1).sum() == 10
    assert len(data["rna"]) == 14


def test_leaving_out_cells_can_leave_a_feature_without_values():
    rng = np.random.default_rng(0)
    X = {n: rng.normal(size=(40, 3)) for n in ("rna", "adt")}
    X["rna"][1:, 0] = np.nan
    tables = tables_from_arrays(X, {name: ["a", "b"] * 20 for name in X})
    with pytest.raises(DataError, match="1 feature without a measured value among the cells that are kept"):
        build_dataset(tables, label="label", max_cells_per_label=1)


def test_replace_keeps_no_memory_of_the_order():
    data, _ = make("use")
    _ = data["rna"].order
    hidden, _ = hide_pairing(data)
    assert "order" not in vars(hidden["rna"])
    assert "order" not in vars(replace(data["rna"]))
