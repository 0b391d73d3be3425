"""The command line: what it prints where, what it returns, and what it leaves behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from importlib.metadata import version

import anndata
import numpy as np
import pandas as pd
import pytest

import unpaired
from unpaired import cli


def call(*arguments, monkeypatch, capsys):
    """Run the command line in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["unpaired", *map(str, arguments)])
    try:
        cli.main()
        code = 0
    except SystemExit as exit_:
        code = exit_.code or 0
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture
def run_cli(monkeypatch, capsys):
    return lambda *a: call(*a, monkeypatch=monkeypatch, capsys=capsys)


@pytest.fixture
def files(tmp_path):
    """Two h5ad files of the same 60 cells in three labels, with equal barcodes."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["ctrl", "drug", "knock/out"], 20)
    latent = rng.normal(size=(60, 2)) + np.repeat([0, 2, 4], 20)[:, None]
    paths = []
    for name, width in (("rna", 8), ("image", 5)):
        x = (latent @ rng.normal(size=(2, width)) + 0.1 * rng.normal(size=(60, width))).astype(np.float32)
        obs = pd.DataFrame({"perturbation": labels}, index=[f"cell{i}" for i in range(60)])
        paths.append(tmp_path / f"{name}.h5ad")
        anndata.AnnData(x, obs=obs).write_h5ad(paths[-1])
    return paths


FAST = ("--label", "perturbation", "--folds", "3", "--repeats", "2")


def test_help_and_version(run_cli):
    code, out, _ = run_cli("--help")
    assert code == 0
    for verb in ("check", "align", "score", "report", "demo"):
        assert verb in out
    assert run_cli("--version") == (0, version("unpaired") + "\n", "")


def test_align_writes_a_run_and_prints_where_the_report_is(files, tmp_path, run_cli):
    code, out, err = run_cli("align", *files, *FAST, "--out", tmp_path / "run")
    assert code == 0, err
    assert out.splitlines()[-1] == f"report: {tmp_path / 'run' / 'report.html'}"
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "aligned.h5mu", "recipes.safetensors", "report.html", "run.json",
    }  # fmt: skip
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["options"]["label"] == "perturbation"
    assert record["inputs"][0]["path"] == str(files[0])
    assert record["matching"]["options"]["eps_from"] == "noise"
    assert set(record["seconds"]) >= {"reading", "classifiers", "matching"}


def test_align_with_hidden_pairs_scores_and_score_repeats_it(files, tmp_path, run_cli):
    code, out, err = run_cli("align", *files, *FAST, "--pairing", "hide", "--json", "--out", tmp_path / "run")
    assert code == 0, err
    first = json.loads(out)["scores"]
    assert first == json.loads((tmp_path / "run" / "scores.json").read_text())
    assert first["trace_over_uniform"] > 1.5
    assert first["coverage"]["pairs"] == 60
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
    ],
)
def test_a_wrong_option_ends_with_two_before_any_work_and_leaves_nothing(
    files, tmp_path, run_cli, monkeypatch, extra, named
):
    def work(*args):
        pytest.fail("a classifier was fitted before the options were checked")

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(unpaired.Propensity, "_fit_one", work)
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
        "align", tmp_path / "a.csv", tmp_path / "b.csv", "--pairing", "hide", "--out", tmp_path / "run"
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


def test_the_memory_of_the_matching_can_be_capped(files, tmp_path, run_cli):
    code, _, err = run_cli("align", *files, *FAST, "--memory", "1.5GB", "--out", tmp_path / "run")
    assert code == 0, err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["options"]["memory"] == "1.5GB"
    assert record["matching"]["options"]["memory"] == 1_500_000_000


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
