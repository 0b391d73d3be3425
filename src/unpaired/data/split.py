"""Cells that are kept out of everything that learns, to judge by: whole labels, and a fraction of the others."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from unpaired.data.preprocess import Recipe, fit_recipe
from unpaired.data.types import UNKNOWN, Array, Dataset, Modality, Truth
from unpaired.data.units import take_units
from unpaired.data.wording import counted, did_you_mean, listed
from unpaired.errors import OptionError
from unpaired.options import check_choice, check_number, check_seed
from unpaired.seeds import named_rng

__all__ = ["PARTS", "HeldOut", "Part", "hold_out", "hold_out_pairs", "take_truth"]

Part = Literal["test", "label"]
PARTS: tuple[Part, ...] = ("test", "label")
"""In distribution (cells of labels that are learned from), and out of it (cells of labels that are not)."""

_Rows = list[tuple[str, int]]  # (modality, row) of one physical cell


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Cells that were kept out of everything that learns.

    Attributes
    ----------
    data
        These cells, with the recipes that were fitted on the training cells. Its classes are all classes, those of the
        training cells and those held out.
    truth
        Who is whose partner among them, also where that was offered for learning; ``None`` where it is not known.
    part
        Modality name -> ``(n,)`` of ``"test"`` (in distribution) or ``"label"`` (of a label that was held out).
    labels
        Labels that are wholly held out.
    fraction
        Fraction of every other label's cells that was asked for.
    """

    data: Dataset
    truth: Truth | None
    part: Mapping[str, Array]
    labels: tuple[str, ...]
    fraction: float

    def __repr__(self) -> str:
        sizes = (f"{n}: " + ", ".join(f"{(of == p).sum()} {p}" for p in PARTS) for n, of in self.part.items())
        return f"HeldOut({'; '.join(sizes)})"

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Modality name -> part -> number of cells."""
        return {n: {p: int((of == p).sum()) for p in PARTS} for n, of in self.part.items()}

    def take(self, part: Part) -> tuple[Dataset, Truth | None]:
        """Return the cells of one part, and who is whose partner among them.

        Raises
        ------
        OptionError
            If there is no such part.
        """
        check_choice("part", part, PARTS)
        rows = {n: np.flatnonzero(of == part) for n, of in self.part.items()}
        return self.data.take(rows), take_truth(self.truth, rows)


def hold_out(
    data: Dataset,
    truth: Truth | None = None,
    *,
    labels: Sequence[str] = (),
    fraction: float = 0.0,
    seed: int = 0,
) -> tuple[Dataset, Truth | None, HeldOut]:
    """Keep whole labels, and a fraction of the cells of every other label, out of everything that learns.

    A cell in several modalities (by ``data.pairs`` or ``truth``) is held out as one, and as one of a held-out label if
    it has such a label in any of them. Which cells are held out depends on what was measured, not on the order of the
    rows or their names. Cells without a label stay.

    Parameters
    ----------
    data
        The data set; not modified.
    truth
        The hidden pairing, if it is known.
    labels
        Names of the labels to hold out with all their cells, in every modality.
    fraction
        From 0 to below 1: how much of every other label is held out in every modality, rounded to whole cells; one
        cell at least stays.
    seed
        Seed of what is drawn, and of the recipes.

    Returns
    -------
    Dataset
        The training cells. Its classes are without the held-out labels, and its recipes are fitted on its cells alone.
    Truth
        Who is whose partner among them; ``None`` if ``truth`` is.
    HeldOut
        The others.

    Raises
    ------
    OptionError
        If an option is not allowed, a label does not exist, or a modality would be left without labelled cells.
    DataError
        If a feature has no measured value in any training cell.

    Notes
    -----
    In and out of distribution as in Xi et al. 2024, section 6.3.
    """
    names = _check(data, labels, fraction)
    check_seed(seed)
    cells = _cells(data, truth)
    out = {n: np.full(len(m), "", dtype="U5") for n, m in data.modalities.items()}
    codes = {data.code(name) for name in names}
    rest = []
    for cell in cells:
        if codes.isdisjoint(_labels(data, cell)):
            rest.append(cell)
        else:
            _mark(out, cell, "label")
    for cell in _drawn(data, rest, float(fraction), seed):
        _mark(out, cell, "test")
    stay, go = ({n: np.flatnonzero((part == "") == kept) for n, part in out.items()} for kept in (True, False))
    _check_left(data, stay)
    notes = _notes(data, out, names, float(fraction))
    kept = _recoded(data.take(stay), names)
    kept, held = (replace(d, notes=(*data.notes, *notes)) for d in (kept, data.take(go)))
    if any(len(rows) for rows in go.values()):
        recipes = {n: _fitted(m, seed) for n, m in kept.modalities.items()}
        kept, held = _with_recipes(kept, recipes), _with_recipes(held, recipes)
    part = {n: out[n][rows] for n, rows in go.items()}
    known = Truth(data.pairs.units) if truth is None and data.pairs is not None else truth  # nothing learns from these
    return kept, take_truth(truth, stay), HeldOut(held, take_truth(known, go), part, names, float(fraction))


def hold_out_pairs(data: Dataset, *, fraction: float, seed: int = 0) -> tuple[Dataset, HeldOut]:
    """Keep a fraction of the cells that are known in several modalities out of everything that learns.

    Of every combination of modalities so many, whatever their labels, rounded to whole cells; one cell at least stays.
    Which cells are held out depends on what was measured, not on the order of the rows or their names.

    Parameters
    ----------
    data
        A data set with pairs; not modified.
    fraction
        From 0 to below 1.
    seed
        Seed of what is drawn, and of the recipes.

    Returns
    -------
    Dataset
        The training cells with their pairs; its recipes are fitted on them alone.
    HeldOut
        The others, all of the part ``"test"``, with who is whose partner among them.

    Raises
    ------
    OptionError
        If an option is not allowed, or the data set has no pairs.
    """
    _check(data, (), fraction)
    check_seed(seed)
    if data.pairs is None:
        msg = "hold_out_pairs needs a data set with pairs; this one has none."
        raise OptionError(msg)
    out = {n: np.zeros(len(m), dtype=bool) for n, m in data.modalities.items()}
    together = [cell for cell in _cells(data, None) if len(cell) > 1]
    sizes = Counter(tuple(n for n, _ in cell) for cell in together)
    room = {kind: min(int(float(fraction) * k + 0.5), k - 1) for kind, k in sizes.items()}
    for cell in _shuffled(data, together, seed, by_label=False):
        kind = tuple(n for n, _ in cell)
        if room[kind] > 0:
            room[kind] -= 1
            for name, row in cell:
                out[name][row] = True
    stay, go = ({n: np.flatnonzero(o == held) for n, o in out.items()} for held in (False, True))
    kept, held = data.take(stay), replace(data.take(go), pairs=None)
    if any(len(rows) for rows in go.values()):
        recipes = {n: _fitted(m, seed) for n, m in kept.modalities.items()}
        kept, held = _with_recipes(kept, recipes), _with_recipes(held, recipes)
    part = {n: np.full(len(rows), "test", dtype="U5") for n, rows in go.items()}
    return kept, HeldOut(held, take_truth(Truth(data.pairs.units), go), part, (), float(fraction))


def take_truth(truth: Truth | None, rows: Mapping[str, Array]) -> Truth | None:
    """Return the truth about the given rows of each named modality; ``None`` where there is none."""
    if truth is None:
        return None
    latents = None if truth.latents is None else take_units(truth.latents, rows)
    return Truth(take_units(truth.units, rows), latents)


def _check(data: Dataset, labels: Sequence[str], fraction: float) -> tuple[str, ...]:
    """Return the labels to hold out in the order of the classes."""
    check_number("fraction", fraction)
    if not 0 <= float(fraction) < 1:
        msg = f"fraction must be a number from 0 to below 1; got {fraction!r}."
        raise OptionError(msg)
    if isinstance(labels, str):
        msg = f"labels must be a list of names; got {labels!r}."
        raise OptionError(msg)
    for name in labels:
        if name not in data.classes:
            msg = f"there is no label {name!r} to hold out. {did_you_mean(str(name), data.classes, kind='labels')}"
            raise OptionError(msg)
    return tuple(name for name in data.classes if name in labels)


def _cells(data: Dataset, truth: Truth | None) -> list[_Rows]:
    """Return the physical cells; those of known pairs are one, whoever knows of them."""
    known = [u.units for u in (data.pairs, truth) if u is not None]
    cells: dict[tuple[str, int], _Rows] = {}
    of: dict[tuple[int, int], _Rows] = {}  # (which of the pairings, unit) -> its cell
    for name, modality in data.modalities.items():
        units = [u[name].tolist() for u in known]
        for row in range(len(modality)):
            keys = [(k, u[row]) for k, u in enumerate(units) if u[row] >= 0]
            cell = next((of[key] for key in keys if key in of), [])
            cell.append((name, row))
            of.update(dict.fromkeys(keys, cell))
            if len(cell) == 1:
                cells[name, row] = cell
    return list(cells.values())


def _labels(data: Dataset, cell: _Rows) -> set[int]:
    """Return the codes of a cell's labels in its modalities."""
    return {int(data[name].labels[row]) for name, row in cell} - {UNKNOWN}


def _mark(out: Mapping[str, Array], cell: _Rows, part: Part) -> None:
    for name, row in cell:
        out[name][row] = part


def _drawn(data: Dataset, cells: list[_Rows], fraction: float, seed: int) -> list[_Rows]:
    """Return the cells that are held out: in every modality ``fraction`` of every label."""
    labels = {n: m.labels.tolist() for n, m in data.modalities.items()}
    size = Counter((n, labels[n][row]) for cell in cells for n, row in cell)
    room = {key: min(int(fraction * k + 0.5), k - 1) for key, k in size.items() if key[1] != UNKNOWN}
    kinds = Counter(tuple((n, labels[n][row]) for n, row in cell) for cell in cells)
    share = {kind: int(fraction * k + 0.5) for kind, k in kinds.items()}
    drawn = []
    # Cells of several modalities first: where single ones had filled one side, none of these could be held out. But no
    # more than their share: else a few known pairs would all be held out, and none be left to learn from.
    for cell in sorted(_shuffled(data, cells, seed), key=lambda cell: -len(cell)):
        kind = tuple((n, labels[n][row]) for n, row in cell)
        keys = [key for key in kind if key[1] != UNKNOWN]
        if keys and all(room[key] > 0 for key in keys) and (len(kind) == 1 or share[kind] > 0):
            drawn.append(cell)
            share[kind] -= 1
            for key in keys:
                room[key] -= 1
    return drawn


def _shuffled(data: Dataset, cells: list[_Rows], seed: int, *, by_label: bool = True) -> list[_Rows]:
    """Return the cells in random order, drawn for each label (and each side, where partners are not known) apart.

    If not by label, then as if no cell had one.
    """
    keys = {n: m.keys.tolist() for n, m in data.modalities.items()}
    groups: dict[tuple[str, ...], list[tuple[list[tuple[str, int, int]], _Rows]]] = defaultdict(list)
    for cell in cells:
        # Told by what was measured: cells that agree in all of this are the same to everyone.
        content = sorted((n, keys[n][row], int(data[n].labels[row]) if by_label else UNKNOWN) for n, row in cell)
        label = next((data.classes[code] for _, _, code in content if code != UNKNOWN), "")
        groups[label, *(n for n, _, _ in content)].append((content, cell))
    values: list[tuple[float, tuple[str, ...], int, _Rows]] = []
    for group, members in groups.items():
        members.sort(key=lambda member: member[0])
        draw = named_rng(seed, "hold_out", *group).random(len(members)).tolist()
        values += [(u, group, k, cell) for k, (u, (_, cell)) in enumerate(zip(draw, members, strict=True))]
    return [cell for *_, cell in sorted(values, key=lambda v: v[:3])]


def _check_left(data: Dataset, stay: Mapping[str, Array]) -> None:
    for name, rows in stay.items():
        if not (data[name].labels[rows] != UNKNOWN).any():
            msg = f"no labelled cell of {name!r} would be left to learn from; hold out fewer labels."
            raise OptionError(msg)


def _recoded(data: Dataset, without: Sequence[str]) -> Dataset:
    """Return the data set with classes that do not know of some labels."""
    classes = tuple(name for name in data.classes if name not in without)
    code = {name: k for k, name in enumerate(classes)}
    codes = np.array([*(code.get(name, UNKNOWN) for name in data.classes), UNKNOWN], dtype=np.int64)
    modalities = {n: replace(m, labels=codes[m.labels]) for n, m in data.modalities.items()}
    return replace(data, modalities=modalities, classes=classes)


def _fitted(modality: Modality, seed: int) -> Recipe | None:
    """Fit a modality's recipe anew on its cells."""
    old = modality.recipe
    if old is None:
        return None
    missing = "median" in old.arrays
    return fit_recipe(old.spec, modality.X[modality.order], reason=old.reason, missing=missing, seed=seed)


def _with_recipes(data: Dataset, recipes: Mapping[str, Recipe | None]) -> Dataset:
    return replace(data, modalities={n: replace(m, recipe=recipes[n]) for n, m in data.modalities.items()})


def _notes(data: Dataset, out: Mapping[str, Array], labels: Sequence[str], fraction: float) -> list[str]:
    """Say what was held out, in one sentence a part."""

    def sizes(part: str) -> str:
        return " and ".join(f"{counted(int((out[n] == part).sum()), 'cell')} of {n}" for n in data)

    notes = []
    if labels:
        notes.append(f"Held out with all their cells: the labels {listed(labels)} ({sizes('label')}).")
    if fraction > 0:
        notes.append(f"Held out of every {'other ' if labels else ''}label: {fraction:.4g} ({sizes('test')}).")
    return notes
