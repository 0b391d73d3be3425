"""What the verbs say: talk on stderr, results as a table or as JSON on stdout."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from unpaired.errors import LabelError

__all__ = ["score_table", "show_alignment", "show_clue", "show_translation", "show_tuning", "talk"]

_PARTS = {"train": "train", "test": "test", "label": "held-out label"}
_DISTANCES = {"l2": "L2", "wasserstein": "W1", "kl_gaussian": "KL"}


def talk(*, quiet: bool) -> None:
    """Let the package talk on stderr."""
    logger = logging.getLogger("unpaired")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]
    logger.propagate = False  # a library may have set up the root logger, and would say everything twice
    logger.setLevel(logging.WARNING if quiet else logging.INFO)


def show_alignment(result: Any, *, as_json: bool) -> None:
    """Print what a run found, and where its report is.

    Raises
    ------
    LabelError
        If a label failed.
    """
    scores = None if result.scores is None else result.scores.to_dict()
    if scores is not None and result.selective_risk is not None:
        scores["selective_risk"] = result.selective_risk.to_dict()
    page = result.path / "report.html"
    refined = result.matching.made_by.options.get("refine")
    if as_json:
        said = {"run": str(result.path), "report": str(page), "verdict": result.diagnosis.verdict}
        told = result.diagnosis.to_dict()
        said |= {"sentence": told["sentence"], "expected": told["expected"], "scores": scores}
        if refined is not None:
            said["refine"] = refined
        typer.echo(json.dumps(said, indent=1))
    else:
        typer.echo(repr(result.matching))
        typer.echo(str(result.diagnosis).splitlines()[0])
        if refined is not None:
            typer.echo(f"refined: rounds kept: {refined['kept']}. {refined['sentence']}")
        if scores is not None:
            typer.echo(score_table(scores))
        typer.echo(f"report: {page}")
    failed = [b.label for b in result.matching.blocks if b.status.state == "failed"]
    if failed:
        msg = f"{len(failed)} labels failed, first {failed[0]!r}; the report says why."
        raise LabelError(msg)


def show_clue(result: Any, *, as_json: bool) -> None:
    """Print what was learned, how good it is on the cells that were kept out, and where the report is."""
    page, record = result.path / "report.html", result.record
    if as_json:
        said = {"run": str(result.path), "report": str(page), "scores": result.scores}
        said |= {"cells": record["pairs"]["cells"], "epoch": record["training"]["epoch"], "notes": record["notes"]}
        typer.echo(json.dumps(said | {"imputed": record["imputed"]}, indent=1))
        return
    for one in record["pairs"]["cells"]:
        held = f", {one['held_out']} kept out to judge by" if one["held_out"] else ""
        typer.echo(f"{' and '.join(one['modalities'])}: {one['learned_from']} cells learned from{held}")
    for one in record["soft_pairs"]:
        typer.echo(f"soft pairs of {one['source']} and {one['target']}: {one['sentence']}")
    for s in (result.scores or {"latent": []})["latent"]:
        scores = f"matching score {s['matching_score']:.4f} ({s['matching_score_chance']:.4f} by chance), FOSCTTM "
        scores += f"{s['foscttm_source']:.4f} / {s['foscttm_target']:.4f} (0.5 by chance)"
        typer.echo(f"{s['source']} and {s['target']}: {scores}; {s['cells']} cells")
    for s in (result.scores or {"imputation": []})["imputation"]:
        middle, cells = _number(s["pearson_quartiles"][1]), s["cells"]
        typer.echo(f"{s['source']} -> {s['target']}: median correlation of a feature {middle}; {cells} cells")
    typer.echo(f"report: {page}")


def score_table(scores: dict[str, Any]) -> str:
    """Return the table of a matching's scores, beside those of the uniform coupling."""
    uniform, covered = scores["uniform"], scores["coverage"]

    def line(name: str, value: float, base: float) -> str:
        return f"{name:<28}{value:>10.4f}{base:>10.4f}"

    lines = [f"{scores['source'] + ' -> ' + scores['target']:<28}{'this':>10}{'uniform':>10}"]
    lines += [line(n, scores[n], uniform[n]) for n in ("trace", "trace_over_uniform")]
    lines += [
        line(f"foscttm {side}", scores["foscttm"][side], uniform["foscttm"][side]) for side in ("source", "target")
    ]
    if scores["latent_mse"] is not None:
        lines.append(line("latent_mse", scores["latent_mse"], uniform["latent_mse"]))
    lines.append(f"{'matching_score':<28}{scores['matching_score']:>10.4f}")
    lines.append(
        f"means over {covered['labels']} of {covered['labels_total']} labels, "
        f"{covered['pairs']} of {covered['pairs_total']} known pairs"
    )
    return "\n".join(lines)


def show_tuning(tuning: Any, out: Path | None, *, as_json: bool) -> None:
    """Print what was tried and chosen, and the options of align that take the choice."""
    chosen = {name: (c["classifier"], c["epochs"]) for name, c in tuning.choice.items()}
    options = [f"--classifier {shlex.quote(f'{name}={kind}')}" for name, (kind, _) in chosen.items()]
    options += [f"--epochs {shlex.quote(f'{name}={most}')}" for name, (_, most) in chosen.items() if most is not None]
    refined = tuning.refine
    if refined is not None and refined["pays"]:
        options.append("--refine auto")
    if as_json:
        file = None if out is None else str(out)
        typer.echo(json.dumps({**tuning.to_dict(), "align": " ".join(options), "out": file}, indent=1))
        return
    typer.echo(repr(tuning))
    typer.echo("judged by how well labels are told, which matching need not follow: compare with align's default")
    if refined is not None:
        typer.echo(f"refine: {refined['status']}, rounds kept: {refined['rounds']}. {refined['sentence']}")
    typer.echo(f"unpaired align ... {' '.join(options)}")
    if out is not None:
        typer.echo(f"tuning: {out}")


def show_translation(run: Path, result: Any, *, as_json: bool) -> None:
    """Print how good a translation is if it is new, and where it, its report and predictions of new cells are."""
    scores, page = result.record["scores"], run / "report.html"
    if as_json:
        said = {"run": str(run), "translation": str(result.path), "report": str(page), "scores": scores}
        said |= {"trained": result.trained, "cells": None if result.cells is None else str(result.cells)}
        typer.echo(json.dumps(said, indent=1))
        return
    if result.trained:
        typer.echo(translation_table(result.record))
        typer.echo(f"translation: {result.path}\nreport: {page}")
    if result.cells is not None:
        typer.echo(f"cells: {result.cells}" if result.trained else str(result.cells))


def translation_table(record: Mapping[str, Any]) -> str:
    """Return the table of a translation's scores, a line a part of the cells."""
    head = [f"{record['source']} -> {record['target']}", "cells", "pairs", "R2", "of label", "labels"]
    rows = [[*head, *(word for title in _DISTANCES.values() for word in (title, "baseline"))]]
    for part, scores in record["scores"].items():
        pairs, found = scores["pairs"], scores["distributions"]
        row = [_PARTS[part], str(record["cells"][part])]
        r2 = ["-"] * 2 if pairs is None else [_number(pairs[k]) for k in ("r2", "r2_of_label")]
        row += ["-" if pairs is None else _of(pairs, "pairs"), *r2]
        row += ["-"] * (1 + 2 * len(_DISTANCES)) if found is None else _distances(found)
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(v.rjust(w) for v, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    lines += [
        "R2 of label: that of guessing the mean of the label's measured training cells",
        "distances: means by cells; baseline: measured cells of other labels in place of the predicted ones",
    ]
    return "\n".join(lines)


def _distances(found: Mapping[str, Any]) -> list[str]:
    """Return the labels that are compared and the distances; one that fewer labels have is followed by their number."""
    covered = found["coverage"]
    row = [_of(covered, "labels")]
    for name in _DISTANCES:
        fewer = "" if covered["metrics"][name] == covered["labels"] else f" ({covered['metrics'][name]})"
        row += [_number(found["by_cells"][name]) + fewer, _number(found["baseline_by_cells"][name])]
    return row


def _of(covered: Mapping[str, Any], what: str) -> str:
    """Return ``9`` or ``8/9``: how many of how many."""
    some, total = covered[what], covered[f"{what}_total"]
    return str(some) if some == total else f"{some}/{total}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
