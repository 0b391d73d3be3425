"""The bench of CITE-seq: every method a row, nothing computed twice, figures where they belong."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from unpaired.bench import citeseq, citeseq_prediction, citeseq_tables, run_bench
from unpaired.bench.citeseq_plots import points_by_method
from unpaired.bench.citeseq_prediction import Predictor
from unpaired.bench.methods import SPACES, Budget, Space
from unpaired.bench.options import Options
from unpaired.bench.store import Store
from unpaired.bench.tables import Summary
from unpaired.data.bmmc import BMMC_FILE
from unpaired.embed.propensity import Propensity
from unpaired.errors import DataError, OptionError, OutputError, UnpairedError

METHODS = ("ps+snn", "ps-published+ot", "random", "uniform", "pairs")
GENES, PROTEINS, CELLS = 30, 6, 150


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    """A file like that of GEO, small."""
    rng = np.random.default_rng(0)
    label = rng.choice(["B", "NK", "T"], CELLS)
    state = np.eye(3)[np.unique(label, return_inverse=True)[1]] * 2 + rng.normal(size=(CELLS, 3)) * 0.5
    counts = rng.poisson(np.exp(1 + 0.5 * state @ rng.normal(size=(3, GENES + PROTEINS)))).astype(np.float32)
    parts = rng.choice(["train", "test", "iid_holdout"], CELLS, p=[0.5, 0.2, 0.3])
    obs = pd.DataFrame({"cell_type": label, "is_train": parts}, index=[f"cell{i}" for i in range(CELLS)])
    types = ["GEX"] * GENES + ["ADT"] * PROTEINS
    var = pd.DataFrame({"feature_types": types}, index=[f"f{i}" for i in range(GENES + PROTEINS)])
    X = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 3e3)
    path = tmp_path_factory.mktemp("bmmc") / "processed.h5ad"
    ad.AnnData(sp.csr_matrix(X), obs=obs, var=var, layers={"counts": sp.csr_matrix(counts)}).write_h5ad(path)
    return path


@pytest.fixture(autouse=True)
def _forget():
    citeseq._split.cache_clear()
    citeseq._lesson_of.cache_clear()


def options(out, data, methods=METHODS, seeds=1, **more):
    return Options(out, "smoke", tuple(methods), seeds, data, device="cpu", **more)


def numbers(out):
    """All of the table but the seconds."""
    with (out / "table.csv").open() as file:
        return [row for row in csv.reader(file) if row[2] != "seconds"]


def kept_settings(out):
    """What a bench's folder was made with, but what the store adds."""
    found = json.loads((out / "bench.json").read_text(encoding="utf-8"))["settings"]
    return {k: v for k, v in found.items() if k != "unpaired"}


def times(out):
    return {p.relative_to(out): p.stat().st_mtime_ns for p in (out / "results").rglob("*.json")}


@pytest.fixture(scope="module")
def done(processed, tmp_path_factory):
    """A whole run, and its table."""
    out = tmp_path_factory.mktemp("bench") / "out"
    return out, run_bench("citeseq", options(out, processed))


def test_every_method_is_a_row_of_the_tables(done):
    out, text = done
    titles = ["bone marrow, test cells", "bone marrow, rna to adt", "bone marrow, adt to rna"]
    tables = {title: text.split(f"### {title}\n")[1].split("\n### ")[0] for title in titles}
    for row in ("PS+SNN (ours)", "PS+OT (published recipe)", "random", "uniform coupling"):
        assert f"| {row} | 1 |" in tables[titles[0]]
    for title in titles[1:]:
        for row in ("PS+OT (published recipe)", "random, one partner each", "any cell of the label", "true pairs"):
            assert f"| {row} | 1 |" in tables[title]
    assert (out / "table.md").read_text().endswith(text)
    for name in ("matching", "prediction"):
        assert (out / f"{name}.png").stat().st_size > 5000
    assert "3 labels of column 'cell_type'" in text


def test_the_numbers_are_those_of_the_definition(done):
    found = {(r[0], r[1], r[2]): r for r in numbers(done[0])}
    case = "bone marrow, test cells"
    assert float(found[case, "uniform", "trace_over_uniform"][3]) == pytest.approx(1)
    assert float(found[case, "uniform", "foscttm"][3]) == pytest.approx(0.5)
    assert float(found[case, "uniform", "labels"][3]) == 3
    assert float(found[case, "uniform", "not_converged"][3]) == 0
    for method in ("uniform", "pairs"):
        assert float(found["bone marrow, rna to adt", method, "r2_mse"][3]) < 1


def test_r2_is_of_the_true_partners_in_their_own_order(processed):
    """The true readings of each cell's partner score 1, whatever the order of the sides, and no others do."""
    lesson = citeseq._lesson(how={"path": processed, "preset": "smoke", "counts": False})
    for source, target in citeseq_prediction.DIRECTIONS:
        partners = lesson.truth.partners(source, target)
        assert (partners >= 0).all()
        assert (partners != np.arange(len(partners))).any()  # the sides are shuffled apart
        readings = np.asarray(lesson.test[target].features, dtype=float)
        assert citeseq_prediction._judged(readings[partners], lesson, (source, target)) == pytest.approx(1)
        assert citeseq_prediction._judged(readings, lesson, (source, target)) < 0.9
        back = readings[lesson.truth.partners(target, source)]
        assert citeseq_prediction._judged(back, lesson, (source, target)) < 0.9


def test_published_figures_of_other_data_stand_apart(done):
    out, text = done
    assert all(row[-1] in {"published", ""} for row in numbers(out))
    tables, _, apart = text.partition("### Published figures, of other data")
    assert "[0." not in tables
    assert "| published, other data | trace ↑ | FOSCTTM of a drawn partner ↓ |" in apart
    assert "| PS+OT (published recipe) | 0.1163 | 0.3049 |" in apart
    assert "| published, other data, adt to rna |" in apart
    assert "| any cell of the label | 0.138 | 0.173 |" in apart  # which the published table calls random
    assert "| true pairs | 0.224 |  |" in apart
    assert "only the order of the methods can be compared" in apart.replace("\n", " ")


def test_published_figures_stand_in_brackets_beside_their_own_data_and_direction(done):
    out, _ = done
    results = list(Store(out, kept_settings(out)).results())
    matched = {(s.method, s.metric): s for s in citeseq_tables.matched_of(results, published=True)}
    assert matched["ps-published+ot", "foscttm_sampled"].published == "0.3049"
    assert matched["ps-published+ot", "trace"].published == "0.1163"
    assert matched["ps+snn", "trace"].published == ""
    learned = citeseq_tables.learned_of(results, published=True)
    own = {(s.method, s.metric): s.published for s in learned["bone marrow, adt to rna"]}
    assert own["uniform", "r2_unbiased"] == "0.173"  # which the published table calls random
    assert own["random", "r2_unbiased"] == ""
    assert own["pairs", "r2_mse"] == "0.224"
    assert {s.published for s in learned["bone marrow, rna to adt"]} == {""}
    about = citeseq_tables.About(True, 1, 1, ())
    text = citeseq_tables.tables(list(matched.values()), learned, about, {}, "")
    assert "[0.3049]" in text
    assert "of other data" not in text
    assert "of the same cells" in text


def test_only_all_cells_with_their_own_labels_and_split_are_those_of_the_published_figures(processed, monkeypatch):
    split = citeseq._split(processed, "smoke", False)
    assert not citeseq._as_published(split, "cell_type")
    monkeypatch.setattr(citeseq, "_WHOLE", {"cells": len(split.data["adt"]), "labels": 3, "proteins": PROTEINS})
    assert citeseq._as_published(split, "cell_type")
    assert not citeseq._as_published(split, "label")
    assert not citeseq._as_published(replace(split, published=False), "cell_type")
    for other in ({"cells": CELLS + 1}, {"labels": 4}, {"proteins": PROTEINS + 1}):
        monkeypatch.setattr(citeseq, "_WHOLE", {"cells": 1, "labels": 3, "proteins": PROTEINS} | other)
        assert not citeseq._as_published(split, "cell_type")


def test_the_budget_is_said_under_the_tables(done, processed):
    split = citeseq._split(processed, "smoke", False)
    sizes = [len(split.take(*parts)[0]["rna"]) for parts in (("train", "valid"), ("test",))]
    said = f"at most 40 cells of a label, of which {sizes[0]} are learned from and {sizes[1]} matched"
    assert said in done[1]
    assert "for 2 epochs (250), the VAEs for 2 (250), 64 wide (1,024), at a rate of 0.0001 (1e-4)" in done[1]
    assert "the published network, trained for 2 epochs (50)" in done[1]


def test_the_matched_cells_are_the_test_cells_and_those_learned_from_the_others(processed):
    how = {"path": processed, "preset": "smoke", "counts": True}
    problem, lesson = citeseq._load("any", how=how), citeseq._lesson(how=how)
    split = citeseq._split(**how)
    assert len(problem.data["rna"]) == (split.part["rna"] == "test").sum() == len(lesson.test["adt"])
    assert set(problem.learn["rna"].ids).isdisjoint(problem.data["rna"].ids)
    assert np.array_equal(problem.counts["rna"].ids, problem.data["rna"].ids)
    assert (problem.counts["rna"].X.data == np.round(problem.counts["rna"].X.data)).all()
    assert problem.also == {lesson.case: problem.also[lesson.case]}
    assert np.array_equal(problem.also[lesson.case]["adt"].ids, lesson.learn["adt"].ids)
    assert set(lesson.learn["rna"].ids).isdisjoint(lesson.test["rna"].ids)


def test_a_finished_bench_reads_nothing_and_gives_the_same_table(done, processed, monkeypatch):
    before = times(done[0])
    monkeypatch.setattr(citeseq, "bmmc_citeseq", None)
    monkeypatch.setattr(Propensity, "fit", None)
    assert run_bench("citeseq", options(done[0], processed)) == done[1]
    assert times(done[0]) == before


def test_a_lost_result_is_made_again_of_the_kept_embedding(done, processed, monkeypatch):
    out, _ = done
    before, table = times(out), numbers(out)
    lost = [f for f in before if "ps-published+ot" in f.parts]
    assert len(lost) == 3
    for file in lost:
        (out / file).unlink()
    monkeypatch.setattr(Propensity, "fit", None)
    run_bench("citeseq", options(out, processed))
    assert {f: t for f, t in times(out).items() if f not in lost} == {f: t for f, t in before.items() if f not in lost}
    assert numbers(out) == table


def test_a_bench_that_was_stopped_goes_on_to_the_same_table(done, processed, tmp_path, monkeypatch):
    learn, calls = citeseq_prediction._r2, []

    def stopped(*given):
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return learn(*given)

    monkeypatch.setattr(citeseq_prediction, "_r2", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_bench("citeseq", options(tmp_path / "out", processed))
    kept = times(tmp_path / "out")
    run_bench("citeseq", options(tmp_path / "out", processed))
    assert len(calls) == 4 + (8 - 3)  # four matchings, two directions; three had been kept
    assert kept.items() <= times(tmp_path / "out").items()
    assert numbers(tmp_path / "out") == numbers(done[0])


@pytest.mark.slow
def test_workers_change_no_number(done, processed, tmp_path):
    run_bench("citeseq", options(tmp_path / "out", processed, methods=("ps-published+ot", "random"), jobs=2))
    expected = [r for r in numbers(done[0]) if r[1] in {"method", "ps-published+ot", "random", "uniform"}]
    assert numbers(tmp_path / "out") == expected


def test_a_method_that_fails_is_a_row_in_all_tables(processed, tmp_path, monkeypatch):
    class Broken:
        def fit(self, data):
            msg = "it diverged."
            raise UnpairedError(msg)

    monkeypatch.setitem(SPACES, "vae", Space(lambda *_: Broken()))
    monkeypatch.setitem(SPACES, "glue", Space(lambda *_: Broken(), lambda: "glue is not installed."))
    text = run_bench("citeseq", options(tmp_path / "out", processed, methods=("vae+ot", "glue+ot")))
    assert text.count("| VAE+OT (adversarial) | 0 | it diverged.") == 3
    assert "| scGLUE+OT | 0 | glue is not installed." in text
    assert "| uniform coupling | 1 |" in text


def test_methods_that_model_counts_get_the_counts_of_the_test_cells(processed, tmp_path, monkeypatch):
    seen = []

    class Peer:
        def fit(self, data):
            seen.append(data)
            return self

        def transform(self, data):
            return Propensity(folds=2, repeats=2, epochs=1, device="cpu").fit(data).transform(data)

    monkeypatch.setitem(SPACES, "glue", Space(lambda *_: Peer(), own_cells=True))
    text = run_bench("citeseq", options(tmp_path / "out", processed, methods=("glue+snn",)))
    assert "| scGLUE+SNN | 1 |" in text
    (data,) = seen
    assert (data["rna"].X.data == np.round(data["rna"].X.data)).all()
    assert data["rna"].recipe.name == "counts"


def test_options_that_cannot_be_are_said_first(processed, tmp_path, done):
    with pytest.raises(OptionError, match="method must be one of ps"):
        run_bench("citeseq", options(tmp_path / "out", processed, methods=("psot",)))
    with pytest.raises(OptionError, match="is not there"):
        run_bench("citeseq", options(tmp_path / "out", tmp_path / "nothing"))
    with pytest.raises(OptionError, match="seeds must be"):
        run_bench("citeseq", options(tmp_path / "out", processed, seeds=0))
    with pytest.raises(OptionError, match="no use for pairs"):
        run_bench("citeseq", options(tmp_path / "out", processed, pairs=("bmmc:rna-adt",)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"rna\.h5ad"):
        run_bench("citeseq", options(tmp_path / "out", tmp_path / "empty"))
    (tmp_path / "text.h5ad").write_text("no table")
    with pytest.raises(DataError, match=r"text\.h5ad"):
        run_bench("citeseq", options(tmp_path / "out", tmp_path / "text.h5ad"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"text\.h5ad"):
        run_bench("citeseq", options(tmp_path / "out", tmp_path / "text.h5ad"))
    assert not list((tmp_path / "out").iterdir())
    with pytest.raises(OutputError, match="preset: 'smoke' there, 'cpu' asked for"):
        run_bench("citeseq", Options(done[0], "cpu", METHODS, 1, processed, device="cpu"))


def test_a_folder_with_coarse_labels_is_matched_within_these(tmp_path):
    obs = pd.DataFrame({"cell_type": ["a", "b"], "label": ["c", "c"]}, index=["x", "y"])
    ad.AnnData(np.ones((2, 2)), obs=obs).write_h5ad(tmp_path / "rna.h5ad")
    assert citeseq._label(tmp_path) == "label"
    ad.AnnData(np.ones((2, 2)), obs=obs[["cell_type"]]).write_h5ad(tmp_path / "rna.h5ad")
    assert citeseq._label(tmp_path) == "cell_type"
    assert citeseq._label(tmp_path / "rna.h5ad") == "cell_type"
    (tmp_path / "rna.h5ad").write_text("no file of this kind")
    assert citeseq._label(tmp_path) == "cell_type"


def test_few_cells_are_passed_over_more_often():
    assert Predictor().epochs_of(66_000) == 50
    assert Predictor(steps=1000).epochs_of(480) == 1000
    assert Predictor(steps=1000).epochs_of(2600) == 200  # five steps a pass: 2,340 cells in batches of 500
    assert Predictor(steps=1000).epochs_of(66_000) == 50
    assert Predictor(epochs=2).epochs_of(10) == 2


def test_the_budget_follows_the_number_of_cells():
    cpu = citeseq.PRESETS["cpu"]
    few, many = citeseq._budget(cpu, 480, 120), citeseq._budget(cpu, 20_000, 5_000)
    assert (few.published_epochs, few.vae_epochs, few.peer_epochs) == (60, 60, 100)
    assert (many.published_epochs, many.vae_epochs, many.peer_epochs) == (60, 60, 60)
    tiny = citeseq._budget(cpu, 100, 30)  # a step a pass
    assert (tiny.published_epochs, tiny.vae_epochs, tiny.peer_epochs) == (120, 60, 100)
    assert few.vae_rate == 1e-4
    assert citeseq._budget(citeseq.PRESETS["paper"], 480, 120) == Budget()


def test_the_data_are_known_by_one_hash_a_file(processed, monkeypatch):
    hashed = []
    monkeypatch.setattr("unpaired.files.sha256", lambda path: hashed.append(path) or "it")
    assert citeseq._identity(processed) == {f"{processed.parent.name}/{processed.name}": "it"}
    assert hashed == [processed]
    (own,) = citeseq._identity(None)  # held to its hash where it is downloaded or found in the cache
    assert own == f"{BMMC_FILE}.gz"
    assert hashed == [processed]


def test_the_record_names_the_device(done):
    assert kept_settings(done[0])["device"] == "cpu"


def test_the_predictors_are_the_published_one_with_either_loss_and_our_own(processed, monkeypatch):
    made = []

    class Stub:
        def __init__(self, **given):
            made.append(given)

        def fit(self, *_, **__):
            return self

        def predict(self, modality):
            return SimpleNamespace(mean=np.zeros((len(modality), PROTEINS)))

    monkeypatch.setattr(citeseq_prediction, "Translator", Stub)
    lesson = citeseq._lesson_of(processed, "smoke", False)
    citeseq_prediction._r2(None, lesson, ("rna", "adt"), "cpu", 3)
    assert [(m.get("network"), m.get("loss"), m.get("members"), m["epochs"], m["seed"]) for m in made] == [
        ("published", "mse", 1, 2, 3),
        ("published", "unbiased", 1, 2, 3),
        (None, None, None, 2, 3),
    ]


def test_the_plot_has_a_point_a_seed_and_a_ring_at_the_published_figure():
    found = [
        Summary("c", "b", "m", {0: 0.2, 1: 0.4}, published="0.3"),
        Summary("c", "a", "m", {}, (1, "failed")),
        Summary("c", "a", "other", {0: 9.0}),
    ]
    (ax,) = points_by_method([("m", "a metric", found, {"a": "A", "b": "B$", "unused": "U"})])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["A", r"B\$"]
    points = [tuple(map(float, p)) for c in ax.collections for p in c.get_offsets()]
    assert points == [(0.2, 1.0), (0.4, 1.0), (0.3, 1.0)]
    assert ax.lines[0].get_xdata()[0] == pytest.approx(0.3)


STARTER = Path(__file__).parents[3] / "shared" / "data" / "bmmc_cite_starter"


@pytest.mark.slow
@pytest.mark.skipif(not STARTER.is_dir(), reason="the starter subset is not beside the checkout")
def test_the_starter_subset_with_every_method_that_has_no_extra(tmp_path):
    text = run_bench("citeseq", options(tmp_path / "out", STARTER, methods=()))
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    failed = [r for r in rows if r.split(" | ")[1] == "0" and "GLUE" not in r and "MultiVI" not in r]
    assert failed == []
    assert "7 labels of column 'label'" in text
