"""Couplings of every kind that a matching can hold, and networks on one thread."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from unpaired.data.types import Truth
from unpaired.embed.embedding import Provenance
from unpaired.match.block import Block, Product, Status
from unpaired.match.blocks import cells_by_label
from unpaired.match.matching import Matching
from unpaired.match.transport.solution import Plan

KINDS = ("dense", "csr", "product", "plan")


@pytest.fixture(scope="session", autouse=True)
def _one_thread(one_thread):
    return one_thread


def make_weights(kind, n, m, rng):
    """Weights ``(n, m)`` of one kind; every row and column has some mass."""
    if kind == "product":
        return Product(rng.random(n) + 0.1, rng.random(m) + 0.1)
    if kind == "plan":
        x, y = rng.normal(size=(n, 2)), rng.normal(size=(m, 2))
        return Plan(x, y, 0.3 * rng.normal(size=n), 0.3 * rng.normal(size=m), 2.0, "sqeuclidean")
    dense = rng.random((n, m)) + 0.05
    if kind == "dense":
        return dense
    dense[rng.random((n, m)) < 0.4] = 0
    dense[np.arange(n), np.arange(n) % m] += 0.5
    dense[np.arange(m) % n, np.arange(m)] += 0.5
    return sp.csr_matrix(dense)


def block_matching(weights, *, seed=0, names=("image", "rna")):
    """A matching of one block a label, whose cells are numbered in any order.

    Its rows are ``names[0]``'s cells: as the translator turns it, those of the target.
    """
    rng = np.random.default_rng(seed)
    counts = np.array([w.shape for w in weights])
    ends = np.cumsum(counts, axis=0)
    sides = [np.split(rng.permutation(n), e[:-1]) for n, e in zip(ends[-1], ends.T, strict=True)]
    labels = [f"label {t}" for t in range(len(weights))]
    blocks = [Block(label, *own, w, Status("ok")) for label, w, *own in zip(labels, weights, *sides, strict=True)]
    return Matching(*names, tuple(int(n) for n in ends[-1]), tuple(blocks), Provenance("test", {}))


def match_by(data, kind, *, seed=0, source="rna", target="image"):
    """A matching of a data set with arbitrary weights of one kind; a label that lacks a side has none."""
    rng = np.random.default_rng(seed)
    cells = [cells_by_label(data[n], len(data.classes)) for n in (source, target)]
    blocks = []
    for label, rows, cols in zip(data.classes, *cells, strict=True):
        some = len(rows) and len(cols)
        weights = make_weights(kind, len(rows), len(cols), rng) if some else None
        blocks.append(Block(label, rows, cols, weights, Status("ok" if some else "absent")))
    shape = (len(data[source]), len(data[target]))
    return Matching(source, target, shape, tuple(blocks), Provenance("test", {}))


def in_other_order(data, truth, name, *, seed=7):
    """The same cells with one side's rows in another order (and new names), their truth, and that order."""
    order = np.random.default_rng(seed).permutation(len(data[name]))
    side = replace(data[name].take(order), ids=data[name].ids)
    units = {n: u[order] if n == name else u for n, u in truth.units.items()}
    return replace(data, modalities=dict(data.modalities) | {name: side}), Truth(units), order


@pytest.fixture(scope="session")
def couple():
    """Make weights of one kind; see :func:`make_weights`."""
    return make_weights


@pytest.fixture(scope="session")
def blocky():
    """Make a matching of given weights; see :func:`block_matching`."""
    return block_matching


@pytest.fixture(scope="session")
def matched():
    """Make a matching of a data set; see :func:`match_by`."""
    return match_by


@pytest.fixture(scope="session")
def reorder():
    """Shuffle one side's rows; see :func:`in_other_order`."""
    return in_other_order


@pytest.fixture
def made_dense(monkeypatch):
    """The shapes of all sparse matrices that were made dense since the test began."""
    shapes = []
    for kind in (sp.csr_matrix, sp.csc_matrix):
        own = kind.toarray
        monkeypatch.setattr(kind, "toarray", lambda s, *a, f=own, **k: shapes.append(s.shape) or f(s, *a, **k))
    return shapes


@pytest.fixture(params=KINDS)
def kind(request):
    """Every kind of weights that a block can hold."""
    return request.param
