"""The page that a person reads after a run: one file of HTML, from the numbers that the run saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unpaired.errors import OutputError
from unpaired.files import write_text
from unpaired.report import pictures, words
from unpaired.report.clue import clue_page
from unpaired.report.concerns import find_concerns, mean_partners, plain_notes
from unpaired.report.environment import environment
from unpaired.report.refinement import find_refinement, refinement_picture, unsaid_of_refined
from unpaired.report.saved import read_confidence, read_diagnosis, read_plane, read_scores
from unpaired.report.translation import METRICS, read_translations
from unpaired.report.translation_concerns import find_translation_concerns
from unpaired.report.translation_pictures import translation_pictures
from unpaired.report.verdict import find_verdict, without_said
from unpaired.run.clue import is_clue_run, read_clue_record
from unpaired.run.read import read_record

__all__ = ["write_report"]

_NAMES: Mapping[str, str] = {
    "match_ot": "entropic optimal transport",
    "match_snn": "shared nearest neighbours",
    "match_uniform": "matching every cell with all cells of its label alike",
    "match_random": "matching at random",
    "match_pairs": "known pairs",
    "read_matching": "an imported matching",
    "loss_unbiased": "by the unbiased loss (two partners of each cell drawn at every visit)",
    "loss_mse": "by the squared error to one partner drawn at every visit",
    "loss_barycentric": "by the squared error to the mean of all partners of each cell",
    "noise": "set by the noise of the common space",
    "given": "as given",
    "sqeuclidean": "squared Euclidean distance",
    "euclidean": "Euclidean distance",
    "logit": "the propensity scores: one coordinate a label, how much a cell looks like that label",
    "latent": "a learned code",
    "feature": "the features themselves",
    "not_converged": "not converged",
    "too_small": "too small",
}
"""Words for the names in the record; a name that is not here is shown as it is."""

_MANY = 40  # labels, above which a table is folded


@dataclass(frozen=True)
class Metric:
    """One line of the table of scores.

    Attributes
    ----------
    name, meaning
        The metric and what it says, with its direction.
    run, weighted, uniform, perfect
        Its values as text: this run (labels alike, and by their pairs), the uniform coupling, the best possible.
    """

    name: str
    meaning: str
    run: str
    weighted: str
    uniform: str
    perfect: str


def write_report(run: str | Path, *, out: str | Path | None = None) -> Path:
    """Write the report of a run: one self-contained page of HTML.

    The run may be one of ``align`` or of ``clue``. The page shows what it saved and computes nothing anew, so it can
    be written again at any time.

    Parameters
    ----------
    run
        The folder of the run.
    out
        The file to write; ``report.html`` in the run's folder by default.

    Returns
    -------
    The path of the file.

    Raises
    ------
    DataError
        If the folder is not a run, or a file of it cannot be read.
    OutputError
        If the file cannot be written there.

    Examples
    --------
    >>> import unpaired as up
    >>> up.write_report("run/")  # doctest: +SKIP
    PosixPath('run/report.html')
    """
    run = Path(run)
    file = run / "report.html" if out is None else Path(out)
    render = clue_page if is_clue_run(run) else _render
    record = read_clue_record(run) if is_clue_run(run) else read_record(run)
    if file.is_dir() or not file.absolute().parent.is_dir():
        why = "is a folder" if file.is_dir() else "is in a folder that does not exist"
        msg = f"{file} {why}; name a file in a folder that exists."
        raise OutputError(msg)
    write_text(file, render(run, record))
    return file


def _render(run: Path, record: Mapping[str, Any]) -> str:
    pages = environment()
    pages.filters["words"] = lambda name: _NAMES.get(name, name)
    pages.filters["without"] = lambda options, name: {k: v for k, v in options.items() if k != name}
    scores, diagnosis = read_scores(run), read_diagnosis(run)
    translations = read_translations(run)
    xy, modality, label = read_plane(run)
    names, classes = list(record["modalities"]), list(record["classes"])
    matching = record["matching"]
    refinement = find_refinement(record)
    concerns = unsaid_of_refined([*find_concerns(record, scores), *find_translation_concerns(translations)], refinement)
    # What was expected of the first matching is not held against the scores of a refined one.
    judged = None if refinement is not None and refinement["kept"] else scores
    confidence = read_confidence(run, (matching["source"], matching["target"]))
    return pages.get_template("template.html.j2").render(
        r=record,
        m=matching,
        scores=scores,
        verdict=None if diagnosis is None else find_verdict(diagnosis, judged, confidence, concerns),
        by_label={} if diagnosis is None else diagnosis["labels"],
        concerns=sorted(without_said(concerns, diagnosis), key=lambda c: c.severity != "error"),
        notes=plain_notes(record),
        undecided=mean_partners(matching["blocks"]),
        kinds=_classifier_kinds(record),
        metrics=[] if scores is None else _metrics(scores),
        left_out={} if scores is None else words.by_reason(scores["coverage"]["left_out"]),
        plots_space=pictures.space_pictures(
            xy, pictures.codes(modality, names), names, pictures.codes(label, classes), classes
        ),
        plots_classifier={
            n: pictures.classifier_pictures(q, record["embedding"]["dims"], n) for n, q in record["classifiers"].items()
        },
        plot_partners=pictures.partners_picture(matching["blocks"]) if diagnosis is None else None,
        plot_foscttm=None if scores is None else pictures.foscttm_picture(scores),
        plot_risk=None if scores is None else pictures.risk_picture(scores),
        refinement=refinement,
        plot_refinement=refinement_picture(refinement),
        translations=translations,
        figures_translation=[translation_pictures(t) for t in translations],
        distance_names=METRICS,
        many=_MANY,
    )


def _classifier_kinds(record: Mapping[str, Any]) -> dict[str, str]:
    kinds = record["embedding"]["options"].get("classifier")
    return dict(kinds) if isinstance(kinds, Mapping) else dict.fromkeys(record["classifiers"], kinds or words.DASH)


def _metrics(scores: Mapping[str, Any]) -> list[Metric]:
    weighted, uniform = scores["weighted"], scores["uniform"]
    found = [
        _metric(
            "Trace",
            "Probability that the matching gives the true partner. Higher is better.",
            [s["trace"] for s in (scores, weighted, uniform)],
            "1",
        ),
        _metric(
            "Trace over uniform",
            "How many times as likely the true partner is as by the label alone. Higher is better.",
            [s["trace_over_uniform"] for s in (scores, weighted, uniform)],
            "candidates",
        ),
    ]
    drawn = "The same with one partner drawn at random from the matching, as published. Lower is better."
    for key, name, meaning in (("foscttm", "FOSCTTM", ""), ("foscttm_sampled", "FOSCTTM, sampled", drawn)):
        for side in ("source", "target"):
            what = meaning or (
                f"Share of {scores[side]} cells that are nearer to the prediction than the true one. "
                "Lower is better; 0.5 is chance."
            )
            values = [s[key][side] for s in (scores, weighted, uniform)]
            found.append(_metric(f"{name}, in {scores[side]}", what, values, "0", as_text=words.fixed))
    if scores["latent_mse"] is not None:
        found.append(
            _metric(
                "Latent MSE",
                "Squared distance between a cell's true latent state and the mean of its partners'. Lower is better.",
                [s["latent_mse"] for s in (scores, weighted, uniform)],
                "0",
            )
        )
    meaning = "Probability of the true partner over all known pairs; one not covered counts zero. Higher is better."
    return [*found, _metric("Matching score", meaning, [scores["matching_score"], None, None], "1")]


def _metric(
    name: str, meaning: str, values: Sequence[float | None], perfect: str, as_text: Any = words.number
) -> Metric:
    run, weighted, uniform = (as_text(v) for v in values)
    return Metric(name, meaning, run, weighted, uniform, perfect)
