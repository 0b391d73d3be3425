"""The page of a run of ``unpaired clue``: what was learned from, how good it is, and the space in pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unpaired.evaluate.imputation import EXPECTED_COVERAGE
from unpaired.report import words
from unpaired.report.clue_pictures import imputation_picture, loss_picture, space_pictures
from unpaired.report.concerns import Concern, note_concerns
from unpaired.report.environment import environment
from unpaired.report.saved import read_cells, read_features, read_scores

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup

__all__ = ["Imputation", "clue_page", "find_clue_concerns"]

_ENDS = 8  # features that are listed at either end
_CHANCE = 0.4  # FOSCTTM, above which the two readings of a cell hardly lie together
_FEWEST = 20  # cells, below which FOSCTTM is above that now and then in a space that is good
_TOO_SURE = 0.8  # coverage of what should cover 0.95


@dataclass(frozen=True, eq=False)
class Imputation:
    """What is known of the readings of one modality that were imputed from another's.

    Attributes
    ----------
    scores
        Its entry of ``scores.json``.
    best, worst
        Rows of the features with the best and the worst correlation: ``feature``, ``pearson``, ``r2``, ``coverage``.
    picture
        How many features have which correlation; ``None`` where none has one.
    """

    scores: Mapping[str, Any]
    best: Sequence[Mapping[str, Any]]
    worst: Sequence[Mapping[str, Any]]
    picture: Markup | None


def clue_page(run: Path, record: Mapping[str, Any]) -> str:
    """Return the page of a run as text.

    Parameters
    ----------
    run
        Its folder.
    record
        The contents of its ``run.json``.
    """
    scores = read_scores(run) or {"latent": [], "imputation": []}
    table = read_features(run) if scores["imputation"] else None
    concerns = find_clue_concerns(record, scores)
    cells = record["pairs"]["cells"]
    several = [c for c in cells if len(c["modalities"]) > 1]
    pictures = space_pictures(read_cells(run, list(record["modalities"])), record)
    return (
        environment()
        .get_template("clue.html.j2")
        .render(
            r=record,
            names_of=" and ".join(record["modalities"]),
            cells=cells,
            paired=sum(c["learned_from"] for c in several),
            held=sum(c["held_out"] for c in several),
            latent=scores["latent"],
            imputation=[] if table is None else [_imputation(s, table) for s in scores["imputation"]],
            honest=f"{100 * EXPECTED_COVERAGE:.0f} %",
            state="unknown" if not scores["latent"] else "caution" if _of_scores(concerns) else "good",
            concerns=concerns,
            notes=words.unique(n for n in record["notes"] if not n.startswith(("warning:", "error:"))),
            fine="No warnings.",
            pictures=pictures,
            loss=loss_picture(record["training"]),
        )
    )


def find_clue_concerns(record: Mapping[str, Any], scores: Mapping[str, Any]) -> list[Concern]:
    """Return the warnings of a run.

    Parameters
    ----------
    record
        The contents of ``run.json``.
    scores
        ``latent`` and ``imputation``, both empty where no cell was kept out.
    """
    return [
        *note_concerns(record["notes"]),
        *(c for s in scores["latent"] for c in _latent(s)),
        *(c for s in scores["imputation"] for c in _imputed(s)),
        *_training(record),
    ]


def _of_scores(concerns: Sequence[Concern]) -> bool:
    return any(c.check for c in concerns)


def _latent(s: Mapping[str, Any]) -> Iterator[Concern]:
    foscttm = (s["foscttm_source"] + s["foscttm_target"]) / 2
    if foscttm > _CHANCE and s["cells"] >= _FEWEST:
        yield Concern(
            "warning",
            f"On cells that were kept out, the readings of one cell by {s['source']} and {s['target']} hardly lie "
            f"nearer to each other than those of different cells (FOSCTTM {words.fixed(foscttm)}, 0.5 is chance).",
            "More known pairs, or more cells, may help; read nothing into who is near whom.",
            check="latent",
        )


def _imputed(s: Mapping[str, Any]) -> Iterator[Concern]:
    direction = f"{s['target']} imputed from {s['source']}"
    if s["r2"] is not None and s["r2"] <= 0:
        yield Concern(
            "warning",
            f"On cells that were kept out, {direction} is no nearer to what was measured than the mean of these cells "
            f"(R² {words.fixed(s['r2'], 2)}).",
            "Single features may still follow: see their correlations.",
            check="imputation",
        )
    if s["coverage"] is not None and s["coverage"] < _TOO_SURE:
        yield Concern(
            "warning",
            f"{direction} is too sure of itself: {words.percent(s['coverage'])} of the readings lie within 1.96 "
            f"spreads, where {100 * EXPECTED_COVERAGE:.0f} % should.",
            "Take the spreads as too small.",
            check="imputation",
        )


def _training(record: Mapping[str, Any]) -> Iterator[Concern]:
    training = record["training"]
    if 1 < training["epoch"] == len(training["history"]):
        yield Concern(
            "warning",
            "The loss still fell when the training ended.",
            "More epochs (--epochs, or leave it out) would learn more.",
        )


def _imputation(scores: Mapping[str, Any], table: pd.DataFrame) -> Imputation:
    own = table[(table["source"] == scores["source"]) & (table["target"] == scores["target"])]
    known = own.dropna(subset=["pearson"]).sort_values("pearson", ascending=False, kind="stable")
    rows = known[["feature", "pearson", "r2", "coverage"]].to_dict("records")
    ends = min(_ENDS, -(-len(rows) // 2))
    worst = rows[len(rows) - min(ends, len(rows) // 2) :]
    picture = imputation_picture(known["pearson"].tolist(), scores) if rows else None
    return Imputation(scores, rows[:ends], worst, picture)
