"""A translator on disk: the same bits again, nothing that runs code, and one kind of error for what is not ours."""

import copy
import hashlib
import json
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import unpaired as up
from unpaired.data.types import Dataset, Modality
from unpaired.errors import DataError, NotFittedError, OutputError
from unpaired.translate import translator as translator_module
from unpaired.translate.store import describe
from unpaired.translate.translator import Translator

FILES = ["model.json", "model.safetensors"]
CASES = {
    "default": {},
    "published": {"network": "published"},
    "raw": {"space": "raw", "loss": "mse"},
    "barycentric": {"loss": "barycentric", "epochs": 3},
    "counts": {"space": "raw", "head": "nb"},
    "images": {},
    "images and counts": {"space": "raw", "head": "nb"},
}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Hidden layers of 8."""

    def small(*args, **options):
        layout = describe(*args, **options)
        return layout | {"hidden": 8} if "hidden" in layout else layout

    monkeypatch.setattr(translator_module, "describe", small)


def make_data(*, images=False, counts=False, n=24, seed=0):
    """Sources of tables or images, targets of real values or counts, in two labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    shape = (n, 1, 8, 8) if images else (n, 5)
    source = rng.normal(size=shape).astype(np.float32)
    target = rng.poisson(4, size=(n, 4)) if counts else rng.normal(size=(n, 4))
    sides = {
        name: Modality(name, X.astype(np.float32), labels, np.array([f"{name}:{i}" for i in range(n)]))
        for name, X in (("left", source), ("right", target))
    }
    return Dataset(sides, ("a", "b"))


def fitted(data, **options):
    return Translator(**({"members": 2, "epochs": 2} | options)).fit(data, up.match_uniform(data))


def assert_same(one, other, readings):
    first, second = one.predict(readings), other.predict(readings)
    for part in ("mean", "spread", "feature_names"):
        assert np.array_equal(getattr(first, part), getattr(second, part))
    assert first.made_by == second.made_by
    assert (one.history_, one.notes_, one.used()) == (other.history_, other.notes_, other.used())


@pytest.fixture
def saved(tmp_path):
    model = fitted(make_data())
    model.save(tmp_path)
    return model, tmp_path


# ------------------------------------------------------------------ there and back


@pytest.mark.parametrize("case", CASES)
def test_what_is_read_back_predicts_the_same_bits(tmp_path, case):
    data = make_data(images="images" in case, counts="counts" in case)
    model = fitted(data, seed=3, **CASES[case])
    model.save(tmp_path / "deep" / "er")
    assert sorted(p.name for p in (tmp_path / "deep" / "er").iterdir()) == FILES
    again = Translator.load(tmp_path / "deep" / "er")
    assert_same(model, again, data["left"].X)
    assert model.predict(data["left"].X).spread.max() > 0
    again.save(tmp_path / "twice")
    for name in FILES:
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "deep" / "er" / name).read_bytes()


@pytest.mark.parametrize("recipe", ["counts:pcs=3", "peaks:components=2", "protein", "scale", "scale:pcs=2", "none"])
@pytest.mark.parametrize("kept", ["dense", "csr"])
def test_every_recipe_of_the_source_comes_along(tmp_path, recipe, kept):
    X = np.random.default_rng(1).poisson(3, size=(24, 6)).astype(np.float32)
    arrays = {"left": sp.csr_matrix(X) if kept == "csr" else X, "right": make_data()["right"].X}
    data = Dataset.from_arrays(arrays, dict.fromkeys(arrays, ["a", "b"] * 12), recipes={"left": recipe})
    model = fitted(data)
    model.save(tmp_path)
    again = Translator.load(tmp_path)
    assert_same(model, again, data["left"].X)
    np.testing.assert_allclose(again.predict(X).mean, model.predict(data["left"]).mean, atol=1e-6)
    recipes = [m.model_.source.recipe for m in (model, again)]
    assert recipes[0].name == recipes[1].name
    assert recipes[0].options == recipes[1].options
    assert sorted(recipes[0].arrays) == sorted(recipes[1].arrays)


def test_images_and_missing_values_have_their_recipe_too(tmp_path):
    rng = np.random.default_rng(2)
    table = rng.normal(size=(24, 5)).astype(np.float32)
    table[rng.random(table.shape) < 0.1] = np.nan
    arrays = {"left": rng.normal(2, 3, size=(24, 2, 8, 8)).astype(np.float32), "right": table}
    data = Dataset.from_arrays(arrays, dict.fromkeys(arrays, ["a", "b"] * 12))
    for source, target in (("left", "right"), ("right", "left")):
        model = Translator(members=2, epochs=2).fit(data, up.match_uniform(data), source=source, target=target)
        model.save(tmp_path / source)
        assert_same(model, Translator.load(tmp_path / source), data[source].X)


def test_options_names_and_numbers_of_numpy_are_saved_as_json(tmp_path):
    data = make_data()
    model = fitted(data, members=np.int64(2), epochs=np.int32(2), seed=np.uint32(5))
    model.save(tmp_path)
    again = Translator.load(tmp_path)
    assert_same(model, again, data["left"].X)
    assert_same(fitted(data, seed=5), again, data["left"].X)
    record = json.loads((tmp_path / "model.json").read_text())
    assert (record["format"], record["format_version"], record["class"]) == ("unpaired-model", 1, "Translator")
    assert record["options"] == {"loss": "unbiased", "network": "default", "epochs": 2, "seed": 5}
    assert record["weights_sha256"] == hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()


def test_a_model_of_default_epochs_keeps_that_they_were_left_to_us(tmp_path, monkeypatch):
    monkeypatch.setattr(translator_module, "_EPOCHS", (1, 2))
    model = fitted(make_data(), epochs=None)
    model.save(tmp_path)
    assert Translator.load(tmp_path).epochs is None
    assert len(model.history_) <= 2


def test_saving_over_a_model_leaves_the_new_one(saved):
    _, folder = saved
    data = make_data(seed=1)
    other = fitted(data, seed=9)
    other.save(folder, force=True)
    assert_same(other, Translator.load(folder), data["left"].X)
    assert sorted(p.name for p in folder.iterdir()) == FILES


def test_a_model_that_is_there_and_a_file_in_the_way_are_left_alone(saved, tmp_path):
    model, folder = saved
    before = [(folder / name).read_bytes() for name in FILES]
    with pytest.raises(OutputError, match=r"holds a model already; choose another folder, or .* force=True"):
        fitted(make_data(seed=1)).save(folder)
    assert [(folder / name).read_bytes() for name in FILES] == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="file cannot be made"):
        model.save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_nothing_is_pickled_or_unpickled(saved, monkeypatch):
    def never(*args, **kwargs):
        pytest.fail("something was pickled")

    model, folder = saved
    for module, name in ((pickle, "loads"), (pickle, "load"), (pickle, "dumps"), (torch, "load"), (torch, "save")):
        monkeypatch.setattr(module, name, never)
    monkeypatch.setattr(pickle, "Unpickler", never)
    model.save(folder, force=True)
    assert_same(model, Translator.load(folder), make_data()["left"].X)


def test_before_fit_there_is_nothing_to_save(tmp_path):
    with pytest.raises(NotFittedError, match="call fit before"):
        Translator().save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


# ------------------------------------------------------------------ files that are not ours


def tried(folder, readings):
    """Load, predict and save; the DataError of loading, or ``None``. Anything else is raised."""
    try:
        model = Translator.load(folder)
    except DataError as error:
        return error
    model.predict(readings)
    model.save(folder / "again", force=True)
    return None


def refused(folder, match=None):
    """Loading gives a DataError that names a file of the folder, with what to do."""
    with pytest.raises(DataError, match=match) as caught:
        Translator.load(folder)
    (problem,) = caught.value.problems
    assert problem.where in {str(folder / name) for name in FILES}
    assert problem.fix


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("left", [0, 1, 8, 100, -100, -2])
def test_a_file_that_was_cut_off(saved, name, left):
    file = saved[1] / name
    file.write_bytes(file.read_bytes()[:left])
    refused(saved[1], match=name)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_or_a_folder(saved, name):
    (saved[1] / name).unlink()
    refused(saved[1], match=f"{name}.*(there is no such file|is missing)")
    (saved[1] / name).mkdir()
    refused(saved[1], match=name)


def test_a_folder_that_is_not_there(tmp_path):
    refused(tmp_path / "nowhere", match=r"model\.json: cannot be read \(there is no such file\)")


def test_a_turned_bit_in_the_weights(saved):
    file = saved[1] / "model.safetensors"
    whole = file.read_bytes()
    for at in np.random.default_rng(0).integers(len(whole), size=40):
        data = bytearray(whole)
        data[at] ^= 1 << int(at) % 8
        file.write_bytes(data)
        refused(saved[1], match=r"model\.safetensors: is not the file that belongs to model\.json")


def test_a_turned_bit_in_the_record_is_refused_or_harmless(saved):
    file = saved[1] / "model.json"
    whole, left = file.read_bytes(), make_data()["left"].X
    loaded = 0
    for at in range(0, len(whole), 5):
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        file.write_bytes(data)
        error = tried(saved[1], left)
        assert error is None or str(saved[1]) in str(error)
        loaded += error is None
    assert loaded < len(whole) // 10


def edited(record, path, value):
    record = copy.deepcopy(record)
    place = record
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return record


def paths(value, path=()):
    """Where values are in the record."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from paths(value[key], (*path, key))


WRONG = [None, True, -1, 5, 1e30, np.nan, 10**12, 10**30, "x", [], {}, [10**12], ["x"], [["x"]]]


def test_any_other_value_in_the_record_is_refused_or_harmless(tmp_path):
    X = np.random.default_rng(1).poisson(3, size=(24, 6)).astype(np.float32)
    arrays = {"left": X, "right": make_data()["right"].X}
    data = Dataset.from_arrays(arrays, dict.fromkeys(arrays, ["a", "b"] * 12), recipes={"left": "scale:pcs=2"})
    fitted(data).save(tmp_path)
    file = tmp_path / "model.json"
    record = json.loads(file.read_text())
    harmless = set()
    for path in list(paths(record))[1:]:
        for value in WRONG:
            file.write_text(json.dumps(edited(record, path, value)))
            if json.loads(file.read_text()) == record:
                continue
            error = tried(tmp_path, X)
            assert error is None or str(tmp_path) in str(error)
            harmless |= {path} if error is None else set()
    told = {(k,) for k in ("unpaired", "history", "notes", "learned_from_sha256")} | {
        ("options", k) for k in ("epochs", "seed")
    }
    named = {("source", "name"), ("source", "feature_names"), ("target", "name")}
    numbers = {("source", "scale"), ("layout", "dropout"), ("layout", "linear")}  # one for another
    recipe = {("source", "recipe", "reason"), ("source", "recipe", "options")}
    recipe |= {("source", "recipe", "options", k) for k in ("pcs", "clip")}
    assert harmless <= told | named | numbers | recipe


@pytest.mark.parametrize("key", ["members", "n_out", "hidden"])
@pytest.mark.parametrize("size", [10**6, 10**9, 10**15, 10**40])
def test_an_absurd_size_is_refused_without_taking_its_memory(saved, key, size, monkeypatch):
    file = saved[1] / "model.json"
    record = json.loads(file.read_text())
    taken = []
    rand = torch.rand
    monkeypatch.setattr(torch, "rand", lambda *a, **k: taken.append(rand(*a, **k)) or taken[-1])
    for path in (("layout", key), ("source", "shape"), ("layout", "shape")):
        file.write_text(json.dumps(edited(record, path, [size] if path[-1] == "shape" else size)))
        refused(saved[1])
    assert all(t.is_meta for t in taken)


@pytest.mark.parametrize("key", ["format", "format_version", "class", "layout", "source", "target", "weights_sha256"])
def test_a_record_without_a_part(saved, key):
    file = saved[1] / "model.json"
    record = json.loads(file.read_text())
    del record[key]
    file.write_text(json.dumps(record))
    refused(saved[1])


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("format_version", 2, r"format version 2\. This version reads up to 1"),
        ("format_version", "1", "format version '1'"),
        ("class", "Propensity", "is not the record of a translator"),
        ("format", "unpaired-run", "is not the record of a translator"),
    ],
)
def test_a_newer_format_and_another_class_are_named(saved, key, value, match):
    file = saved[1] / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    refused(saved[1], match=match)


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "[" * 100_000, '{"format": NaN}', "\x00", "\ud800"])
def test_other_text_for_a_record(saved, text):
    (saved[1] / "model.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    refused(saved[1])


def test_weights_of_another_model_and_damaged_ones_with_the_right_hash(saved, tmp_path):
    folder = saved[1]
    other = fitted(make_data(images=True))
    other.save(tmp_path / "other")
    record = json.loads((folder / "model.json").read_text())
    whole = (folder / "model.safetensors").read_bytes()
    foreign = (tmp_path / "other" / "model.safetensors").read_bytes()
    for content in (foreign, b"", b"\xff" * 40, whole[:200], b"\x00" * 8, pickle.dumps({"net/x": 1})):
        (folder / "model.safetensors").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        (folder / "model.json").write_text(json.dumps(record | {"weights_sha256": digest}))
        refused(folder, match=r"model\.json: does not describe a model")
