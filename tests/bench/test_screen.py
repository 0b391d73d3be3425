"""The bench of simulated screens: its cases, that it goes on where it stopped, and what its sentences follow from."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from unpaired.bench import matching, run_bench, screen_tables, screen_translation
from unpaired.bench.matching import Problem
from unpaired.bench.options import Options
from unpaired.bench.screen import METHOD_NAMES, ROBUST, TITLES
from unpaired.bench.screen_cases import BASE, KNOBS, PARTS, PRESETS, cases_of, parts_of, world
from unpaired.bench.screen_plots import Line, Panel, knob_panels
from unpaired.bench.store import Store, safe_name
from unpaired.bench.tables import Summary
from unpaired.embed.propensity import Propensity
from unpaired.errors import OptionError, UnpairedError

SMOKE = PRESETS["smoke"]
QUICK = ("ps+ot", "random", "uniform", "pairs")

pytestmark = pytest.mark.usefixtures("one_thread")


def options(tmp_path, **more):
    return Options(
        **({"out": tmp_path / "out", "preset": "smoke", "methods": QUICK, "seeds": 1, "device": "cpu"} | more)
    )


def result(folder, case, method, seed):
    return folder / "results" / safe_name(case) / safe_name(method) / f"seed-{seed}.json"


def numbers(folder):
    """The CSV without the seconds, which differ from run to run."""
    with (folder / "table.csv").open(encoding="utf-8") as handle:
        return [row for row in csv.reader(handle) if row[2] != "seconds"]


def stamps(folder):
    return {f: f.stat().st_mtime_ns for kind in ("results", "spaces") for f in (folder / kind).rglob("*.*")}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The bench once, and what it said; tests that change something copy it."""
    own = options(tmp_path_factory.mktemp("bench"), seeds=2)
    return own.out, run_bench("screen", own)


@pytest.fixture
def copied(done, tmp_path):
    import shutil

    shutil.copytree(done[0], tmp_path / "out")
    return options(tmp_path, seeds=2)


# ---------------------------------------------------------------------------------------------------------- cases


def test_cases_are_named_by_what_is_changed():
    assert list(cases_of(SMOKE)) == [BASE, "a1=1.00", "a2=1.00"]
    cpu = cases_of(PRESETS["cpu"])
    assert cpu["efficiency=0.25"] == {"guide_efficiency": 0.25}
    assert cpu["batches=3"] == {"batches": 3.0}
    assert len(cpu) == 1 + 4 + 4 + 3 + 1
    assert KNOBS["guide_efficiency"].case(1.0) == KNOBS["batches"].case(1) == BASE


def test_a_world_keeps_cells_and_a_whole_label_from_what_learns():
    of = world(BASE, 0, SMOKE)
    learned = of.problem.data
    assert len(learned.classes) == SMOKE.perturbations + 1
    (test, test_truth), (out, out_truth) = of.parts["in"], of.parts["out"]
    held = {out.classes[c] for c in out["rna"].labels}
    assert held == {"gene05"}
    assert held.isdisjoint(learned.classes)
    assert set(np.unique([test.classes[c] for c in test["image"].labels])) == set(learned.classes)
    for name in ("rna", "image"):
        assert set(learned[name].ids).isdisjoint([*test[name].ids, *out[name].ids])
    for cells, truth in ((test, test_truth), (out, out_truth)):
        assert (truth.partners("image", "rna") >= 0).all()  # a cell is held out on both sides
        assert len(cells["rna"]) == len(cells["image"])


def test_without_a_held_out_perturbation_there_is_one_part():
    none = replace(SMOKE, held=0)
    of = world(BASE, 0, none)
    assert list(parts_of(none)) == list(of.parts) == ["in"]
    assert list(parts_of(SMOKE)) == list(PARTS)
    assert len(of.problem.data.classes) == SMOKE.perturbations + 1
    assert len(of.parts["in"][0]["rna"]) > 0


def test_labels_are_not_equally_large_and_both_sides_have_the_same_cells():
    cells = world(BASE, 0, SMOKE).problem
    counts = np.bincount(cells.data["rna"].labels)
    assert counts.max() > counts.min()
    assert (counts == np.bincount(cells.data["image"].labels)).all()
    assert (cells.truth.partners("rna", "image") >= 0).all()


def test_what_is_predicted_are_logarithms_of_the_same_counts():
    of = world(BASE, 0, SMOKE)
    logged, counts = of.learn["rna"], of.problem.data["rna"]
    assert (logged.ids == counts.ids).all()
    np.testing.assert_allclose(np.expm1(logged.X.astype(float)).sum(axis=1), 1e4, rtol=1e-4)
    rows = np.asarray(counts.X, dtype=float)
    np.testing.assert_allclose(np.expm1(logged.X[3].astype(float)), 1e4 * rows[3] / rows[3].sum(), rtol=1e-3)
    np.testing.assert_array_equal(logged.features, logged.X)


def test_seeds_are_other_screens_and_cases_the_same_screen_changed():
    one, again, other = (world(BASE, s, SMOKE).problem.data["rna"].X for s in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert one.shape != other.shape or (one != other).any()
    changed, base = (world(case, 0, SMOKE).problem for case in ("a2=1.00", BASE))
    together = {tuple(z) for z in changed.truth.latents["rna"]} & {tuple(z) for z in base.truth.latents["rna"]}
    assert len(together) > len(base.truth.latents["rna"]) / 3  # the same cells, otherwise read and split


def test_the_same_case_of_another_seed_is_another_problem():
    load = [partial(_fake, seed=s) for s in (0, 1)]
    assert [matching._problem(BASE, x).budget for x in (*load, load[0])] == [0, 1, 0]
    assert matching._problem(BASE, load[0]) is matching._problem(BASE, partial(_fake, seed=0))


def _fake(case, seed):
    return Problem(None, None, None, None, seed)


# --------------------------------------------------------------------------------------------------- end to end


def test_every_method_has_a_row(done):
    folder, text = done
    inside = text.split("### screen, in distribution")[1].split("###")[0]
    outside = text.split("### screen, out of distribution")[1].split("###")[0]
    for part in (inside, outside):
        for name in (*QUICK, "others"):
            assert f"| {TITLES[name]} | 2 |" in part
    assert "- What the scores in distribution cover, all cases: R² " in text
    assert "distances 5 of 5 labels" in text
    assert "distances 1 of 1 labels" in text
    for option, _ in SMOKE.knobs:
        assert f"(`{option}`)" in text
        assert f"`{option}`, PS+OT (ours): latent MSE / uniform goes from" in text
    assert "| labels scored | not converged |" in text.split("## Matching")[1]
    metrics = ("latent_mse_over_uniform", "trace_over_uniform", "foscttm", "r2", "l2")
    assert {p.name for p in folder.iterdir()} == {
        "bench.json",
        "results",
        "spaces",
        "table.csv",
        "table.md",
        *(f"robustness_{m}.{kind}" for m in metrics for kind in ("png", "svg")),
    }
    assert (folder / "robustness_foscttm.png").read_bytes()[:4] == b"\x89PNG"


def test_true_pairs_teach_more_than_random_ones(tmp_path):
    preset = replace(SMOKE, cells=400, epochs=40)  # of the few cells of the preset nothing can be learned
    store = Store(tmp_path / "out", {})
    tasks = [screen_translation.Task(BASE, m, 0) for m in ("pairs", "random")]
    screen_translation.run_tasks(tasks, partial(world, preset=preset), store, preset, jobs=1, device="cpu")
    found = screen_translation.by_part(store.results(), {"in": PARTS["in"]})
    r2 = {r["method"]: r["pairs"]["r2"] for r in found if r["pairs"] is not None}
    assert r2["pairs"] > 0  # the mean of all cells
    assert r2["pairs"] > r2["random"] + 0.01


def test_what_is_compared_with_has_only_the_metrics_that_it_is_for(done):
    folder, text = done
    metrics = {name: {r[2] for r in numbers(folder) if r[1] == name} for name in ("others", "label-mean")}
    assert metrics["label-mean"] == {"r2"}
    assert "l2" in metrics["others"]
    assert "r2" not in metrics["others"]
    outside = text.split("### screen, out of distribution")[1].split("###")[0]
    assert TITLES["label-mean"] not in outside  # nothing was learned of such labels


def test_the_text_claims_no_published_recipe(done):
    text = done[1]
    assert "published recipe" not in text
    assert "PS+OT (raw logits) is a two-layer classifier, one model, raw logits, Euclidean OT with regularis" in text
    assert "Optimisers, widths and epochs of all of them are ours." in text
    assert "| PS+OT | 50.967 | 4.199 | 3.280 | 43.554 | 5.394 | 7.219 |" in text
    assert "| VAE+OT | 55.483 | 4.339 | 3.490 | 47.910 | 5.629 | 7.444 |" in text
    assert "| random | 58.806 | 4.499 | 3.826 | 51.310 | 6.239 | 7.793 |" in text


def test_what_is_kept_names_the_device_and_the_uniform_coupling_is_always_there(tmp_path):
    own = options(tmp_path, methods=("random",))
    run_bench("screen", own)
    assert json.loads((own.out / "bench.json").read_text())["settings"]["device"] == "cpu"
    assert result(own.out, "screen, predicted", "uniform", 0).exists()


def test_the_uniform_coupling_is_one_and_random_partners_twice_as_far(done):
    rows = {(r[0], r[1], r[2]): r for r in numbers(done[0])[1:]}
    for case in ("screen", "a1=1.00", "a2=1.00"):
        assert float(rows[case, "uniform", "latent_mse_over_uniform"][3]) == 1
        assert float(rows[case, "uniform", "foscttm"][3]) == 0.5
        assert 1.7 < float(rows[case, "random", "latent_mse_over_uniform"][3]) < 2.3
        assert rows[case, "uniform", "foscttm"][6] == "2"  # every seed is another screen
    assert ("a1=1.00, in distribution", "ps+ot", "r2") in rows
    assert ("a1=1.00, in distribution", "pairs", "r2") not in rows


@pytest.mark.slow
def test_all_methods_run(tmp_path):
    text = run_bench("screen", options(tmp_path, methods=()))
    tables = text.split("## Against violations")[0]
    for name in METHOD_NAMES:
        assert tables.count(f"| {TITLES[name]} | 1 |") == (2 if name == "pairs" else 3)
    assert "published order" in text


def test_what_is_done_is_not_done_again_and_what_is_lost_is(copied, done, monkeypatch):
    before = stamps(copied.out)
    assert run_bench("screen", copied) == done[1]
    assert stamps(copied.out) == before
    made, learned = [], []
    predict = screen_translation._predict
    monkeypatch.setattr(Propensity, "fit", lambda *a, **k: made.append(a))
    monkeypatch.setattr(screen_translation, "_predict", lambda *a: learned.append(a[0]) or predict(*a))
    lost = [
        result(copied.out, "screen, predicted", "ps+ot", 1),
        result(copied.out, "a1=1.00", "ps+ot", 0),
    ]
    for file in lost:
        file.unlink()
    run_bench("screen", copied)
    assert numbers(copied.out) == numbers(done[0])
    assert made == []  # the embeddings were kept
    assert [(t.case, t.method, t.seed) for t in learned] == [("screen", "ps+ot", 1)]
    after = stamps(copied.out)
    assert {f for f in before if after[f] != before[f]} == set(lost)


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(tmp_path):
    few = ("ps+ot", "random", "uniform")
    for jobs in (1, 2):
        run_bench("screen", options(tmp_path, out=tmp_path / str(jobs), jobs=jobs, methods=few))
    assert numbers(tmp_path / "1") == numbers(tmp_path / "2")
    assert any(row[1] == "ps+ot" for row in numbers(tmp_path / "1"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_bench_that_was_killed_goes_on_and_gives_the_same_table(tmp_path):
    names = ",".join(QUICK)
    arguments = ["--preset", "smoke", "--seeds", "1", "--methods", names, "--device", "cpu", "--quiet", "--out"]
    command = [sys.executable, "-c", "from unpaired.cli import main; main()", "bench", "screen", *arguments]
    whole = subprocess.run([*command, str(tmp_path / "whole")], capture_output=True, text=True, check=True)
    assert "## Against violations" in whole.stdout
    out = tmp_path / "killed"
    process = subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 120
    while len(list(out.glob(f"results/{safe_name('screen, predicted')}/*/*.json"))) < 2 and time.monotonic() < limit:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {f: f.stat().st_mtime_ns for f in out.glob("results/*/*/seed-*.json")}
    assert len(kept) >= 2
    assert not (out / "table.md").exists()
    subprocess.run([*command, str(out)], capture_output=True, text=True, check=True)
    assert numbers(out) == numbers(tmp_path / "whole")
    assert all(f.stat().st_mtime_ns == at for f, at in kept.items())
    assert not list(out.rglob("*.part"))


def test_a_method_that_fails_is_a_row_that_says_so_in_every_table(tmp_path, monkeypatch):
    def fail(*_):
        msg = "no such luck."
        raise UnpairedError(msg)

    monkeypatch.setattr(Propensity, "fit", fail)
    own = options(tmp_path)
    text = run_bench("screen", own)
    tables = text.split("## Against violations")[0]
    assert tables.count("| PS+OT (ours) | 0 | no such luck.") == 3
    assert tables.count("| random | 1 |") == 3
    told = json.loads(result(own.out, "screen, predicted", "ps+ot", 0).read_text())
    assert told["failed"] == "no such luck."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("ps+ot", "scot")}, "method must be one of .*got 'scot'"),
        ({"preset": "huge"}, "preset must be one of"),
        ({"seeds": 0}, "seeds must be"),
        ({"jobs": 0}, "jobs must be"),
        ({"data": Path("somewhere")}, "no use for data"),
        ({"pairs": ("one:rna-image",)}, "no use for pairs"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_leaves_nothing(tmp_path, change, message):
    with pytest.raises(OptionError, match=message):
        run_bench("screen", options(tmp_path, **change))
    assert not (tmp_path / "out").exists()


def test_results_of_other_sizes_are_not_gone_on_with(copied, monkeypatch):
    from unpaired.bench import screen
    from unpaired.errors import OutputError

    monkeypatch.setattr(screen, "PRESETS", {"smoke": replace(SMOKE, cells=20)})
    with pytest.raises(OutputError, match="results of other settings"):
        run_bench("screen", copied)


def test_an_embedding_that_is_gone_is_made_again(copied, done):
    for file in (copied.out / "spaces" / "screen").glob("ps-seed-1*"):
        file.unlink()
    result(copied.out, "screen, predicted", "ps+ot", 1).unlink()
    run_bench("screen", copied)
    assert numbers(copied.out) == numbers(done[0])
    assert len(list((copied.out / "spaces" / "screen").glob("ps-seed-1*"))) == 2


# ------------------------------------------------------------------------------------------------------ sentences


def cell(case, method, metric, *values):
    return Summary(case, method, metric, dict(enumerate(values)))


def ratios(**by_value):
    names = {"v0": "screen", "v1": "a1=0.50", "v2": "a1=1.00"}
    return [cell(names[k], "ps+ot", "latent_mse_over_uniform", v) for k, v in by_value.items()]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.5, 0.8, 0.9), "from 0.50 at 0 to 0.90 at 1; it stays below the uniform coupling's at every value."),
        ((0.5, 1.0, 1.2), "the first not below the uniform coupling's is at 0.5 (1.00)."),
        ((1.1, 0.9, 0.9), "it is not below the uniform coupling's even where nothing is violated."),
    ],
)
def test_the_sentence_says_where_it_breaks(values, said):
    preset = replace(SMOKE, knobs=(("violate_a1", (0.5, 1.0)),))
    found = ratios(**{f"v{i}": v for i, v in enumerate(values)})
    (line,) = screen_tables.breaking(found, preset, ["ps+ot", "ps-published+ot"], TITLES)
    assert line.startswith("`violate_a1`, PS+OT (ours): ")
    assert line.endswith(said)


def test_the_gain_over_the_uniform_coupling_is_taken_seed_by_seed():
    preset = replace(SMOKE, knobs=(("violate_a1", (1.0,)),))
    inside = ", in distribution"
    found = [
        cell("screen" + inside, "ps+ot", "r2", 0.2, 0.5), cell("screen" + inside, "uniform", "r2", 0.1, 0.4),
        cell("a1=1.00" + inside, "ps+ot", "r2", 0.1, 0.4), cell("a1=1.00" + inside, "uniform", "r2", 0.2, 0.4),
    ]  # fmt: skip
    (line,) = screen_tables.breaking(found, preset, ["ps+ot"], TITLES)
    assert line.endswith("from +0.100 at 0 to -0.050 at 1; the first that is no gain is at 1 (-0.050).")


def test_seeds_that_one_of_the_two_lacks_are_not_compared():
    preset = replace(SMOKE, knobs=(("violate_a1", (1.0,)),))
    found = []
    for case in ("screen, in distribution", "a1=1.00, in distribution"):
        found.append(Summary(case, "ps+ot", "r2", {1: 0.5, 2: 0.9}))
        found.append(Summary(case, "uniform", "r2", {0: 0.9, 1: 0.4}))
    (line,) = screen_tables.breaking(found, preset, ["ps+ot"], TITLES)
    assert "from +0.100 at 0 to +0.100 at 1; it is a gain at every value." in line
    apart = [Summary(s.case, s.method, s.metric, {0: 0.1} if s.method == "ps+ot" else {1: 0.1}) for s in found]
    assert screen_tables.breaking(apart, preset, ["ps+ot"], TITLES) == []


def scored(method, *, pairs, labels, gaussians):
    cover = {
        "labels": labels,
        "labels_total": 5,
        "metrics": dict.fromkeys(("l2", "wasserstein", "kl_neighbours"), labels),
    }
    cover["metrics"]["kl_gaussian"] = gaussians
    averages = {n: {"l2": 1.0} for n in ("by_cells", "by_inverse_cells")}
    baselines = {f"baseline_{n}": {"l2": float(gaussians)} for n in averages}
    return {
        "case": "screen, in distribution",
        "method": method,
        "seed": 0,
        "distributions": {**averages, **baselines, "coverage": cover},
        "pairs": {"pairs": pairs, "pairs_total": 20, "r2": 0.5, "r2_of_label": 0.1},
    }


def test_the_text_says_which_scores_cover_less():
    own = scored("ps+ot", pairs=20, labels=5, gaussians=5)
    assert screen_tables.coverage_text([own], TITLES) == [
        "What the scores in distribution cover, all cases: R² 20 true pairs a screen, all that are known; "
        "distances 5 of 5 labels."
    ]
    fewer = [scored("uniform", pairs=18, labels=5, gaussians=n) for n in (4, 3)]
    failed = {"case": own["case"], "method": "random", "seed": 0, "failed": "no such luck."}
    (line,) = screen_tables.coverage_text([own, *fewer, failed], TITLES)
    assert "R² 18 to 20 true pairs a screen, and up to 2 more are known and not scored" in line
    assert line.endswith("distances 5 of 5 labels; but KL is of fewer labels for some, at worst: uniform coupling 3.")
    assert screen_tables.coverage_text([failed], TITLES) == []
    (line,) = screen_tables.coverage_text(fewer, TITLES)
    assert line.endswith("at worst: 3 with every method.")


def test_baselines_are_of_the_method_that_covers_most():
    both = [scored(m, pairs=20, labels=5, gaussians=n) for m, n in (("ps+ot", 3), ("random", 5))]
    kept = [{"case": "screen, predicted", "method": r["method"], "seed": 0, "parts": {"in": r}} for r in both]
    found = screen_translation.by_part(kept, {"in": "in distribution"})
    others, mean = found[2:]
    assert (others["method"], mean["method"]) == ("others", "label-mean")
    assert others["distributions"]["by_inverse_cells"]["l2"] == 5.0
    assert others["pairs"] is None
    assert mean["pairs"]["r2"] == 0.1
    assert mean["distributions"] is None


def test_the_order_is_compared_with_the_published():
    def of(**values):
        methods = {"ours": "ps+ot", "ps": "ps-published+ot", "vae": "vae-published+ot", "random": "random"}
        return [cell("screen, in distribution", methods[k], "l2", v) for k, v in values.items()]

    (line,) = screen_tables.order_text(of(ours=1.0, ps=2.0, vae=3.0, random=4.0), TITLES)
    ranked = f"{TITLES['ps-published+ot']} 2.00 < {TITLES['vae-published+ot']} 3.00 < random 4.00"
    assert f"{ranked} (the published order)" in line
    assert line.endswith("PS+OT (ours): 1.00, below 3 of the 3.")
    (line,) = screen_tables.order_text(of(ours=3.5, ps=2.0, vae=4.0, random=3.0), TITLES)
    assert "(not the published order)" in line
    assert line.endswith("below 1 of the 3.")
    assert screen_tables.order_text(of(ours=1.0, ps=2.0, random=4.0), TITLES) == []


# ----------------------------------------------------------------------------------------------------------- plots


def test_violation_grows_to_the_right_in_every_panel():
    line = Line((0, 1), (0.5, 0.9), (0.4, 0.8), (0.6, 1.1))
    back = Line((1, 0.25), (0.5, 0.9), (0.4, 0.8), (0.6, 1.1))
    ax = knob_panels(
        [Panel("a", {"ours": line, "$other": line}), Panel("b", {"ours": back}, falls=True)],
        "metric",
        level=1.0,
        level_name="uniform",
        dashed=["$other"],
    )
    figure = ax.get_figure(root=True)
    FigureCanvasAgg(figure).draw()
    first, second = figure.axes
    low, high = first.get_xlim()
    assert low < 0
    assert high > 1
    left, right = second.get_xlim()
    assert left > 1
    assert right < 0.25
    assert [t.get_text() for t in second.get_xticklabels()] == ["0.25", "1"]
    assert list(first.lines[0].get_ydata()) == [0.5, 0.9]
    assert first.lines[0].get_color() == second.lines[0].get_color()
    assert first.lines[1].get_linestyle() == ":"
    assert first.lines[-1].get_ydata()[0] == 1.0
    assert len(first.collections) == 2  # a band each
    assert {t.get_text() for t in figure.legends[0].get_texts()} == {"ours", r"\$other", "uniform"}


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_legend_is_on_the_figure(count):
    line = Line((0, 1), (0.5, 0.9), (0.4, 0.8), (0.6, 1.1))
    lines = {TITLES[m]: line for m in ROBUST}
    ax = knob_panels([Panel("a", lines)] * count, "metric", level=1.0, level_name=TITLES["uniform"])
    figure = ax.get_figure(root=True)
    FigureCanvasAgg(figure).draw()
    shown = figure.legends[0].get_window_extent()
    assert shown.x0 >= figure.bbox.x0
    assert shown.x1 <= figure.bbox.x1


def test_a_folder_of_another_bench_is_refused(tmp_path):
    from unpaired.errors import OutputError

    Store(tmp_path / "out", {"bench": "real"})
    with pytest.raises(OutputError, match="other settings"):
        run_bench("screen", options(tmp_path))
