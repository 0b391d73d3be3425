"""Scores of predictions against brute force, what the averages say, and what must not matter."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import unpaired as up
from unpaired.embed.embedding import Provenance
from unpaired.errors import DataError, OptionError
from unpaired.evaluate import distribution_scores, prediction_scores
from unpaired.evaluate.distributions import energy_distance, kl_gaussian, kl_neighbours, l2_of_means, wasserstein
from unpaired.evaluate.translation import score_translation
from unpaired.translate.prediction import Prediction, feature_labels, target_values

METRICS = ("l2", "wasserstein", "kl_gaussian", "kl_neighbours", "energy")


def predict(data, mean, rows=None, *, space="features", source="rna", target="image"):
    """A prediction of some readings."""
    rows = np.arange(len(data[source])) if rows is None else rows
    mean = np.asarray(mean, dtype=np.float32)
    names = feature_labels(data[target], space)
    made_by = Provenance("made up", {})
    return Prediction(source, target, space, rows, len(data[source]), mean, 0 * mean, names, made_by)


def guess(data, truth, *, noise=0.5, seed=0, rows=None, space="features"):
    """The true partners' readings with noise: a prediction of known quality."""
    partners = truth.partners("rna", "image")
    rows = np.flatnonzero(partners >= 0) if rows is None else rows
    values = target_values(data["image"], space)[partners[rows]]
    values = values.toarray() if sp.issparse(values) else values
    return predict(data, values + noise * np.random.default_rng(seed).normal(size=values.shape), rows, space=space)


def close(found, expected):
    """Whether two nested results agree up to rounding."""
    if isinstance(expected, dict):
        assert set(found) == set(expected)
        return all(close(found[k], expected[k]) for k in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return found == (pytest.approx(expected, rel=1e-5, abs=1e-9) if isinstance(expected, float) else expected)


# ----------------------------------------------------------------------------------------------------------- pairs


def test_pair_scores_equal_the_formulas(toy):
    data, truth = toy(12)
    prediction = guess(data, truth)
    scores = score_translation(prediction, data, truth).pairs
    y = data["image"].features[truth.partners("rna", "image")].astype(float)
    f = prediction.mean.astype(float)
    assert (scores.pairs, scores.pairs_total, scores.features, scores.features_total) == (36, 36, 6, 6)
    assert scores.mse == pytest.approx(((y - f) ** 2).mean())
    assert scores.mse_of_mean == pytest.approx(((y - y.mean(0)) ** 2).mean())
    assert scores.r2 == pytest.approx(1 - scores.mse / scores.mse_of_mean)
    each = [np.corrcoef(y[:, i], f[:, i])[0, 1] for i in range(6)]
    assert scores.pearson == pytest.approx(np.mean(each))
    for i, (name, own) in enumerate(scores.per_feature.items()):
        assert name == f"image {i}"
        assert own.pearson == pytest.approx(each[i])
        assert own.r2 == pytest.approx(1 - ((y - f)[:, i] ** 2).sum() / ((y - y.mean(0))[:, i] ** 2).sum())


def test_perfect_predictions_score_one_and_the_mean_scores_zero(toy):
    data, truth = toy(10)
    perfect = score_translation(guess(data, truth, noise=0), data, truth)
    assert (perfect.pairs.r2, perfect.pairs.mse) == (1, 0)
    assert perfect.pairs.pearson == pytest.approx(1)
    image = data["image"].features
    of_mean = score_translation(predict(data, np.tile(image.mean(0), (30, 1))), data, truth)
    assert of_mean.pairs.r2 == pytest.approx(0, abs=1e-6)
    assert of_mean.pairs.pearson is None
    assert of_mean.pairs.features == 0
    assert set(of_mean.pairs.left_out.values()) == {"its predicted readings are all the same: no correlation."}


def test_the_mean_is_of_the_cells_that_are_scored(toy):
    """Eq. 28: the mean of the measured test cells, of all labels; not of all cells, nor by label."""
    data, truth = toy(10)
    rows = np.flatnonzero(data["rna"].labels == 1)
    scores = score_translation(guess(data, truth, rows=rows), data, truth).pairs
    y = data["image"].features[truth.partners("rna", "image")[rows]].astype(float)
    assert (scores.pairs, scores.pairs_total) == (10, 30)
    assert scores.mse_of_mean == pytest.approx(((y - y.mean(0)) ** 2).mean())


def test_only_pairs_that_are_predicted_and_known_are_scored(toy):
    data, truth = toy({"rna": 9, "image": 6})
    partners = truth.partners("rna", "image")
    rows = np.arange(3, 27)
    prediction = predict(data, np.random.default_rng(0).normal(size=(24, 6)), rows)
    scores = score_translation(prediction, data, truth).pairs
    assert scores.pairs_total == 18
    assert scores.pairs == (partners[rows] >= 0).sum() < 18


@pytest.mark.parametrize("known", [0, 1])
def test_without_two_pairs_there_are_no_pair_scores(toy, known):
    data, truth = toy(5)
    units = {n: u.copy() for n, u in truth.units.items()}
    units["rna"][known:] = -1
    assert score_translation(guess(data, truth), data, up.Truth(units)).pairs is None


def test_constant_features_are_left_out_and_named(toy):
    data, truth = toy(10)
    image = data["image"]
    X = image.X.copy()
    X[:, 2] = 7
    data = replace(data, modalities={**data.modalities, "image": replace(image, X=X)})
    prediction = guess(data, truth)
    prediction.mean[:, 4] = 1
    scores = score_translation(prediction, data, truth).pairs
    assert scores.left_out == {
        "image 2": "its measured readings are all the same.",
        "image 4": "its predicted readings are all the same: no correlation.",
    }
    assert (scores.features, scores.features_total) == (4, 6)
    assert scores.per_feature["image 2"] == prediction_scores.FeatureScores(None, None)
    assert scores.per_feature["image 4"].r2 < 0
    rest = [s.pearson for s in scores.per_feature.values() if s.pearson is not None]
    assert scores.pearson == pytest.approx(np.mean(rest))
    assert scores.r2 < 1


def test_measured_cells_that_are_all_the_same_have_no_r2(toy):
    data, truth = toy(5)
    flat = replace(data["image"], X=np.ones((15, 6), dtype=np.float32))
    data = replace(data, modalities={**data.modalities, "image": flat})
    scores = score_translation(guess(data, truth), data, truth)
    assert scores.pairs.r2 is None
    assert scores.pairs.r2_of_label is None
    assert scores.pairs.pearson is None
    assert scores.pairs.scatter == ()
    json.dumps(scores.to_dict(), allow_nan=False)
    assert "R2 unknown" in repr(scores)


def test_the_scatter_shows_the_best_the_median_and_the_worst_feature(toy):
    data, truth = toy(150)
    prediction = guess(data, truth)
    prediction.mean[:] += np.random.default_rng(1).normal(size=prediction.mean.shape) * np.arange(6)[::-1] * 2
    scores = score_translation(prediction, data, truth).pairs
    ranked = sorted(scores.per_feature, key=lambda n: -scores.per_feature[n].r2)
    assert [s.feature for s in scores.scatter] == [ranked[0], ranked[3], ranked[5]]
    assert ranked[0] == "image 5"
    y = data["image"].features[truth.partners("rna", "image")]
    pairs = {(float(a), float(b)) for a, b in zip(y[:, 5], prediction.mean[:, 5], strict=True)}
    best = scores.scatter[0]
    assert len(best.measured) == len(best.predicted) == 300
    assert set(zip(best.measured, best.predicted, strict=True)) <= pairs
    assert best.r2 == scores.per_feature["image 5"].r2


def test_features_of_one_name_are_told_apart(toy):
    data, truth = toy(6)
    image = replace(data["image"], feature_names=np.array(["a", "b", "a", "a", "c", "a (2)"]))
    data = replace(data, modalities={**data.modalities, "image": image})
    assert list(score_translation(guess(data, truth), data, truth).pairs.per_feature) == [
        "a",
        "b",
        "a (2)",
        "a (3)",
        "c",
        "a (2) (2)",
    ]


@pytest.mark.parametrize("chunk", [1, 40])
def test_chunks_of_any_size_give_the_same(toy, monkeypatch, chunk):
    data, truth = toy(12)
    prediction = guess(data, truth)
    whole = score_translation(prediction, data, truth).pairs.to_dict()
    monkeypatch.setattr(prediction_scores, "_CHUNK", chunk)
    assert close(score_translation(prediction, data, truth).pairs.to_dict(), whole)


def parts_of(data, truth, kept):
    """The cells of which ``kept`` says so, with their truth: cells that are partners stay together."""
    rows = {n: np.flatnonzero(kept(truth.units[n], data[n].labels)) for n in data}
    return data.take(rows), up.Truth({n: truth.units[n][rows[n]] for n in data})


@pytest.fixture
def split(toy):
    """``(test, its truth, training)`` of cells of three labels."""
    data, truth = toy((9, 14, 20), noise=0.5)
    test, known = parts_of(data, truth, lambda unit, label: unit % 3 == 0)
    return test, known, parts_of(data, truth, lambda unit, label: unit % 3 > 0)[0]


def test_the_label_scores_what_the_mean_of_its_training_cells_does(split):
    test, truth, training = split
    prediction = guess(test, truth)
    scores = score_translation(prediction, test, truth, reference=training).pairs
    y, partners = test["image"].features.astype(float), truth.partners("rna", "image")
    error, total = 0.0, 0.0
    for row in prediction.rows:
        of = test.classes[test["rna"].labels[row]]
        own = [
            x
            for x, c in zip(training["image"].features, training["image"].labels, strict=True)
            if training.classes[c] == of
        ]
        error += ((y[partners[row]] - np.mean(own, axis=0, dtype=float)) ** 2).sum()
        total += ((y[partners[row]] - y[partners[prediction.rows]].mean(axis=0)) ** 2).sum()
    assert scores.r2_of_label == pytest.approx(1 - error / total)
    assert 0 < scores.r2_of_label < 1
    assert scores.to_dict()["r2_of_label"] == scores.r2_of_label
    # Cells that were not predicted are not guessed either.
    rows = prediction.rows[::2]
    y = y[partners[rows]]
    means = [training["image"].features[training["image"].labels == c].mean(axis=0) for c in range(3)]
    expected = 1 - ((y - np.array(means)[test["rna"].labels[rows]]) ** 2).sum() / ((y - y.mean(axis=0)) ** 2).sum()
    some = score_translation(predict(test, prediction.mean[::2], rows), test, truth, reference=training).pairs
    assert some.r2_of_label == pytest.approx(expected, rel=1e-5)


def test_predicting_the_mean_of_the_label_scores_as_the_label_does(split):
    test, truth, training = split
    means = np.array([training["image"].features[training["image"].labels == c].mean(axis=0) for c in range(3)])
    rows = np.flatnonzero(truth.partners("rna", "image") >= 0)
    scores = score_translation(predict(test, means[test["rna"].labels[rows]], rows), test, truth, reference=training)
    assert scores.pairs.r2 == pytest.approx(scores.pairs.r2_of_label, abs=1e-6)
    assert f"R2 {scores.pairs.r2:.3f} (of the label {scores.pairs.r2_of_label:.3f})" in repr(scores)


def test_without_a_reference_the_means_are_of_the_cells_themselves(toy):
    data, truth = toy(10)
    scores = score_translation(guess(data, truth), data, truth)
    assert (
        scores.pairs.r2_of_label == score_translation(guess(data, truth), data, truth, reference=data).pairs.r2_of_label
    )
    y, codes = data["image"].features.astype(float), data["image"].labels
    within = sum(((y[codes == c] - y[codes == c].mean(axis=0)) ** 2).sum() for c in range(3))
    assert scores.pairs.r2_of_label == pytest.approx(1 - within / ((y - y.mean(axis=0)) ** 2).sum())


def test_labels_are_told_by_name(split):
    """The training cells have fewer labels, in another order; 'b' was held out, and is not in this part."""
    test, truth, training = split
    test, truth = parts_of(test, truth, lambda unit, label: label != 1)
    expected = score_translation(guess(test, truth), test, truth, reference=training).pairs.r2_of_label
    rows = {n: np.flatnonzero(training[n].labels != 1) for n in training}
    fewer = training.take(rows)
    fewer = replace(
        fewer,
        classes=("c", "a"),
        modalities={n: replace(m, labels=np.array([1, -1, 0])[m.labels]) for n, m in fewer.modalities.items()},
    )
    found = score_translation(guess(test, truth), test, truth, reference=fewer).pairs
    assert found.r2_of_label == pytest.approx(expected)


def test_a_label_that_was_held_out_has_no_mean(toy):
    data, truth = toy(8)
    training = parts_of(data, truth, lambda unit, label: label != 1)[0]  # 'b' stays a name without cells
    held, known = parts_of(data, truth, lambda unit, label: label == 1)
    named = replace(
        training,
        classes=("a", "c"),
        modalities={n: replace(m, labels=np.array([0, -1, 1])[m.labels]) for n, m in training.modalities.items()},
    )
    for reference in (training, named):
        for cells, pairs in ((held, known), (data, truth)):
            scores = score_translation(guess(cells, pairs), cells, pairs, reference=reference)
            assert scores.pairs.r2_of_label is None
            assert scores.pairs.r2 is not None
    assert "(of the label unknown)" in repr(scores)
    # Cells of the label in the source alone are not cells of it in the target.
    rows = {"rna": np.arange(24), "image": np.flatnonzero(data["image"].labels != 1)}
    assert score_translation(guess(data, truth), data, truth, reference=data.take(rows)).pairs.r2_of_label is None


def test_a_cell_without_a_label_has_no_mean(toy):
    data, truth = toy(8, unlabelled=3)
    assert score_translation(guess(data, truth), data, truth).pairs.r2_of_label is None
    rows = np.flatnonzero(data["rna"].labels >= 0)
    found = score_translation(guess(data, truth, rows=rows), data, truth).pairs.r2_of_label
    labelled, known = parts_of(data, truth, lambda unit, label: label >= 0)
    assert found == pytest.approx(score_translation(guess(labelled, known), labelled, known).pairs.r2_of_label)


def test_means_of_many_large_readings_are_not_rounded_away(toy):
    """A sum in float32 loses what is small beside it."""
    data, truth = toy(4000, labels=("a",))
    X = 1e4 + np.random.default_rng(0).normal(scale=0.1, size=(4000, 6))
    for matrix in (X.astype(np.float32), sp.csr_matrix(X.astype(np.float32))):
        large = replace(data, modalities={**data.modalities, "image": replace(data["image"], X=matrix)})
        prediction = guess(large, truth, space="raw", rows=np.arange(50))
        y = X.astype(np.float32).astype(float)
        own = y[truth.partners("rna", "image")[:50]]
        expected = 1 - ((own - y.mean(axis=0)) ** 2).sum() / ((own - own.mean(axis=0)) ** 2).sum()
        assert score_translation(prediction, large, truth).pairs.r2_of_label == pytest.approx(expected, abs=1e-6)


# --------------------------------------------------------------------------------------------------- distributions


def test_every_label_has_the_distances_between_its_cells(toy):
    data, truth = toy((8, 15, 20))
    prediction = guess(data, truth, rows=np.arange(5, 43))
    scores = score_translation(prediction, data).distributions
    assert score_translation(prediction, data).pairs is None
    for code, label in enumerate(data.classes):
        own = scores.per_label[label]
        measured = data["image"].features[data["image"].labels == code]
        predicted = prediction.mean[data["rna"].labels[prediction.rows] == code]
        assert (own.measured_cells, own.predicted_cells) == (len(measured), len(predicted))
        assert own.compared == (len(measured), len(predicted))
        for name, metric in zip(
            METRICS, (l2_of_means, wasserstein, kl_gaussian, kl_neighbours, energy_distance), strict=True
        ):
            assert getattr(own.predicted, name) == pytest.approx(metric(measured, predicted).value, rel=1e-6)


def test_averages_are_weighted_by_measured_cells_and_by_their_inverse(toy):
    data, _ = toy({"rna": 12, "image": (5, 10, 20)})
    prediction = predict(data, np.random.default_rng(0).normal(size=(36, 6)))
    scores = score_translation(prediction, data).distributions
    each = [scores.per_label[c] for c in "abc"]
    for name in METRICS:
        own, base = ([getattr(getattr(d, side), name) for d in each] for side in ("predicted", "baseline"))
        assert getattr(scores.by_cells, name) == pytest.approx(np.dot(own, [5, 10, 20]) / 35)
        assert getattr(scores.by_inverse_cells, name) == pytest.approx(np.dot(own, [4, 2, 1]) / 7)
        assert getattr(scores.baseline_by_cells, name) == pytest.approx(np.dot(base, [5, 10, 20]) / 35)
        assert getattr(scores.baseline_by_inverse_cells, name) == pytest.approx(np.dot(base, [4, 2, 1]) / 7)
    assert dict(scores.coverage.metrics) == dict.fromkeys(METRICS, 3)


def test_good_predictions_are_nearer_than_the_baseline_and_cells_of_other_labels_are_not(toy):
    data, truth = toy(40)
    good = score_translation(guess(data, truth, noise=0.1), data).distributions
    image = data["image"].features
    rng, codes = np.random.default_rng(0), data["image"].labels
    rows = [rng.choice(np.flatnonzero(codes != c)) for c in data["rna"].labels]
    blind = score_translation(predict(data, image[rows]), data).distributions
    for name in METRICS:
        assert getattr(good.by_cells, name) < 0.5 * getattr(good.baseline_by_cells, name)
    for name in ("l2", "wasserstein", "energy"):
        assert getattr(blind.by_cells, name) == pytest.approx(getattr(blind.baseline_by_cells, name), rel=0.35)


def test_the_baseline_has_as_many_cells_as_were_predicted(toy, monkeypatch):
    """Finite samples of other sizes score otherwise."""
    data, _ = toy({"rna": 7, "image": 30})
    seen = []
    real = distribution_scores.between.l2_of_means
    monkeypatch.setattr(
        distribution_scores.between, "l2_of_means", lambda a, b: (seen.append((len(a), len(b))), real(a, b))[1]
    )
    score_translation(predict(data, np.zeros((21, 6))), data)
    assert seen == [(30, 7)] * 6


def test_the_baseline_has_no_cells_of_the_label(toy, monkeypatch):
    data, _ = toy((10, 3, 2))
    drawn = []
    real = distribution_scores.between.l2_of_means
    monkeypatch.setattr(distribution_scores.between, "l2_of_means", lambda a, b: (drawn.append(b), real(a, b))[1])
    score_translation(predict(data, np.zeros((15, 6))), data)
    image = data["image"]
    label = {x.tobytes(): c for x, c in zip(image.features.astype(float), image.labels, strict=True)}
    seen = [[label[x.tobytes()] for x in b.astype(float)] for b in drawn if b.any()]
    assert [len(s) for s in seen] == [5, 3, 2]  # as many as were predicted, where the others are enough
    assert all(c not in s for c, s in enumerate(seen))


def test_a_held_out_label_is_compared_with_the_cells_of_the_training_labels(toy):
    data, truth = toy(20)
    rows = {n: np.flatnonzero(data[n].labels == 2) for n in data}
    held, training = data.take(rows), data.take({n: np.flatnonzero(data[n].labels < 2) for n in data})
    prediction = guess(held, up.Truth({n: truth.units[n][rows[n]] for n in data}))
    alone = score_translation(prediction, held).distributions
    assert set(alone.per_label["c"].to_dict()["baseline"].values()) == {None}
    assert alone.by_cells.l2 is not None
    assert alone.baseline_by_cells.l2 is None
    assert alone.coverage.metrics["l2"] == 1
    scores = score_translation(prediction, held, reference=training).distributions
    assert scores.by_cells == alone.by_cells
    far = np.linalg.norm(held["image"].features.mean(0) - training["image"].features.mean(0))
    assert scores.baseline_by_cells.l2 == pytest.approx(far, rel=0.3)
    assert (alone.coverage.labels, alone.coverage.labels_total) == (1, 1)


def test_labels_without_two_cells_on_both_sides_are_left_out_and_named(toy):
    data, _ = toy({"rna": (6, 1, 5, 4, 0), "image": (6, 5, 0, 1, 0)}, labels="abcde")
    scores = score_translation(predict(data, np.random.default_rng(0).normal(size=(16, 6))), data).distributions
    assert set(scores.per_label) == {"a"}
    assert scores.coverage.left_out == {
        "b": "it has 1 predicted cell; two are needed.",
        "c": "it has 0 measured cells; two are needed.",
        "d": "it has 1 measured cell; two are needed.",
    }
    assert (scores.coverage.labels, scores.coverage.labels_total) == (1, 4)


def test_a_metric_that_does_not_exist_is_named_and_not_averaged(toy):
    """Two predicted cells have no covariance in six dimensions; the other labels' averages stand."""
    data, _ = toy({"rna": (2, 12, 12), "image": 15})
    scores = score_translation(predict(data, np.random.default_rng(0).normal(size=(26, 6))), data).distributions
    own = scores.per_label["a"]
    assert own.predicted.kl_gaussian is None
    assert list(own.not_computed) == ["kl_gaussian"]
    assert scores.coverage.metrics == {**dict.fromkeys(METRICS, 3), "kl_gaussian": 2}
    rest = [scores.per_label[c].predicted.kl_gaussian for c in "bc"]
    assert scores.by_cells.kl_gaussian == pytest.approx(np.mean(rest))


def test_cells_without_a_label_are_in_no_distribution(toy):
    data, truth = toy(10, unlabelled=7)
    prediction = guess(data, truth)
    labelled = data.take({n: np.flatnonzero(data[n].labels >= 0) for n in data})
    known = np.flatnonzero(data["rna"].labels >= 0)
    kept = predict(labelled, prediction.mean[known])
    assert close(
        score_translation(prediction, data).to_dict()["distributions"],
        score_translation(kept, labelled).to_dict()["distributions"],
    )
    assert score_translation(prediction, data, truth).pairs.pairs == 37


def test_no_labels_at_all_give_no_distributions(toy):
    data, truth = toy(5, labels=("a",))
    bare = replace(data, modalities={n: replace(m, labels=np.full(5, -1)) for n, m in data.modalities.items()})
    scores = score_translation(guess(bare, truth), bare)
    assert scores.distributions is None
    assert repr(scores) == "TranslationScores(rna -> image: nothing to score by)"


def test_of_many_cells_a_part_is_compared_by_pairs_and_all_by_their_means(toy, monkeypatch):
    data, _ = toy({"rna": 50, "image": 60})
    monkeypatch.setattr(distribution_scores, "MOST_CELLS", 20)
    prediction = predict(data, np.random.default_rng(0).normal(size=(150, 6)))
    scores = score_translation(prediction, data).distributions
    own = scores.per_label["a"]
    assert (own.compared, own.measured_cells, own.predicted_cells) == ((20, 20), 60, 50)
    measured = data["image"].features[data["image"].labels == 0]
    predicted = prediction.mean[data["rna"].labels == 0]
    assert own.predicted.l2 == pytest.approx(l2_of_means(measured, predicted).value)
    assert own.predicted.kl_gaussian == pytest.approx(kl_gaussian(measured, predicted).value)
    assert own.predicted.wasserstein != pytest.approx(wasserstein(measured, predicted).value, rel=1e-6)
    assert score_translation(prediction, data).to_dict() == score_translation(prediction, data).to_dict()
    other = score_translation(prediction, data, seed=1).distributions.per_label["a"]
    assert own.predicted.wasserstein != other.predicted.wasserstein


# ------------------------------------------------------------------------------------------------------ everything


def test_the_order_of_the_rows_changes_nothing(toy, monkeypatch):
    monkeypatch.setattr(distribution_scores, "MOST_CELLS", 20)
    data, truth = toy((30, 25, 2))
    prediction = guess(data, truth)
    rng = np.random.default_rng(3)
    rows = {n: rng.permutation(len(data[n])) for n in data}
    mixed = rng.permutation(len(data["rna"]))
    # The same cells in another order, and the prediction of them in yet another one.
    shuffled = predict(data.take(rows), prediction.mean[rows["rna"]][mixed], mixed)
    known = up.Truth({n: truth.units[n][rows[n]] for n in data})
    found = score_translation(shuffled, data.take(rows), known).to_dict()
    assert close(found, score_translation(prediction, data, truth).to_dict())
    assert found["pairs"]["r2_of_label"] > 0.1
    reference = toy((9, 12, 7), seed=4)[0]
    other = {n: rng.permutation(len(reference[n])) for n in reference}
    found = score_translation(shuffled, data.take(rows), known, reference=reference.take(other)).to_dict()
    assert close(found, score_translation(prediction, data, truth, reference=reference).to_dict())


@pytest.mark.parametrize("most", [2000, 4])  # 4: the readings are wider than that, and stay sparse
def test_sparse_readings_score_as_dense_ones(toy, monkeypatch, most):
    data, truth = toy(12)
    counts = np.maximum(np.round(data["image"].X), 0).astype(np.float32)
    dense, sparse = (
        replace(data, modalities={**data.modalities, "image": replace(data["image"], X=X)})
        for X in (counts, sp.csr_matrix(counts))
    )
    monkeypatch.setattr(distribution_scores, "MOST_CELLS", most)
    found = score_translation(guess(sparse, truth, space="raw"), sparse, truth).to_dict()
    assert found["space"] == "raw"
    assert found["pairs"]["r2_of_label"] > 0
    assert close(found, score_translation(guess(dense, truth, space="raw"), dense, truth).to_dict())


def test_the_layout_of_the_scores(toy):
    data, truth = toy(10)
    scores = score_translation(guess(data, truth), data, truth)
    out = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert set(out) == {"source", "target", "space", "pairs", "distributions"}
    assert set(out["pairs"]) == {
        *("pairs", "pairs_total", "r2", "r2_of_label", "mse", "mse_of_mean", "pearson", "features", "features_total"),
        *("per_feature", "left_out", "scatter"),
    }
    assert set(out["pairs"]["scatter"][0]) == {"feature", "r2", "measured", "predicted"}
    assert set(out["pairs"]["per_feature"]["image 0"]) == {"r2", "pearson"}
    d = out["distributions"]
    assert set(d) == {
        *("per_label", "by_cells", "by_inverse_cells", "baseline_by_cells", "baseline_by_inverse_cells", "coverage"),
    }
    assert set(d["per_label"]["a"]) == {
        *("predicted_cells", "measured_cells", "compared", "baseline", "not_computed"),
        *METRICS,
    }
    assert set(d["by_cells"]) == set(d["per_label"]["a"]["baseline"]) == set(METRICS)
    assert set(d["coverage"]) == {"labels", "labels_total", "left_out", "metrics"}
    assert repr(scores).startswith("TranslationScores(rna -> image: R2 0.")
    assert "3 of 3 labels" in repr(scores)
    assert "\n" not in repr(scores)


def test_what_does_not_fit_is_refused(toy):
    data, truth = toy(5)
    prediction = guess(data, truth)
    with pytest.raises(OptionError, match="of 15 cells and 'rna' has 4"):
        score_translation(prediction, data.take({"rna": np.arange(4)}))
    with pytest.raises(OptionError, match="has 2 features and 'image' has 6"):
        score_translation(replace(prediction, mean=prediction.mean[:, :2]), data)
    with pytest.raises(OptionError, match="truth"):
        score_translation(prediction, data, up.Truth({n: u[:4] for n, u in truth.units.items()}))
    with pytest.raises(OptionError, match="reference has 3 features"):
        score_translation(prediction, data, truth, reference=toy(5, features=3)[0])
    with pytest.raises(OptionError, match="seed"):
        score_translation(prediction, data, seed=-1)
    prediction.mean[3, 1] = np.nan
    with pytest.raises(DataError, match="1 predicted cell"):
        score_translation(prediction, data)
