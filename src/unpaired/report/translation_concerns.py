"""What a reader must know before the numbers of a translation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unpaired.report.concerns import Concern
from unpaired.report.translation import DistanceRow, Part, Translation
from unpaired.report.words import fixed, number, quantity, unique

__all__ = ["find_translation_concerns"]

_AVERAGED = (
    "The model finds where the labels lie, and not how their cells spread: a prediction is a mean over what a cell "
    "could be, and means spread less than cells."
)
_NO_NEARER = "the predicted cells of a label are no nearer to the measured ones than cells of other labels are"
_LOST = "It does not tell the labels apart; do not use the predicted readings."
_UNSCORED = "No true pairs are known, and no label has enough cells that are predicted and measured."
_WHY = "Why the others are left out is said under the scores of the translation."


def find_translation_concerns(translations: Sequence[Translation]) -> list[Concern]:
    """Return the warnings of a run's translations."""
    return [c for t in translations for c in _of_one(t)]


def _of_one(t: Translation) -> Iterator[Concern]:
    yield from _from_notes(t)
    if not t.with_pairs and not t.with_distances:
        yield Concern("warning", f"Translation of {t.name}: nothing could be scored.", _UNSCORED)
    for part in t.parts:
        yield from _from_pairs(t, part)
        yield from _from_distances(t, part)
        yield from _from_coverage(t, part)
    yield from _from_spreads(t)


def _from_notes(t: Translation) -> Iterator[Concern]:
    for note in unique(t.record["notes"]):
        if note.startswith("error:"):
            yield Concern("error", f"Translation of {t.name}: {note.removeprefix('error:').strip()}")
        elif note.startswith("warning:"):
            yield Concern("warning", f"Translation of {t.name}: {note.removeprefix('warning:').strip()}")


def _from_pairs(t: Translation, part: Part) -> Iterator[Concern]:
    if part.pairs is None or not part.useless:
        return
    if part.pairs["r2"] > 0:
        yield Concern(
            "warning",
            f"Translation of {t.name}: {part.place}, R² is {fixed(part.pairs['r2'])}: predicting the mean of the "
            f"cell's label is no worse ({fixed(part.pairs['r2_of_label'])}).",
            "What the model says of single cells within a label is wrong or too sure, and so may the matching be.",
        )
        return
    # A held-out label's mean is what no model could know, so that this is no verdict on the model as a whole.
    mean = "the mean of these very cells" if part.key == "label" else "their mean"
    yield Concern(
        "warning",
        f"Translation of {t.name}: {part.place}, R² is {fixed(part.pairs['r2'])}: predicting {mean} is no worse.",
        "The model says nothing of a single cell of such a label; see its distances for whether it finds the label."
        if part.key == "label"
        else "Do not use the predicted readings of single cells.",
    )


def _from_distances(t: Translation, part: Part) -> Iterator[Concern]:
    useless = _useless(part)
    if not _misplaced(useless):
        return
    yield Concern(
        "warning",
        f"Translation of {t.name}: {part.place}, {_NO_NEARER}, by {_listed(useless)}.",
        _LOST if any(r.key == "l2" for r in useless) else _AVERAGED,
    )


def _from_spreads(t: Translation) -> Iterator[Concern]:
    """Say once of all parts where only the KL is no better: predictions are means, so that it is seldom one part's."""
    narrow = [p for p in t.parts if _useless(p) and not _misplaced(_useless(p))]
    if not narrow:
        return
    places = [p.place for p in narrow]
    where = " and ".join([*([", ".join(places[:-1])] if places[1:] else []), places[-1]])
    numbers = f"{places[0]}, {_listed(_useless(narrow[0]))}" if places[1:] else _listed(_useless(narrow[0]))
    yield Concern("warning", f"Translation of {t.name}: {where}, {_NO_NEARER}, by the KL alone: {numbers}.", _AVERAGED)


def _useless(part: Part) -> list[DistanceRow]:
    return [row for row in part.distances if row.useless]


def _misplaced(useless: Sequence[DistanceRow]) -> bool:
    """Whether more is wrong than the spread, to which the KL is the most sensitive."""
    return any(not row.key.startswith("kl_") for row in useless)


def _listed(rows: Sequence[DistanceRow]) -> str:
    return "; ".join(f"{r.name} ({number(r.by_cells)}, baseline {number(r.baseline_by_cells)})" for r in rows)


def _from_coverage(t: Translation, part: Part) -> Iterator[Concern]:
    missing = [*_missing_of_pairs(part), *_missing_of_labels(part)]
    if missing:
        short = part.pairs is not None and part.pairs["pairs"] < part.pairs["pairs_total"]
        why = [f"A pair counts where its cell of {t.source} has a prediction."] if short else []
        if len(missing) > short:
            why.append(_WHY)
        said = ", ".join(missing)
        yield Concern("warning", f"Translation of {t.name}: {part.place}, the scores cover {said}.", " ".join(why))


def _missing_of_pairs(part: Part) -> Iterator[str]:
    if (p := part.pairs) is None:
        return
    if p["pairs"] < p["pairs_total"]:
        yield f"{p['pairs']:,d} of {quantity(p['pairs_total'], 'true pair')}"
    if p["features"] < p["features_total"]:
        yield f"{p['features']:,d} of {quantity(p['features_total'], 'feature')}"


def _missing_of_labels(part: Part) -> Iterator[str]:
    if part.distributions is None:
        return
    c = part.distributions["coverage"]
    if c["labels"] < c["labels_total"]:
        yield f"{c['labels']:,d} of {quantity(c['labels_total'], 'label')}"
    for row in part.distances:
        if row.labels < c["labels"]:
            yield f"{row.labels:,d} of {quantity(c['labels'], 'compared label')} by {row.name}"
