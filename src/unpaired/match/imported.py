"""A matching made elsewhere: a coupling of all cells, from a file or from memory, cut into labels."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array, Dataset
from unpaired.data.wording import counted
from unpaired.embed.embedding import Provenance
from unpaired.errors import DataError, Problem
from unpaired.files import sha256
from unpaired.match.block import Block, Status
from unpaired.match.blocks import cells_by_label
from unpaired.match.matching import Matching

__all__ = ["read_matching"]

_ZIP, _GZIP, _MARKET = b"PK", b"\x1f\x8b", b"%%"


def read_matching(
    coupling: str | Path | Any, data: Dataset, *, source: str | None = None, target: str | None = None
) -> Matching:
    """Make a matching of a coupling that was made elsewhere.

    Only what it says of cells of one label is kept: mass between cells of different labels, or of unknown ones, is
    dropped, and ``made_by.notes`` say how much that was.

    Parameters
    ----------
    coupling
        A file written by :func:`scipy.sparse.save_npz` or in the Matrix Market format (also gzipped), or a sparse or
        dense matrix: ``(n_source, n_target)`` non-negative weights of any scale, rows and columns in the order of the
        data's cells.
    data
        The data set that it matches.
    source, target
        Names of the modalities; not needed when there are two.

    Returns
    -------
    The matching, with CSR weights. A label without any mass has the state ``"absent"``.

    Raises
    ------
    DataError
        With every problem of the coupling: it cannot be read, has another shape, weights that are negative or not
        finite, or no mass between cells of one label.
    OptionError
        If ``source`` and ``target`` do not name two modalities.
    """
    names = data.direction(source, target)
    path = Path(coupling) if isinstance(coupling, str | Path) else None
    where = "memory" if path is None else str(path)
    found = coupling if path is None else _read(path)
    weights = _checked(found, (len(data[names[0]]), len(data[names[1]])), names, where)
    cells = [cells_by_label(data[n], len(data.classes)) for n in names]
    blocks = [
        _block(label, rows, cols, weights, names)
        for label, rows, cols in zip(data.classes, *cells, strict=True)
        if len(rows) or len(cols)
    ]
    notes = _notes(blocks, weights, names)
    if not any(b.matched for b in blocks):
        what = "holds no mass between cells of one label."
        raise DataError([Problem("error", where, what, "Order its rows and columns as the cells of the data.")])
    options = {"path": None if path is None else str(path), "sha256": None if path is None else sha256(path)}
    return Matching(*names, weights.shape, tuple(blocks), Provenance("read_matching", options, notes))


def _read(path: Path) -> Any:
    """Return the matrix of a file, told by its first bytes; nothing is unpickled."""
    from scipy.io import mmread

    fix = "Write it with scipy.sparse.save_npz or scipy.io.mmwrite."
    try:
        with path.open("rb") as file:
            start = file.read(2)
        if start == _ZIP:
            matrix = sp.load_npz(path)
            if hasattr(matrix, "check_format"):  # of a damaged file, places may lie outside
                matrix.check_format(full_check=True)
            return matrix
        if start == _GZIP:
            with gzip.open(path) as file:
                return mmread(file)
        if start == _MARKET:
            return mmread(path)
    except FileNotFoundError:
        raise DataError([Problem("error", str(path), "cannot be read (there is no such file).", "")]) from None
    except MemoryError:
        raise DataError([Problem("error", str(path), "says that it is larger than the memory.", fix)]) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError([Problem("error", str(path), f"cannot be read ({error}).", fix)]) from None
    what = "is neither a sparse matrix of scipy (.npz) nor in the Matrix Market format (.mtx)."
    raise DataError([Problem("error", str(path), what, fix)])


def _checked(found: Any, shape: tuple[int, int], names: tuple[str, str], where: str) -> sp.csr_matrix:
    """Return the weights as float64 CSR without zeros, a copy."""
    found = sp.coo_matrix(found) if sp.issparse(found) else np.asarray(found)
    shown = tuple(found.shape)
    problems = []
    if shown != shape:
        what = f"has the shape {shown}, but {names[0]} has {shape[0]} cells and {names[1]} has {shape[1]}."
        turned = shown == shape[::-1]
        fix = (
            "Transpose it" if turned else "Give one row for each cell of the source, one column for each of the target"
        )
        problems.append(Problem("error", where, what, f"{fix}."))
    values = found.data if sp.issparse(found) else found
    if values.dtype.kind not in "biuf":
        what = f"holds values of the type {values.dtype}."
        problems.append(Problem("error", where, what, "Weights are real numbers."))
    else:
        problems += _check_values(values, where)
    if problems:
        raise DataError(problems)
    weights = sp.csr_matrix(found, dtype=np.float64, copy=True)
    weights.sum_duplicates()
    weights.eliminate_zeros()
    return weights


def _check_values(values: Array, where: str) -> list[Problem]:
    infinite, negative = int((~np.isfinite(values)).sum()), int((values < 0).sum())
    problems = []
    if infinite:
        what = f"holds {counted(infinite, 'weight')} missing or infinite."
        problems.append(Problem("error", where, what, "Set them to zero, or remove them."))
    if negative:
        what = f"holds {counted(negative, 'negative weight')}."
        problems.append(Problem("error", where, what, "A weight is how much of a cell goes to another: zero or more."))
    return problems


def _block(label: str, rows: Array, cols: Array, weights: sp.csr_matrix, names: tuple[str, str]) -> Block:
    for own, name in zip((rows, cols), names, strict=True):
        if len(own) == 0:
            return Block(label, rows, cols, None, Status("absent", f"{name} has no cell of this label."))
    own = sp.csr_matrix(weights[rows][:, cols])
    own.sort_indices()
    if own.nnz == 0:
        advice = "the imported coupling has no mass between its cells; match it, or leave the label out."
        return Block(label, rows, cols, None, Status("absent", advice))
    if min(own.shape) == 1:
        one = names[0] if len(rows) == 1 else names[1]
        advice = f"{one} has one cell of this label: it leaves no choice, whatever was measured."
        return Block(label, rows, cols, own, Status("too_small", advice))
    return Block(label, rows, cols, own, Status("ok"))


def _notes(blocks: list[Block], weights: sp.csr_matrix, names: tuple[str, str]) -> tuple[str, ...]:
    """Say how much mass was dropped, and how many cells of matched labels have no partner."""
    on = [b for b in blocks if b.matched]
    notes = []
    if sum(b.weights.nnz for b in on) < weights.nnz:
        total = weights.sum()
        share = 1 - sum(b.weights.sum() for b in on) / total
        notes.append(
            f"{100 * share:.3g} % of the mass lay between cells of different or unknown labels; it was dropped."
        )
    sides: tuple[tuple[Literal[0, 1], str], ...] = ((1, names[0]), (0, names[1]))
    for axis, name in sides:
        without = sum(int((b.sums(axis) == 0).sum()) for b in on)
        if without:
            verb = "has" if without == 1 else "have"
            notes.append(f"{counted(without, 'cell')} of {name} in matched labels {verb} no partner in it.")
    return tuple(notes)
