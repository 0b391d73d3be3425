"""The bench that watches trainings: what it sees, what it makes of it, and that it goes on where it was."""

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from unpaired.bench import monitor, run_bench
from unpaired.bench.methods import Budget
from unpaired.bench.options import Options
from unpaired.bench.plots import Curve, monitor_panels
from unpaired.bench.store import safe_name
from unpaired.data.split import hold_out
from unpaired.embed.embedding import Snapshot
from unpaired.embed.propensity import Propensity
from unpaired.errors import OptionError, UnpairedError

_OWN = monitor.PRESETS["smoke"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A small network a modality and few epochs."""
    preset = monitor.Preset(Budget(published_epochs=4, vae_epochs=4, vae_hidden=16), every=2, cells=20)
    monkeypatch.setitem(monitor.PRESETS, "smoke", preset)


@pytest.fixture
def folder(folder):
    """One data set is enough."""
    shutil.rmtree(folder / "two")
    return folder


def options(tmp_path, folder, **more):
    kept = {"preset": "smoke", "seeds": 1, "data": folder, "pairs": ("one:rna-image",), "device": "cpu"}
    return Options(tmp_path / "out", **(kept | {"methods": ("classifier",)} | more))


def held_out(toy, **more):
    data, truth = toy(20, **more)
    learn, _, held = hold_out(data, truth, fraction=0.3)
    return learn, held.data, held.truth


class Scripted:
    """An embedder whose space gets better from epoch to epoch, one modality after the other, as a classifier's does."""

    def __init__(self, truth, *, epochs=6, turn=True):
        self.truth, self.epochs, self.turn = truth, epochs, turn

    def fit(self, data, *, watch):
        for name in data if self.turn else [None]:
            for epoch in range(self.epochs):
                embed = partial(self.embed, list(data) if name is None else [name], epoch)
                watch(Snapshot(epoch, name, 10.0 - epoch, 5.0 - epoch + (name == "image"), embed))
        return self

    def embed(self, names, epoch, test):
        rng = np.random.default_rng([epoch, len(names[0])])
        noise = self.epochs - 1 - epoch
        assert set(names) <= set(test)
        return {n: z + noise * rng.normal(size=z.shape) for n, z in self.truth.latents.items() if n in names}


@pytest.mark.parametrize("turn", [True, False])
def test_an_epoch_is_that_of_all_modalities(toy, turn):
    learn, test, truth = held_out(toy)
    curve = monitor.watched(Scripted(truth, turn=turn), learn, test, truth, every=2)
    assert [p["epoch"] for p in curve] == [1, 2, 4, 6]
    # epoch 1 is number 0: cross-entropies of 5 and, of one of the two, 6.
    assert curve[0]["cross_entropy"] == pytest.approx(5.5 if turn else 5.0)
    assert [p["loss"] for p in curve] == [10.0, 9.0, 7.0, 5.0]
    assert curve[-1]["foscttm"] < curve[0]["foscttm"]
    assert curve[-1]["trace_over_uniform"] > curve[0]["trace_over_uniform"]


@pytest.mark.parametrize("turn", [True, False])
def test_the_first_and_the_last_epoch_are_always_seen(toy, turn):
    learn, test, truth = held_out(toy)
    curve = monitor.watched(Scripted(truth, turn=turn), learn, test, truth, every=4)
    assert [p["epoch"] for p in curve] == [1, 4, 6]
    assert [p["loss"] for p in curve] == [10.0, 7.0, 5.0]
    often = monitor.watched(Scripted(truth, turn=turn), learn, test, truth, every=1)
    assert curve == [often[0], often[3], often[5]]


def test_the_end_is_that_of_each_modality_and_epochs_of_one_alone_are_left_out(toy):
    learn, test, truth = held_out(toy)

    class Short(Scripted):
        def fit(self, data, *, watch):
            return super().fit(data, watch=lambda s: (s.modality == "image" and s.epoch > 2) or watch(s))

    curve = monitor.watched(Short(truth), learn, test, truth, every=1)
    assert [p["epoch"] for p in curve] == [1, 2, 3, 6]
    assert curve[-1]["loss"] == pytest.approx((5.0 + 8.0) / 2)  # after 6 epochs of the one and 3 of the other


def test_the_scale_of_the_space_does_not_matter(toy):
    learn, test, truth = held_out(toy)

    class Scaled(Scripted):
        def fit(self, data, *, watch):
            def scaled(s):
                watch(replace(s, embed=lambda d: {n: 1e-3 * a for n, a in s.embed(d).items()}))

            return super().fit(data, watch=scaled)

    plain = monitor.watched(Scripted(truth), learn, test, truth, every=3)
    small = monitor.watched(Scaled(truth), learn, test, truth, every=3)
    assert [p["foscttm"] for p in plain] == pytest.approx([p["foscttm"] for p in small], abs=1e-6)


def test_the_last_point_is_the_fitted_classifier_s(toy):
    learn, test, truth = held_out(toy, spread=6.0)  # so far apart that every epoch is better than the one before
    embedder = Propensity.published(epochs=3, device="cpu")
    curve = monitor.watched(embedder, learn, test, truth, every=1)
    histories = [f.models.history for f in embedder.fits_.values()]
    assert [p["cross_entropy"] for p in curve] == pytest.approx(np.mean(histories, axis=0).tolist())
    assert all(np.argmin(h) == 2 for h in histories)  # the epoch that is kept is the last
    arrays = embedder.transform(test).arrays
    last = monitor._quality(arrays, test, truth, monitor.in_latents(test, truth))
    assert curve[-1]["foscttm"] == pytest.approx(last["foscttm"])


def test_the_summary_is_of_ranks_and_of_the_epochs_one_might_choose():
    def point(ce, loss, foscttm, trace):
        return {"cross_entropy": ce, "loss": loss, "foscttm": foscttm, "trace_over_uniform": trace}

    curve = [point(3, 9, 0.5, 1), point(2, 5, 0.4, 2), point(1, 6, 0.3, 3), point(1.5, 7, 0.2, 2.5)]
    s = monitor._summary(curve)
    assert s["ce_foscttm"] == pytest.approx(0.8)
    assert s["ce_trace"] == pytest.approx(-1)
    assert s["loss_foscttm"] == pytest.approx(0.2)
    assert (s["foscttm_first"], s["foscttm_at_ce"], s["foscttm_at_loss"], s["foscttm_best"]) == (0.5, 0.3, 0.4, 0.2)
    assert s["trace_at_ce"] == 3
    flat = monitor._summary([point(3, 1, 0.5, 1), point(2, 1, 0.5, 1), point(1, 1, 0.5, 2)])
    assert (flat["ce_foscttm"], flat["loss_foscttm"], flat["ce_trace"]) == (None, None, pytest.approx(-np.sqrt(0.75)))


def test_a_run_goes_on_where_it_stopped(tmp_path, folder, monkeypatch):
    own = options(tmp_path, folder, seeds=2)
    first = run_bench("monitor", own)
    assert "### one rna-image" in first
    assert "| classifier (published recipe) | 2 |" in first
    assert "Classifier: 4 epochs. VAEs: 4 epochs, 16 wide" in first
    out = tmp_path / "out"
    assert json.loads((out / "bench.json").read_text())["settings"]["device"] == "cpu"
    curves = f"curves-{safe_name('one rna-image')}"
    assert {f"{curves}.png", f"{curves}.svg", "table.csv", "table.md"} <= {p.name for p in out.iterdir()}
    files = sorted(out.glob("results/*/*/*.json"))
    kept = json.loads(files[0].read_text())
    assert [p["epoch"] for p in kept["curve"]] == [1, 2, 4]

    fitted = []
    watched = monitor.watched
    monkeypatch.setattr(monitor, "watched", lambda e, *a, **k: fitted.append(e.seed) or watched(e, *a, **k))
    before = {f: f.stat().st_mtime_ns for f in files}
    assert run_bench("monitor", own) == first
    assert fitted == []
    assert {f: f.stat().st_mtime_ns for f in files} == before
    files[1].unlink()
    assert run_bench("monitor", own) == first
    assert fitted == [1]
    assert files[0].stat().st_mtime_ns == before[files[0]]
    again = json.loads(files[1].read_text())
    assert again["seed"] == 1
    assert again["curve"] != kept["curve"]


def test_without_data_the_digits_and_a_screen_are_watched(tmp_path, monkeypatch):
    seen = []

    def watched(embedder, learn, test, truth, *, every):
        seen.append((type(embedder).__name__, tuple(test), truth.latents is not None))
        both = {n: set(learn[n].keys.tolist()) & set(test[n].keys.tolist()) for n in test}
        assert sum(map(len, both.values())) < 20  # some digits look the same, in one half
        share = len(test[next(iter(test))]) / sum(len(d[next(iter(d))]) for d in (learn, test))
        assert share == pytest.approx(0.3, abs=0.02)
        names = ("cross_entropy", "loss", "foscttm", "trace_over_uniform")
        return [{"epoch": e + 1, **dict.fromkeys(names, float(e))} for e in range(4)]

    monkeypatch.setattr(monitor, "watched", watched)
    text = run_bench("monitor", options(tmp_path, None, methods=(), pairs=()))
    assert seen == [
        ("Propensity", ("left", "right"), False),
        ("MultimodalVAE", ("left", "right"), False),
        ("MultimodalVAE", ("left", "right"), False),
        ("Propensity", ("rna", "image"), True),
        ("MultimodalVAE", ("rna", "image"), True),
        ("MultimodalVAE", ("rna", "image"), True),
    ]
    assert "### digits" in text
    assert "### simulated screen" in text
    assert text.count("| VAE (published recipe) | 1 |") == 2


def test_a_training_that_fails_is_a_row_that_says_so(tmp_path, folder, monkeypatch):
    def fail(*_, **__):
        msg = "no such luck."
        raise UnpairedError(msg)

    monkeypatch.setattr(monitor, "watched", fail)
    text = run_bench("monitor", options(tmp_path, folder))
    assert "| classifier (published recipe) | 0 | no such luck." in text
    assert not list((tmp_path / "out").glob("curves*"))


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(tmp_path, folder, monkeypatch):
    monkeypatch.setitem(monitor.PRESETS, "smoke", _OWN)  # workers know of no other
    one = run_bench("monitor", options(tmp_path / "a", folder, seeds=2))
    two = run_bench("monitor", options(tmp_path / "b", folder, seeds=2, jobs=2))
    assert one == two
    curves = [
        [json.loads(f.read_text())["curve"] for f in sorted((tmp_path / out).rglob("seed-*.json"))] for out in "ab"
    ]
    assert len(curves[0]) == 2
    assert curves[0] == curves[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("ps+ot",)}, "method must be one of classifier, vae, vae-published; got 'ps"),
        ({"preset": "huge"}, "preset must be one of"),
        ({"pairs": ("one:a-b",)}, "no pair 'a-b'"),
        ({"data": None}, "name it with data"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_leaves_nothing(tmp_path, folder, change, message):
    with pytest.raises(OptionError, match=message):
        run_bench("monitor", options(tmp_path, folder, **change))
    assert not (tmp_path / "out").exists()


def test_data_that_are_no_folder_are_one_sentence(tmp_path):
    with pytest.raises(OptionError, match="data must be a folder with one folder a data set"):
        run_bench("monitor", options(tmp_path, tmp_path / "nowhere"))


def test_the_plot_has_a_row_a_method_and_a_line_a_seed():
    curves = [Curve((1, 2, 3), (3.0, 2.0, 1.0), (0.5, 0.4, 0.3)), Curve((1, 2, 3), (3.1, 2.1, 1.1), (0.5, 0.4, 0.35))]
    axes = monitor_panels({"one": curves, "two $": curves[:1]}, title="case")
    assert len(axes) == 4
    assert [len(ax.lines) for ax in axes] == [2, 0, 1, 0]
    assert axes[1].collections[0].get_offsets().tolist() == [[3.0, 0.5], [2.0, 0.4], [1.0, 0.3]]
    assert axes[0].figure.get_suptitle() == "case"
