"""The run directory: whole or not at all, read back as written, never over something of the user's."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import mudata
import numpy as np
import pytest

import unpaired as up
from unpaired.embed.embedding import Provenance
from unpaired.errors import DataError, OutputError
from unpaired.evaluate.confidence import Confidence, confidence, selective_risk
from unpaired.files import sha256, write_json, write_text
from unpaired.match.transport.solution import Plan
from unpaired.run.folder import check_target, new_folder
from unpaired.run.read import read_record, read_truth
from unpaired.run.write import as_written

TURNS = {n: np.random.default_rng(i).normal(size=(10, 3)) for i, n in enumerate(("left", "right"))}
OLD = '{"format": "unpaired-run", "outputs": {}}'


@pytest.fixture(scope="module")
def job():
    data, truth = up.examples.digits(seed=1)
    keep = {n: np.flatnonzero(np.arange(len(data[n])) % 6 == 0) for n in data}
    data = data.take(keep)
    truth = up.Truth({n: truth.units[n][keep[n]] for n in keep}, {n: np.ones((len(keep[n]), 2)) for n in keep})
    model = up.Propensity(folds=2, repeats=2, classifier="logistic").fit(data)
    space = model.transform(data)
    matching = up.match_ot(data, space, tol=1e-3).sparsify()
    return data, truth, model, space, matching


@pytest.fixture
def run(job, tmp_path):
    data, truth, model, space, matching = job
    scores = up.score(matching, truth, data)
    sure = confidence(matching, data)
    return up.write_run(
        tmp_path / "run",
        data,
        space,
        matching,
        truth=truth,
        scores=scores,
        selective_risk=selective_risk(matching, truth, data, sure=sure),
        diagnosis=up.diagnose(data, space, matching, sure=sure),
        confidence=sure,
        propensity=model,
    )


def test_a_run_reads_back_as_it_was_written(job, run):
    data, truth, _, space, matching = job
    back = up.read_run(run)
    for name in data:
        assert back.data[name].ids.tolist() == data[name].ids.tolist()
        assert np.array_equal(back.data[name].labels, data[name].labels)
        assert np.array_equal(back.data[name].features, data[name].features)
        assert np.array_equal(back.embedding[name], space[name])
        assert np.allclose(back.embedding.noise[name], space.noise[name])
        assert np.array_equal(back.embedding.noise_covariance[name], space.noise_covariance[name])
        assert back.data[name].recipe.name == "scale"
    assert np.array_equal(back.truth.partners("left", "right"), truth.partners("left", "right"))
    assert np.array_equal(back.truth.latents["left"], truth.latents["left"])
    difference = abs(back.matching.to_sparse("rows") - matching.to_sparse("rows"))
    assert difference.max() < 1e-6
    assert [b.status.state for b in back.matching.blocks] == [b.status.state for b in matching.blocks]
    assert back.matching.made_by.options["eps"] == pytest.approx(matching.made_by.options["eps"])


def test_how_the_directions_were_weighted_is_in_the_record(job, run):
    matching = job[-1]
    told = matching.made_by.options["weighting"]
    assert up.read_run(run).matching.made_by.options["weighting"] == told
    assert json.loads((run / "run.json").read_text())["matching"]["options"]["weighting"] == told
    assert told["directions"] == len(told["correlations"]) > 1


def test_a_run_scores_the_same_when_read_back(run):
    back = up.read_run(run)
    again = up.score(back.matching, back.truth, back.data).to_dict()
    assert again["trace"] == pytest.approx(back.scores["trace"], rel=1e-5)
    assert again["foscttm"] == pytest.approx(back.scores["foscttm"], abs=1e-3)


def test_a_run_keeps_its_diagnosis(job, run):
    data, _, _, space, matching = job
    back = up.read_run(run)
    said = up.diagnose(data, space, matching)
    assert back.diagnosis.keys() == said.to_dict().keys()
    assert (back.diagnosis["verdict"], back.diagnosis["sentence"]) == (said.verdict, said.sentence)
    assert back.diagnosis["expected"]["foscttm"] == pytest.approx(said.expected.foscttm)
    assert [c["name"] for c in back.diagnosis["checks"]] == [c.name for c in said.checks]
    assert back.diagnosis["labels"].keys() == said.labels.keys()
    assert "diagnosis.json" in back.record["outputs"]


def test_a_run_keeps_how_sure_it_is_of_every_cell(job, run):
    data, _, _, _, matching = job
    sure = confidence(matching, data)
    with mudata.set_options(pull_on_update=False):
        plain = mudata.read_h5mu(run / "aligned.h5mu")
    back = up.read_run(run)
    for name in data:
        assert np.array_equal(back.confidence[name], sure.values[name])
        assert np.array_equal(plain[name].obs["unpaired_confidence"], sure.values[name])


def test_a_run_keeps_the_curve_of_selective_risk(job, run):
    data, truth, _, _, matching = job
    curve = up.read_run(run).scores["selective_risk"]
    wanted = selective_risk(matching, truth, data)
    assert curve.keys() == {"kept", "risk", "area", "area_random", "cells"}
    assert curve["kept"] == pytest.approx(wanted.kept)
    assert curve["risk"] == pytest.approx(wanted.risk)
    assert (curve["cells"], curve["area"]) == (wanted.cells, pytest.approx(wanted.area))
    assert curve["area"] / curve["area_random"] == pytest.approx(wanted.ratio)


def test_a_run_without_diagnosis_has_none(job, tmp_path):
    data, truth, _, space, matching = job
    run = up.write_run(tmp_path / "run", data, space, matching, truth=truth, scores=up.score(matching, truth, data))
    back = up.read_run(run)
    assert (back.diagnosis, back.confidence) == (None, None)
    assert "selective_risk" not in back.scores
    assert not (run / "diagnosis.json").exists()


def test_what_a_diagnosis_does_not_know_is_null(job, tmp_path):
    """And a cell without confidence has none when it is read back."""
    data, _, _, space, matching = job
    nan = float("nan")
    said = up.diagnose(data, space, matching)
    first = next(iter(said.labels))
    labels = {**said.labels, first: replace(said.labels[first], claimed_foscttm=nan)}
    checks = (replace(said.checks[0], value=nan, details={"p_value": np.float64("inf")}), *said.checks[1:])
    values = {n: np.full(len(data[n]), nan) for n in data}
    run = up.write_run(
        tmp_path / "run",
        data,
        space,
        matching,
        diagnosis=replace(said, labels=labels, checks=checks),
        confidence=Confidence(values, {}),
    )
    back = up.read_run(run)
    assert back.diagnosis["labels"][first]["claimed_foscttm"] is None
    assert (back.diagnosis["checks"][0]["value"], back.diagnosis["checks"][0]["details"]) == (None, {"p_value": None})
    assert all(np.isnan(v).all() for v in back.confidence.values())


def test_plain_mudata_reads_the_alignment(job, run):
    data, _, _, space, matching = job
    with mudata.set_options(pull_on_update=False):
        m = mudata.read_h5mu(run / "aligned.h5mu")
    n = len(data["left"])
    assert m.shape[0] == n + len(data["right"])  # no cell of one side was taken for one of the other
    coupling = m.obsp["unpaired_coupling"]
    assert coupling.sum() == pytest.approx(2, rel=1e-4)
    assert abs(coupling - coupling.T).max() < 1e-9
    assert coupling[:n, :n].nnz == 0
    assert np.allclose(coupling[:n, n:].toarray(), matching.to_sparse().toarray(), atol=1e-8)
    assert np.allclose(m.obsm["X_unpaired"][:n], space["left"])
    propensity = m["left"].obsm["unpaired_propensity"]
    assert np.allclose(propensity.sum(1), 1)
    assert list(m.uns["unpaired"]["dims"]) == list(space.dims)
    assert all(i.startswith("left:") for i in m["left"].obs_names)


def test_the_coupling_survives_subsetting(run):
    with mudata.set_options(pull_on_update=False):
        m = mudata.read_h5mu(run / "aligned.h5mu")
    keep = np.arange(m.n_obs) % 2 == 0
    assert m[keep].obsp["unpaired_coupling"].shape == (keep.sum(), keep.sum())


def test_the_record_has_versions_options_hashes_and_every_label(job, run, tmp_path):
    record = json.loads((run / "run.json").read_text())
    assert record["format"] == "unpaired-run"
    assert record["versions"]["numpy"] == np.__version__
    assert len(record["matching"]["blocks"]) == 10
    assert record["embedding"]["options"]["seed"] == 0
    for name, expected in record["outputs"].items():
        assert sha256(run / name) == expected
    assert 0 < record["classifiers"]["left"]["accuracy"] <= 1


def test_inputs_are_hashed(job, tmp_path):
    data, _, _, space, matching = job
    file = tmp_path / "in.h5ad"
    file.write_bytes(b"abc")
    run = up.write_run(tmp_path / "run", data, space, matching, inputs=[file])
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc", from FIPS 180-2
    assert json.loads((run / "run.json").read_text())["inputs"] == [{"path": str(file), "sha256": known}]


def test_images_keep_their_shape(tmp_path):
    rng = np.random.default_rng(0)
    x = {"image": rng.normal(size=(12, 2, 4, 5)), "rna": rng.normal(size=(12, 3))}
    y = dict.fromkeys(x, ["s", "t"] * 6)
    data = up.Dataset.from_arrays(x, y)
    flat = {n: rng.normal(size=(12, 2)) for n in data}
    space = up.Embedding(flat, "latent", None, ("0", "1"), Provenance("by hand", {}))
    run = up.write_run(tmp_path / "run", data, space, up.match_uniform(data))
    back = up.read_run(run)
    assert back.data["image"].X.shape == (12, 2, 4, 5)
    assert np.array_equal(back.data["image"].features, data["image"].features)
    assert back.embedding.noise is None
    assert back.embedding.noise_covariance is None
    assert back.truth is None


# ------------------------------------------------------------------ labels kept as potentials


def with_plans(matching, space, labels, turns=TURNS):
    """The matching with potentials, drawn at random, for the couplings of some labels; in three directions."""
    rng, blocks = np.random.default_rng(0), []
    for block in matching.blocks:
        if block.label in labels:
            f, g = rng.normal(size=len(block.rows)), rng.normal(size=len(block.cols))
            f[0] = -np.inf  # a cell without mass
            sides = (("left", block.rows), ("right", block.cols))
            x, y = (space[n][at] if turns is None else space[n][at] @ turns[n] for n, at in sides)
            block = replace(block, weights=Plan(x, y, f, g, 7.3, "sqeuclidean"))  # noqa: PLW2901
        blocks.append(block)
    return replace(matching, blocks=tuple(blocks))


@pytest.fixture(params=[("2", "5"), tuple("0123456789")], ids=["some labels", "all labels"])
def plans(request, job):
    *_, space, matching = job
    return with_plans(matching, space, request.param)


def test_a_label_kept_as_potentials_reads_back_as_it_was(job, plans, tmp_path):
    data, truth, _, space, _ = job
    run = up.write_run(tmp_path / "run", data, space, plans, truth=truth)
    back = up.read_run(run).matching
    for one, two in zip(plans.blocks, back.blocks, strict=True):
        assert type(one.weights) is type(two.weights)
        assert np.array_equal(one.rows, two.rows)
        if isinstance(one.weights, Plan):
            for name in ("x", "y", "f", "g", "eps", "cost"):
                assert np.array_equal(getattr(one.weights, name), getattr(two.weights, name)), name
    values = data["right"].features
    np.testing.assert_allclose(back.pull(values), plans.pull(values), rtol=1e-5, atol=1e-5)
    scores = [up.score(m, truth, data).to_dict() for m in (as_written(plans), back)]
    assert scores[1]["trace"] == pytest.approx(scores[0]["trace"], rel=1e-5)
    assert scores[1]["foscttm"] == pytest.approx(scores[0]["foscttm"], abs=1e-3)


def test_a_label_kept_as_potentials_is_not_expanded_when_written(job, plans, tmp_path, monkeypatch):
    data, _, _, space, _ = job
    sparsify = up.Block.sparsify
    monkeypatch.setattr(
        up.Block, "sparsify", lambda b, k: pytest.fail("expanded") if isinstance(b.weights, Plan) else sparsify(b, k)
    )
    run = up.write_run(tmp_path / "run", data, space, plans)
    with mudata.set_options(pull_on_update=False):
        m = mudata.read_h5mu(run / "aligned.h5mu")
    n = len(data["left"])
    joint = m.obsp["unpaired_coupling"][:n, n:]
    kept = [b for b in plans.blocks if isinstance(b.weights, Plan)]
    for block in kept:
        assert joint[block.rows].nnz == 0
        assert np.array_equal(m["left"].obs["unpaired_potential"].to_numpy()[block.rows], block.weights.f)
        assert np.array_equal(m["right"].obsm["unpaired_plan"][block.cols], block.weights.y)
    others = [b.rows for b in plans.blocks if not isinstance(b.weights, Plan)]
    assert np.isnan(m["left"].obsm["unpaired_plan"][np.concatenate([*others, []]).astype(int)]).all()
    share = sum(len(b.rows) for b in kept) / plans.coverage.source
    assert joint.sum() == pytest.approx(1 - share, abs=1e-4)


def test_the_record_says_which_labels_are_kept_as_potentials(job, plans, tmp_path):
    data, _, _, space, _ = job
    run = up.write_run(tmp_path / "run", data, space, plans)
    record = json.loads((run / "run.json").read_text())
    assert record["format_version"] == 4
    for entry, block in zip(record["matching"]["blocks"], plans.blocks, strict=True):
        is_plan = isinstance(block.weights, Plan)
        assert entry["potentials"] == ({"eps": 7.3, "cost": "sqeuclidean"} if is_plan else None)
        assert entry["partners"] == pytest.approx(block.effective_partners().mean())
    assert "potentials" in up.write_report(run).read_text()


def test_a_run_without_potentials_has_none_in_its_files(run):
    with mudata.set_options(pull_on_update=False):
        m = mudata.read_h5mu(run / "aligned.h5mu")
    assert "unpaired_potential" not in m["left"].obs
    assert "unpaired_plan" not in m["left"].obsm


def test_a_coupling_without_room_is_matched_in_weighted_directions_and_reads_back(job, tmp_path):
    data, _, _, space, _ = job
    matching = up.match_ot(data, space, tol=1e-3, keep=1.0, memory=1)
    back = up.read_run(up.write_run(tmp_path / "run", data, space, matching)).matching
    for one, two in zip(matching.blocks, back.blocks, strict=True):
        assert one.weights.x.shape[1] == matching.made_by.options["weighting"]["directions"]
        assert np.array_equal(one.dense(), two.dense())


def test_potentials_of_the_third_format_are_those_of_the_embedding(job, tmp_path):
    data, _, _, space, matching = job
    plans = with_plans(matching, space, ("2", "5"), turns=None)
    run = up.write_run(tmp_path / "run", data, space, plans)
    with mudata.set_options(pull_on_update=False):
        m = mudata.read_h5mu(run / "aligned.h5mu")
        for name in data:
            del m[name].obsm["unpaired_plan"]
        m.write_h5mu(run / "aligned.h5mu")
    record = json.loads((run / "run.json").read_text())
    record["outputs"]["aligned.h5mu"] = sha256(run / "aligned.h5mu")
    write_json(run / "run.json", record | {"format_version": 3})
    for one, two in zip(plans.blocks, up.read_run(run).matching.blocks, strict=True):
        assert type(one.weights) is type(two.weights)
        if isinstance(one.weights, Plan):
            assert np.array_equal(one.dense(), two.dense())


def test_a_run_of_the_first_format_can_be_read(run):
    record = json.loads((run / "run.json").read_text())
    for block in record["matching"]["blocks"]:
        del block["potentials"]
    write_json(run / "run.json", record | {"format_version": 1})
    assert up.read_run(run).matching.coverage.labels == 10


# ------------------------------------------------------------------ damage


def test_a_changed_file_is_noticed(run):
    with (run / "aligned.h5mu").open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)
        file.seek(5000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(DataError, match=r"aligned\.h5mu: was changed"):
        up.read_run(run)


def test_a_missing_file_is_named(run):
    (run / "truth.csv").unlink()
    with pytest.raises(DataError, match=r"truth\.csv: is missing"):
        up.read_run(run)


def test_a_folder_that_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="Name a folder made by unpaired align"):
        read_record(tmp_path)


def test_a_run_of_a_newer_format_is_refused(run):
    record = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", record | {"format_version": 99})
    with pytest.raises(DataError, match="99"):
        up.read_run(run)


def test_an_existing_run_is_kept_unless_forced(job, run):
    data, _, _, space, matching = job
    before = sha256(run)
    with pytest.raises(OutputError, match="--force"):
        up.write_run(run, data, space, matching)
    assert sha256(run) == before
    up.write_run(run, data, space, matching, force=True)
    assert not (run / "truth.csv").exists()  # replaced whole, nothing of the old run is left
    assert sorted(p.name for p in run.parent.iterdir()) == ["run"]


def test_a_folder_of_the_users_is_never_replaced_even_when_forced(tmp_path):
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter.txt").write_text("x")
    with pytest.raises(OutputError, match="not a run"):
        check_target(mine, force=True)
    (mine / "run.json").write_text('{"scripts": 1}')
    with pytest.raises(OutputError, match="not a run"):
        check_target(mine, force=True)
    link = tmp_path / "link"
    link.symlink_to(mine)
    with pytest.raises(OutputError, match="not a folder"):
        check_target(link, force=True)
    with pytest.raises(OutputError, match="not a folder"):
        check_target(mine / "chapter.txt", force=True)


def test_a_run_that_holds_something_of_the_users_is_not_replaced(job, run):
    data, _, _, space, matching = job
    (run / "notes.md").write_text("x")
    with pytest.raises(OutputError, match=r"notes\.md"):
        up.write_run(run, data, space, matching, force=True)
    assert (run / "notes.md").read_text() == "x"


def test_the_umask_is_kept(job, tmp_path):
    data, _, _, space, matching = job
    before = os.umask(0o077)
    try:
        run = up.write_run(tmp_path / "run", data, space, matching)
    finally:
        os.umask(before)
    assert run.stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in run.iterdir()} == {0o600}


def test_a_missing_input_has_no_hash(job, tmp_path):
    data, _, _, space, matching = job
    with pytest.raises(OutputError, match="does not exist"):
        up.write_run(tmp_path / "run", data, space, matching, inputs=[tmp_path / "none.h5ad"])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_parent_is_named(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        check_target(tmp_path / "no" / "run", force=False)


def test_a_read_only_parent_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write everywhere
    with pytest.raises(OutputError, match="no permission"):
        check_target(tmp_path / "run", force=False)


@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_while_writing_leaves_nothing_new_and_loses_nothing_old(tmp_path, existing):
    out = tmp_path / "run"
    if existing:
        out.mkdir()
        (out / "run.json").write_text(OLD)

    def fail():
        with new_folder(out, force=True) as work:
            (work / "half.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == (["run"] if existing else [])
    if existing:
        assert (out / "run.json").read_text() == OLD


def test_a_full_disk_leaves_nothing(job, tmp_path, monkeypatch):
    data, _, _, space, matching = job

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unpaired.run.write.write_json", full)
    with pytest.raises(OSError, match="No space left"):
        up.write_run(tmp_path / "run", data, space, matching)
    assert list(tmp_path.iterdir()) == []


def test_text_is_replaced_whole(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    write_text(file, "old")

    def broken(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="No space"):
        write_text(file, "new")
    assert file.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_never_holds_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_truth_can_be_given_as_a_file_with_or_without_prefixes(job, tmp_path):
    data, truth, *_ = job
    partner = truth.partners("left", "right")
    lines = ["left,right"]
    for row, other in enumerate(partner):
        if other >= 0:
            plain = data["left"].ids[row].removeprefix("left:")
            lines.append(f"{plain},{data['right'].ids[other]}")
    file = tmp_path / "pairs.csv"
    file.write_text("\n".join(lines))
    assert np.array_equal(read_truth(file, data).partners("left", "right"), partner)


def test_a_wrong_truth_file_has_all_its_problems_listed(job, tmp_path):
    data, *_ = job
    first = data["left"].ids[0]
    file = tmp_path / "pairs.csv"
    file.write_text(f"left,right\n{first},nobody\n{first},\n")
    with pytest.raises(DataError) as caught:
        read_truth(file, data)
    assert "nobody" in str(caught.value)
    assert "more than once" in str(caught.value)
    file.write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match=r"Name them as the modalities: \['left', 'right'\]"):
        read_truth(file, data)
