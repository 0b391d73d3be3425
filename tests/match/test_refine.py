"""Rounds of learning from a matching and matching again."""

from dataclasses import replace

import numpy as np
import pytest

import unpaired as up
from unpaired.embed import contrastive
from unpaired.errors import DataError, Problem, UnpairedError
from unpaired.match import refine as rounds_module
from unpaired.match.refine import Work, _draw, information, refine_rounds, rounds_of
from unpaired.match.refine_rule import Round


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


def scripted(agreements, changes, weights=(0.5,) * 9, seconds=0.0):
    """Rounds that only tell of themselves."""

    def of(work, matching):
        for number, (a, c, w) in enumerate(zip(agreements, changes, weights, strict=False), start=1):
            yield f"space {number}", f"matching {number}", Round(number, seconds, 4.0, w, 1.0, a, c, kept=True)

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


@pytest.mark.parametrize(("weights", "kept"), [([0.0], 0), ([0.5, 0.1, 0.0], 2)])
def test_a_round_of_encoders_that_learned_nothing_is_undone(monkeypatch, small, weights, kept):
    data, _, space, matching = small
    monkeypatch.setattr(rounds_module, "rounds_of", scripted([0.5] * 3, [0.9] * 3, weights))
    found = refine_rounds(data, matching, space, rounds=None, seed=0, device="cpu")
    assert found.matching == (f"matching {kept}" if kept else matching)
    assert found.embedding == (f"space {kept}" if kept else space)
    assert [r.kept for r in found.rounds] == [True] * kept + [False]
    assert "no more than chance" in found.sentence
    asked = refine_rounds(data, matching, space, rounds=len(weights), seed=0, device="cpu")
    assert all(r.kept for r in asked.rounds)


@pytest.mark.parametrize(("seconds", "made"), [(1.0, 1), (20.0, 2), (29.0, 2), (30.0, 3)])
def test_no_round_is_begun_that_would_not_end_in_time(monkeypatch, small, seconds, made):
    data, _, space, matching = small
    monkeypatch.setattr(rounds_module, "rounds_of", scripted([0.5] * 9, [0.9] * 9, seconds=10.0))
    for rounds in (None, 5):
        found = refine_rounds(data, matching, space, rounds=rounds, seed=0, device="cpu", seconds=seconds)
        assert len(found.rounds) == made
        assert "No time was left for another round of 10 s" in found.sentence
    assert "1 round was" in refine_rounds(data, matching, space, rounds=1, seed=0, device="cpu", seconds=1).sentence


def test_auto_ends_where_no_further_round_can_be_made(monkeypatch, small):
    data, _, space, matching = small

    def two(work, matching):
        yield from list(scripted([0.5] * 2, [0.9] * 2)(work, matching))
        raise DataError([Problem("error", "it", "no label has pairs.")])

    monkeypatch.setattr(rounds_module, "rounds_of", two)
    found = refine_rounds(data, matching, space, rounds=None, seed=0, device="cpu")
    assert found.matching == "matching 2"
    assert found.sentence == "Round 3 could not be made: no label has pairs."
    with pytest.raises(DataError):
        refine_rounds(data, matching, space, rounds=3, seed=0, device="cpu")


@pytest.mark.usefixtures("_short")
def test_partners_drawn_at_random_teach_nothing_and_change_nothing(small):
    data, _, space, matching = small
    work = Work(data, data.direction(), {}, space, 0, "cpu", False, None)
    joined, new, told = next(rounds_of(work, up.match_random(data, seed=1)))
    assert told.weight == 0
    again = work.match(joined, eps=2.0)
    np.testing.assert_allclose(again.to_sparse().toarray(), matching.to_sparse().toarray(), atol=1e-6)
    np.testing.assert_allclose(new.to_sparse().toarray(), matching.to_sparse().toarray(), atol=1e-6)


@pytest.mark.usefixtures("_short")
def test_a_screen_is_matched_better(small):
    data, truth, space, matching = small
    found = refine_rounds(data, matching, space, rounds=2, seed=0, device="cpu")
    assert lead(found.matching, truth, data) > lead(matching, truth, data) + 0.005
    assert all(b.status.state == "ok" for b in found.matching.matched)


@pytest.mark.usefixtures("_short")
def test_half_a_squared_distance_is_the_mean_of_both_log_odds(small, monkeypatch):
    data, _, space, matching = small
    work = Work(data, ("rna", "image") if "rna" in data.modalities else tuple(data), {}, space, 0, "cpu", False, None)
    encoded = work.encode(matching, 1)
    parts = [work.weighted(space), work.weighted(encoded.embedding, encoded.common)]
    one, other = work.names

    def halves(s):
        return ((s[one][:20, None] - s[other][None, :20]) ** 2).sum(axis=2) / 2

    for belief in (100.0, 0.1):  # a half at most, and less where the codes know little
        monkeypatch.setattr(rounds_module, "_BELIEF", belief)
        joined, weight = work.joined(encoded)
        assert weight == 0.5 if belief > 1 else 0 < weight < 0.1
        mean = (1 - weight) * halves(parts[0]) + weight * halves(parts[1])
        np.testing.assert_allclose(halves(joined), mean, rtol=1e-9)


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
    first = next(iter(again.rounds))
    assert first.seconds > 0.5 * whole.rounds[0].seconds  # what it took when it was made
    for name in data:
        np.testing.assert_array_equal(again.embedding[name], whole.embedding[name])
    # another seed, another effort, or a damaged file: from the beginning
    refine_rounds(data, matching, space, rounds=1, **{**options, "seed": 1})
    assert len(taught) == 2
    monkeypatch.setattr(contrastive, "_TABLES", replace(contrastive._TABLES, steps=20))
    refine_rounds(data, matching, space, rounds=1, **{**options, "seed": 1})
    assert len(taught) == 3
    file = tmp_path / "rounds" / "round-1.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    refine_rounds(data, matching, space, rounds=1, **{**options, "seed": 1})
    assert len(taught) == 4
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


def test_of_very_many_features_some_directions_say_the_same(small, monkeypatch):
    data, _, _, matching = small
    target = data[matching.target]
    monkeypatch.setattr(rounds_module, "_MANY", 10)
    monkeypatch.setattr(rounds_module, "_DIRECTIONS", 400)
    few = rounds_module._some_directions(target, 0)
    assert few.shape == (len(target), 400)
    other = up.match_random(data, seed=2)
    both = [rounds_module._correlation(matching, other, f) for f in (few, target.flat_features)]
    assert both[0] == pytest.approx(both[1], abs=0.05)
    order = np.random.default_rng(1).permutation(len(target))
    np.testing.assert_array_equal(rounds_module._some_directions(target.take(order), 0), few[order])
