"""The command line: what it prints where, what it returns, and what it leaves behind."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import unpaired
from unpaired import workflow
from unpaired.errors import OutputError
from unpaired.workflow.translate import Translator

FAST = ("--label", "perturbation", "--folds", "3", "--repeats", "2", "--classifier", "logistic")


def test_help_and_version(run_cli):
    code, out, _ = run_cli("--help")
    assert code == 0
    for verb in ("check", "tune", "align", "translate", "score", "report", "clue", "demo"):
        assert verb in out
    assert run_cli("--version") == (0, version("unpaired") + "\n", "")


def test_align_writes_a_run_and_prints_where_the_report_is(files, tmp_path, run_cli):
    code, out, err = run_cli("align", *files, *FAST, "--out", tmp_path / "run")
    assert code == 0, err
    assert out.splitlines()[-1] == f"report: {tmp_path / 'run' / 'report.html'}"
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "aligned.h5mu", "diagnosis.json", "recipes.safetensors", "report.html", "run.json",
    }  # fmt: skip
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["options"]["label"] == "perturbation"
    assert record["inputs"][0]["path"] == str(files[0])
    assert record["matching"]["options"]["eps_from"] == "noise"
    assert set(record["seconds"]) >= {"reading", "classifiers", "matching", "diagnosing"}


def test_align_says_the_verdict(files, tmp_path, run_cli):
    code, out, err = run_cli("align", *files, *FAST, "--out", tmp_path / "run")
    assert code == 0, err
    saved = json.loads((tmp_path / "run" / "diagnosis.json").read_text())
    assert out.splitlines()[1] == f"{saved['verdict'].upper()}: {saved['sentence']}"
    code, out, err = run_cli("align", *files, *FAST, "--json", "--force", "--out", tmp_path / "run")
    assert code == 0, err
    said = json.loads(out)
    assert {k: said[k] for k in ("verdict", "sentence", "expected")} == {
        k: saved[k] for k in ("verdict", "sentence", "expected")
    }


def test_labels_without_signal_are_no_failure_but_not_to_be_used(tmp_path, run_cli):
    rng = np.random.default_rng(0)
    for name in "ab":
        table = pd.DataFrame(rng.normal(size=(60, 3)), columns=["x", "y", "z"])
        table.assign(id=[f"c{i}" for i in range(60)], label=["s", "t", "u"] * 20).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    code, out, err = run_cli("align", tmp_path / "a.csv", tmp_path / "b.csv", *FAST[2:], "--out", tmp_path / "run")
    assert code == 0, err
    assert "DO NOT USE: The labels carry no signal" in out
    assert "Do not use" in (tmp_path / "run" / "report.html").read_text()


def test_align_with_hidden_pairs_scores_and_score_repeats_it(files, tmp_path, run_cli):
    code, out, err = run_cli("align", *files, *FAST, "--pairing", "hide", "--json", "--out", tmp_path / "run")
    assert code == 0, err
    first = json.loads(out)["scores"]
    assert first == json.loads((tmp_path / "run" / "scores.json").read_text())
    assert first["trace_over_uniform"] > 1.5
    assert first["coverage"]["pairs"] == 60
    assert first["selective_risk"]["cells"] == 60
    code, out, _ = run_cli("score", tmp_path / "run", "--json")
    assert code == 0
    again = json.loads(out)
    assert again["trace"] == pytest.approx(first["trace"], rel=1e-5)
    assert again["foscttm"] == pytest.approx(first["foscttm"], abs=0.005)
    assert again["per_label"].keys() == first["per_label"].keys() == {"ctrl", "drug", "knock/out"}


def test_score_takes_a_file_of_true_pairs_and_without_any_says_what_to_do(files, tmp_path, run_cli):
    run_cli("align", *files, *FAST, "--out", tmp_path / "run")
    code, _, err = run_cli("score", tmp_path / "run")
    assert code == 2
    assert "--truth" in err
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("rna,image\n" + "".join(f"cell{i},cell{i}\n" for i in range(60)))
    code, out, _ = run_cli("score", tmp_path / "run", "--truth", pairs)
    assert code == 0
    assert "60 of 60 known pairs" in out


def test_report_is_written_again(files, tmp_path, run_cli):
    run_cli("align", *files, *FAST, "--out", tmp_path / "run")
    page = tmp_path / "run" / "report.html"
    first = page.read_text()
    page.unlink()
    code, out, _ = run_cli("report", tmp_path / "run")
    assert (code, out.strip()) == (0, str(page))
    assert len(page.read_text()) > 0.9 * len(first)


def test_check_lists_everything_at_once_and_ends_with_three(files, tmp_path, run_cli):
    bad = tmp_path / "bad.csv"
    bad.write_text("id,perturbation,x,y\na,ctrl,1,inf\na,drug,2,3\n")
    code, out, err = run_cli("check", files[0], bad, "--label", "perturbation")
    assert code == 3
    assert "more than once" in out or "duplicate" in out
    assert "inf" in out
    assert "bad.csv" in out
    assert "errors" in err


def test_check_of_good_files_ends_with_zero_and_can_speak_json(files, run_cli):
    code, out, err = run_cli("check", *files, "--label", "perturbation", "--json")
    assert code == 0
    said = json.loads(out)
    assert {p["severity"] for p in said["problems"]} <= {"note", "warning"}
    assert err.startswith("0 errors")
    takes = said["matching"]
    assert (takes["source"], takes["target"], takes["labels"]) == ("rna", "image", 3)
    assert (takes["largest"]["source_cells"], takes["largest"]["target_cells"]) == (20, 20)
    assert sum(takes["paths"].values()) == 3
    assert 0 <= takes["seconds"][0] <= takes["seconds"][1] < 60
    assert takes["memory"] > 0


def test_check_says_what_the_matching_will_take(files, run_cli):
    code, out, _ = run_cli("check", *files, "--label", "perturbation", "--target", "rna", "--memory", "2GB")
    assert code == 0
    assert out.splitlines()[-1].startswith("matching image -> rna by optimal transport: about ")
    assert "3 labels" in out


def test_check_of_bad_files_says_nothing_of_the_matching(files, run_cli):
    _, out, _ = run_cli("check", *files, "--label", "pertubation", "--json")
    assert json.loads(out)["matching"] is None
    assert "error" in {p["severity"] for p in json.loads(out)["problems"]}


@pytest.mark.parametrize("extra", [("--memory", "lots"), ("--jobs", "0")])
def test_check_refuses_a_wrong_option(files, run_cli, extra):
    code, out, err = run_cli("check", *files, "--label", "perturbation", *extra)
    assert (code, out) == (2, "")
    assert extra[0].removeprefix("--") in err


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (["--folds", "0"], "folds"),
        (["--eps", "small"], "eps"),
        (["--eps", "-1"], "eps"),
        (["--match", "magic"], "method"),
        (["--pairing", "guess"], "pairing"),
        (["--recipe", "rna"], "recipe"),
        (["--recipe", "rna=magic"], "recipe"),
        (["--recipe", "dna=scale"], "dna"),
        (["--classifier", "tree"], "classifier"),
        (["--epochs", "0"], "epochs"),
        (["--epochs", "many"], "epochs must be a whole number of at least 1; got 'many'"),
        (["--epochs", "rna="], "NAME=EPOCHS"),
        (["--epochs", "5", "--epochs", "rna=5"], "NAME=EPOCHS"),
        (["--epochs", "rna=1.5"], "epochs"),
        (["--epochs", "dna=5"], "dna"),
        (["--device", "gpu"], "device"),
        (["--device", "cuda"], "device must be auto or one that this machine has"),
        (["--device", "cuda", "--match", "snn"], "device must be auto or one that this machine has"),
        (["--memory", "lots"], "memory"),
        (["--memory", "8GB", "--match", "snn"], "memory is not an option"),
        (["--seed", "-1"], "seed"),
        (["--jobs", "0"], "jobs"),
        (["--cost", "euclidean"], "eps"),
        (["--repeats", "1"], "eps"),
        (["--preset", "best"], "preset"),
        (["--preset", "published", "--eps", "3"], "leave out"),
        (["--match", "snn", "-k", "0"], "k must"),
        (["--match", "snn", "--eps", "7"], "eps is not an option"),
        (["--max-seconds", "0"], "max_seconds"),
        (["--unbalanced", "0"], "unbalanced"),
        (["--target", "protein", "--source", "rna"], "protein"),
        (["--test-fraction", "1"], "test_fraction"),
        (["--test-fraction", "-0.1"], "test_fraction"),
        (["--hold-out-label", "drog"], "Did you mean 'drug'"),
        (["--hold-out-label", "ctrl", "--hold-out-label", "drug", "--hold-out-label", "knock/out"], "no labelled cell"),
    ],
)
def test_a_wrong_option_ends_with_two_before_any_work_and_leaves_nothing(
    files, tmp_path, run_cli, monkeypatch, extra, named
):
    def work(*_, **__):
        pytest.fail("a classifier was fitted before the options were checked")

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("unpaired.embed.propensity.fit_modality", work)
    fast = [a for a in FAST if not (extra[0] in FAST and a in (extra[0], FAST[FAST.index(extra[0]) + 1]))]
    code, out, err = run_cli("align", *files, *fast, *extra, "--quiet", "--out", tmp_path / "run")
    assert code == 2, err
    assert named in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""
    assert not (tmp_path / "run").exists()


def test_bad_data_end_with_three_and_leave_nothing(files, tmp_path, run_cli):
    code, out, err = run_cli("align", *files, "--label", "pertubation", "--out", tmp_path / "run")
    assert code == 3
    assert "perturbation" in err  # the near match
    assert out == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image.h5ad", "rna.h5ad"]


def test_a_failed_label_ends_with_four_and_the_run_is_there(files, tmp_path, run_cli):
    code, _, err = run_cli("align", *files, *FAST, "--eps", "1e-320", "--out", tmp_path / "run")
    assert code == 4
    assert "failed" in err
    states = {b["state"] for b in json.loads((tmp_path / "run" / "run.json").read_text())["matching"]["blocks"]}
    assert "failed" in states
    assert (tmp_path / "run" / "report.html").exists()


def test_an_existing_run_is_refused_before_any_work(files, tmp_path, run_cli):
    run_cli("align", *files, *FAST, "--out", tmp_path / "run")
    code, _, err = run_cli("align", "no-such-file.h5ad", "other.h5ad", "--out", tmp_path / "run")
    assert code == 2
    assert "--force" in err
    code, _, err = run_cli("align", *files, *FAST, "--out", tmp_path / "run", "--force", "--match", "snn")
    assert code == 0, err


@pytest.mark.parametrize("method", ["snn", "uniform", "random"])
def test_every_method_can_be_chosen(files, tmp_path, run_cli, method):
    code, out, err = run_cli("align", *files, *FAST, "--match", method, "--pairing", "hide", "--out", tmp_path / "run")
    assert code == 0, err
    assert "3 ok" in out


def test_a_matching_that_cannot_be_scored_is_still_written(tmp_path, run_cli):
    rng = np.random.default_rng(0)
    labels = ["s", "t", "u"] * 10
    for name in "ab":
        ids = [f"both{i}" if i < 3 else f"{name}{i}" for i in range(30)]
        table = pd.DataFrame(rng.normal(size=(30, 3)), columns=["x", "y", "z"]).assign(id=ids, label=labels)
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    code, _, err = run_cli(
        "align", tmp_path / "a.csv", tmp_path / "b.csv", *FAST[2:], "--pairing", "hide", "--out", tmp_path / "run"
    )
    assert code == 0, err
    assert "two are needed" in err
    assert "two are needed" in (tmp_path / "run" / "report.html").read_text()
    assert not (tmp_path / "run" / "scores.json").exists()


def test_the_published_recipe_can_be_chosen(files, tmp_path, run_cli):
    code, _, err = run_cli(
        "align", *files, "--label", "perturbation", "--preset", "published", "--epochs", "2", "--out", tmp_path / "run"
    )
    assert code == 0, err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["embedding"]["options"]["classifier"] == {"rna": "published", "image": "published"}
    assert record["embedding"]["options"]["folds"] == 1
    assert (record["matching"]["options"]["eps"], record["matching"]["options"]["cost"]) == (0.05, "euclidean")
    assert {b["state"] for b in record["matching"]["blocks"]} == {"ok"}


def test_each_modality_can_have_its_own_classifier_and_epochs(files, tmp_path, run_cli):
    one = ("--classifier", "rna=mlp", "--classifier", "image=mlp", "--epochs", "rna=2", "--epochs", "image=3")
    code, _, err = run_cli("align", *files, "--label", "perturbation", "--folds", "2", *one, "--out", tmp_path / "run")
    assert code == 0, err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["options"]["epochs"] == record["embedding"]["options"]["epochs"] == {"rna": 2, "image": 3}
    assert record["embedding"]["options"]["classifier"] == {"rna": "mlp", "image": "mlp"}


def test_the_memory_of_the_matching_can_be_capped(files, tmp_path, run_cli):
    code, _, err = run_cli("align", *files, *FAST, "--memory", "1.5GB", "--out", tmp_path / "run")
    assert code == 0, err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["options"]["memory"] == "1.5GB"
    assert record["matching"]["options"]["memory"] == 1_500_000_000


HELD = ("--hold-out-label", "knock/out", "--test-fraction", "0.25")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of 120 cells in three labels: one of them, and a quarter of the others, held out."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["ctrl", "drug", "knock/out"], 40)
    latent = rng.normal(size=(120, 2)) + np.repeat([0, 2, 4], 40)[:, None]
    folder = tmp_path_factory.mktemp("made")
    for name, width in (("rna", 8), ("image", 5)):
        x = (latent @ rng.normal(size=(2, width)) + 0.1 * rng.normal(size=(120, width))).astype(np.float32)
        obs = pd.DataFrame({"perturbation": labels}, index=[f"cell{i}" for i in range(120)])
        var = pd.DataFrame(index=[f"{name[0]}{k}" for k in range(width)])
        anndata.AnnData(x, obs=obs, var=var).write_h5ad(folder / f"{name}.h5ad")
    options = workflow.AlignOptions(
        label="perturbation",
        pairing="hide",
        method="snn",
        folds=2,
        repeats=1,
        hold_out_labels=("knock/out",),
        test_fraction=0.25,
    )
    workflow.align([str(folder / f"{n}.h5ad") for n in ("rna", "image")], folder / "run", options)
    return folder


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made / "run", tmp_path / "run")


@pytest.fixture(scope="module")
def trained(made):
    """The same run with a translation."""
    folder = shutil.copytree(made / "run", made / "trained")
    workflow.translate(folder, workflow.TranslateOptions(epochs=3, members=2, device="cpu"))
    return folder


@pytest.fixture
def translated(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "translated")


SHORT = ("--epochs", "3", "--members", "2", "--device", "cpu")


def translation(run, name="rna-to-image"):
    return json.loads((run / "translations" / name / "translation.json").read_text())


def no_training(*args, **options):
    pytest.fail("trained before everything was checked")


def hidden(folder):
    return sorted(p.name for p in folder.rglob(".*"))


def test_align_keeps_cells_out_of_everything(files, tmp_path, run_cli):
    code, _, err = run_cli("align", *files, *FAST, *HELD, "--pairing", "hide", "--out", tmp_path / "run")
    assert code == 0, err
    assert "knock/out" in err
    found = unpaired.read_run(tmp_path / "run")
    assert found.data.classes == ("ctrl", "drug")
    assert found.held_out.labels == ("knock/out",)
    assert {n: len(found.data[n]) for n in found.data} == {"rna": 30, "image": 30}
    assert found.held_out.counts == {n: {"test": 10, "label": 20} for n in ("rna", "image")}
    assert found.matching.shape == (30, 30)
    assert found.record["options"]["hold_out_labels"] == ["knock/out"]
    assert found.scores["coverage"]["pairs_total"] == 30


def test_a_fraction_that_is_no_cell_holds_nothing_out(files, tmp_path, run_cli):
    code, _, err = run_cli("align", *files, *FAST, "--test-fraction", "0.01", "--out", tmp_path / "run")
    assert code == 0, err
    assert unpaired.read_run(tmp_path / "run").held_out is None


def test_translate_scores_every_part_and_writes_it_into_the_run(run, run_cli):
    before = (run / "report.html").read_text()
    code, out, err = run_cli("translate", run, *SHORT)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("rna -> image")
    assert [line.split()[0] for line in lines[1:4]] == ["train", "test", "held-out"]
    assert lines[-2:] == [f"translation: {run / 'translations' / 'rna-to-image'}", f"report: {run / 'report.html'}"]
    record = translation(run)
    assert record["cells"] == {"train": 60, "test": 20, "label": 40}
    assert {k: s["pairs"]["pairs"] for k, s in record["scores"].items()} == {"train": 60, "test": 20, "label": 40}
    assert list(record["scores"]["label"]["distributions"]["per_label"]) == ["knock/out"]
    # What one would say without the label are the cells learned from, not those of the label itself.
    assert record["scores"]["label"]["distributions"]["baseline_by_cells"]["l2"] > 1
    assert record["asked"] == {"members": 2, "epochs": 3, "device": "cpu"}
    assert record["matching"]["method"] == "match_snn"
    pairs = record["scores"]["test"]["pairs"]
    assert lines[0].split()[3:8] == ["cells", "pairs", "R2", "of", "label"]
    assert lines[2].split()[1:5] == ["20", "20", f"{pairs['r2']:.4f}", f"{pairs['r2_of_label']:.4f}"]
    assert record["scores"]["label"]["pairs"]["r2_of_label"] is None
    assert lines[3].split()[4:6] == [f"{record['scores']['label']['pairs']['r2']:.4f}", "-"]
    found = anndata.read_h5ad(run / "translations" / "rna-to-image" / "predicted.h5ad")
    assert found.obs["part"].value_counts().to_dict() == {"train": 60, "test": 20, "label": 40}
    assert set(found.obs["label"][found.obs["part"] == "label"]) == {"knock/out"}
    assert set(found.obs_names) == {f"rna:cell{i}" for i in range(120)}
    assert (run / "report.html").read_text() != before
    assert hidden(run) == []
    unpaired.read_run(run)


def test_translate_goes_the_other_way_and_speaks_json(run, run_cli):
    code, out, err = run_cli("translate", run, "--from", "image", "--json", "--quiet", *SHORT)
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["translation"] == str(run / "translations" / "image-to-rna")
    assert said["scores"] == translation(run, "image-to-rna")["scores"]
    assert (said["trained"], said["cells"]) == (True, None)


def test_translate_of_a_run_without_truth_compares_distributions_alone(files, tmp_path, run_cli):
    run_cli("align", *files, "--label", "perturbation", "--match", "random", "--out", tmp_path / "run")
    code, out, err = run_cli("translate", tmp_path / "run", *SHORT)
    assert code == 0, err
    record = translation(tmp_path / "run")
    assert list(record["scores"]) == ["train"]
    assert record["scores"]["train"]["pairs"] is None
    assert out.splitlines()[1].split()[:6] == ["train", "60", "-", "-", "-", "3"]


def test_a_translation_is_replaced_only_by_force_and_refused_before_any_work(translated, run_cli, monkeypatch):
    first = translation(translated)
    with monkeypatch.context() as patch:
        patch.setattr(Translator, "fit", no_training)
        code, out, err = run_cli("translate", translated, *SHORT)
    assert (code, out) == (2, "")
    assert "--force" in err
    code, _, err = run_cli("translate", translated, *SHORT, "--seed", "7", "--force")
    assert code == 0, err
    assert translation(translated)["options"]["seed"] == 7
    assert translation(translated)["outputs"] != first["outputs"]
    assert hidden(translated) == []


@pytest.mark.parametrize(
    ("extra", "code", "named"),
    [
        (["--loss", "hope"], 2, "loss"),
        (["--space", "outer"], 2, "space"),
        (["--head", "tail"], 2, "head"),
        (["--members", "0"], 2, "members"),
        (["--epochs", "0"], 2, "epochs"),
        (["--network", "net"], 2, "network"),
        (["--device", "gpu"], 2, "device"),
        (["--device", "cuda"], 2, "device must be auto or one that this machine has"),
        (["--seed", "-1"], 2, "seed"),
        (["--from", "dna"], 2, "from must be a modality of the run (rna, image)"),
        (["--to", "rna", "--from", "rna"], 2, "must differ"),
        (["--out", "x.h5ad"], 2, "--cells"),
        (["--matching", "none.npz"], 3, "none.npz"),
        (["--cells", "none.h5ad"], 3, "none.h5ad"),
        (["--cells", "none/predicted.h5ad"], 2, "translation's own"),
        (["--cells", "none.h5ad", "--out", "none/x.h5ad"], 2, "does not exist"),
    ],
)
def test_what_translate_cannot_do_is_said_before_any_work_and_leaves_nothing(
    run, run_cli, monkeypatch, extra, code, named
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(Translator, "fit", no_training)
    before = sorted(run.iterdir())
    got, out, err = run_cli("translate", run, "--quiet", *extra)
    assert got == code, err
    assert named in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""
    assert sorted(run.iterdir()) == before


def test_translate_of_what_is_no_run_ends_with_three(tmp_path, run_cli):
    code, out, err = run_cli("translate", tmp_path)
    assert (code, out) == (3, "")
    assert "unpaired align" in err


def test_translate_that_fails_leaves_the_run_as_it_was(run, run_cli, monkeypatch):
    def fail(*args, **options):
        msg = "no space left"
        raise OutputError(msg)

    monkeypatch.setattr(Translator, "save", fail)
    before = {p: p.read_bytes() for p in run.iterdir()}
    code, _, err = run_cli("translate", run, *SHORT, "--quiet")
    assert code == 2
    assert "no space left" in err
    assert {p: p.read_bytes() for p in run.iterdir() if p.is_file()} == before
    assert not (run / "translations" / "rna-to-image").exists()


def test_an_interrupted_training_leaves_only_what_it_can_be_taken_up_by(run, run_cli, monkeypatch):
    def interrupted(*args, checkpoint, **options):
        checkpoint.write_bytes(b"half of a training")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Translator, "fit", interrupted)
        code, out, _ = run_cli("translate", run, *SHORT, "--quiet")
    assert code != 0
    assert out == ""
    assert [p.name for p in (run / "translations").iterdir()] == [".rna-to-image.checkpoint"]
    unpaired.read_run(run)
    code, _, err = run_cli("translate", run, *SHORT)  # what is no checkpoint of this training does not disturb it
    assert code == 0, err
    assert hidden(run) == []


def test_new_cells_are_predicted_by_the_model_that_is_there(made, translated, tmp_path, run_cli, monkeypatch):
    written = (translated / "translations" / "rna-to-image" / "translation.json").read_bytes()
    monkeypatch.setattr(Translator, "fit", no_training)
    cells = anndata.read_h5ad(made / "rna.h5ad")[::-1, ::-1]  # in another order of cells and features
    cells.write_h5ad(tmp_path / "new.h5ad")
    code, out, err = run_cli("translate", translated, "--cells", tmp_path / "new.h5ad")
    assert code == 0, err
    file = translated / "translations" / "rna-to-image" / "new.h5ad"
    assert out == f"{file}\n"
    new, old = anndata.read_h5ad(file), anndata.read_h5ad(file.with_name("predicted.h5ad"))
    assert new.obs_names.tolist() == [f"rna:{i}" for i in cells.obs_names]
    assert new.obs["label"].astype(str).tolist() == cells.obs["perturbation"].astype(str).tolist()
    assert pytest.approx(old[new.obs_names].X, abs=1e-4) == new.X
    assert new.layers["spread"] == pytest.approx(old[new.obs_names].layers["spread"], abs=1e-4)
    assert (file.parent / "translation.json").read_bytes() == written
    code, _, err = run_cli("translate", translated, "--cells", tmp_path / "new.h5ad")
    assert code == 2
    assert "--force" in err
    out = tmp_path / "here.h5ad"
    assert run_cli("translate", translated, "--cells", tmp_path / "new.h5ad", "--out", out)[:2] == (0, f"{out}\n")
    unpaired.read_run(translated)


@pytest.mark.parametrize("extra", [("--loss", "mse"), ("--seed", "1"), ("--members", "2"), ("--matching", "x.npz")])
def test_options_of_the_training_are_refused_where_a_model_serves(made, trained, run_cli, extra):
    code, out, err = run_cli("translate", trained, "--cells", made / "rna.h5ad", *extra)
    assert (code, out) == (2, "")
    assert f"{extra[0].removeprefix('--')} is an option of the training" in err


def test_new_cells_are_predicted_after_training_where_there_is_no_model(made, run, run_cli):
    code, out, err = run_cli("translate", run, *SHORT, "--cells", made / "rna.h5ad")
    assert code == 0, err
    file = run / "translations" / "rna-to-image" / "rna.h5ad"
    assert out.splitlines()[-1] == f"cells: {file}"
    assert len(anndata.read_h5ad(file)) == 120
    assert translation(run)["cells"]["train"] == 60


def test_new_cells_that_lack_features_are_refused_before_training(made, run, tmp_path, run_cli, monkeypatch):
    monkeypatch.setattr(Translator, "fit", no_training)
    anndata.read_h5ad(made / "rna.h5ad")[:, :6].write_h5ad(tmp_path / "new.h5ad")
    code, out, err = run_cli("translate", run, *SHORT, "--cells", tmp_path / "new.h5ad")
    assert (code, out) == (3, "")
    assert "'r6', 'r7'" in err
    assert not (run / "translations").exists()


def test_translate_learns_from_a_matching_made_elsewhere(run, tmp_path, run_cli):
    found = unpaired.read_run(run)
    sp.save_npz(tmp_path / "mine.npz", found.matching.to_sparse().T.tocsr())
    code, _, err = run_cli(
        "translate", run, *SHORT, "--from", "image", "--to", "rna", "--matching", tmp_path / "mine.npz"
    )
    assert code == 0, err
    record = translation(run, "image-to-rna")
    assert record["matching"]["method"] == "read_matching"
    assert len(record["matching"]["sha256"]) == 64
    assert record["asked"]["matching"] == str(tmp_path / "mine.npz")


SLOW = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have told us to ignore it
import sys, time
from unpaired.match.transport import solve
import unpaired.cli

def wait(problems, **options):
    print("solving", file=sys.stderr, flush=True)
    time.sleep(600)
    yield

solve.solve_many = wait
unpaired.cli.main()
"""


def test_an_interrupt_ends_at_once_and_leaves_nothing(files, tmp_path):
    arguments = ["align", *map(str, files), *FAST, "--out", str(tmp_path / "run")]
    with subprocess.Popen([sys.executable, "-c", SLOW, *arguments], stderr=subprocess.PIPE, text=True) as job:
        try:
            lines = iter(job.stderr.readline, "")
            assert any("solving" in line for line in lines)
            asked = time.perf_counter()
            job.send_signal(signal.SIGINT)
            assert job.wait(timeout=30) != 0
            assert time.perf_counter() - asked < 10
            assert "Traceback" not in job.stderr.read()
        finally:
            job.kill()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image.h5ad", "rna.h5ad"]


def test_stdout_is_data_and_stderr_is_talk(files, tmp_path, run_cli):
    _, out, err = run_cli("align", *files, *FAST, "--json", "--out", tmp_path / "run")
    json.loads(out)
    assert "classifiers took" in err
    _, out, err = run_cli("align", *files, *FAST, "--quiet", "--json", "--force", "--out", tmp_path / "run")
    json.loads(out)
    assert "classifiers took" not in err


def test_one_file_with_several_modalities_takes_source_and_target(tmp_path, run_cli):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 30)
    views = {n: rng.normal(size=(60, 4)) + y[:, None] for n in ("fou", "kar", "pix")}
    np.savez(tmp_path / "views.npz", label=y, sample_id=np.arange(60).astype(str), **views)
    code, _, err = run_cli("align", tmp_path / "views.npz", "--out", tmp_path / "run")
    assert code == 2
    assert "name the source" in err
    code, out, err = run_cli(
        "align",
        tmp_path / "views.npz",
        "--source",
        "kar",
        "--target",
        "fou",
        "--pairing",
        "hide",
        "--out",
        tmp_path / "run",
    )
    assert code == 0, err
    assert "kar -> fou" in out


def test_it_runs_as_a_module():
    out = subprocess.run([sys.executable, "-m", "unpaired", "--version"], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == version("unpaired")


def test_the_demo_runs_and_scores(tmp_path, run_cli):
    code, out, err = run_cli("demo", "--out", tmp_path / "run")
    assert code == 0, err
    assert "1797 of 1797 known pairs" in out
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["trace_over_uniform"] > 2
    assert scores["foscttm"]["mean"] < 0.46


def test_align_takes_rounds_of_refinement(files, tmp_path, run_cli):
    out = tmp_path / "run"
    options = ("--label", "perturbation", "--pairing", "hide", "--classifier", "logistic", "--json")
    code, said, _ = run_cli("align", *files, "--out", out, *options, "--refine", "auto")
    assert code == 0
    told = json.loads(said)["refine"]
    assert told["asked"] == "auto"
    assert told["sentence"]
    code, _, err = run_cli("align", *files, "--out", out, "--force", *options, "--refine", "2", "--match", "snn")
    assert code != 0
    assert "refine is not an option of --match snn" in err
