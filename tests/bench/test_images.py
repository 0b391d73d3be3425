"""The bench of images: its rows and published figures, the weights of the entropy, and that it goes on where it was."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from unpaired.bench import images, matching, methods, run_bench
from unpaired.bench.methods import METHODS, SWEEP, Budget
from unpaired.bench.options import Options
from unpaired.bench.plots import EpsRun, eps_panels, save_figure
from unpaired.bench.store import Store, safe_name
from unpaired.bench.tables import Summary
from unpaired.data.simulate.images import VERSION
from unpaired.errors import OptionError, OutputError, UnpairedError

QUICK = ("ps+ot", "ps+ot x10", "ps-published+snn", "random")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The pictures are drawn once for all tests."""
    return tmp_path_factory.mktemp("pictures")


def options(tmp_path, pictures, **more):
    kept = {"preset": "smoke", "methods": QUICK, "seeds": 1, "data": pictures, "device": "cpu"}
    return Options(tmp_path / "out", **(kept | more))


def table(text):
    """Rows without the seconds, which differ from run to run."""
    return [line.split("|")[1:-2] for line in text.splitlines() if line.startswith("|")]


def rows(folder):
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        return {(r["method"], r["metric"]): r for r in csv.DictReader(file)}


def stores(tmp_path):
    return {f: f.stat().st_mtime_ns for f in (tmp_path / "out").glob("*/*/**/*") if f.is_file()}


def test_the_published_traces_are_also_given_as_multiples_of_the_uniform_coupling():
    assert float(images.PUBLISHED["ps-published+ot", "trace_over_uniform"]) == pytest.approx(18.3 / 0.6, abs=0.05)
    assert images.PUBLISHED["scot", "trace_over_uniform"] == "1.0"
    # What was recomputed is no published figure.
    assert not [key for key in images.PUBLISHED if key[0] == "uniform"]


def test_published_figures_compare_at_the_published_sizes_alone():
    found = {name: images._published_text(preset) for name, preset in images.PRESETS.items()}
    for name in ("smoke", "cpu"):
        assert "of other sizes than these (128 pixels, 1,667 scenes a label): only the order" in found[name]
    assert "other sizes" not in found["paper"]
    assert all("0.0354, is recomputed" in text for text in found.values())


def test_the_published_line_is_drawn_at_the_published_sizes_alone(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(images, "eps_panels", lambda *a, **k: drawn.append(k["published"]) or [None])
    monkeypatch.setattr(images, "save_figure", lambda *_: None)
    scores = {"latent_mse": 0.03, "trace": 0.01, "trace_over_uniform": 2.0, "foscttm": {"mean": 0.4}}
    scores["coverage"] = {"labels": 12}
    kept = {"scores": scores, "seconds": 1.0, "space": {}, "states": {}, "made_by": {"eps": 2.0}}
    store = Store(tmp_path / "out", {})
    for method in ("ps+ot", "ps+ot x10", "uniform"):
        store.keep("images", method, 0, kept)
    for name in ("cpu", "paper"):
        text = images._write(store, {}, images.PRESETS[name])
        assert "(PS+OT published, at its size: 11 % below)" in text
    assert drawn == [None, {"latent_mse": 0.0316, "trace_over_uniform": 30.5}]


def test_what_is_matched_was_not_learned_from_and_goes_through_the_recipes_of_what_was(pictures):
    learn, test, truth = images._pictures(images.PRESETS["smoke"], pictures)
    for name in test:
        assert not set(learn[name].keys.tolist()) & set(test[name].keys.tolist())
        assert test[name].recipe is learn[name].recipe
    problem = images._load("", preset="smoke", folder=pictures)
    assert problem.judge["circles"].flat_features.shape == (images.PRESETS["smoke"].test, 4)
    partner = truth.partners("circles", "squares")
    np.testing.assert_allclose(problem.judge["circles"].X, problem.judge["squares"].X[partner])


def test_a_smoke_run_goes_on_where_it_stopped(tmp_path, pictures, monkeypatch, one_thread):
    own = options(tmp_path, pictures)
    first = run_bench("images", own)
    found = rows(tmp_path / "out")
    # Named or not, the uniform coupling is in the table.
    assert not found["uniform", "latent_mse"]["published"]
    assert float(found["uniform", "trace_over_uniform"]["median"]) == pytest.approx(1)
    assert found["ps-published+snn", "latent_mse"]["published"] == "0.0552"
    assert not found["ps+ot", "latent_mse"]["published"]
    assert ("vae+ot", "latent_mse") not in found
    eps = {m: float(found[m, "eps"]["median"]) for m in ("ps+ot", "ps+ot x10")}
    assert eps["ps+ot x10"] == pytest.approx(10 * eps["ps+ot"])
    assert float(found["ps+ot", "labels"]["median"]) == 12
    assert "| calibrated (auto) | 1 |" in first
    assert "| 10 x calibrated | 1 |" in first
    assert "Chosen by the truth, the best eps is" in first
    assert "only the order of the methods compares" in first
    settings = json.loads((tmp_path / "out/bench.json").read_text())["settings"]
    assert (settings["device"], settings["pictures"]) == ("cpu", VERSION)
    assert {"eps.png", "eps.svg", "table.md"} <= {p.name for p in (tmp_path / "out").iterdir()}

    made, scored = [], []
    embed, judge = matching._embed, matching.score
    monkeypatch.setattr(matching, "_embed", lambda *a: made.append(a[0].space) or embed(*a))
    monkeypatch.setattr(matching, "score", lambda *a, **k: scored.append(1) or judge(*a, **k))
    before = stores(tmp_path)
    assert run_bench("images", own) == first
    assert (made, scored) == ([], [])
    assert stores(tmp_path) == before
    case = next((tmp_path / "out/results").iterdir())
    (case / safe_name("ps+ot x10") / "seed-0.json").unlink()
    for file in (tmp_path / "out/spaces").rglob("ps-published-seed-0*"):
        file.unlink()
    (case / "ps-published+snn/seed-0.json").unlink()
    assert table(run_bench("images", own)) == table(first)
    assert made == ["ps-published"]  # the other embedding was kept
    assert len(scored) == 2


def test_pictures_of_another_version_are_not_gone_on_with(tmp_path, pictures, monkeypatch):
    own = options(tmp_path, pictures, methods=("random",))
    run_bench("images", own)
    monkeypatch.setattr(images, "VERSION", VERSION + 1)
    with pytest.raises(OutputError, match="pictures: "):
        run_bench("images", own)


def test_a_method_that_fails_is_a_row_that_says_so(tmp_path, pictures, monkeypatch):
    def fail(*_):
        msg = "no such luck."
        raise UnpairedError(msg)

    monkeypatch.setattr(matching, "_embed", fail)
    text = run_bench("images", options(tmp_path, pictures))
    assert f"| {METHODS['ps+ot'].title} | 0 | no such luck." in text
    assert "| random | 1 |" in text
    assert not (tmp_path / "out/eps.png").exists()


def test_a_published_space_is_said_to_be_better_at_another_eps():
    def of(method, mse, trace):
        values = {"latent_mse": dict(enumerate(mse)), "trace_over_uniform": {0: trace}}
        return [Summary("x", method, metric, own) for metric, own in values.items()]

    found = [*of("vae+ot", (0.04, 0.05, 0.06), 9), *of("vae+ot x10", (0.03,), 4), *of("vae+ot x40", (0.035,), 2)]
    assert images._others_text(found) == (
        "- VAE+OT (adversarial): latent MSE 0.0500 at the published eps; of 1, 10, 40 times that, lowest at 10 times: "
        "0.0300, with a trace 4.0 times the uniform one.\n"
    )
    assert images._others_text(found[:2]) == ""


def test_multiples_of_the_published_eps_are_what_they_are_called(monkeypatch):
    seen = {}
    monkeypatch.setattr(methods, "match_ot", lambda data, space, **more: seen.update(more))
    SWEEP["vae+ot x20"].match(object(), object(), Budget(), 0)
    assert seen == {"cost": "euclidean", "eps": pytest.approx(1.0)}


def test_the_paper_preset_is_as_published():
    paper = images.PRESETS["paper"]
    assert (paper.size, paper.learn, paper.test, paper.budget) == (128, 25_000, 20_000, Budget())


def test_a_multiple_of_the_noise_is_asked_for_by_name(monkeypatch):
    seen = {}
    weighting = SimpleNamespace(apply=lambda data, space: f"{space}, weighted")
    monkeypatch.setattr(methods, "weigh", lambda data, space, *direction: seen.update(of=direction) or weighting)
    monkeypatch.setattr(methods, "match_ot", lambda data, space, eps: seen.update(space=space, eps=eps))

    class Data:
        def direction(self):
            return ("a", "b")

    SWEEP["ps+ot x30"].match(Data(), "space", Budget(), 0)
    assert seen == {"of": ("a", "b"), "space": "space, weighted", "eps": 60.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("ps+ot", "glue+ot")}, "method must be one of .*got 'glue"),
        ({"preset": "huge"}, "preset must be one of"),
        ({"jobs": 0}, "jobs must be"),
        ({"pairs": ("one:a-b",)}, "no use for pairs"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_leaves_nothing(tmp_path, pictures, change, message):
    with pytest.raises(OptionError, match=message):
        run_bench("images", options(tmp_path, pictures, **change))
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder_for_pictures(tmp_path, pictures):
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(OptionError, match="data must be a folder for the pictures"):
        run_bench("images", options(tmp_path, pictures, data=file))


def test_the_plot_of_weights_has_a_line_a_seed_and_marks_the_default(tmp_path):
    runs = [EpsRun((1.0, 10.0), (0.04, 0.03), (5.0, 3.0), 10.0), EpsRun((2.0, 20.0), (0.05, 0.02), (6.0, 2.0))]
    base = {"latent_mse": 0.035, "trace_over_uniform": 1.0}
    axes = eps_panels(runs, uniform=base, published={"latent_mse": 0.0316, "trace_over_uniform": 30.5})
    legend = [t.get_text() for t in axes[0].figure.legends[0].get_texts()]
    assert legend[1:] == ["uniform coupling", "PS+OT, published"]
    assert [ax.get_xscale() for ax in axes] == ["log", "log"]
    assert [line.get_xydata().tolist() for line in axes[0].lines[:2]] == [
        [[1, 0.04], [10, 0.03]],
        [[2, 0.05], [20, 0.02]],
    ]
    assert [c.get_offsets().tolist() for c in axes[1].collections] == [[[10.0, 3.0]]]
    assert [line.get_ydata()[0] for line in axes[0].lines[2:]] == [0.035, 0.0316]
    assert len(eps_panels(runs, uniform=base)[0].lines) == 3


def test_a_figure_is_kept_as_png_and_svg_and_whole(tmp_path, monkeypatch):
    ax = eps_panels([EpsRun((1.0,), (0.04,), (5.0,))], uniform={"latent_mse": 0.035, "trace_over_uniform": 1.0})[1]
    save_figure(ax, tmp_path / "eps x0.3")
    kept = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert set(kept) == {"eps x0.3.png", "eps x0.3.svg"}
    assert kept["eps x0.3.png"].startswith(b"\x89PNG")

    def fail(path, **_):
        path.write_bytes(b"half")
        raise OSError

    monkeypatch.setattr(ax.figure, "savefig", fail)
    with pytest.raises(OSError):  # noqa: PT011
        save_figure(ax, tmp_path / "eps x0.3")
    assert (tmp_path / "eps x0.3.png").read_bytes() == kept["eps x0.3.png"]
