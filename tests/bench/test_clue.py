"""The bench of CLUE: splits that tell no method who belongs to whom, shares as asked, tables, and what is done once."""

import csv
from dataclasses import asdict, replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from unpaired.bench import clue, clue_effort, clue_methods, run_bench
from unpaired.bench.clue_cases import SIDES, case_of, read_cells, with_share
from unpaired.bench.clue_effort import Answer, Effort, Propensities, Seconds
from unpaired.bench.clue_methods import GROUPS, METHODS, OFF
from unpaired.bench.clue_tables import CASE
from unpaired.bench.options import Options
from unpaired.bench.store import Store
from unpaired.data.types import Dataset
from unpaired.embed.clue_model import PRESETS
from unpaired.embed.propensity import Propensity
from unpaired.errors import DataError, OptionError, UnpairedError

CELLS, GENES, PROTEINS = 160, 30, 6
STEPS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Counts of genes and of proteins of the same cells, as files."""
    rng = np.random.default_rng(0)
    label = rng.choice(["B", "NK", "T"], CELLS)
    state = np.eye(3)[np.unique(label, return_inverse=True)[1]] * 2 + rng.normal(size=(CELLS, 3)) * 0.5
    counts = rng.poisson(np.exp(1 + 0.5 * state @ rng.normal(size=(3, GENES + PROTEINS)))).astype(np.float32)
    out = tmp_path_factory.mktemp("cite")
    obs = pd.DataFrame({"label": label}, index=[f"cell{i}" for i in range(CELLS)])
    for name, X in {"rna": sp.csr_matrix(counts[:, :GENES]), "adt": counts[:, GENES:]}.items():
        ad.AnnData(X, obs=obs).write_h5ad(out / f"{name}.h5ad")
    return out


@pytest.fixture(scope="module")
def case(folder):
    return case_of(read_cells(folder, None), 0)


@pytest.fixture(scope="module", autouse=True)
def _small():
    """Few steps, and no peers, wherever the tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(clue.PRESETS, "smoke", replace(clue.PRESETS["smoke"], steps=STEPS, epochs=1))
        for name in ("scglue", "multivi"):
            patch.setitem(METHODS, name, replace(METHODS[name], missing=lambda: "not available: no such package."))
        yield


def options(out, data, methods=(), seeds=1, **more):
    return Options(out, "smoke", tuple(methods), seeds, data, device="cpu", **more)


def spaces_of(case):
    model = Propensity(repeats=2, epochs=1, device="cpu", seed=0).fit(case.learn)
    return lambda: Propensities(model.transform(case.learn), model.transform(case.match), Seconds())


def permuted(data, name, order):
    """The data set with the rows of one side in another order."""
    return data.take({name: order})


# ----------------------------------------------------------------------------------------------------------- cells


def test_held_out_cells_are_new_and_their_pairing_is_hidden(folder, case):
    data = read_cells(folder, None)
    learn, match = ({n: set(d[n].ids) for n in SIDES} for d in (case.learn, case.match))
    for name in SIDES:
        assert not learn[name] & match[name]
        assert learn[name] | match[name] == set(data[name].ids)
        assert len(match[name]) == pytest.approx(0.3 * CELLS, abs=3)
    bare = {n: [i.partition(":")[2] for i in case.match[n].ids] for n in SIDES}
    assert set(bare["rna"]) == set(bare["adt"])
    assert bare["rna"] != bare["adt"]  # each side is shuffled on its own
    assert case.match.pairs is None
    assert [bare["adt"][j] for j in case.partners] == bare["rna"]
    other = case_of(data, 1)
    assert set(other.match["rna"].ids) != match["rna"]


def test_recipes_are_fitted_on_the_cells_to_learn_from(case):
    for name in SIDES:
        assert case.match[name].recipe is case.learn[name].recipe
    assert case.learn["rna"].recipe.arrays["axes"].shape[0] == GENES - 1
    counts = case.learn["rna"].X.toarray()
    logged = np.log1p(counts * (1e4 / counts.sum(axis=1, keepdims=True)))
    np.testing.assert_allclose(case.learn["rna"].recipe.arrays["mean"], logged.mean(axis=0), rtol=1e-4)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 0.0])
def test_shares_of_pairs_are_exactly_as_asked(case, share):
    n = len(case.learn["rna"])
    some = with_share(case, share, 0).learn
    known = 0 if some.pairs is None else int((some.pairs.partners(*SIDES) >= 0).sum())
    assert known == round(share * n)
    assert {name: len(some[name]) for name in SIDES} == dict.fromkeys(SIDES, n)  # the other cells stay
    if known:
        rows = some.pairs.partners(*SIDES)
        true = case.hidden.partners(*SIDES)
        assert (rows[rows >= 0] == true[rows >= 0]).all()
    assert clue_effort.cells_in(some) == 2 * n - known


def test_smaller_shares_are_within_larger_ones_and_each_seed_has_its_own(case):
    def known(share, seed):
        return set(np.flatnonzero(with_share(case, share, seed).learn.pairs.partners(*SIDES) >= 0))

    assert known(0.1, 0) < known(0.5, 0)
    assert known(0.5, 0) != known(0.5, 1)


@pytest.mark.parametrize("name", ["clue-50", "clue-extend", "clue-soft-10", "bridge", "propensity", "random"])
def test_permuting_one_side_permutes_the_answer(case, name):
    """Nothing of who belongs to whom is in the order of the rows."""
    effort, method = Effort(2, 0), METHODS[name]
    some = with_share(case, method.share, 0)
    rng = np.random.default_rng(1)
    orders = [rng.permutation(len(d["adt"])) for d in (some.learn, some.match)]
    found = method.run(some.learn, some.match, effort, None, spaces_of(some))
    learn, match = (permuted(d, "adt", o) for d, o in zip((some.learn, some.match), orders, strict=True))
    other = replace(some, learn=learn, match=match)
    again = method.run(learn, match, effort, None, spaces_of(other))
    np.testing.assert_array_equal(again.latents["rna"], found.latents["rna"])
    np.testing.assert_array_equal(again.latents["adt"], found.latents["adt"][orders[1]])
    if found.imputed is not None:
        np.testing.assert_array_equal(again.imputed, found.imputed)


def test_every_method_is_judged_alike(case):
    """The true readings in a space of the true cells are perfect."""
    partners = case.partners
    place = np.random.default_rng(0).normal(size=(len(partners), 5))
    other = np.empty_like(place)
    other[partners] = place
    measured = np.asarray(case.match["adt"].X)[partners]
    scores = clue.judged(Answer({"rna": place, "adt": other}, imputed=measured), case)
    assert scores["foscttm"] == 0
    assert scores["matching_score"] == pytest.approx(1)
    assert scores["imputation_r"] == pytest.approx(1)


# --------------------------------------------------------------------------------------------------------- methods


def test_as_many_steps_for_all_methods(case):
    effort = Effort(2000, 0)
    assert effort.epochs(1422) == 200  # 1,280 are learned from, in ten steps
    assert clue_effort.planned(1422, effort).burn_in == 200 // 6
    assert Effort(None, 0).epochs(1422) is None
    n = len(case.learn["rna"])
    assert clue_methods._new(clue_effort.cells_in(case.learn), Effort(STEPS, 0), ()).epochs == STEPS
    assert n < 128


@pytest.mark.parametrize("name", OFF)
def test_an_ablation_leaves_all_but_its_terms_as_they_are(name):
    model = clue_methods._new(100, Effort(1, 0), OFF[name])
    used = asdict(model._config())
    published = asdict(PRESETS["citeseq"])
    assert {k for k in used if used[k] != published[k]} == set(OFF[name])
    assert all(used[k] == 0 for k in OFF[name])


def test_all_eight_combinations_are_there():
    terms = {"lam_cross", "lam_cos", "lam_align"}
    assert {frozenset(off) for off in OFF.values()} == {
        frozenset(t for k, t in enumerate(sorted(terms)) if bits >> k & 1) for bits in range(8)
    }


def test_tables_and_percentages_are_names_too():
    assert clue._asked(("pairs",)) == tuple(n for n in METHODS if n in GROUPS["pairs"])
    assert clue._asked(("clue-100", "clue-soft-100", "random")) == ("clue", "random")
    assert set(clue._asked(())) == set(METHODS)
    with pytest.raises(OptionError, match=r"method must be one of .*got 'clue-20'"):
        clue._asked(("clue-20",))


def test_stage_two_goes_on_from_the_model_at_hand():
    tasks = clue.tasks_of(["clue", "clue-extend", "clue-50", "propensity"], 2)
    assert [t.methods for t in tasks if t.seed == 0] == [("clue", "clue-extend"), ("clue-50",), ("propensity",)]
    assert [t.seed for t in tasks] == [0, 0, 0, 1, 1, 1]
    assert [t.methods for t in clue.tasks_of(["clue-extend"], 1)] == [("clue-extend",)]


# ----------------------------------------------------------------------------------------------------------- whole


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    """A whole run, and its tables."""
    out = tmp_path_factory.mktemp("bench") / "out"
    return out, run_bench("clue", options(out, folder))


@pytest.mark.slow
def test_every_method_is_a_row(done):
    out, text = done
    titles = ["Comparison (tables 2 to 4)", "Shares of the pairs known", "Ablation (table 5)"]
    tables = {t: text.split(f"### {t}\n")[1].split("\n### ")[0] for t in titles}
    for group, title in zip(("comparison", "pairs"), titles, strict=False):
        for name in GROUPS[group]:
            seeds = 0 if name in ("scglue", "multivi", "cobolt") else 1
            assert f"| {METHODS[name].title} | {seeds} |" in tables[title]
    assert tables[titles[0]].count("not available:") == 3
    assert sum(line.count("✓") for line in tables[titles[2]].splitlines()) == 12
    assert "0.0539" in tables[titles[2]]
    assert "published, overall: adversary (-47.3%), cross (-17.6%), cosine (-16.3%)" in text
    assert (out / "table.md").read_text(encoding="utf-8").endswith(text)
    for name in ("comparison", "pairs", "ablation"):
        assert (out / f"{name}.png").stat().st_size > 5000
    with (out / "table.csv").open(encoding="utf-8") as file:
        rows = {(r["method"], r["metric"]): r for r in csv.DictReader(file)}
    assert rows["cobolt", ""]["why"].startswith("not available:")
    assert float(rows["random", "foscttm"]["mean"]) == pytest.approx(0.5, abs=0.1)
    assert float(rows["clue", "epochs"]["mean"]) == STEPS
    assert rows["propensity", "foscttm_coupling"]["mean"]


@pytest.mark.slow
def test_a_finished_bench_is_not_done_again(done, folder, monkeypatch):
    out, text = done
    before = {p: p.stat().st_mtime_ns for p in out.rglob("seed-*.json")}
    monkeypatch.setattr(clue, "_result", lambda *_: pytest.fail("it was done before"))
    assert run_bench("clue", options(out, folder)) == text
    assert {p: p.stat().st_mtime_ns for p in out.rglob("seed-*.json")} == before


def test_a_killed_bench_goes_on(folder, tmp_path, monkeypatch):
    def kill(*_):
        raise KeyboardInterrupt

    real = METHODS["clue-extend"]
    monkeypatch.setitem(METHODS, "clue-extend", replace(real, run=kill))
    with pytest.raises(KeyboardInterrupt):
        run_bench("clue", options(tmp_path / "out", folder, ["clue", "clue-extend"]))
    store = Store(tmp_path / "out", clue_settings(tmp_path / "out"))
    assert store.has(CASE, "clue", 0)
    first = next(r for r in store.results() if r["method"] == "clue")
    monkeypatch.setitem(METHODS, "clue-extend", real)
    run_bench("clue", options(tmp_path / "out", folder, ["clue", "clue-extend"]))
    found = {r["method"]: r for r in store.results()}
    assert found["clue"] == first  # not done again
    whole = run_bench("clue", options(tmp_path / "whole", folder, ["clue", "clue-extend"]))
    again = Store(tmp_path / "whole", clue_settings(tmp_path / "whole"))
    assert {r["method"]: r["scores"] for r in again.results()} == {m: r["scores"] for m, r in found.items()}
    assert "stage 2" in whole


def clue_settings(out):
    """What a bench's folder was made with, but what the store adds."""
    import json

    found = json.loads((out / "bench.json").read_text(encoding="utf-8"))["settings"]
    return {k: v for k, v in found.items() if k != "unpaired"}


def test_the_propensity_spaces_of_all_seeds_are_made_before_any_method(folder, tmp_path, monkeypatch):
    made = []
    learned, result = clue._learned, clue._result
    monkeypatch.setattr(clue, "_learned", lambda *a: (made.append(f"space {a[1]}"), learned(*a))[1])
    monkeypatch.setattr(clue, "_result", lambda *a: (made.append(f"{a[0]} {a[1]}"), result(*a))[1])
    names = ["random", "clue-soft-10", "propensity"]
    run_bench("clue", options(tmp_path / "out", folder, names, seeds=2))
    assert made[:2] == ["space 0", "space 1"]
    assert sorted(made[2:]) == sorted(f"{n} {seed}" for n in names for seed in range(2))
    run_bench("clue", options(tmp_path / "out", folder, names, seeds=2))
    run_bench("clue", options(tmp_path / "none", folder, ["random"]))
    assert made[8:] == ["random 0"]


def test_a_method_that_breaks_down_is_a_row_that_says_so(folder, tmp_path, monkeypatch):
    def broken(*_):
        msg = "it broke down."
        raise UnpairedError(msg)

    monkeypatch.setitem(METHODS, "bridge", replace(METHODS["bridge"], run=broken))
    text = run_bench("clue", options(tmp_path / "out", folder, ["bridge", "random"]))
    assert "| bridge (dictionary) | 0 | it broke down. |" in text


def test_data_that_cannot_be_used_are_said_to_be_and_nothing_is_made(folder, tmp_path):
    with pytest.raises(OptionError, match=r"folder with rna.h5ad and adt.h5ad; got None"):
        run_bench("clue", options(tmp_path / "out", None))
    with pytest.raises(OptionError, match=r"folder with rna.h5ad and adt.h5ad"):
        run_bench("clue", options(tmp_path / "out", tmp_path))
    halves = tmp_path / "halves"
    halves.mkdir()
    for name in SIDES:
        table = ad.read_h5ad(folder / f"{name}.h5ad")
        table.X = table.X / 2
        table.write_h5ad(halves / f"{name}.h5ad")
    with pytest.raises(DataError, match="are not counts"):
        run_bench("clue", options(tmp_path / "out", halves))
    assert not (tmp_path / "out").exists()


# ----------------------------------------------------------------------------------------------------------- peers


def test_the_authors_own_model_takes_pairs_and_new_cells(case):
    pytest.importorskip("scglue")
    from unpaired.bench.peers.scclue import ScClue

    plan = clue_effort.planned(clue_effort.cells_in(case.learn), Effort(4, 0))
    some = with_share(case, 0.5, 0)
    small = replace(PRESETS["citeseq"], dims=4, encoder_hidden=16, decoder_hidden=16, discriminator_hidden=16)
    seen: list[int] = []
    model = ScClue(small, plan, seed=3).fit(some.learn, watch=seen.append)
    assert seen == list(range(1, model.epochs_run_ + 1))
    assert model.epochs_run_ == plan.epochs
    space = model.transform(case.match)
    assert space["rna"].shape == (len(case.match["rna"]), 8)
    assert model.impute(case.match, *SIDES).shape == (len(case.match["rna"]), PROTEINS)
    order = np.random.default_rng(0).permutation(len(some.learn["adt"]))
    again = ScClue(small, plan, seed=3).fit(permuted(some.learn, "adt", order)).transform(case.match)
    np.testing.assert_allclose(again["adt"], space["adt"], rtol=1e-5, atol=1e-6)


def test_multivi_takes_pairs_and_the_cells_to_be_matched(case):
    pytest.importorskip("scvi")
    from unpaired.bench.peers.multivi_pairs import place_multivi

    match: Dataset = case.match
    order = np.random.default_rng(0).permutation(len(match["adt"]))
    found, epochs = place_multivi(case.learn, match, epochs=2, batch=128, seed=0)
    assert epochs == 2
    assert {n: len(a) for n, a in found.items()} == {n: len(match[n]) for n in SIDES}
    again, _ = place_multivi(case.learn, permuted(match, "adt", order), epochs=2, batch=128, seed=0)
    np.testing.assert_allclose(again["adt"], found["adt"][order], rtol=1e-4, atol=1e-5)
