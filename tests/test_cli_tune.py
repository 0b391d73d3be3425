"""``unpaired tune``: what it prints, the options it hands on to align, and the file it leaves."""

from __future__ import annotations

import json
import shlex
import sys

import pytest

from unpaired.cli.show import show_tuning
from unpaired.embed.tune import Tuning
from unpaired.files import sha256

FAST = ("--label", "perturbation", "--folds", "2", "--device", "cpu")


@pytest.fixture(autouse=True)
def _short(monkeypatch, one_thread):
    """Networks learn for four epochs by default."""
    monkeypatch.setattr("unpaired.embed.fit_network.default_epochs", lambda *_, **__: 4)


@pytest.fixture
def no_work(monkeypatch):
    def work(*_, **__):
        pytest.fail("a classifier was fitted before everything was checked")

    monkeypatch.setattr("unpaired.embed.tune.fit_modality", work)


def taken(choice):
    """What align is told of a choice, as it comes back in the run's record."""
    networks = {n: c["epochs"] for n, c in choice.items() if c["epochs"] is not None}
    return {n: c["classifier"] for n, c in choice.items()}, networks or None


def test_tune_prints_what_it_tried_and_options_that_align_takes(files, tmp_path, run_cli):
    file = tmp_path / "tune.json"
    code, out, err = run_cli("tune", *files, *FAST, "--out", file)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("Tuning(10 of 10 settings tried")
    assert [line.split()[0] for line in lines[2:12]] == ["rna"] * 5 + ["image"] * 5
    assert sum(line.endswith("chosen") for line in lines) == 2
    assert lines[-1] == f"tuning: {file}"
    words = shlex.split(lines[-2])
    assert words[:3] == ["unpaired", "align", "..."]
    assert "rna: logistic: cross-entropy" in err
    code, _, err = run_cli("align", *files, "--label", "perturbation", *words[3:], "--out", tmp_path / "run")
    assert code == 0, err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    choice = json.loads(file.read_text())["choice"]
    assert (record["options"]["classifier"], record["options"]["epochs"]) == taken(choice)


def test_names_and_epochs_are_written_so_that_a_shell_reads_them(capsys):
    choice = {"my rna": {"classifier": "mlp", "epochs": 40}, "adt": {"classifier": "logistic", "epochs": None}}
    show_tuning(Tuning(choice, (), 1.0), None, as_json=False)
    said = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert said[3:] == ["--classifier", "my rna=mlp", "--classifier", "adt=logistic", "--epochs", "my rna=40"]


def test_tune_speaks_json_and_is_quiet(files, tmp_path, run_cli):
    code, out, err = run_cli("tune", *files, *FAST, "--json", "--quiet", "--out", tmp_path / "tune.json")
    assert (code, err) == (0, "")
    said, written = json.loads(out), json.loads((tmp_path / "tune.json").read_text())
    assert said["out"] == str(tmp_path / "tune.json")
    assert said["align"].startswith("--classifier rna=")
    for key in ("choice", "trials", "seconds"):
        assert said[key] == written[key]


def test_the_file_says_how_it_came_about(files, tmp_path, run_cli):
    file = tmp_path / "tune.json"
    code, _, err = run_cli("tune", f"gex={files[0]}", files[1], *FAST, "--seed", "3", "--minutes", "2", "--out", file)
    assert code == 0, err
    record = json.loads(file.read_text())
    assert (record["format"], record["format_version"]) == ("unpaired-tuning", 1)
    assert record["inputs"] == [{"path": str(f), "sha256": sha256(f)} for f in files]
    asked = {"label": "perturbation", "folds": 2, "seed": 3, "minutes": 2, "device": "cpu", "jobs": 1}
    assert asked.items() <= record["options"].items()
    assert record["versions"]["torch"]
    assert list(record["choice"]) == ["gex", "image"]
    assert [t["status"] for t in record["trials"]] == ["tried"] * 10
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image.h5ad", "rna.h5ad", "tune.json"]


def test_hardly_any_time_is_enough_for_a_choice(files, run_cli):
    code, out, _ = run_cli("tune", *files, *FAST, "--minutes", "1e-9")
    assert code == 0
    assert out.count("not tried, no time") == 8
    assert out.splitlines()[-1] == "unpaired align ... --classifier rna=logistic --classifier image=logistic"


@pytest.mark.usefixtures("no_work")
def test_a_file_is_refused_before_any_work_and_a_foreign_one_even_with_force(files, tmp_path, run_cli):
    file, mine = tmp_path / "tune.json", tmp_path / "mine.json"
    file.write_text('{"format": "unpaired-tuning"}')
    mine.write_text('{"format": "mine"}')
    code, out, err = run_cli("tune", *files, *FAST, "--out", file)
    assert (code, out) == (2, "")
    assert "--force" in err
    code, out, err = run_cli("tune", *files, *FAST, "--out", mine, "--force")
    assert (code, out) == (2, "")
    assert "choose another name" in err
    assert (file.read_text(), mine.read_text()) == ('{"format": "unpaired-tuning"}', '{"format": "mine"}')


def test_a_file_is_replaced_by_force(files, tmp_path, run_cli):
    file = tmp_path / "tune.json"
    file.write_text('{"format": "unpaired-tuning"}')
    code, _, err = run_cli("tune", *files, *FAST, "--minutes", "1e-9", "--out", file, "--force")
    assert code == 0, err
    assert json.loads(file.read_text())["options"]["minutes"] == 1e-9


@pytest.mark.parametrize(
    ("extra", "code", "named"),
    [
        (["--minutes", "0"], 2, "minutes must be"),
        (["--minutes", "nan"], 2, "minutes must be"),
        (["--folds", "1"], 2, "folds must be a whole number of at least 2"),
        (["--jobs", "0"], 2, "jobs"),
        (["--seed", "-1"], 2, "seed"),
        (["--device", "gpu"], 2, "device"),
        (["--device", "cuda"], 2, "device must be auto or one that this machine has"),
        (["--pairing", "guess"], 2, "pairing"),
        (["--recipe", "rna"], 2, "recipe"),
        (["--source", "dna"], 2, "dna"),
        (["--test-fraction", "1"], 2, "test_fraction"),
        (["--hold-out-label", "drog"], 2, "Did you mean 'drug'"),
        (["--out", "none/tune.json"], 2, "does not exist"),
        (["--label", "pertubation"], 3, "perturbation"),
    ],
)
@pytest.mark.usefixtures("no_work")
def test_what_tune_cannot_do_is_said_before_any_work_and_leaves_nothing(
    files, tmp_path, run_cli, monkeypatch, extra, code, named
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    fast = [a for a in FAST if not (extra[0] in FAST and a in (extra[0], FAST[FAST.index(extra[0]) + 1]))]
    got, out, err = run_cli("tune", *files, *fast, "--quiet", *(("--out", "tune.json") if code == 3 else ()), *extra)
    assert got == code, err
    assert named in err
    assert out == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image.h5ad", "rna.h5ad"]


def test_what_align_will_keep_out_is_kept_out_here_too(files, tmp_path, run_cli, monkeypatch):
    seen = []
    work = sys.modules["unpaired.workflow.tune"]
    monkeypatch.setattr(work, "tune_classifiers", lambda data, **_: seen.append(data) or Tuning({}, (), 0.0))
    held = ("--hold-out-label", "drug", "--test-fraction", "0.25", "--pairing", "hide", "--seed", "5")
    code, _, err = run_cli("tune", *files, "--label", "perturbation", *held)
    assert code == 0, err
    code, _, err = run_cli(
        "align", *files, "--label", "perturbation", *held, "--match", "random", "--out", tmp_path / "run"
    )
    assert code == 0, err
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    (data,) = seen
    assert data.classes == tuple(run["classes"]) == ("ctrl", "knock/out")
    assert {n: len(data[n]) for n in data} == {n: m["cells"] for n, m in run["modalities"].items()} == {
        "rna": 30, "image": 30,
    }  # fmt: skip
