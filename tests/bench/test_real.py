"""The bench of all methods on all paired data sets: what it finds, that it goes on where it stopped, what it says."""

import os
import signal
import subprocess
import sys
import time

import pytest

from unpaired.bench import matching, run_bench
from unpaired.bench.methods import METHODS
from unpaired.bench.options import Options
from unpaired.bench.real import PRESETS, _budget, find_pairs
from unpaired.bench.store import safe_name
from unpaired.errors import DataError, OptionError

QUICK = ("ps+ot", "ps+snn", "random", "uniform")


def options(tmp_path, folder, **more):
    kept = {"preset": "smoke", "methods": QUICK, "seeds": 2, "data": folder, "device": "cpu"}
    return Options(tmp_path / "out", **(kept | more))


def table(text):
    """Rows without the seconds, which differ from run to run."""
    return [line.split("|")[1:-2] for line in text.splitlines() if line.startswith("|")]


def test_pairs_are_found_by_shared_cells(folder):
    found, left_out = find_pairs(folder, ())
    assert [s.name for s in found] == ["one image-rna", "two adt-gex", "two adt-peaks", "two gex-peaks"]
    assert list(left_out) == ["empty"]
    assert [s.name for s in find_pairs(folder, ("two:peaks-adt",))[0]] == ["one image-rna", "two peaks-adt"]


def test_a_set_that_cannot_be_read_is_named_in_the_table_and_stops_the_bench_only_if_it_was_asked_for(tmp_path, folder):
    for name in ("rna", "adt"):
        (folder / "empty" / f"{name}.h5ad").write_text("no table")
    text = run_bench("real", options(tmp_path, folder, methods=("random",), seeds=1))
    assert "empty is left out: " in text
    assert "empty is left out: " in (tmp_path / "out/table.md").read_text(encoding="utf-8")
    with pytest.raises(DataError, match=r"adt\.h5ad"):
        find_pairs(folder, ("empty:rna-adt",))


def test_a_set_that_cannot_be_used_is_a_failed_row_and_stops_no_other(tmp_path, folder, monkeypatch):
    from unpaired.errors import Problem

    problem = matching._problem

    def broken(case, load):
        if case.startswith("one"):
            raise DataError([Problem("error", "one", "its values are no numbers.")])
        return problem(case, load)

    monkeypatch.setattr(matching, "_problem", broken)
    text = run_bench("real", options(tmp_path, folder, methods=("random",), seeds=1))
    assert "| random | 0 | error: one: its values are no numbers." in text
    assert "| random | 1 |" in text


@pytest.mark.parametrize(
    ("pair", "message"),
    [("two", "NAME:SOURCE-TARGET"), ("three:a-b", "no data set 'three'"), ("two:adt-rna", "no pair 'adt-rna'")],
)
def test_a_pair_that_is_not_there_is_one_sentence(folder, pair, message):
    with pytest.raises(OptionError, match=message):
        find_pairs(folder, (pair,))


def test_a_folder_without_pairs_is_said_to_be_one(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(DataError, match="no folder in it holds two modalities"):
        find_pairs(tmp_path, ())


def test_every_method_has_a_row_in_every_case_and_truth_beats_chance(tmp_path, folder):
    text = run_bench("real", options(tmp_path, folder, methods=()))
    for case in ("one image-rna", "two adt-gex"):
        part = text.split(f"### {case}")[1].split("###")[0]
        for method in METHODS.values():
            assert f"| {method.title} |" in part
    rows = {r[0].strip(): r for r in table(text.split("### one image-rna")[1].split("###")[0])}
    assert float(rows["uniform coupling"][2]) == 0.5
    assert float(rows["PS+OT (ours)"][2].split("(")[0]) < 0.42
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {
        "bench.json",
        "table.md",
        "table.csv",
        "results",
        "spaces",
    }


def test_what_is_done_is_not_done_again_and_what_is_lost_is(tmp_path, folder, monkeypatch):
    own = options(tmp_path, folder)
    first = run_bench("real", own)
    made, scored = [], []
    embed, judge = matching._embed, matching.score
    monkeypatch.setattr(matching, "_embed", lambda *a: made.append(a[0]) or embed(*a))
    monkeypatch.setattr(matching, "score", lambda *a, **k: scored.append(1) or judge(*a, **k))
    assert run_bench("real", own) == first
    assert (made, scored) == ([], [])
    one, two = safe_name("one image-rna"), safe_name("two adt-gex")
    (tmp_path / "out/results" / one / "ps+snn/seed-1.json").unlink()
    assert table(run_bench("real", own)) == table(first)
    assert (len(made), len(scored)) == (0, 1)  # the embedding was kept
    for file in (tmp_path / "out/spaces" / two).glob("*seed-0*"):
        file.unlink()
    (tmp_path / "out/results" / two / "ps+ot/seed-0.json").unlink()
    assert table(run_bench("real", own)) == table(first)
    assert [(u.case, u.space, u.seed) for u in made] == [("two adt-gex", "ps", 0)]


def test_the_number_of_workers_changes_nothing(tmp_path, folder):
    one = run_bench("real", options(tmp_path / "a", folder))
    two = run_bench("real", options(tmp_path / "b", folder, jobs=2))
    assert table(one) == table(two)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_bench_that_was_killed_goes_on_and_gives_the_same_table(tmp_path, folder):
    arguments = ["--data", folder, "--preset", "smoke", "--seeds", "2", "--methods", ",".join(QUICK), "--device", "cpu"]
    code = "from unpaired.cli import main; main()"
    command = [sys.executable, "-c", code, "bench", "real", *map(str, arguments), "--out"]
    whole = subprocess.run([*command, str(tmp_path / "whole")], capture_output=True, text=True, check=True).stdout
    out = tmp_path / "killed"
    process = subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 120
    while len(list(out.glob("results/*/*/*.json"))) < 5 and time.monotonic() < limit:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {f: f.stat().st_mtime_ns for f in out.glob("results/*/*/seed-*.json")}
    assert len(done) >= 5
    again = subprocess.run([*command, str(out)], capture_output=True, text=True, check=True).stdout
    assert table(again) == table(whole)
    assert all(f.stat().st_mtime_ns == at for f, at in done.items())
    assert not list(out.rglob("*.part"))


def test_a_method_that_fails_is_a_row_that_says_so(tmp_path, folder, monkeypatch):
    from unpaired.errors import UnpairedError

    def fail(*_):
        msg = "no such luck."
        raise UnpairedError(msg)

    monkeypatch.setattr(matching, "_embed", fail)
    text = run_bench("real", options(tmp_path, folder))
    assert "| PS+OT (ours) | 0 | no such luck." in text
    assert "| random | 2 |" in text


def test_a_missing_extra_is_a_row_that_says_so_and_is_run_once_it_is_there(tmp_path, folder, monkeypatch):
    from dataclasses import replace

    from unpaired.bench import methods

    real = methods.SPACES
    monkeypatch.setattr(methods, "SPACES", {**real, "ps": replace(real["ps"], missing=lambda: "ps is not installed.")})
    text = run_bench("real", options(tmp_path, folder))
    assert "| PS+OT (ours) | 0 | ps is not installed. |" in text
    monkeypatch.setattr(methods, "SPACES", real)
    assert "| PS+OT (ours) | 2 |" in run_bench("real", options(tmp_path, folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("ps+ot", "magic")}, "method must be one of .*got 'magic'"),
        ({"preset": "huge"}, "preset must be one of"),
        ({"seeds": 0}, "seeds must be"),
        ({"data": None}, "data must be a folder"),
        ({"device": "tpu"}, "device must be"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_leaves_nothing(tmp_path, folder, change, message):
    with pytest.raises(OptionError, match=message):
        run_bench("real", options(tmp_path, folder, **change))
    assert not (tmp_path / "out").exists()


def test_there_is_no_such_bench(tmp_path, folder):
    with pytest.raises(OptionError, match="bench must be one of"):
        run_bench("race", options(tmp_path, folder))


@pytest.mark.parametrize(
    ("cells", "published", "vae", "peers"), [(40, 120, 240, 100), (2000, 15, 31, 8), (100_000, 15, 15, 5)]
)
def test_small_sets_have_more_epochs(cells, published, vae, peers):
    budget = _budget(PRESETS["cpu"], cells)
    assert (budget.published_epochs, budget.vae_epochs, budget.peer_epochs) == (published, vae, peers)
    assert _budget(PRESETS["paper"], cells) == PRESETS["paper"].budget


def test_the_command_line_runs_a_bench(tmp_path, folder, capsys):
    from typer.testing import CliRunner

    from unpaired.cli import app

    arguments = ["bench", "real", "--data", folder, "--preset", "smoke", "--seeds", 1, "--methods", "random", "--quiet"]
    result = CliRunner().invoke(app, [str(a) for a in [*arguments, "--out", tmp_path / "out"]])
    assert result.exit_code == 0
    assert "| random | 1 |" in result.output
    assert "| uniform coupling | 1 | 0.500 |" in result.output


def test_a_folder_of_another_device_is_not_gone_on_with(tmp_path, folder):
    from dataclasses import replace

    from unpaired.bench import real
    from unpaired.errors import OutputError

    own = options(tmp_path, folder, methods=("uniform",))
    run_bench("real", own)
    with pytest.raises(OutputError, match="device: 'cpu' there, 'cuda' asked for"):
        real.run(replace(own, device="cuda"))
