"""Scores of imputed readings: against numpy, part by part, on the scale of counts, and of features that say nothing."""

import numpy as np
import pytest

from unpaired.errors import OptionError
from unpaired.evaluate.imputation import score_imputation


def readings(n=50, p=4, seed=0):
    rng = np.random.default_rng(seed)
    measured = rng.poisson(20, size=(n, p)).astype(float)
    return measured, measured + 3 * rng.normal(size=(n, p)), np.full((n, p), 4.0)


def judged(*given, size=50, counts=False):
    parts = (tuple(g[start : start + size] for g in given) for start in range(0, len(given[0]), size))
    names = np.array([f"f{i}" for i in range(given[0].shape[1])])
    return score_imputation(parts, source="rna", target="adt", names=names, counts=counts)


@pytest.mark.parametrize("size", [50, 7, 1])
def test_in_parts_it_is_what_it_is_of_all_at_once(size):
    y, f, spread = readings()
    found = judged(y, f, spread, size=size)
    assert found.cells == 50
    np.testing.assert_allclose(found.pearson, [np.corrcoef(y[:, i], f[:, i])[0, 1] for i in range(4)])
    np.testing.assert_allclose(found.r2, 1 - ((y - f) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0))
    assert found.r2_pooled == pytest.approx(1 - ((y - f) ** 2).sum() / ((y - y.mean(0)) ** 2).sum())
    np.testing.assert_allclose(found.coverage, (np.abs(y - f) <= 1.96 * 4).mean(0))
    told = found.to_dict()
    assert told["pearson_quartiles"] == pytest.approx(np.quantile(found.pearson, [0.25, 0.5, 0.75]))
    assert told["scale"] == "values"


def test_counts_are_compared_whatever_the_library_and_covered_as_measured():
    y, f, spread = readings()
    deeper = np.linspace(1, 5, 50)[:, None]
    found, again = judged(y, np.abs(f), spread, counts=True), judged(y, np.abs(f) * deeper, spread, counts=True)
    assert found.scale == "log1p"
    np.testing.assert_allclose(again.pearson, found.pearson)
    assert again.r2_pooled == pytest.approx(found.r2_pooled)
    assert (again.coverage < found.coverage).all()
    scaled = np.log1p(1e4 * y / y.sum(1, keepdims=True))
    other = np.log1p(1e4 * np.abs(f) / np.abs(f).sum(1, keepdims=True))
    assert found.pearson[0] == pytest.approx(np.corrcoef(scaled[:, 0], other[:, 0])[0, 1])


def test_a_feature_that_is_the_same_in_all_cells_has_no_score_and_is_counted():
    y, f, spread = readings()
    y[:, 0], f[:, 1] = 5, 7
    found = judged(y, f, spread)
    assert np.isnan(found.pearson).tolist() == [True, True, False, False]
    assert np.isnan(found.r2).tolist() == [True, False, False, False]
    told = found.to_dict()
    assert (told["features"], told["features_total"]) == (2, 4)
    assert found.table().shape == (4, 6)
    nothing = judged(np.ones((5, 2)), np.ones((5, 2)), np.ones((5, 2))).to_dict()
    assert nothing["pearson"] is None
    assert nothing["r2"] is None


@pytest.mark.parametrize("size", [50, 7, 1])
def test_features_are_judged_by_the_readings_that_are_there(size):
    y, f, spread = readings()
    there = np.random.default_rng(1).random(y.shape) < 0.7
    there[:, 0], there[:, 3] = True, False
    y[~there] = np.nan
    found, told = judged(y, f, spread, size=size), judged(y, f, spread, size=size).to_dict()
    own = [judged(*(v[there[:, i], i : i + 1] for v in (y, f, spread))) for i in range(3)]
    for kind in ("pearson", "r2", "coverage"):
        np.testing.assert_allclose(getattr(found, kind), [*(getattr(o, kind)[0] for o in own), np.nan])
    measured, told_of = y[:, :3], f[:, :3]
    rest = np.nansum((measured - told_of) ** 2) / np.nansum((measured - np.nanmean(measured, axis=0)) ** 2)
    assert found.r2_pooled == pytest.approx(1 - rest)
    assert (told["cells"], told["features"], told["features_total"]) == (50, 3, 4)
    assert told["coverage"] == pytest.approx(np.mean([o.coverage[0] for o in own]))
    assert judged(np.full((5, 2), np.nan), np.ones((5, 2)), np.ones((5, 2))).to_dict()["coverage"] is None


def test_one_cell_cannot_judge():
    with pytest.raises(OptionError, match="two cells or more"):
        judged(*readings(n=1))
