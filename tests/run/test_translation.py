"""The translations of a run: whole or not at all, verified when read, and never over something of the user's."""

from __future__ import annotations

import json
from dataclasses import replace

import anndata
import numpy as np
import pytest

import unpaired as up
from unpaired.data.split import hold_out
from unpaired.embed.embedding import Provenance
from unpaired.errors import DataError, OptionError, OutputError
from unpaired.files import sha256, write_json
from unpaired.run.folder import check_target
from unpaired.run.translation import (
    check_translation,
    read_translation,
    translation_path,
    write_predictions,
    write_translation,
)
from unpaired.translate.prediction import Prediction

MADE = Provenance("Translator", {"members": 2, "device": None, "rate": 0.5}, ("it is a stand-in.",))


class Model:
    """What writing a translation asks of a model."""

    history_ = (0.5, 0.25, float("nan"))
    notes_ = ("stopped early.",)

    def __init__(self, *, broken=False):
        self.broken = broken

    def used(self):
        return {"members": 2, "loss": "unbiased", "patience": float("inf")}

    def save(self, folder):
        (folder / "model.safetensors").write_bytes(b"weights")
        if self.broken:
            raise OSError(28, "No space left on device")
        (folder / "model.json").write_text("{}")


class Scored:
    def to_dict(self):
        return {"source": "rna", "pairs": {"r2": 0.5, "pearson": float("nan")}}


def predict(data, rows=None, seed=0, names=("p", "q", "q")):
    cells = len(data["rna"])
    rows = np.arange(cells) if rows is None else np.array(rows)
    mean, spread = np.random.default_rng(seed).random((2, len(rows), 3)).astype(np.float32)
    return Prediction("rna", "image", "features", rows, cells, mean, spread, np.array(names), MADE)


@pytest.fixture
def held(toy, tmp_path):
    """A run, and its parts: part -> data set."""
    data, truth = toy(10, unlabelled=2)
    train, known, held = hold_out(data, truth, labels=["c"], fraction=0.2)
    embedding = up.Embedding({n: np.arange(len(train[n]))[:, None] / 9.0 for n in train}, "latent", None, ("0",), MADE)
    run = up.write_run(tmp_path / "run", train, embedding, up.match_uniform(train), truth=known, held_out=held)
    return run, {"train": train, "test": held.take("test")[0], "label": held.take("label")[0]}


def translate(held, model=None, **options):
    run, parts = held
    predicted = {n: (d, predict(d, seed=k)) for k, (n, d) in enumerate(parts.items())}
    scores = dict.fromkeys(predicted, Scored())
    matching = Provenance("read_matching", {"path": "c.npz", "sha256": "ab"})
    options = {"asked": {"loss": None}, "seconds": 1.23456} | options
    return write_translation(run, model or Model(), predicted, scores=scores, matching=matching, **options), predicted


def names_in(folder):
    return sorted(p.name for p in folder.iterdir())


def test_the_folder_holds_model_predictions_and_record(held):
    folder, _ = translate(held)
    assert folder == held[0] / "translations" / "rna-to-image" == translation_path(held[0], "rna", "image")
    assert names_in(folder) == ["model.json", "model.safetensors", "predicted.h5ad", "translation.json"]
    assert names_in(folder.parent) == ["rna-to-image"]
    record = read_translation(folder)
    assert record == json.loads((folder / "translation.json").read_text())
    assert (record["format"], record["format_version"]) == ("unpaired-translation", 1)
    assert (record["source"], record["target"], record["space"]) == ("rna", "image", "features")
    assert record["options"] == {"members": 2, "loss": "unbiased", "patience": None}
    assert record["asked"] == {"loss": None}
    assert record["notes"] == ["stopped early."]
    assert record["matching"] == {"method": "read_matching", "sha256": "ab"}
    assert record["training"] == {"history": [0.5, 0.25, None], "seconds": 1.235, "members": 2}
    assert record["cells"] == {"train": 18, "test": 4, "label": 10}
    assert record["scores"]["label"] == {"source": "rna", "pairs": {"r2": 0.5, "pearson": None}}
    assert record["outputs"] == {n: sha256(folder / n) for n in names_in(folder) if n != "translation.json"}
    assert record["versions"]["numpy"] == np.__version__


def test_the_predictions_of_all_parts_are_in_one_file(held):
    folder, predicted = translate(held)
    adata = anndata.read_h5ad(folder / "predicted.h5ad")
    assert adata.obs["part"].tolist() == ["train"] * 18 + ["test"] * 4 + ["label"] * 10
    start = 0
    for data, prediction in predicted.values():
        part = adata[start : start + prediction.cells]
        assert part.obs_names.tolist() == data["rna"].ids.tolist()
        assert np.array_equal(part.X, prediction.mean)
        assert np.array_equal(part.layers["spread"], prediction.spread)
        known = [data.classes[k] if k >= 0 else "" for k in data["rna"].labels]
        assert part.obs["label"].tolist() == known
        start += prediction.cells
    assert adata.var_names.tolist() == ["p", "q", "q-1"]
    assert adata.X.dtype == np.float32


def test_a_run_reads_as_before_with_a_translation_in_it(held):
    before = up.read_run(held[0])
    translate(held)
    (held[0] / "translations" / ".rna-to-image.checkpoint").mkdir()
    after = up.read_run(held[0])
    assert after.record == before.record
    assert after.held_out.counts == before.held_out.counts


def test_a_translation_is_kept_unless_forced(held):
    folder, _ = translate(held)
    before = sha256(folder)
    with pytest.raises(OutputError, match="holds a translation already; replace it with --force"):
        translate(held)
    with pytest.raises(OutputError, match="already"):
        check_translation(held[0], "rna", "image", force=False)
    assert sha256(folder) == before
    model = Model()
    model.notes_ = ("again.",)
    translate(held, model, force=True)
    assert read_translation(folder)["notes"] == ["again."]
    assert names_in(folder.parent) == ["rna-to-image"]


def test_the_place_can_be_checked_before_any_work(held, tmp_path, monkeypatch):
    assert check_translation(held[0], "rna", "image", force=False) == translation_path(held[0], "rna", "image")
    assert not (held[0] / "translations").exists()
    with pytest.raises(DataError, match="Name a folder made by unpaired align"):
        check_translation(tmp_path, "rna", "image", force=False)
    monkeypatch.setattr("unpaired.run.folder.os.access", lambda path, mode: False)
    with pytest.raises(OutputError, match="no permission"):
        check_translation(held[0], "rna", "image", force=False)


@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_while_writing_leaves_nothing_new_and_loses_nothing_old(held, existing):
    before = sha256(translate(held)[0]) if existing else None
    with pytest.raises(OSError, match="No space left"):
        translate(held, Model(broken=True), force=True)
    folder = held[0] / "translations"
    assert (names_in(folder) if folder.exists() else []) == (["rna-to-image"] if existing else [])
    if existing:
        assert sha256(folder / "rna-to-image") == before


def test_something_of_the_users_is_never_replaced(held):
    folder, _ = translate(held)
    (folder / "notes.md").write_text("x")
    with pytest.raises(OutputError, match=r"'notes\.md', which is not of the translation"):
        translate(held, force=True)
    with pytest.raises(OutputError, match=r"'translations/rna-to-image/notes\.md', which is not of the run"):
        check_target(held[0], force=True)
    (folder / "notes.md").unlink()
    (folder.parent / "thesis").mkdir()
    with pytest.raises(OutputError, match="'translations/thesis', which is not of the run"):
        check_target(held[0], force=True)
    (folder.parent / "thesis").rmdir()
    other = folder.parent / "image-to-rna"
    other.mkdir()
    (other / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match="is not empty and not a translation of unpaired"):
        check_translation(held[0], "image", "rna", force=True)


def test_a_run_is_replaced_with_its_translations_checkpoints_and_predictions_of_new_cells(held):
    folder, _ = translate(held)
    (folder.parent / ".rna-to-image.checkpoint").mkdir()
    data = held[1]["label"]
    write_predictions(folder / "new.h5ad", predict(data), data["rna"], data.classes)
    with pytest.raises(OutputError, match="holds a run already"):
        check_target(held[0], force=False)
    check_target(held[0], force=True)
    translate(held, force=True)
    assert "new.h5ad" not in names_in(folder)
    anndata.AnnData(np.ones((2, 2))).write_h5ad(folder / "mine.h5ad")
    with pytest.raises(OutputError, match=r"mine\.h5ad"):
        check_target(held[0], force=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "unpaired-run"}, "is not the record of a translation"),
        ({"format_version": 2}, "version 2; this version of unpaired reads up to 1"),
        (None, "was changed"),
        ("missing", r"model\.json: is missing"),
        ("gone", "there is no such file"),
        ("list", "is not the record"),
    ],
)
def test_a_translation_that_was_changed_is_noticed(held, change, message):
    folder, _ = translate(held)
    record = folder / "translation.json"
    if change is None:
        (folder / "model.safetensors").write_bytes(b"other")
    elif change == "missing":
        (folder / "model.json").unlink()
    elif change == "gone":
        record.unlink()
    else:
        write_json(record, [] if change == "list" else json.loads(record.read_text()) | change)
    with pytest.raises(DataError, match=message):
        read_translation(folder)


def test_predictions_of_other_cells_or_directions_are_refused(held):
    run, parts = held
    train, test = parts["train"], parts["test"]
    with pytest.raises(OptionError, match="the prediction is of 18 cells of 'rna', not of these 4"):
        write_translation(run, Model(), {"train": (test, predict(train))}, scores={}, matching=MADE)
    raw = replace(predict(test), space="raw")
    with pytest.raises(OptionError, match="one direction and space; got 2"):
        write_translation(
            run, Model(), {"train": (train, predict(train)), "test": (test, raw)}, scores={}, matching=MADE
        )
    with pytest.raises(OptionError, match="part must be one of"):
        write_translation(run, Model(), {"valid": (train, predict(train))}, scores={}, matching=MADE)
    assert not (run / "translations").exists()


# ------------------------------------------------------------------ files of predictions


def test_only_predicted_cells_are_written_with_how_they_were_made(toy, tmp_path):
    data, _ = toy(4)
    prediction = predict(data, rows=[7, 2])
    part = np.array([f"part {i}" for i in range(12)])
    path = write_predictions(tmp_path / "out.h5ad", prediction, data["rna"], data.classes, part=part)
    adata = anndata.read_h5ad(path)
    assert adata.obs_names.tolist() == data["rna"].ids[[7, 2]].tolist()
    assert adata.obs["part"].tolist() == ["part 7", "part 2"]
    made = adata.uns["unpaired"]
    assert (made["source"], made["target"], made["space"], made["method"]) == ("rna", "image", "features", "Translator")
    assert json.loads(made["options"]) == {"members": 2, "device": None, "rate": 0.5}
    assert list(made["notes"]) == ["it is a stand-in."]
    bare = write_predictions(
        tmp_path / "bare.h5ad", replace(prediction, made_by=Provenance("x", {})), data["rna"], data.classes
    )
    assert "part" not in anndata.read_h5ad(bare).obs


def test_a_file_is_replaced_only_when_forced_and_only_if_it_holds_predictions(toy, tmp_path):
    data, _ = toy(4)
    args = (data["rna"], data.classes)
    path = write_predictions(tmp_path / "out.h5ad", predict(data), *args)
    before = sha256(path)
    with pytest.raises(OutputError, match="exists; choose another name, or replace it with --force"):
        write_predictions(path, predict(data, seed=1), *args)
    assert sha256(path) == before
    write_predictions(path, predict(data, seed=1), *args, force=True)
    assert sha256(path) != before
    mine = tmp_path / "mine.h5ad"
    anndata.AnnData(np.ones((2, 2))).write_h5ad(mine)
    before = sha256(mine)
    with pytest.raises(OutputError, match="is not a file of predictions"):
        write_predictions(mine, predict(data), *args, force=True)
    assert sha256(mine) == before
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="is not a file; choose"):
        write_predictions(tmp_path / "folder", predict(data), *args, force=True)
    with pytest.raises(OutputError, match="make it first"):
        write_predictions(tmp_path / "no" / "out.h5ad", predict(data), *args)


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_no_partial_file(toy, tmp_path, monkeypatch, existing):
    data, _ = toy(4)
    path = tmp_path / "out.h5ad"
    if existing:
        write_predictions(path, predict(data), data["rna"], data.classes)
    before = sha256(path) if existing else None

    def full(self, name, **options):
        name.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(anndata.AnnData, "write_h5ad", full)
    with pytest.raises(OSError, match="No space"):
        write_predictions(path, predict(data), data["rna"], data.classes, force=True)
    assert names_in(tmp_path) == (["out.h5ad"] if existing else [])
    if existing:
        assert sha256(path) == before


def test_the_umask_is_kept(toy, tmp_path):
    import os

    data, _ = toy(4)
    before = os.umask(0o027)
    try:
        path = write_predictions(tmp_path / "out.h5ad", predict(data), data["rna"], data.classes)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
