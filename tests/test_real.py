"""The main job on real data sets, which lie beside the project and are not part of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

import unpaired as up

SHARED = Path(__file__).parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the real data sets are not beside the project")

PAIRS = {
    "bmmc_cite_starter": ("bmmc_cite_starter/rna.h5ad", "bmmc_cite_starter/adt.h5ad"),
    "snareseq_cell_lines": ("snareseq_cell_lines/rna.h5ad", "snareseq_cell_lines/atac.h5ad"),
    "scgem_reprogramming": ("scgem_reprogramming/rna.h5ad", "scgem_reprogramming/methylation.h5ad"),
    "scicar_a549_dex": ("scicar_a549_dex/rna.h5ad", "scicar_a549_dex/atac.h5ad"),
    "pbmc10k_cite": ("pbmc10k_cite/rna.h5ad", "pbmc10k_cite/adt.h5ad"),
    "tcga_brca": ("tcga_brca_multiomics/mrna.h5ad", "tcga_brca_multiomics/protein.h5ad"),
    "nutrimouse": ("nutrimouse/gene.h5ad", "nutrimouse/lipid.h5ad"),
    "eccite": ("eccite_pbmc_control500/rna.h5ad", "eccite_pbmc_control500/adt.h5ad"),
}


@cache
def load(name, most=150):
    files = [SHARED / f for f in PAIRS[name]]
    return up.read(*files, label="label", pairing="hide", max_cells_per_label=most)


@cache
def views(source, target):
    file = SHARED / "uci_mfeat" / "uci_mfeat.npz"
    return up.read(file, label="label", modalities=(source, target), pairing="hide", max_cells_per_label=100)


def align(data, truth):
    space = up.Propensity(seed=0, classifier="logistic").fit(data).transform(data)
    return up.score(up.match_ot(data, space, max_iter=500), truth, data)


@pytest.mark.parametrize("name", PAIRS)
def test_the_uniform_coupling_scores_one_and_one_half_on_every_data_set(name):
    data, truth = load(name)
    scores = up.score(up.match_uniform(data), truth, data)
    assert scores.unweighted["trace_over_uniform"] == pytest.approx(1, abs=1e-9)
    assert scores.unweighted["foscttm_source"] == pytest.approx(0.5, abs=1e-9)
    assert scores.unweighted["foscttm_target"] == pytest.approx(0.5, abs=1e-9)
    assert scores.coverage.pairs == scores.coverage.pairs_total == len(data[next(iter(data))])


@pytest.mark.parametrize(
    ("name", "trace", "foscttm"),
    [("bmmc_cite_starter", 1.6, 0.43), ("snareseq_cell_lines", 1.6, 0.49), ("pbmc10k_cite", 1.6, 0.45)],
)
def test_propensity_matching_beats_the_label_alone(name, trace, foscttm):
    scores = align(*load(name))
    assert scores.unweighted["trace_over_uniform"] > trace
    assert (scores.unweighted["foscttm_source"] + scores.unweighted["foscttm_target"]) / 2 < foscttm


def test_views_of_one_digit_find_each_other():
    scores = align(*views("pix", "fac"))
    assert scores.unweighted["trace_over_uniform"] > 10
    assert scores.unweighted["foscttm_target"] < 0.25


def test_labels_without_biology_give_a_matching_near_chance():
    scores = align(*load("eccite"))
    assert scores.unweighted["foscttm_target"] == pytest.approx(0.5, abs=0.06)


def test_a_truly_unpaired_screen_with_missing_values_and_tiny_labels_completes():
    files = [SHARED / "p100_drugs_pc3_yapc" / f"p100_{c}.h5ad" for c in ("pc3", "yapc")]
    data, truth = up.read(*files, label="label")
    assert truth is None
    assert any("48 values" in n and "median" in n for n in data.notes)
    model = up.Propensity(seed=0).fit(data)
    assert len(model.classes_) == 31
    assert "'Staurosporine'" in model.notes_[0]
    matching = up.match_ot(data, model.transform(data))
    states = {b.label: b.status.state for b in matching.blocks}
    assert states["Staurosporine"] == "too_small"
    assert set(states.values()) <= {"ok", "not_converged", "too_small"}
    assert matching.coverage.labels == 32
    assert np.isfinite(matching.to_sparse().data).all()
    # Shared biology: the drug is predicted across cell lines far above the 1/31 of chance.
    assert min(q.accuracy for q in model.validation_.values()) > 0.4


def test_auto_recipes_on_real_data():
    expected = {
        "bmmc_cite_starter": ("counts", "protein"),
        "pbmc10k_cite": ("counts", "protein"),
        "scicar_a549_dex": ("counts", "counts"),
        "snareseq_cell_lines": ("scale", "scale"),
        "scgem_reprogramming": ("scale", "scale"),
        "tcga_brca": ("scale", "scale"),
        "eccite": ("counts", "protein"),
    }
    for name, recipes in expected.items():
        assert tuple(m.recipe.name for m in load(name)[0].modalities.values()) == recipes
    assert [m.recipe.name for m in views("pix", "fac")[0].modalities.values()] == ["scale", "scale"]


def test_a_partly_missing_modality(tmp_path):
    """TCGA: 70 tumours have mRNA and miRNA but no protein."""
    import anndata

    folder = SHARED / "tcga_brca_multiomics"
    files = []
    for name in ("mrna", "mirna"):
        both = anndata.concat([anndata.read_h5ad(folder / f"{name}{part}.h5ad") for part in ("", "_heldout")])
        files.append(tmp_path / f"{name}.h5ad")
        both.write_h5ad(files[-1])
    data, truth = up.read(*files, folder / "protein.h5ad", label="label", pairing="hide")
    assert [len(data[n]) for n in data] == [220, 220, 150]
    space = up.Propensity(seed=0).fit(data).transform(data)
    for source, target, pairs in (("mrna", "protein", 150), ("mrna", "mirna", 220)):
        matching = up.match_ot(data, space, source=source, target=target, max_iter=300)
        scores = up.score(matching, truth, data)
        assert scores.coverage.pairs == scores.coverage.pairs_total == pairs
        assert scores.unweighted["foscttm_source"] < 0.5
        uniform = up.score(up.match_uniform(data, source=source, target=target), truth, data)
        assert uniform.unweighted["foscttm_source"] == pytest.approx(0.5, abs=1e-9)
