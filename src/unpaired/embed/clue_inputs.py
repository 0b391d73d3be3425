"""The cells that CLUE learns from: inputs of the encoders, readings for the decoders, and which rows are one cell."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from unpaired.data.types import Array, Dataset, Modality
from unpaired.embed.clue_reader import Reader

__all__ = ["Cells", "alone_notes", "batch_names", "cells_of", "is_alone", "slots_of"]

_CANNOT_TELL = "and it cannot tell which cell belongs to which; give pairs or a matching."
_ALL_ALONE = (
    "no cell is known in two modalities and there is no matching: only the discriminator lays the modalities on each "
    f"other, {_CANNOT_TELL}"
)


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells with some of K modalities.

    Attributes
    ----------
    inputs, readings
        For each modality ``(n_k, inputs)`` and ``(n_k, features)``, rows in canonical order.
    batches
        For each modality ``(n_k,)`` names of batches.
    slots
        ``(N, K)`` row of each cell in each modality, -1 where it was not measured.
    keys
        For each modality ``(n_k,)`` hashes of the readings.
    orders
        For each modality the rows of the data set's, in the order that they have here.
    """

    inputs: Sequence[Array]
    readings: Sequence[Any]
    batches: Sequence[Array]
    slots: Array
    keys: Sequence[Array]
    orders: Sequence[Array] = field(default=())

    def joined(self, other: Cells) -> Cells:
        """Return the cells of both; rows of these keep their numbers."""
        sizes = np.array([len(x) for x in self.inputs])
        later = np.where(other.slots >= 0, other.slots + sizes, -1)
        return Cells(
            inputs=[np.concatenate(both) for both in zip(self.inputs, other.inputs, strict=True)],
            readings=[_stacked(*both) for both in zip(self.readings, other.readings, strict=True)],
            batches=[np.concatenate(both) for both in zip(self.batches, other.batches, strict=True)],
            slots=np.concatenate([self.slots, later]),
            keys=[np.concatenate(both) for both in zip(self.keys, other.keys, strict=True)],
            orders=self.orders,
        )

    def digest(self) -> str:
        """Return a hash of all that is learned from."""
        digest = hashlib.sha256()
        for part in (*self.inputs, *self.keys, *(b.astype("U") for b in self.batches), self.slots):
            digest.update(f"{part.dtype} {part.shape}".encode() + np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def alone_notes(names: Sequence[str], together: Array, *, soft: bool) -> tuple[str, ...]:
    """Return what there is to say of modalities that nothing told which of their cells belong to those of others.

    Parameters
    ----------
    names
        Of the modalities.
    together
        ``(K, K)`` whether cells observed in both modalities were learned from.
    soft
        Whether partners were drawn from a matching.
    """
    alone = [n for n, times in zip(names, together.sum(axis=1).tolist(), strict=True) if times == 1]  # with itself
    if len(alone) == len(names) and not soft:
        return (_ALL_ALONE,)
    return tuple(
        f"no cell of {n} is known in another modality or has a partner by a matching: only the discriminator lays {n} "
        f"on the others, {_CANNOT_TELL}"
        for n in alone
    )


def is_alone(note: str) -> bool:
    """Return whether a note is one of :func:`alone_notes`."""
    return note.endswith(_CANNOT_TELL)


def cells_of(data: Dataset, readers: Mapping[str, Reader]) -> Cells:
    """Read a data set that has some of the modalities of the readers."""
    there = {n: data.modalities.get(n) for n in readers}
    slots = np.full((0, len(readers)), -1)
    if any(m is not None for m in there.values()):
        some = slots_of(data, [n for n, m in there.items() if m is not None])
        slots = np.full((len(some), len(readers)), -1)
        slots[:, [at for at, m in enumerate(there.values()) if m is not None]] = some
    none = {n: np.zeros((0, r.width), np.float32) for n, r in readers.items()}
    return Cells(
        inputs=[
            np.zeros((0, r.inputs_width), np.float32) if m is None else r.inputs(m)
            for r, m in zip(readers.values(), there.values(), strict=True)
        ],
        readings=[none[n] if m is None else readers[n].readings(m) for n, m in there.items()],
        batches=[np.zeros(0, dtype="U1") if m is None else batch_names(m)[m.order] for m in there.values()],
        slots=slots,
        keys=[np.zeros(0, np.uint64) if m is None else m.keys[m.order] for m in there.values()],
        orders=[np.zeros(0, np.int64) if m is None else m.order for m in there.values()],
    )


def batch_names(modality: Modality) -> Array:
    """``(n,)`` names of a modality's batches, all of one without a name where they are not told apart."""
    return np.full(len(modality), "") if modality.batch is None else modality.batch.astype(str)


def slots_of(data: Dataset, names: Sequence[str]) -> Array:
    """``(N, K)`` row, in its modality's canonical order, of each cell in each named modality; -1 where it has none.

    Rows of several modalities are one cell where ``data.pairs`` say so; without them every row is a cell. The cells are
    ordered by their readings, so that the order of rows cannot tell who belongs to whom.
    """
    width, tables, codes = len(names), [], []
    for at, name in enumerate(names):
        units = None if data.pairs is None else data.pairs.units[name][data[name].order]
        unit = np.full(len(data[name]), -1) if units is None else units.astype(np.int64)
        _, first = np.unique(unit, return_index=True)
        again = np.ones(len(unit), dtype=bool)
        again[first] = False
        rows = np.arange(len(unit))
        alone = (unit < 0) | again  # of two rows of one modality that claim to be one cell, the first is believed
        table = np.full((alone.sum(), width), -1)
        table[:, at] = rows[alone]
        tables.append(table)
        codes.append((unit[~alone], rows[~alone]))
    known = np.unique(np.concatenate([u for u, _ in codes]))
    together = np.full((len(known), width), -1)
    for at, (unit, rows) in enumerate(codes):
        together[np.searchsorted(known, unit), at] = rows
    slots = np.concatenate([together, *tables])
    ranks = [_ranks(data[n]) for n in names]
    content = [np.append(r, -1)[slots[:, at]] for at, r in enumerate(ranks)]  # the last one serves -1
    return slots[np.lexsort(content[::-1])]


def _ranks(modality: Modality) -> Array:
    """``(n,)`` numbers that order rows, given in canonical order, by content; equal where it is."""
    order = modality.order
    _, batch = np.unique(batch_names(modality)[order], return_inverse=True)
    rows = np.stack([modality.keys[order], modality.labels[order].astype(np.uint64), batch.astype(np.uint64)])
    return np.unique(rows, axis=1, return_inverse=True)[1].ravel()


def _stacked(one: Any, other: Any) -> Any:
    if other.shape[0] == 0:
        return one
    if sp.issparse(one) or sp.issparse(other):
        return sp.csr_matrix(sp.vstack([sp.csr_matrix(one), sp.csr_matrix(other)]))
    return np.concatenate([one, other])
