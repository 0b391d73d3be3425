"""Rounds of learning from a matching and matching again."""

from dataclasses import replace

import numpy as np
import pytest

import unpaired as up
from unpaired.embed import contrastive
from unpaired.errors import UnpairedError
from unpaired.match import refine as rounds_module
from unpaired.match.refine import Round, Work, _draw, information, refine_rounds, rounds_of


@pytest.fixture(scope="module")
def small(one_thread):
    """A screen of ten labels, its propensity space and the matching in it."""
    data, truth = up.simulate.screen(cells=40, perturbations=9, features=300, genes=60, seed=0)
    space = up.Propensity(classifier="logistic", folds=3, repeats=2, seed=0).fit(data).transform(data)
    return data, truth, space, up.match_ot(data, space)


@pytest.fixture
def _short(monkeypatch):
    monkeypatch.setattr(contrastive, "_TABLES", replace(contrastive._TABLES, steps=100))


def lead(matching, truth, data):
    found = up.score(matching, truth, data).unweighted
    return 0.5 - (found["foscttm_source"] + found["foscttm_target"]) / 2


def scripted(agreements, changes):
    """Rounds that only tell of themselves."""

    def of(work, matching):
        for number, (a, c) in enumerate(zip(agreements, changes, strict=True), start=1):
            yield f"space {number}", f"matching {number}", Round(number, 0.0, 4.0, 1.0, a, c, kept=True)

    return of


@pytest.mark.parametrize(
    ("agreements", "changes", "rounds", "kept", "last", "why"),
    [
        ([0.5] * 9, [0.9] * 9, None, 8, 8, "the most"),
        ([0.5] * 9, [0.9, 0.995, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], None, 2, 2, "next to nothing"),
        ([0.5, 0.6, 0.5, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], [0.9] * 9, None, 2, 2, "Round 3 was undone"),
        ([0.5, 0.6, 0.58, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6], [0.9] * 9, None, 8, 8, "the most"),
        ([0.5, 0.1, 0.1], [0.999] * 3, 3, 3, 3, "3 rounds were asked for"),
    ],
)
def test_when_it_stops(monkeypatch, small, agreements, changes, rounds, kept, last, why):
    data, _, space, matching = small
    monkeypatch.setattr(rounds_module, "rounds_of", scripted(agreements, changes))
    found = refine_rounds(data, matching, space, rounds=rounds, seed=0, device="cpu")
    assert found.embedding == f"space {last}"
    assert found.matching == f"matching {last}"
    assert sum(r.kept for r in found.rounds) == kept
    assert why in found.sentence


@pytest.mark.usefixtures("_short")
def test_a_screen_is_matched_better(small):
    data, truth, space, matching = small
    found = refine_rounds(data, matching, space, rounds=2, seed=0, device="cpu")
    assert lead(found.matching, truth, data) > lead(matching, truth, data) + 0.005
    assert all(b.status.state == "ok" for b in found.matching.matched)


@pytest.mark.usefixtures("_short")
def test_half_a_squared_distance_is_the_mean_of_both_log_odds(small):
    data, _, space, matching = small
    work = Work(data, ("rna", "image") if "rna" in data.modalities else tuple(data), {}, space, 0, "cpu", False, None)
    encoded = work.encode(matching, 1)
    joined = work.joined(encoded.embedding)
    parts = [rounds_module.weighted_space(data, s, *work.names) for s in (space, encoded.embedding)]
    one, other = work.names

    def halves(s):
        return ((s[one][:20, None] - s[other][None, :20]) ** 2).sum(axis=2) / 2

    np.testing.assert_allclose(halves(joined), (halves(parts[0]) + halves(parts[1])) / 2, rtol=1e-9)


def test_a_round_that_was_done_is_not_done_again(small, tmp_path, monkeypatch):
    data, _, space, matching = small
    monkeypatch.setattr(contrastive, "_TABLES", replace(contrastive._TABLES, steps=10))
    options = {"seed": 0, "device": "cpu", "folder": tmp_path / "rounds"}
    refine_rounds(data, matching, space, rounds=1, **options)
    whole = refine_rounds(data, matching, space, rounds=2, seed=0, device="cpu")
    taught = []
    encode = contrastive.encode
    monkeypatch.setattr(contrastive, "encode", lambda *a, **o: taught.append(1) or encode(*a, **o))
    again = refine_rounds(data, matching, space, rounds=2, **options)
    assert len(taught) == 1
    for name in data:
        np.testing.assert_array_equal(again.embedding[name], whole.embedding[name])
    # another seed, other data or a damaged file: from the beginning
    refine_rounds(data, matching, space, rounds=1, **{**options, "seed": 1})
    assert len(taught) == 2
    file = tmp_path / "rounds" / "round-1.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    refine_rounds(data, matching, space, rounds=1, **{**options, "seed": 1})
    assert len(taught) == 3
    assert sorted(p.name for p in (tmp_path / "rounds").iterdir()) == ["round-1.safetensors", "round-2.safetensors"]


def test_a_folder_that_cannot_be_written_is_one_sentence(small, tmp_path, monkeypatch):
    data, _, space, matching = small
    monkeypatch.setattr(contrastive, "_TABLES", replace(contrastive._TABLES, steps=10))
    (tmp_path / "file").write_text("")
    with pytest.raises(UnpairedError, match="cannot be written"):
        refine_rounds(data, matching, space, rounds=1, seed=0, device="cpu", folder=tmp_path / "file")


def test_information_is_what_narrows_the_candidates(small):
    data, truth, _, _ = small
    assert information(up.match_uniform(data)) == pytest.approx(0, abs=1e-12)
    certain = up.match_pairs(data, truth)
    wanted = np.average(
        [np.log(len(b.cols)) for b in certain.matched], weights=[(b.sums(1) > 0).sum() for b in certain.matched]
    )
    assert information(certain) == pytest.approx(wanted)


def test_matchings_that_say_nothing_do_not_agree(small):
    data, _, _, matching = small
    uniform, features = up.match_uniform(data), data[matching.target].flat_features
    assert rounds_module._correlation(uniform, uniform, features) == 0
    assert rounds_module._correlation(uniform, matching, features) == 0
    assert rounds_module._correlation(matching, matching, features) == pytest.approx(1)


def test_pairs_are_drawn_as_the_coupling_says(small):
    data, truth, _, matching = small
    pairs = _draw(matching, 0)
    assert (data[matching.source].labels[pairs[0]] == data[matching.target].labels[pairs[1]]).all()
    certain = up.match_pairs(data, truth)
    drawn = _draw(certain, 0)
    partner = truth.partners(certain.source, certain.target)
    assert (partner[drawn[0]] == drawn[1]).all()
    assert set(drawn[0]) == set(np.flatnonzero(partner >= 0))
    assert not np.array_equal(pairs, _draw(matching, 1))


@pytest.mark.usefixtures("_short")
def test_the_order_of_one_sides_rows_changes_nothing_but_the_order(small):
    data, _, space, matching = small
    name = matching.target
    order = np.random.default_rng(2).permutation(len(data[name]))
    turned = replace(data, modalities=dict(data.modalities) | {name: data[name].take(order)})
    arrays = dict(space.arrays) | {name: space[name][order]}
    noise = None if space.noise is None else dict(space.noise) | {name: space.noise[name][order]}
    other = replace(space, arrays=arrays, noise=noise)
    (_, one, told), (_, two, also) = (
        next(rounds_of(Work(d, d.direction(), {}, s, 0, "cpu", False, None), up.match_ot(d, s)))
        for d, s in ((data, space), (turned, other))
    )
    np.testing.assert_array_equal(one.to_sparse().toarray()[:, order], two.to_sparse().toarray())
    assert replace(told, seconds=0) == replace(also, seconds=0)
