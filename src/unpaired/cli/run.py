"""``unpaired score`` and ``unpaired report``: the verbs that look at a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from unpaired.cli.options import AnyRun, AsJson, RunDir, Seed
from unpaired.cli.show import score_table
from unpaired.errors import OptionError

__all__ = ["report", "score"]


def score(
    run: RunDir,
    truth: Annotated[Path | None, typer.Option(help="CSV of true pairs, one column a modality.")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Score a run by the pairing that it hid, or by a file of true pairs."""
    from unpaired.evaluate.scores import score as judge
    from unpaired.run.read import read_run, read_truth

    found = read_run(run)
    known = read_truth(truth, found.data) if truth is not None else found.truth
    if known is None:
        msg = f"{run} has no truth to score by; run align with --pairing hide, or give --truth FILE."
        raise OptionError(msg)
    scores = judge(found.matching, known, found.data, seed=seed)
    typer.echo(json.dumps(scores.to_dict(), indent=1) if as_json else score_table(scores.to_dict()))


def report(run: AnyRun) -> None:
    """Write the report of a run again and print where it is."""
    from unpaired.report.page import write_report

    typer.echo(str(write_report(run)))
