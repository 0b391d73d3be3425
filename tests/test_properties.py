"""What must hold whatever the data: no leak of the pairing, no mass across labels, symmetry, reproducibility."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import unpaired as up

MATCHERS = {
    "ot": up.match_ot,
    "ot as published": lambda data, space, **o: up.match_ot(data, space, eps=0.05, cost="euclidean", max_iter=200, **o),
    "ot unbalanced": lambda data, space, **o: up.match_ot(data, space, unbalanced=1.0, **o),
    "ot as potentials": lambda data, space, **o: up.match_ot(data, space, keep=1.0, memory=1, **o),
    "snn": lambda data, space, **o: up.match_snn(data, space, k=3, **o),
    "uniform": lambda data, space, **o: up.match_uniform(data),
    "random": lambda data, space, **o: up.match_random(data, seed=4),
}
CLASSIFIERS = {"logistic": {}, "mlp": {"epochs": 3}, "blend": {"epochs": 3}}


def make_data(seed=0, *, names=("rna", "image"), recipes="auto", ids=True):
    """Counts and real values of the same 150 cells in three labels of different size, and 5 without a label."""
    rng = np.random.default_rng(seed)
    n = 155
    labels = np.array(["a"] * 80 + ["b"] * 50 + ["c"] * 20 + [""] * 5)
    latent = rng.normal(size=(n, 2)) + np.array([{"a": 0, "b": 1, "c": 2, "": 0}[t] for t in labels])[:, None]
    arrays = {
        names[0]: rng.poisson(np.exp(latent @ rng.normal(size=(2, 40)) * 0.5 + 1)).astype(np.float32),
        names[1]: (latent @ rng.normal(size=(2, 12)) + 0.3 * rng.normal(size=(n, 12))).astype(np.float32),
    }
    for x in arrays.values():
        x[[3, 90, 152]] = x[[4, 5, 6]]  # equal readings: of one label, of two labels, with and without a label
    cells = [f"cell{i}" for i in range(n)]
    return up.Dataset.from_arrays(
        arrays,
        dict.fromkeys(names, labels),
        ids=dict.fromkeys(names, cells) if ids else None,
        pairing="use" if ids else "none",
        recipes=recipes,
    )


def shuffled(data, name, seed, *, new_ids=False):
    """The data with one side's rows in another order, and that order."""
    order = np.random.default_rng(seed).permutation(len(data[name]))
    side = data[name].take(order)
    if new_ids:
        side = replace(side, ids=data[name].ids)
    return replace(data, modalities=dict(data.modalities) | {name: side}, pairs=None), order


def prepared_again(data):
    """The recipes fitted anew on the rows as they stand, as a reader would."""
    return up.prepare(data)


def same_readings(modality):
    """``(n, groups)`` indicator of the cells with one reading and label, groups in an order of their own."""
    names = [f"{k}/{t}" for k, t in zip(modality.keys, modality.labels, strict=True)]
    return (np.array(names)[:, None] == np.unique(names)[None]).astype(float)


@cache
def fitted(classifier, new_ids):
    """The space of the data as they are (``new_ids`` None), or with the image's rows shuffled."""
    data = make_data()
    if new_ids is not None:
        data, _ = shuffled(data, "image", 7, new_ids=new_ids)
    data = prepared_again(data)
    model = up.Propensity(folds=3, repeats=2, seed=1, classifier=classifier, **CLASSIFIERS[classifier])
    return model.fit(data).transform(data)


def run(data, matcher, **options):
    space = up.Propensity(folds=3, repeats=2, seed=1, **options).fit(data).transform(data)
    return space, MATCHERS[matcher](data, space)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("matcher", MATCHERS)
@pytest.mark.parametrize("new_ids", [False, True], ids=["ids kept", "ids renamed"])
def test_permuting_the_targets_rows_permutes_the_answer_and_nothing_else(matcher, classifier, new_ids):
    """The leak test: the rows start in paired order, then one side is shuffled (and its cells renamed)."""
    data = prepared_again(make_data())
    other, order = shuffled(data, "image", 7, new_ids=new_ids)
    other = prepared_again(other)
    space, space_2 = fitted(classifier, None), fitted(classifier, new_ids)
    matching, matching_2 = (MATCHERS[matcher](d, s) for d, s in ((data, space), (other, space_2)))
    assert np.array_equal(space["rna"], space_2["rna"])
    assert np.array_equal(space["image"][order], space_2["image"])
    assert matching.to_sparse().nnz > 0
    # Cells of one label with equal readings cannot be told apart: what counts is what both get together.
    one = matching.to_sparse().toarray() @ same_readings(data["image"])
    two = matching_2.to_sparse().toarray() @ same_readings(other["image"])
    assert np.allclose(one, two, rtol=1e-12, atol=0)


@pytest.mark.parametrize("matcher", MATCHERS)
def test_the_known_pairs_of_the_data_change_no_method(matcher):
    data = make_data()
    assert data.pairs is not None
    _, with_pairs = run(data, matcher, classifier="logistic")
    _, without = run(replace(data, pairs=None), matcher, classifier="logistic")
    assert np.array_equal(with_pairs.to_sparse().toarray(), without.to_sparse().toarray())


@pytest.mark.parametrize("matcher", MATCHERS)
def test_no_mass_crosses_labels(matcher):
    data = make_data()
    _, matching = run(data, matcher, classifier="logistic")
    plan = matching.to_sparse().toarray()
    a, b = data["rna"].labels, data["image"].labels
    same = (a[:, None] == b[None]) & (a >= 0)[:, None]
    assert same.any()
    assert (~same).any()
    assert plan[same].sum() == pytest.approx(1)
    assert (plan[~same] == 0).all()


@pytest.mark.parametrize("matcher", ["ot", "ot unbalanced", "ot as potentials", "snn", "uniform"])
def test_swapping_the_modalities_transposes(matcher):
    data = make_data()
    space = fitted("logistic", None)
    exact = {"eps": 5.0, "tol": 1e-9, "max_iter": 5000} if matcher.startswith("ot") else {}
    exact |= {"keep": 1.0} if matcher in ("ot", "ot unbalanced") else {}
    there = MATCHERS[matcher](data, space, **exact).to_sparse().toarray()
    turned = replace(data, modalities=dict(reversed(data.modalities.items())), pairs=None)
    back = MATCHERS[matcher](turned, space, **exact)
    assert (back.source, back.target) == ("image", "rna")
    assert np.allclose(back.to_sparse().toarray().T, there, rtol=1e-3, atol=1e-8)
    assert there.sum() == pytest.approx(1)


def test_the_order_of_the_modalities_does_not_change_the_space():
    data = make_data()
    turned = replace(data, modalities=dict(reversed(data.modalities.items())))
    one = up.Propensity(folds=3, repeats=2, classifier="logistic").fit(data).transform(data)
    two = up.Propensity(folds=3, repeats=2, classifier="logistic").fit(turned).transform(turned)
    for name in data:
        assert np.array_equal(one[name], two[name])


@pytest.mark.parametrize("matcher", ["ot", "snn"])
def test_any_number_of_workers_gives_the_same_bits(matcher):
    data = make_data()
    plans = []
    for jobs in (1, 2):
        space = up.Propensity(folds=3, repeats=2, classifier="logistic", jobs=jobs).fit(data).transform(data)
        plans.append(MATCHERS[matcher](data, space, jobs=jobs).to_sparse().toarray())
    assert np.array_equal(*plans)
    assert plans[0].sum() == pytest.approx(1)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_the_same_seed_gives_the_same_space_and_another_seed_another(classifier):
    data = make_data()

    def space(seed):
        options = {"folds": 3, "repeats": 2, "classifier": classifier, **CLASSIFIERS[classifier]}
        return up.Propensity(seed=seed, **options).fit(data).transform(data)["rna"]

    assert np.array_equal(space(0), space(0))
    assert not np.array_equal(space(0), space(1))


def test_fitting_again_changes_no_option_and_nothing_of_the_first_fit_stays():
    first, second = make_data(0), make_data(1)
    model = up.Propensity(folds=3, repeats=2, classifier="logistic", seed=5)
    before = dict(vars(model))
    model.fit(first)
    fresh = up.Propensity(folds=3, repeats=2, classifier="logistic", seed=5).fit(second)
    model.fit(second)
    assert {k: v for k, v in vars(model).items() if not k.endswith("_")} == before
    assert np.array_equal(model.transform(second)["rna"], fresh.transform(second)["rna"])


def test_no_step_writes_to_the_data():
    data = make_data()
    before = {n: (m.X.copy(), m.labels.copy(), m.features.copy()) for n, m in data.modalities.items()}
    _, matching = run(data, "ot", classifier="logistic")
    up.score(matching, up.Truth(data.pairs.units), data)
    for name, (x, labels, features) in before.items():
        assert np.array_equal(data[name].X, x)
        assert np.array_equal(data[name].labels, labels)
        assert np.array_equal(data[name].features, features)


def test_relabelling_the_labels_in_another_order_changes_no_match():
    data = make_data()
    code = np.array([2, 0, 1, -1])  # the last entry keeps the unknown label unknown
    sides = {n: replace(m, labels=code[m.labels]) for n, m in data.modalities.items()}
    renamed = up.Dataset(sides, tuple(np.array(data.classes)[np.argsort(code[:3])]))
    assert [renamed.classes[c] for c in code[:3]] == list(data.classes)
    space = up.Propensity(folds=3, repeats=2, classifier="logistic").fit(data).transform(data)
    order = np.argsort(code[:3])
    turned = replace(
        space,
        arrays={n: space[n][:, order] for n in data},
        noise_covariance={n: c[np.ix_(order, order)] for n, c in space.noise_covariance.items()},
    )
    one, two = up.match_ot(data, space), up.match_ot(renamed, turned)
    assert np.allclose(one.to_sparse().toarray(), two.to_sparse().toarray(), atol=1e-9)


def test_cells_hidden_from_each_other_share_no_order():
    """After hiding, neither the order of the rows nor that of the folds says which cells are partners."""
    data, truth = up.hide_pairing(make_data(), seed=0)
    partner = truth.partners("rna", "image")
    n = len(partner)
    assert abs(np.corrcoef(np.arange(n), partner)[0, 1]) < 4 / np.sqrt(n)
    inverse = {m: np.argsort(data[m].order) for m in data}
    assert abs(np.corrcoef(inverse["rna"], inverse["image"][partner])[0, 1]) < 4 / np.sqrt(n)
