"""``unpaired clue``: what it prints where, and what is wrong with the input at once."""

import json

import pytest

from unpaired import workflow

FAST = ("--epochs", "2", "--device", "cpu")


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    return one_thread


def test_it_prints_where_the_report_is_and_what_the_run_says(files, tmp_path, run_cli):
    command = ("clue", *files, *FAST, "--pairs", "shared", "--preset", "citeseq", "--out", tmp_path / "run")
    code, out, err = run_cli(*command, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["report"] == str(tmp_path / "run" / "report.html")
    assert said["scores"] == json.loads((tmp_path / "run" / "scores.json").read_text())
    assert said["cells"] == [{"modalities": ["rna", "image"], "learned_from": 54, "held_out": 6}]
    assert said["imputed"] == {}  # every cell has both
    assert f"the training is kept in {tmp_path / 'run.clue'}" in err
    assert err.index("is kept in") < err.index("training took")
    code, out, err = run_cli(*command)
    assert code == 2
    assert "holds a run already; choose another name, or replace it with --force" in err
    code, out, err = run_cli(*command, "--force", "--quiet", "--impute", "all")
    assert code == 0, err
    assert "rna and image: 54 cells learned from, 6 kept out to judge by" in out
    assert "training took" not in err
    assert {p.name for p in (tmp_path / "run" / "imputed").iterdir()} == {"rna_to_image.h5ad", "image_to_rna.h5ad"}
    code, out, _ = run_cli("report", tmp_path / "run")
    assert (code, out.strip()) == (0, str(tmp_path / "run" / "report.html"))
    code, _, err = run_cli("translate", tmp_path / "run")
    assert code == 3
    assert "Name one of unpaired align" in err


def test_all_options_reach_the_workflow(files, tmp_path, run_cli, monkeypatch):
    seen = []

    def stop(*given, **more):
        seen.append((given, more))
        raise workflow_stopped

    workflow_stopped = workflow.align.__globals__["OptionError"]("stopped")
    monkeypatch.setattr(workflow, "clue", stop)
    code, _, _ = run_cli(
        "clue", "a.csv", "b.csv", "--out", "x", "--pairs", "none", "--label", "l", "--batch", "b", "--layer", "y",
        "--recipe", "a=none", "--missing", "error", "--preset", "multiome", "--likelihood", "a=nb", "--soft-pairs",
        "--test-fraction", "0.2", "--impute", "none", "--epochs", "3", "--device", "cpu", "--seed", "5", "--force",
    )  # fmt: skip
    assert code == 2
    (((names, _, chosen), more),) = seen
    assert (names, more) == (["a.csv", "b.csv"], {"force": True})
    assert chosen == workflow.ClueOptions(
        pairs="none", label="l", batch="b", layer="y", recipes={"a": "none"}, missing="error", preset="multiome",
        likelihoods={"a": "nb"}, soft_pairs=True, test_fraction=0.2, impute="none", epochs=3, device="cpu", seed=5,
    )  # fmt: skip


def test_a_wrong_table_of_pairs_has_all_its_problems_listed(files, tmp_path, run_cli):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("rna,image,protein\ncell1,cell1,x\ncell2,cell1,\nnobody,,\n")
    command = ("clue", *files, *FAST, "--pairs", pairs, "--out", tmp_path / "run")
    code, _, err = run_cli(*command)
    assert code == 3
    assert "column 'rna': 1 unknown cell: 'nobody' in line 4." in err
    assert "column 'image': 1 cell appears more than once: 'cell1' in line 3. Keep one row a cell." in err
    assert "column 'protein' is no modality. There are these modalities: 'rna', 'image'." in err
    assert str(pairs) in err
    pairs.write_text("rna,image\ncell1,\n,cell2\n")
    code, _, err = run_cli(*command)
    assert code == 3
    assert "no pair is left" in err
    pairs.write_text("rna\ncell1\n")
    code, _, err = run_cli(*command)
    assert code == 3
    assert "has the columns 'rna', of which two or more must be modalities" in err
    assert {p.name for p in tmp_path.iterdir()} == {"rna.h5ad", "image.h5ad", "pairs.csv"}


def test_the_help_of_the_bench_says_what_data_it_takes(run_cli):
    code, out, _ = run_cli("bench", "--help")
    assert code == 0
    assert "adt.h5ad" in out


def test_wrong_options_end_with_two(files, tmp_path, run_cli):
    for wrong, sentence in (
        (("--pairs", "shared", "--preset", "published"), "preset must be one of"),
        (("--pairs", "shared", "--likelihood", "nb"), "--likelihood must be NAME=LIKELIHOOD; got 'nb'."),
        ((), "--pairs"),
    ):
        code, _, err = run_cli("clue", *files, *wrong, "--out", tmp_path / "run")
        assert code == 2
        assert sentence in err
    assert not (tmp_path / "run").exists()
