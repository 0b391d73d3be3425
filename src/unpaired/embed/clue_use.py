"""What a fitted CLUE tells of cells: their places in the space, and readings of any modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from unpaired import options
from unpaired.data.types import Array, Dataset, Modality
from unpaired.embed.clue_fit import Fitted
from unpaired.embed.clue_inputs import batch_names, slots_of
from unpaired.embed.clue_model import combine, decode, encode_modality
from unpaired.embed.feed import CELLS
from unpaired.errors import OptionError

__all__ = ["Imputed", "coordinates", "impute"]


class Imputed(NamedTuple):
    """``(n, p)`` expected readings, and the standard deviation of each around what is expected."""

    mean: Array
    spread: Array


def coordinates(fitted: Fitted, data: Dataset) -> dict[str, Array]:
    """Return modality name -> ``(n, K * dims)`` float64 places; of cells with pairs the same in all modalities."""
    arrays = {}
    for name, code in _placed(fitted, data, list(data)).items():
        arrays[name] = np.empty(code.shape)
        arrays[name][data[name].order] = code.double().cpu().numpy()
    return arrays


def impute(
    fitted: Fitted,
    data: Dataset,
    source: str | Sequence[str],
    target: str,
    library_size: float | Sequence[float] | Array | None,
    batch: str | Sequence[str] | Array | None,
) -> Imputed:
    """Return expected readings of the target and their standard deviations, in the order of the (first) source's rows.

    Parameters
    ----------
    fitted
        The model.
    data
        Cells of the source.
    source, target, library_size, batch
        As :meth:`unpaired.embed.clue.Clue.impute` takes them.
    """
    sources = _sources(fitted, data, source)
    options.check_choice("target", target, tuple(fitted.readers))
    modality = data[sources[0]]
    sizes = _sizes(library_size, len(modality))
    names, order = list(fitted.readers), modality.order
    position, at, reader = names.index(modality.name), names.index(target), fitted.readers[target]
    which = torch.as_tensor(_batch_codes(fitted, at, modality, batch)[order], device=fitted.device)
    code = _placed(fitted, data, sources)[modality.name]
    told = None if sizes is None else torch.as_tensor(sizes[order].astype(np.float32), device=fitted.device)
    if told is None and reader.likelihood == "nb":
        told = _foretold(fitted, position, at, modality)
    mean, spread = np.empty((len(modality), reader.width)), np.empty((len(modality), reader.width))
    for rows in torch.arange(len(order)).split(CELLS):
        part = None if told is None else told[rows]
        reading = decode(fitted.model, at, code[rows], which[rows], part)
        here = order[rows.numpy()]
        mean[here] = reading.mean.double().cpu().numpy()
        spread[here] = np.nan if reading.spread is None else reading.spread.double().cpu().numpy()
    if reader.likelihood == "nb":  # the spread is theta
        return Imputed(mean, np.sqrt(mean + mean**2 / spread))
    if reader.likelihood == "bernoulli":
        return Imputed(mean, np.sqrt(mean * (1 - mean)))
    return Imputed(mean * reader.moments[1] + reader.moments[0], spread * reader.moments[1])


def _sources(fitted: Fitted, data: Dataset, source: str | Sequence[str]) -> list[str]:
    """Return the modalities that are looked at, without repetitions."""
    sources = [source] if isinstance(source, str) else list(dict.fromkeys(source)) or [""]
    for name in sources:
        options.check_choice("source", name, tuple(fitted.readers))
    if len(sources) > 1 and data.pairs is None:
        msg = "several sources need data with pairs, which tell what is of one cell; give one source, or the pairs."
        raise OptionError(msg)
    return sources


def _placed(fitted: Fitted, data: Dataset, names: Sequence[str]) -> Mapping[str, torch.Tensor]:
    """Return name -> ``(n, K * dims)`` codes, rows in canonical order; those of one cell are as one (eq. 11)."""
    codes = [_codes(fitted, data[name]) for name in names]
    if data.pairs is not None and len(names) > 1:
        slots = slots_of(data, names)
        slots = slots[(slots >= 0).sum(axis=1) > 1]
        # What lies in an empty slot, the last row, does not count.
        stacked = torch.stack([code[slots[:, at]] for at, code in enumerate(codes)])
        together = combine(stacked, torch.as_tensor(slots >= 0, device=fitted.device))
        for at, code in enumerate(codes):
            there = slots[:, at] >= 0
            code[slots[there, at]] = together[torch.as_tensor(there, device=fitted.device)]
    return dict(zip(names, codes, strict=True))


def _codes(fitted: Fitted, modality: Modality) -> torch.Tensor:
    """``(n, K * dims)`` codes that a modality alone gives its cells, in canonical order, on the device."""
    at = list(fitted.readers).index(modality.name)
    x = torch.as_tensor(fitted.readers[modality.name].inputs(modality), device=fitted.device)
    parts = [encode_modality(fitted.model, at, part) for part in x.split(CELLS)]
    return torch.cat(parts)


@torch.no_grad()
def _foretold(fitted: Fitted, source: int, target: int, modality: Modality) -> torch.Tensor:
    """``(n,)`` library sizes, in canonical order: what counts foretell where this was learned, else the median."""
    reader = list(fitted.readers.values())[target]
    learned = fitted.config.lam_data if source == target else fitted.config.lam_real_cross
    told = torch.full((len(modality),), reader.size, device=fitted.device)
    if not (fitted.readers[modality.name].sized and learned and fitted.together[source, target]):
        return told
    readings = fitted.readers[modality.name].readings(modality)
    found = []
    for rows in np.array_split(np.arange(len(modality)), -(-len(modality) // CELLS)):
        part = readings[rows]
        dense = part if isinstance(part, np.ndarray) else part.toarray()
        sizes = fitted.model.sizes(source, torch.as_tensor(dense, device=fitted.device))
        found.append(told[rows] if sizes is None else sizes[:, target])
    return torch.cat(found)


def _batch_codes(fitted: Fitted, target: int, modality: Modality, batch: str | Sequence[str] | Array | None) -> Array:
    """``(n,)`` codes of the batches to decode in, which the target must have been learned in."""
    names = batch_names(modality) if batch is None else np.asarray(batch).astype(str)
    if names.shape not in {(), (len(modality),)}:
        msg = f"batch must be a name, or one for each of the {len(modality)} cells; got {names.shape}."
        raise OptionError(msg)
    name, known = list(fitted.readers)[target], fitted.seen[target]
    for asked in np.unique(names).tolist():
        options.check_choice(f"batch of {name}", asked, known)
    codes = {b: at for at, b in enumerate(fitted.batches)}
    return np.array([codes[n] for n in np.broadcast_to(names, len(modality)).tolist()], dtype=np.int64)


def _sizes(given: float | Sequence[float] | Array | None, cells: int) -> Array | None:
    if given is None:
        return None
    sizes = np.asarray(given, dtype=np.float64)
    if sizes.shape not in {(), (cells,)} or not (np.isfinite(sizes).all() and (sizes > 0).all()):
        msg = f"library_size must be a positive number, or one for each of the {cells} cells; got {given!r}."
        raise OptionError(msg)
    return np.broadcast_to(sizes, cells)
