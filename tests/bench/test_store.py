"""What a bench has done is kept whole, and gone on with only where the settings are the same."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from unpaired.bench.store import Store, failed, safe_name
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import DataError, OptionError, OutputError, UnpairedError

SETTINGS = {"bench": "real", "preset": "smoke"}


def embedding(*, noise=True):
    rng = np.random.default_rng(0)
    arrays = {"rna": rng.normal(size=(5, 2)), "adt": rng.normal(size=(4, 2))}
    made_by = Provenance("Test", {"seed": 3, "of": {"rna": "x"}}, ("a note",))
    spread = {n: rng.random(len(a)) for n, a in arrays.items()}
    covariance = {n: rng.normal(size=(2, 2)) for n in arrays}
    if not noise:
        return Embedding(arrays, "logit", None, ("p", "q"), made_by)
    return Embedding(arrays, "logit", spread, ("p", "q"), made_by, covariance)


def test_results_come_back_with_the_versions_that_made_them(tmp_path):
    store = Store(tmp_path / "out", SETTINGS)
    assert not store.has("a b/c", "ps+ot", 0)
    store.keep("a b/c", "ps+ot", 0, {"scores": {"trace": np.float64(0.5)}})
    assert store.has("a b/c", "ps+ot", 0)
    (found,) = Store(tmp_path / "out", SETTINGS).results()
    assert (found["case"], found["method"], found["seed"]) == ("a b/c", "ps+ot", 0)
    assert found["scores"] == {"trace": 0.5}
    assert found["versions"]["numpy"] == np.__version__
    assert found["unpaired"]


@pytest.mark.parametrize("change", [{"preset": "cpu"}, {"data": {"x": "1"}}])
def test_a_folder_of_other_settings_is_not_gone_on_with(tmp_path, change):
    Store(tmp_path, SETTINGS).keep("c", "m", 0, {})
    with pytest.raises(OutputError, match=f"other settings .*{next(iter(change))}.*name a new folder"):
        Store(tmp_path, {**SETTINGS, **change})
    assert len(list(Store(tmp_path, SETTINGS).results())) == 1


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds no bench"):
        Store(tmp_path, SETTINGS)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "bench.json").write_text("no json")
    with pytest.raises(OutputError, match="not a bench's record"):
        Store(tmp_path, SETTINGS)


def test_why_a_method_failed_can_be_asked(tmp_path):
    store = Store(tmp_path, SETTINGS)
    store.keep("c", "good", 0, {"seconds": 1.0})
    store.keep("c", "bad", 0, {"failed": "no luck."})
    assert str(store.failure("c", "bad", 0)) == "no luck."
    assert store.failure("c", "good", 0) is None
    assert store.failure("c", "bad", 1) is None


def test_what_broke_down_is_tried_again_and_what_does_not_apply_is_not(tmp_path):
    store = Store(tmp_path, SETTINGS)
    store.keep("c", "broken", 0, failed(UnpairedError("it diverged.")))
    store.keep("c", "other", 0, failed(OptionError("it does not apply.")))
    store.keep("c", "data", 0, failed(DataError([])))
    assert [store.has("c", m, 0) for m in ("broken", "other", "data")] == [False, True, True]
    assert str(store.failure("c", "broken", 0)) == "it diverged."
    copied = [failed(store.failure("c", m, 0))["again"] for m in ("broken", "other", "data")]
    assert copied == [True, False, False]  # what comes of a failure is tried again as it is
    assert len(list(store.results())) == 3  # until then its row says why
    store.keep("c", "broken", 0, {"seconds": 1.0})
    assert store.has("c", "broken", 0)


def test_a_damaged_result_is_named(tmp_path):
    store = Store(tmp_path, SETTINGS)
    store.keep("c", "m", 0, {})
    store.path("c", "m", 0).write_text('{"case": "c", "met')
    for ask in (lambda: list(store.results()), lambda: store.has("c", "m", 0), lambda: store.failure("c", "m", 0)):
        with pytest.raises(OutputError, match=r"seed-0\.json is damaged; delete it"):
            ask()


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    store = Store(tmp_path / "out", SETTINGS)
    (tmp_path / "out/results").write_text("in the way")
    with pytest.raises(OutputError, match=r"seed-0\.json cannot be written .*; what was done before is kept"):
        store.keep("c", "m", 0, {})
    (tmp_path / "out/spaces").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        store.space("c", "ps", 0, lambda: (embedding(), {}))
    with pytest.raises(OutputError, match="no room"):  # a full disk is no method's failure
        failed(OutputError("no room"))
    (tmp_path / "file").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        Store(tmp_path / "file/out", SETTINGS)


def test_a_bench_killed_in_its_first_write_goes_on(tmp_path):
    (tmp_path / ".bench.json.x1y2").write_text('{"form')
    Store(tmp_path, SETTINGS).keep("c", "m", 0, {})
    assert Store(tmp_path, SETTINGS).has("c", "m", 0)


@pytest.mark.parametrize("noise", [True, False])
def test_an_embedding_is_made_once(tmp_path, noise):
    made = []

    def make():
        made.append(1)
        return embedding(noise=noise), {"seconds": 1.5}

    first, told = Store(tmp_path, SETTINGS).space("c", "ps", 0, make)
    again, told_again = Store(tmp_path, SETTINGS).space("c", "ps", 0, make)
    assert made == [1]
    assert told == told_again == {"seconds": 1.5}
    assert (again.space, again.dims, again.made_by) == (first.space, first.dims, first.made_by)
    for n in first.arrays:
        assert np.array_equal(first[n], again[n])
        assert (again.noise is None) == (again.noise_covariance is None) == (not noise)
        if noise:
            assert np.array_equal(first.noise[n], again.noise[n])
            assert np.array_equal(first.noise_covariance[n], again.noise_covariance[n])


def test_an_embedding_kept_before_its_noise_had_directions_can_be_loaded(tmp_path):
    first = replace(embedding(), noise_covariance=None)
    Store(tmp_path, SETTINGS).space("c", "ps", 0, lambda: (first, {}))
    (file,) = (tmp_path / "spaces").rglob("*.safetensors")
    assert sorted(load_file(file)) == ["arrays/adt", "arrays/rna", "noise/adt", "noise/rna"]
    again, _ = Store(tmp_path, SETTINGS).space("c", "ps", 0, lambda: pytest.fail("made again"))
    assert again.noise_covariance is None
    assert np.array_equal(first.noise["rna"], again.noise["rna"])


def test_an_embedding_whose_writing_was_cut_short_is_made_again(tmp_path):
    store = Store(tmp_path, SETTINGS)
    store.space("c", "ps", 0, lambda: (embedding(), {}))
    (told,) = (tmp_path / "spaces").rglob("*.json")
    told.unlink()  # it is written last
    made = []
    store.space("c", "ps", 0, lambda: (made.append(1) or embedding(), {}))
    assert made == [1]


@pytest.mark.parametrize("lost", ["*.safetensors", "*.json"])
def test_a_damaged_embedding_is_made_again(tmp_path, lost):
    store = Store(tmp_path, SETTINGS)
    store.space("c", "ps", 0, lambda: (embedding(), {}))
    (file,) = (tmp_path / "spaces").rglob(lost)
    file.write_bytes(file.read_bytes()[:20])
    made = []
    again, _ = store.space("c", "ps", 0, lambda: (made.append(1) or embedding(), {}))
    assert made == [1]
    assert np.array_equal(again["rna"], embedding()["rna"])
    store.space("c", "ps", 0, lambda: (made.append(2) or embedding(), {}))
    assert made == [1]


def test_names_of_cases_are_safe_as_files():
    assert safe_name("bmmc-rna_adt") == "bmmc-rna_adt"
    assert len({safe_name(n) for n in ("a b", "a_b", "a/b", "a:b")}) == 4
    assert "/" not in safe_name("../x/y")
    assert json.dumps(safe_name("a1=0.50"))
