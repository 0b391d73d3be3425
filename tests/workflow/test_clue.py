"""Files to one space of partly paired cells: what the run holds, what is judged, and that a kill loses nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest

from unpaired.embed.clue import Clue
from unpaired.errors import DataError, OptionError, OutputError
from unpaired.evaluate.imputation import score_imputation
from unpaired.report.page import write_report
from unpaired.run import plane
from unpaired.run.clue import read_clue_record
from unpaired.run.folder import check_target
from unpaired.run.read import check_outputs, read_run
from unpaired.workflow import ClueOptions, clue

N, SHARED = 60, 40


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread):
    return one_thread


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Two csv files: counts and numbers of 60 cells each, 40 of them in both."""
    folder, rng = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    z = rng.normal(size=(2 * N, 3))
    kinds = {
        "rna": rng.poisson(np.exp(0.6 * z @ rng.normal(size=(3, 12)) + 1)),
        "adt": z @ rng.normal(size=(3, 5)) + 0.2 * rng.normal(size=(2 * N, 5)),
    }
    rows = {"rna": np.arange(N), "adt": np.r_[np.arange(SHARED), np.arange(N, 2 * N - SHARED)]}
    for name, X in kinds.items():
        own = rng.permutation(rows[name])
        table = pd.DataFrame(X[own], columns=[f"{name}_{i}" for i in range(X.shape[1])])
        told = {"id": [f"cell{i}" for i in own], "type": np.where(z[own, 0] > 0, "up", "down")}
        table.assign(**told, day=np.where(own % 2, "b1", "b2")).to_csv(folder / f"{name}.csv", index=False)
    return [str(folder / f"{name}.csv") for name in kinds]


def options(**more):
    return ClueOptions(**({"pairs": "shared", "label": "type", "batch": "day", "epochs": 2, "device": "cpu"} | more))


@pytest.fixture(scope="module")
def found(tables, tmp_path_factory):
    return clue(tables, tmp_path_factory.mktemp("found") / "run", options())


# ---------------------------------------------------------------------------------------------- what the run holds


def test_the_run_holds_the_model_the_places_and_what_was_imputed(found):
    files = {p.relative_to(found.path).as_posix() for p in found.path.rglob("*") if p.is_file()}
    assert files == {
        "run.json", "report.html", "scores.json", "imputation.csv", "latents.h5mu", "model/model.json",
        "model/model.safetensors", "imputed/rna_to_adt.h5ad", "imputed/adt_to_rna.h5ad",
    }  # fmt: skip
    assert not found.path.with_name("run.clue").exists()
    record = read_clue_record(found.path)
    assert record == found.record
    assert set(record["outputs"]) == files - {"run.json", "report.html"}
    check_outputs(found.path, record)
    assert [Path(i["path"]).name for i in record["inputs"]] == ["rna.csv", "adt.csv"]
    assert set(record["seconds"]) >= {"reading", "training", "placing", "scoring"}
    assert record["pairs"]["cells"] == [
        {"modalities": ["rna", "adt"], "learned_from": 36, "held_out": 4},
        {"modalities": ["rna"], "learned_from": 20, "held_out": 0},
        {"modalities": ["adt"], "learned_from": 20, "held_out": 0},
    ]
    assert {n: (m["cells"], m["paired"], m["held_out"], m["likelihood"]) for n, m in record["modalities"].items()} == {
        "rna": (56, 36, 4, "nb"),
        "adt": (56, 36, 4, "normal"),
    }


def test_places_are_of_every_reading_alone_and_of_what_is_known_together(found):
    with mudata.set_options(pull_on_update=False):
        cells = mudata.read_h5mu(found.path / "latents.h5mu")
    rna, adt = cells["rna"], cells["adt"]
    assert (rna.obs["part"] == "test").sum() == (adt.obs["part"] == "test").sum() == 4
    alone, together = (
        {n: pd.DataFrame(m.obsm[key], index=m.obs_names.str.partition(":").get_level_values(2))
         for n, m in (("rna", rna), ("adt", adt))}
        for key in ("X_unpaired_clue", "X_unpaired_clue_together")
    )  # fmt: skip
    both = alone["rna"].index.intersection(alone["adt"].index)
    assert len(both) == SHARED
    np.testing.assert_array_equal(together["rna"].loc[both], together["adt"].loc[both])
    assert not np.allclose(alone["rna"].loc[both], alone["adt"].loc[both])
    single = alone["rna"].index.difference(both)
    np.testing.assert_array_equal(together["rna"].loc[single], alone["rna"].loc[single])
    np.testing.assert_allclose(np.linalg.norm(alone["adt"], axis=1), 1, rtol=1e-5)
    units = pd.Series(rna.obs["unpaired_cell"].to_numpy(), index=alone["rna"].index)
    other = pd.Series(adt.obs["unpaired_cell"].to_numpy(), index=alone["adt"].index)
    assert (units[both] == other[both]).all()
    assert (units[single] == -1).all()
    assert np.isfinite(rna.obsm["X_unpaired_2d"]).all()  # few cells: all are drawn
    assert found.record["plane"] == {"method": "PCA", "cells": 120, "cells_total": 120}
    assert set(rna.obs["label"]) == {"up", "down"}
    assert set(rna.obs["batch"]) == {"b1", "b2"}


def test_imputed_readings_are_those_of_the_saved_model(found, tables):
    import unpaired as up

    data, _ = up.read(*tables, label="type", batch="day", pairing="use", recipes={})
    file = anndata.read_h5ad(found.path / "imputed" / "rna_to_adt.h5ad")
    assert file.X.dtype == np.float32
    assert file.shape == (20, 5)
    assert list(file.var_names) == [f"adt_{i}" for i in range(5)]
    lacking = data.pairs.partners("rna", "adt") < 0
    assert list(file.obs_names) == data["rna"].ids[lacking].tolist()
    again = Clue.load(found.path / "model").impute(data, "rna", "adt")
    np.testing.assert_allclose(file.X, again.mean[lacking], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(file.layers["spread"], again.spread[lacking], rtol=1e-4)


def test_scores_are_of_the_cells_that_were_kept_out(found, tables):
    import unpaired as up

    scores = json.loads((found.path / "scores.json").read_text())
    assert scores == found.scores
    (latent,) = scores["latent"]
    assert (latent["source"], latent["target"], latent["cells"]) == ("rna", "adt", 4)
    assert latent["matching_score_chance"] == 0.25
    assert [(s["source"], s["target"], s["scale"]) for s in scores["imputation"]] == [
        ("rna", "adt", "values"), ("adt", "rna", "log1p"),
    ]  # fmt: skip
    data, _ = up.read(*tables, label="type", batch="day", pairing="use")
    with mudata.set_options(pull_on_update=False):
        out = mudata.read_h5mu(found.path / "latents.h5mu")["rna"].obs["part"].to_numpy() == "test"
    partners = data.pairs.partners("rna", "adt")[out]
    imputed = Clue.load(found.path / "model").impute(data, "rna", "adt")
    judged = score_imputation(
        [(data["adt"].X[partners].astype(float), imputed.mean[out], imputed.spread[out])],
        source="rna", target="adt", names=data["adt"].feature_names, counts=False,
    ).to_dict()  # fmt: skip
    assert judged["pearson_quartiles"] == pytest.approx(scores["imputation"][0]["pearson_quartiles"], rel=1e-4)
    assert judged["r2"] == pytest.approx(scores["imputation"][0]["r2"], rel=1e-4)
    table = pd.read_csv(found.path / "imputation.csv")
    assert table.groupby(["source", "target"]).size().to_dict() == {("rna", "adt"): 5, ("adt", "rna"): 12}


def test_the_report_is_rendered_from_what_was_saved(found):
    page = (found.path / "report.html").read_text()
    for part in ("answer", "warnings", "data", "space", "imputation", "training", "made"):
        assert f'id="{part}"' in page
    assert "Judged by 4 cells" in page
    assert "the scores rest on 4 cells" in page
    assert "UMAP is not installed" in page
    assert "or was imputed alike in all these cells" in page
    assert "An imputed count is an expectation" in page
    assert page.count("<img") == 3  # by modality, batch and label
    write_report(found.path)
    assert (found.path / "report.html").read_text() == page


def test_nothing_of_a_cell_that_is_kept_out_is_learned_from(found, tables, tmp_path):
    """The cells that are kept out are spoiled; the model stays as it was."""
    with mudata.set_options(pull_on_update=False):
        obs = mudata.read_h5mu(found.path / "latents.h5mu")["adt"].obs
    out = {i.removeprefix("adt:") for i in obs.index[obs["part"] == "test"]}
    table = pd.read_csv(tables[1])
    numbers = [c for c in table if c.startswith("adt_")]
    table.loc[table["id"].isin(out), "id"] += "x"  # no pair is left of them
    table = table[~table["id"].str.endswith("x")]
    table[[*numbers, "id", "type", "day"]].to_csv(tmp_path / "adt.csv", index=False)
    rna = pd.read_csv(tables[0])
    rna[~rna["id"].isin(out)].to_csv(tmp_path / "rna.csv", index=False)
    files = [str(tmp_path / "rna.csv"), str(tmp_path / "adt.csv")]
    again = clue(files, tmp_path / "run", options(test_fraction=0))
    assert again.scores is None
    assert again.record["training"]["history"] == found.record["training"]["history"]


def test_the_order_of_the_rows_changes_nothing(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(plane, "MOST", 50)
    chosen = options(test_fraction=0.5, impute="none")
    first = clue(tables, tmp_path / "first", chosen)
    for at, file in enumerate(tables):
        pd.read_csv(file).sample(frac=1, random_state=at).to_csv(tmp_path / Path(file).name, index=False)
    again = clue([str(tmp_path / Path(f).name) for f in tables], tmp_path / "again", chosen)
    assert (again.path / "scores.json").read_text() == (first.path / "scores.json").read_text()
    assert (again.path / "imputation.csv").read_text() == (first.path / "imputation.csv").read_text()
    for name in ("rna", "adt"):
        drawn = []
        for run in (first, again):
            with mudata.set_options(pull_on_update=False):
                cells = mudata.read_h5mu(run.path / "latents.h5mu")[name]
            drawn.append(pd.DataFrame(cells.obsm["X_unpaired_2d"], index=cells.obs_names).sort_index())
        pd.testing.assert_frame_equal(*drawn, check_exact=True)


# ---------------------------------------------------------------------------------------------------- ways of use


def test_without_label_and_pairs_it_works_and_says_what_that_means(tables, tmp_path):
    for at, file in enumerate(tables):
        pd.read_csv(file).drop(columns=["type", "day"]).to_csv(tmp_path / f"{'ab'[at]}.csv", index=False)
    files = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    done = clue(files, tmp_path / "run", options(pairs="none", label=None, batch=None, impute="none"))
    assert done.scores is None
    assert not (done.path / "imputed").exists()
    assert any("only the discriminator" in n for n in done.record["notes"] if n.startswith("warning:"))
    page = (done.path / "report.html").read_text()
    assert "only the discriminator laid the modalities on each other" in page
    assert "Not judged" in page
    assert page.count("<img") == 1
    with mudata.set_options(pull_on_update=False):
        cells = mudata.read_h5mu(done.path / "latents.h5mu")
    assert list(cells["a"].obs) == ["part"]
    assert "X_unpaired_clue_together" not in cells["a"].obsm


def test_soft_pairs_are_drawn_from_a_matching_by_the_labels(tables, tmp_path, monkeypatch):
    given = []
    fit = Clue.fit

    def watched(self, data, **more):
        given.append((data, more["matching"]))
        return fit(self, data, **more)

    monkeypatch.setattr(Clue, "fit", watched)
    done = clue(tables, tmp_path / "run", options(soft_pairs=True))
    ((data, (matching,)),) = given
    assert (matching.source, matching.target, matching.shape) == ("rna", "adt", (56, 56))
    assert len(data["rna"]) == 56  # not those that judge
    (told,) = done.record["soft_pairs"]
    assert told["verdict"] in {"use", "average", "do not use"}
    assert "partners were drawn from a matching" in (done.path / "report.html").read_text()


def test_labels_that_are_only_for_the_pictures_need_not_be_shared(tables, tmp_path):
    files = [str(tmp_path / Path(f).name) for f in tables]
    for label, file, copy in zip(("up", "down"), tables, files, strict=True):
        table = pd.read_csv(file)
        table.assign(type=np.where(table.index > 3, label, None)).to_csv(copy, index=False)
    done = clue(files, tmp_path / "run", options(impute="none"))
    assert done.record["classes"] == ["down", "up"]
    assert not any("not matched" in n for n in done.record["notes"])
    with pytest.raises(DataError, match="no label is shared by name"):
        clue(files, tmp_path / "soft", options(soft_pairs=True))


def test_pairs_by_a_table_are_those_of_the_same_names(found, tables, tmp_path):
    ids = [set(pd.read_csv(f)["id"]) for f in tables]
    both = sorted(ids[0] & ids[1])
    lines = {"adt": [*both, ""], "rna": [*both, sorted(ids[0] - ids[1])[0]]}
    pd.DataFrame(lines).to_csv(tmp_path / "pairs.csv", index=False)
    done = clue(tables, tmp_path / "run", options(pairs=str(tmp_path / "pairs.csv")))
    assert done.record["training"]["history"] == found.record["training"]["history"]
    assert done.scores == found.scores
    assert done.record["inputs"][-1]["path"] == str(tmp_path / "pairs.csv")


def test_a_batch_that_the_target_has_not_is_read_as_its_largest(tables, tmp_path):
    table = pd.read_csv(tables[1])
    table["day"] = "b1"
    table.to_csv(tmp_path / "adt.csv", index=False)
    done = clue([tables[0], str(tmp_path / "adt.csv")], tmp_path / "run", options())
    assert any("as batch 'b1' would have read it" in n for n in done.record["notes"])
    assert set(anndata.read_h5ad(done.path / "imputed" / "rna_to_adt.h5ad").obs["batch"]) == {"b1"}


@pytest.fixture(scope="module")
def with_a_third(tables, tmp_path_factory):
    """The two csv files and one of 30 cells that are in neither."""
    file, rng = tmp_path_factory.mktemp("third") / "atac.csv", np.random.default_rng(1)
    table = pd.DataFrame(rng.poisson(2, size=(30, 6)), columns=[f"atac_{i}" for i in range(6)])
    table.assign(id=[f"other{i}" for i in range(30)], type=["up", "down"] * 15, day="b1").to_csv(file, index=False)
    return [*tables, str(file)]


def test_a_modality_without_a_pair_has_no_cell_among_those_that_judge(with_a_third, tmp_path):
    done = clue(with_a_third, tmp_path / "run", options())
    assert [(s["source"], s["target"]) for s in done.scores["latent"]] == [("rna", "adt")]
    assert done.record["modalities"]["atac"]["held_out"] == 0
    assert {"modalities": ["atac"], "learned_from": 30, "held_out": 0} in done.record["pairs"]["cells"]
    page = (done.path / "report.html").read_text()
    assert "Judged by 4 cells" in page
    (note,) = [n for n in done.record["notes"] if "only the discriminator" in n]
    assert note.startswith("warning: no cell of atac is known in another modality")
    assert note.removeprefix("warning: ") in page


def test_one_cell_that_was_kept_out_cannot_judge(tables, tmp_path):
    done = clue(tables, tmp_path / "run", options(test_fraction=0.02))
    assert done.scores is None
    assert "1 cell was kept out, and two are needed to judge: raise --test-fraction." in done.record["notes"]


def test_missing_readings_are_not_judged(tables, tmp_path):
    table = pd.read_csv(tables[1])
    for name in [c for c in table if c.startswith("adt_")]:
        table.loc[table.index % 5 == int(name[-1]), name] = np.nan
    table["adt_4"] = table["adt_4"].where(~table["id"].isin(pd.read_csv(tables[0])["id"]))
    table.to_csv(tmp_path / "adt.csv", index=False)
    done = clue([tables[0], str(tmp_path / "adt.csv")], tmp_path / "run", options(test_fraction=0.5, epochs=20))
    found = next(s for s in done.scores["imputation"] if s["target"] == "adt")
    assert (found["cells"], found["features"], found["features_total"]) == (20, 4, 5)
    assert found["r2"] is not None
    assert pd.read_csv(done.path / "imputation.csv").query("feature == 'adt_4'")["coverage"].isna().all()


# ---------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"preset": "cite"}, "preset must be one of citeseq, default, multiome"),
        ({"pairs": "share"}, "pairs must be shared, none or a CSV file of pairs; there is no file 'share'"),
        ({"soft_pairs": True, "label": None}, "soft_pairs matches cells by their labels"),
        ({"pairs": "none", "test_fraction": 0.2}, "with pairs 'none' there are none"),
        ({"test_fraction": 1.0}, "test_fraction must be a number from 0 to below 1"),
        ({"impute": "some"}, "impute must be one of all, missing, none"),
        ({"likelihoods": {"rna": "poisson"}}, "likelihood must be one of bernoulli, nb, normal"),
        ({"likelihoods": {"protein": "nb"}}, "modality of likelihood must be one of adt, rna"),
    ],
)
def test_wrong_options_are_one_sentence(more, sentence, tables, tmp_path):
    with pytest.raises(OptionError, match=sentence):
        clue(tables, tmp_path / "run", options(**more))
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_there_is_kept_and_a_folder_of_the_users_never_replaced(found, tables, tmp_path):
    with pytest.raises(OutputError, match="holds a run already"):
        clue(tables, found.path, options())
    check_target(found.path, force=True)
    (found.path / "model" / "mine.txt").write_text("mine")
    try:
        with pytest.raises(OutputError, match=r"mine\.txt"):
            check_target(found.path, force=True)
    finally:
        (found.path / "model" / "mine.txt").unlink()
    (tmp_path / "run.clue").write_text("mine")
    with pytest.raises(OutputError, match="is no folder"):
        clue(tables, tmp_path / "run", options())
    with pytest.raises(DataError, match="run of unpaired clue"):
        read_run(found.path)


def test_what_is_not_ours_beside_the_run_stays(tables, tmp_path):
    (tmp_path / "run.clue").mkdir()
    (tmp_path / "run.clue" / "mine.txt").write_text("mine")
    clue(tables, tmp_path / "run", options())
    assert [p.name for p in (tmp_path / "run.clue").iterdir()] == ["mine.txt"]


# ------------------------------------------------------------------------------------------------------ kill -KILL

SCRIPT = """
import sys
import torch
from unpaired import cli
from unpaired.embed.checkpoint import Checkpoint
torch.set_num_threads(1)
Checkpoint.__init__.__kwdefaults__["every"] = 0.0  # keep every epoch: the test has no minutes
cli.main()
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_as_if_nothing_had_been(tables, tmp_path):
    chosen = options(epochs=40)
    whole = clue(tables, tmp_path / "whole", chosen)
    out = tmp_path / "run"
    command = ["clue", *tables, "--pairs", "shared", "--label", "type", "--batch", "day", "--epochs", "40"]
    command += ["--device", "cpu", "--out", str(out)]
    started = subprocess.Popen([sys.executable, "-c", SCRIPT, *command], start_new_session=True)
    kept = tmp_path / "run.clue" / "clue-training.safetensors"
    try:
        deadline = time.monotonic() + 120
        while not kept.exists() and started.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        os.killpg(started.pid, signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL, "the training was over before it was killed: make it longer"
    assert kept.exists()
    assert not out.exists()
    again = clue(tables, out, chosen)
    assert any("taken up again" in n for n in again.record["notes"])
    assert again.record["training"]["history"] == pytest.approx(whole.record["training"]["history"], rel=1e-6)
    for ours, theirs in zip(again.scores["latent"], whole.scores["latent"], strict=True):
        assert ours.keys() == theirs.keys()
        assert [v for v in ours.values() if type(v) is not str] == pytest.approx(
            [v for v in theirs.values() if type(v) is not str], rel=1e-5
        )
    assert not kept.parent.exists()
