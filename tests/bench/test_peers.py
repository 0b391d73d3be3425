"""The wrapped peers: what they say where they cannot be had, which data they take, and that they run where they can."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import random
import re
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from unpaired.bench.peers import glue, multivi
from unpaired.bench.peers.cells import kind_of
from unpaired.bench.peers.links import ALIASES, gene_protein_links
from unpaired.bench.peers.quiet import import_quietly, quiet
from unpaired.data.types import Dataset, Modality
from unpaired.embed.embedding import Embedder
from unpaired.errors import NotFittedError, OptionError, UnpairedError

GENES = (
    "CD3D",
    "CD3E",
    "CD3G",
    "CD4",
    "CD8A",
    "CD8B",
    "PTPRC",
    "FCGR3A",
    "NCAM1",
    "HLA-DRA",
    "PDCD1",
    "CD274",
    "IGHG1",
)
PROTEINS = ("CD3_TotalSeqB", "CD4", "CD8", "CD45RA", "CD16", "CD56", "HLA-DR", "PD-1", "B7-H1 (PD-L1)", "IgG1")
PEERS = {"glue": glue.Glue, "multivi": multivi.MultiVI}
MODULES = {"glue": (glue, "scglue"), "multivi": (multivi, "scvi")}


def make(*, cells=90, genes=40, seed=0):
    """Counts of genes and of proteins of the same cells in two labels, shuffled on each side."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(cells, 2)) + 2 * (np.arange(cells) % 2)[:, None]
    names = {
        "rna": np.array([*GENES, *(f"GENE{i}" for i in range(genes - len(GENES)))]),
        "adt": np.array(PROTEINS),
    }
    made = {}
    for name, features in names.items():
        rate = np.exp(latent @ rng.normal(size=(2, len(features))) * 0.4 + (-2.0 if name == "rna" else 2.0))
        X = rng.poisson(rate).astype(np.float32)
        if name == "adt":
            X[:, 0] += rng.integers(500, size=cells)  # the long tail by which tags are told from scores
        order = rng.permutation(cells)
        ids = np.array([f"{name}:{i}" for i in range(cells)])
        made[name] = Modality(name, sp.csr_matrix(X[order]), (np.arange(cells) % 2)[order], ids, features)
    return Dataset(made, ("a", "b"))


def drawn():
    """Return the state of numpy's global generator."""
    return np.random.get_state()[1].copy()  # noqa: NPY002  the libraries draw from it


def changed(data, name, **fields):
    return replace(data, modalities=dict(data.modalities) | {name: replace(data[name], **fields)})


# ------------------------------------------------------------------------------------------------ names


def test_genes_and_proteins_are_linked_by_name():
    links = [(GENES[i], PROTEINS[j]) for i, j in gene_protein_links(GENES, PROTEINS)]
    assert links == [
        ("CD3D", "CD3_TotalSeqB"),
        ("CD3E", "CD3_TotalSeqB"),
        ("CD3G", "CD3_TotalSeqB"),
        ("CD4", "CD4"),
        ("CD8A", "CD8"),
        ("CD8B", "CD8"),
        ("PTPRC", "CD45RA"),
        ("FCGR3A", "CD16"),
        ("NCAM1", "CD56"),
        ("HLA-DRA", "HLA-DR"),
        ("PDCD1", "PD-1"),
        ("CD274", "B7-H1 (PD-L1)"),
    ]


@pytest.mark.parametrize(
    ("protein", "gene"),
    [
        ("cd4", "CD4"),
        ("CD8a", "CD8A"),
        ("CD14-TotalSeqB", "CD14"),
        ("CD14_TotalSeqC", "CD14"),
        ("CD44", "Cd44"),
        ("TIGIT_TotalSeqB", "TIGIT"),
        ("CD366 (tim3)", "HAVCR2"),
        ("CD11a", "ITGAL"),
        ("integrinB7", "ITGB7"),
        ("FceRIa", "FCER1A"),
        ("TCR\u03b3/\u03b4", "TRDC"),
        ("HLA-A,B,C", "HLA-B"),
        ("CD158e1", "KIR3DL1"),
        ("LOX-1", "OLR1"),
    ],
)
def test_names_as_panels_write_them_are_understood(protein, gene):
    assert gene_protein_links(["ACTB", gene], [protein]) == [(1, 0)]


@pytest.mark.parametrize(
    "protein", ["IgG1", "IgG2a_TotalSeqB", "Mouse IgG1", "isotype_MOPC.21", "IgG2a control", "CD99x"]
)
def test_controls_and_unknown_names_are_linked_with_nothing(protein):
    assert gene_protein_links([*GENES, "CD99"], [protein]) == []


def test_names_that_are_there_twice_are_all_linked_once():
    assert gene_protein_links(["CD4", "cd4"], ["CD4", "CD4_TotalSeqB"]) == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_every_entry_of_the_table_names_a_gene():
    assert len(ALIASES) > 150
    assert all(genes and all(g == g.upper() for g in genes) for genes in ALIASES.values())


# ------------------------------------------------------------------------------------------------ what they take


@pytest.mark.parametrize("name", PEERS)
def test_a_package_that_is_not_there_is_said_in_a_sentence(monkeypatch, name):
    module, package = MODULES[name]
    monkeypatch.setitem(sys.modules, package, None)
    assert "not installed" in module.missing() or "cannot be imported" in module.missing()
    assert module.missing().endswith(".")
    with pytest.raises(UnpairedError, match="install"):
        PEERS[name](epochs=1).fit(make())


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ModuleNotFoundError("No module named 'leidenalg'", name="leidenalg"), "lacks a dependency.*leidenalg"),
        (ImportError("libfoo.so: no such file"), "cannot be imported .ImportError: libfoo.so"),
        (AttributeError("np.bool is gone"), "cannot be imported .AttributeError: np.bool is gone"),
    ],
)
def test_a_broken_installation_counts_as_missing(monkeypatch, name, error, sentence):
    module, package = MODULES[name]
    real = importlib.import_module

    def broken(wanted, *rest):
        if wanted == package:
            raise error
        return real(wanted, *rest)

    monkeypatch.setattr(importlib, "import_module", broken)
    assert re.search(sentence, module.missing())


@pytest.mark.parametrize("name", PEERS)
def test_they_are_embedders(name):
    peer = PEERS[name](epochs=1)
    assert isinstance(peer, Embedder)
    with pytest.raises(NotFittedError):
        peer.transform(make())


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize(("options", "sentence"), [({"epochs": 0}, "epochs"), ({"seed": -1}, "seed")])
def test_a_value_that_is_not_allowed_is_refused(name, options, sentence):
    with pytest.raises(OptionError, match=sentence):
        PEERS[name](**options).fit(make())


def test_scglue_does_not_apply_where_no_names_link_the_sides():
    data = make()
    unnamed = changed(data, "adt", feature_names=None)
    strangers = changed(data, "adt", feature_names=np.array([f"chr1:{i}-{i + 9}" for i in range(len(PROTEINS))]))
    images = changed(data, "adt", X=np.zeros((90, 1, 4, 4), dtype=np.float32))
    gaps = changed(data, "adt", X=np.full((90, len(PROTEINS)), np.nan, dtype=np.float32))
    for other, why in ((unnamed, "no names"), (strangers, "0 features"), (images, "images"), (gaps, "missing")):
        with pytest.raises(OptionError, match=f"^scGLUE does not apply: .*{why}.*\\.$"):
            glue.Glue(epochs=1).fit(other)


def test_multivi_applies_to_counts_alone():
    data = make()
    real = changed(data, "adt", X=np.random.default_rng(0).normal(size=(90, 10)).astype(np.float32))
    twice = changed(data, "adt", X=data["rna"].X, feature_names=data["rna"].feature_names)
    images = changed(data, "adt", X=np.zeros((90, 1, 4, 4), dtype=np.float32))
    for other, why in ((real, "no counts"), (twice, "both rna"), (images, "no counts")):
        with pytest.raises(OptionError, match=f"^MultiVI does not apply: .*{why}.*\\.$"):
            multivi.MultiVI(epochs=1).fit(other)


def test_what_was_counted_is_told_from_the_readings():
    data = make()
    assert {n: kind_of(m) for n, m in data.modalities.items()} == {"rna": "counts", "adt": "protein"}


def test_quiet_leaves_nothing_behind(caplog):
    random.seed(1)
    state, root = random.getstate(), logging.getLogger().handlers[:]
    before = drawn()
    with quiet(3) as folder:
        first = (random.random(), np.random.random())  # noqa: NPY002
        logging.getLogger("anything").error("not heard")
        warnings.warn("nor this", stacklevel=1)
        logging.getLogger().addHandler(logging.NullHandler())
        os.environ["PL_GLOBAL_SEED"] = "3"
        assert folder.is_dir()
    with quiet(3):
        assert (random.random(), np.random.random()) == first  # noqa: NPY002
    assert not folder.exists()
    assert random.getstate() == state
    assert np.array_equal(drawn(), before)
    assert logging.getLogger().handlers == root
    assert "PL_GLOBAL_SEED" not in os.environ
    assert logging.root.manager.disable == 0
    assert not caplog.records
    assert import_quietly("json").dumps([]) == "[]"


def test_a_library_can_start_processes_in_a_worker():
    """A worker of joblib's starts only such processes as joblib makes, and scGLUE makes its own."""
    import joblib.externals.loky  # noqa: F401  adds its way of starting processes

    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("loky", force=True)  # as in a worker
    try:
        with quiet(0):
            process = multiprocessing.Process(target=time.sleep, args=(0,))
            process.start()
            process.join()
        assert process.exitcode == 0
        assert multiprocessing.get_start_method() == "loky"
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_multivi_gets_its_modalities_in_its_own_order():
    data = make()
    turned = Dataset({n: data[n] for n in ("adt", "rna")}, data.classes)
    assert list(multivi.roles_of(turned)) == list(multivi.roles_of(data)) == ["rna", "protein"]


# ------------------------------------------------------------------------------------------------ the real ones


@pytest.fixture(scope="module", params=list(PEERS))
def peer(request):
    """A peer that is installed here: fitting takes a while, so once."""
    if (why := MODULES[request.param][0].missing()) is not None:
        pytest.skip(why)
    data = make()
    here = sorted(Path.cwd().iterdir())
    before = drawn()
    fitted = PEERS[request.param](epochs=3, seed=1).fit(data)
    assert sorted(Path.cwd().iterdir()) == here
    assert np.array_equal(drawn(), before)
    return data, fitted


@pytest.mark.slow
def test_a_peer_gives_every_cell_a_place_in_one_space(peer):
    data, fitted = peer
    space = fitted.transform(data)
    assert space.space == "latent"
    widths = {space[n].shape for n in data}
    assert len(widths) == 1
    assert widths.pop()[0] == 90
    assert all(np.isfinite(space[n]).all() and space[n].std() > 0 for n in data)


@pytest.mark.slow
def test_a_peer_knows_its_cells_by_their_readings_and_no_others(peer):
    data, fitted = peer
    order = np.random.default_rng(0).permutation(90)
    turned = Dataset({"adt": data["adt"].take(order), "rna": data["rna"]}, data.classes)
    assert np.array_equal(fitted.transform(turned)["adt"], fitted.transform(data)["adt"][order])
    with pytest.raises(OptionError, match="of 90 cells of 'rna' were not among them; fit it on the cells"):
        fitted.transform(make(seed=5))


@pytest.mark.slow
def test_a_peer_learns_the_same_whatever_the_order_of_the_rows(peer):
    data, fitted = peer
    order = np.random.default_rng(0).permutation(90)
    turned = Dataset({"rna": data["rna"], "adt": data["adt"].take(order)}, data.classes)
    again = type(fitted)(epochs=3, seed=1).fit(turned).transform(data)
    np.testing.assert_allclose(again["adt"], fitted.transform(data)["adt"], rtol=1e-3, atol=1e-4)
