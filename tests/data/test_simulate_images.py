"""Pictures of two objects under interventions: the mechanism, the pixels, the pairing, the cache."""

import numpy as np
import pytest
from matplotlib import colormaps

from unpaired.data.preprocess import fit_recipe
from unpaired.data.simulate import images as images_file
from unpaired.data.simulate import interventional_images
from unpaired.data.simulate.drawing import DISC, DISCS, SQUARE, draw
from unpaired.data.simulate.scenes import INTERVENTIONS, VALUES, draw_scenes, seen_by_squares
from unpaired.errors import OptionError, OutputError

N = 300  # more than one chunk


@pytest.fixture(scope="module")
def paired():
    return interventional_images(N, pairing="use", seed=4)[0]


@pytest.fixture(scope="module")
def many():
    return draw_scenes(30_000, 0)


# -------------------------------------------------------------------------------------------------------- mechanism


def test_labels_are_uniform_over_twelve_interventions(many):
    counts = np.bincount(many.labels, minlength=12)
    assert len(counts) == 12
    expected = len(many.labels) / 12
    assert np.sum((counts - expected) ** 2 / expected) < 31.3  # chi2 with 11 degrees of freedom: 0.1 %


@pytest.mark.parametrize("label", range(12))
def test_an_intervention_sets_its_coordinate_and_no_other(many, label):
    z = many.latents[many.labels == label]
    coordinate, value = divmod(label, 3)
    assert INTERVENTIONS[label] == f"{('x1', 'y1', 'x2', 'y2')[coordinate]}={VALUES[value]:g}"
    assert np.all(z[:, coordinate] == VALUES[value])
    others = np.delete(z, coordinate, axis=1)
    assert np.all(others.std(axis=0) > 0.1)
    assert others.min() >= 0.1
    assert others.max() <= 0.9


def test_object_2_follows_object_1_by_the_mechanism(many):
    z, coordinate = many.latents, many.labels // 3
    high = 1.25 * np.sum(z[:, :2] ** 2, axis=1) >= 1
    assert 0.2 < high.mean() < 0.5
    for axis, sign in ((2, -1), (3, 1)):
        free = coordinate != axis  # whatever was set on object 1, its value is what the mechanism goes by
        above = z[free, axis] > 0.5
        assert np.array_equal(above, high[free] if sign > 0 else ~high[free])


def test_an_intervention_on_object_2_leaves_object_1_as_it_is_and_may_break_the_mechanism(many):
    on_y2 = many.labels == INTERVENTIONS.index("y2=0.75")
    z = many.latents[on_y2]
    high = 1.25 * np.sum(z[:, :2] ** 2, axis=1) >= 1
    assert np.any(~high)
    assert np.all(z[~high, 2] > 0.5)  # x2 still follows object 1, y2 does not
    # Object 1 is uniform in its square: mean 0.5, variance 0.8^2 / 12, whatever is done to object 2.
    assert np.allclose(z[:, :2].mean(axis=0), 0.5, atol=0.02)
    assert np.allclose(z[:, :2].var(axis=0), 0.64 / 12, atol=0.004)


@pytest.mark.parametrize("x1", VALUES)
def test_an_intervention_on_object_1_comes_before_the_mechanism(many, x1):
    y2 = many.latents[many.labels == INTERVENTIONS.index(f"x1={x1:g}")][:, 3]
    chance = (0.9 - np.sqrt(0.8 - x1**2)) / 0.8  # of c >= 1, with y1 uniform from 0.1 to 0.9
    assert np.mean(y2 > 0.5) == pytest.approx(chance, abs=0.04)


def test_the_uniform_coupling_has_the_known_latent_error(many):
    # The mean over labels of the variance within a label; computed by others on the published data: 0.0354.
    variances = [many.latents[many.labels == t].var(axis=0).mean() for t in range(12)]
    assert np.mean(variances) == pytest.approx(0.0354, abs=5e-4)


def test_the_second_modality_sees_the_rotated_and_bent_coordinates():
    z = np.array([[0.5, 0.5, 0.9, 0.3]])
    c, s = np.cos(0.3 * np.pi), np.sin(0.3 * np.pi)
    rotated = np.array([0.4, -0.2]) @ np.array([[c, -s], [s, c]])
    expected = 1 / (1 + np.exp(-2 * (np.r_[0, 0, rotated] + 0.2)))
    assert np.allclose(seen_by_squares(z)[0], expected)
    assert seen_by_squares(draw_scenes(500, 0).latents).min() > 0.3  # the squares are inside of the picture
    assert seen_by_squares(draw_scenes(500, 0).latents).max() < 0.85


def test_the_first_scenes_do_not_depend_on_how_many_there_are():
    few, more = draw_scenes(100, 3), draw_scenes(600, 3)
    assert np.array_equal(few.latents, more.latents[:100])
    assert np.array_equal(few.labels, more.labels[:100])
    assert not np.array_equal(few.latents, draw_scenes(100, 4).latents)
    assert len(np.unique(more.latents, axis=0)) == 600  # no chunk is another one again


# ----------------------------------------------------------------------------------------------------------- pixels


def centre_of(picture, colour, tolerance=40):
    """The mean place of the pixels near a colour, in widths with y up, and how many they are."""
    away = np.abs(picture.astype(int) - np.array(colour)[:, None, None]).sum(axis=0)
    row, column = np.nonzero(away < tolerance)
    size = picture.shape[1]
    return (column.mean() + 0.5) / size, 1 - (row.mean() + 0.5) / size, len(row)


@pytest.mark.parametrize("size", [64, 128])
def test_the_objects_are_where_the_latents_say(size):
    data, _ = interventional_images(40, size=size, pairing="use", seed=1)
    z = draw_scenes(40, 1).latents
    there = seen_by_squares(z) + 2.56 / size  # of the squares' centres: up and to the right of the corner
    red, violet = (222, 100, 100), colormaps["viridis"](0.1, bytes=True)[:3]
    blue, green = (2, 156, 154), colormaps["viridis"](0.6, bytes=True)[:3]
    for name, places, first, second in (("circles", z, blue, red), ("squares", there, violet, green)):
        apart = np.abs(places[:, :2] - places[:, 2:]).max(axis=1) > 12 / size
        assert apart.sum() > 15
        for i in np.flatnonzero(apart):
            x, y, count = centre_of(data[name].X[i], second)
            assert abs(x - places[i, 2]) < 0.75 / size
            assert abs(y - places[i, 3]) < 0.75 / size
            assert 12 <= count <= 32  # the same pixels at every size: an area of 20.6, or 26.2
            if name == "squares":  # blue is too near to the background's greens
                assert abs(centre_of(data[name].X[i], first)[0] - places[i, 0]) < 0.75 / size


def scene(kind, places, size=64, colours=None, centres=None):
    """One picture with a white background by default, and black and red objects."""
    centres = np.full((1, DISCS, 2), 9.0) if centres is None else centres
    colours = np.zeros((1, DISCS, 3), np.uint8) if colours is None else colours
    objects = np.array([[0, 0, 0], [255, 0, 0]], np.uint8)
    return draw(kind, size, centres, colours, np.array([places], float).reshape(1, 2, 2), objects)[0]


def test_objects_cover_their_area_with_smooth_edges_and_keep_it_at_every_size():
    for kind, area, tolerance in ((DISC, np.pi * 2.56**2, 0.3), (SQUARE, 5.12**2, 0.1)):
        for size in (64, 128):
            black = scene(kind, [0.3, 0.313, 5, 5], size)[1]
            assert np.sum(255 - black.astype(float)) / 255 == pytest.approx(area, abs=tolerance)
            assert np.any((black > 20) & (black < 235))


def test_pictures_are_flipped_and_a_squares_corner_is_its_lower_left_one_as_seen():
    disc = scene(DISC, [0.25, 0.75, 5, 5])
    rows, columns = np.nonzero(disc[1] < 128)
    assert np.allclose([rows.mean(), columns.mean()], 15.5, atol=0.5)  # y = 0.75 is up: a quarter from the top
    rows, columns = np.nonzero(scene(SQUARE, [0.25, 0.75, 5, 5])[1] < 128)
    assert (columns.min(), columns.max()) == (16, 20)
    assert (rows.min(), rows.max()) == (11, 15)


def test_the_second_object_covers_the_first_and_both_cover_the_background():
    centres, colours = np.full((1, DISCS, 2), 0.5), np.zeros((1, DISCS, 3), np.uint8)
    colours[0, -1] = (10, 200, 30)
    picture = scene(DISC, [0.5, 0.5, 0.5, 0.5], centres=centres, colours=colours)
    assert tuple(picture[:, 32, 32]) == (255, 0, 0)
    assert tuple(picture[:, 32, 40]) == (10, 200, 30)  # the last disc of the background is in front
    assert tuple(picture[:, 2, 2]) == (255, 255, 255)
    share = np.mean(np.any(picture != 255, axis=0))
    assert share == pytest.approx(np.pi * 0.3**2, abs=0.01)


def test_an_object_at_the_very_edge_is_cut_off():
    picture = scene(DISC, [0.0, 1.0, 1.0, 0.0])
    assert np.sum(255 - picture[1].astype(float)) / 255 == pytest.approx(np.pi * 2.56**2 / 2, abs=0.5)


def test_backgrounds_are_of_their_colour_map_and_of_each_modality_alone(paired):
    for name, chosen in (("circles", "summer"), ("squares", "Wistia")):
        X = paired[name].X
        known = {tuple(c) for c in colormaps[chosen](np.arange(256), bytes=True)[:, :3].tolist()} | {(255, 255, 255)}
        pixels = X[:50].transpose(0, 2, 3, 1).reshape(50, -1, 3)
        shares = [np.mean([tuple(p) in known for p in picture.tolist()]) for picture in pixels]
        assert min(shares) > 0.97  # all but the two objects
        assert max(shares) < 1
    white = [np.all(paired[name].X == 255, axis=1) for name in paired]
    assert 0.001 < white[0].mean() < 0.1
    assert not np.array_equal(white[0], white[1])


# --------------------------------------------------------------------------------------------------------- data set


def test_pictures_are_bytes_with_a_recipe_fitted_on_all_of_them(paired):
    for modality in paired.modalities.values():
        assert modality.X.shape == (N, 3, 64, 64)
        assert modality.X.dtype == np.uint8
        assert modality.recipe.name == "image"
        expected = fit_recipe("image", modality.X.astype(np.float64))
        for key, values in modality.recipe.arrays.items():
            assert values.dtype == np.float32
            assert values.shape == (3, 1, 1)
            assert np.allclose(values, expected.arrays[key], rtol=1e-6)
        features = modality.features
        assert features.dtype == np.float32
        assert np.allclose(features.mean(axis=(0, 2, 3)), 0, atol=1e-3)
        assert np.allclose(features.std(axis=(0, 2, 3)), 1, atol=1e-3)


def test_labels_are_the_interventions_in_both_modalities(paired):
    assert sorted(INTERVENTIONS) == list(paired.classes)
    expected = np.array(INTERVENTIONS)[draw_scenes(N, 4).labels]
    for modality in paired.modalities.values():
        assert np.array_equal(np.array(paired.classes)[modality.labels], expected)
        assert len(np.unique(modality.ids)) == N


def test_hiding_shuffles_each_side_and_the_truth_brings_them_together(paired):
    data, truth = interventional_images(N, seed=4)
    assert data.pairs is None
    partner = truth.partners("circles", "squares")
    assert np.array_equal(np.sort(partner), np.arange(N))
    assert np.mean(partner == np.arange(N)) < 0.05
    assert np.array_equal(truth.latents["circles"], truth.latents["squares"][partner])
    assert not np.array_equal(truth.latents["circles"], truth.latents["squares"])
    for name in data:
        assert np.array_equal(data[name].X, paired[name].X[truth.units[name]])
        assert np.array_equal(data[name].labels, paired[name].labels[truth.units[name]])
    assert np.array_equal(truth.latents["squares"], draw_scenes(N, 4).latents[truth.units["squares"]])


def test_the_pairing_can_be_used_or_left_out(paired):
    assert np.array_equal(paired.pairs.partners("circles", "squares"), np.arange(N))
    data, truth = interventional_images(20, pairing="none")
    assert data.pairs is None
    assert truth is None


def test_threads_change_nothing_and_the_seed_does(paired):
    again, _ = interventional_images(N, pairing="use", seed=4, jobs=3)
    other, _ = interventional_images(N, pairing="use", seed=5)
    fewer, _ = interventional_images(270, pairing="use", seed=4)
    for name in paired:
        assert np.array_equal(paired[name].X, again[name].X)
        assert np.array_equal(paired[name].X[:270], fewer[name].X)
        assert not np.array_equal(paired[name].X, other[name].X)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n": 0}, "n must be a whole number of at least 1; got 0."),
        ({"size": 63}, "size must be a whole number from 64 to 1024; got 63."),
        ({"pairing": "yes"}, "pairing must be one of hide, none, use; got 'yes'."),
        ({"seed": -1}, "seed must be"),
        ({"jobs": 0}, "jobs must be a whole number of at least 1; got 0."),
        ({"cache": 3}, "cache must be a folder's path; got 3."),
    ],
)
def test_a_wrong_option_is_one_sentence(options, sentence):
    with pytest.raises(OptionError, match=sentence.replace(".", r"\.")):
        interventional_images(**{"n": 5, **options})


# ------------------------------------------------------------------------------------------------------------ cache


@pytest.fixture
def drawn(monkeypatch):
    """How often pictures were drawn."""
    calls = []
    original = images_file._draw
    monkeypatch.setattr(images_file, "_draw", lambda *a: calls.append(1) or original(*a))
    return calls


def test_the_cache_is_taken_up_whatever_the_pairing(tmp_path, drawn):
    folder = tmp_path / "new" / "cache"
    first, _ = interventional_images(30, cache=folder, pairing="use")
    again, truth = interventional_images(30, cache=str(folder))
    assert len(drawn) == 1
    assert [p.suffix for p in folder.iterdir()] == [".npz"]  # nothing temporary is left
    for name in first:
        assert np.array_equal(first[name].X[truth.units[name]], again[name].X)


def test_every_option_that_matters_has_a_file_of_its_own(tmp_path, drawn):
    for options in ({}, {"seed": 1}, {"size": 65}, {"n": 9}):
        interventional_images(**{"n": 8, **options}, cache=tmp_path)
    assert len(drawn) == len(list(tmp_path.iterdir())) == 4
    interventional_images(8, cache=tmp_path, jobs=2)
    assert len(drawn) == 4


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "text", "foreign", "other shapes"])
def test_a_damaged_or_foreign_file_is_made_anew(tmp_path, drawn, damage):
    first, _ = interventional_images(8, cache=tmp_path, pairing="use")
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    with np.load(path) as file:
        arrays = dict(file)
    if damage == "cut":
        path.write_bytes(whole[:-1000])
    elif damage == "changed":
        at = len(whole) // 3
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("pictures")
    elif damage == "foreign":
        np.savez(path, **{**arrays, "made_of": np.array("something else")})
    else:
        np.savez(path, **{**arrays, "circles": arrays["circles"][:5]})
    again, _ = interventional_images(8, cache=tmp_path, pairing="use")
    assert len(drawn) == 2
    assert path.read_bytes() == whole or damage in ("foreign", "other shapes")
    for name in first:
        assert np.array_equal(first[name].X, again[name].X)
    interventional_images(8, cache=tmp_path)
    assert len(drawn) == 2


def test_a_cache_that_cannot_be_is_told_before_anything_is_drawn(tmp_path, drawn):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cache must be a folder that can be made and written to"):
        interventional_images(8, cache=tmp_path / "file")
    assert not drawn


def test_a_writing_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OutputError, match="No space left on device"):
        interventional_images(8, cache=tmp_path)
    assert not list(tmp_path.iterdir())
