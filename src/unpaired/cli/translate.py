"""``unpaired translate``: predict one modality from another by a run's matching."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unpaired.cli.options import AsJson, Epochs, Quiet, RunDir
from unpaired.cli.show import show_translation, talk

__all__ = ["translate"]

From = Annotated[
    str | None, typer.Option("--from", help="Modality to predict from; by default the source of the run's matching.")
]
To = Annotated[str | None, typer.Option("--to", help="Modality to predict; by default the target.")]
Loss = Annotated[str | None, typer.Option(help="unbiased (default), mse or barycentric.")]
Space = Annotated[str | None, typer.Option(help="Predict the target's features (default), or its raw readings.")]
Head = Annotated[str | None, typer.Option(help="gaussian (default); or nb, for raw counts.")]
Network = Annotated[str | None, typer.Option(help="default, or published: the paper's predictor.")]
Members = Annotated[int | None, typer.Option(help="Networks in the ensemble; 5 by default.")]
FromFile = Annotated[
    Path | None, typer.Option(help="Learn from this coupling in place of the run's: a sparse matrix, npz or mtx.")
]
Cells = Annotated[
    Path | None, typer.Option(help="New cells of the modality to predict from; uses the model that the run has.")
]
OutFile = Annotated[Path | None, typer.Option(help="File for the predictions of --cells.")]
Device = Annotated[str | None, typer.Option(help="auto (default), cpu, cuda or mps.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything that is drawn; 0 by default.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a translation; with --cells, a file of predictions.")]


def translate(
    run: RunDir,
    source: From = None,
    target: To = None,
    loss: Loss = None,
    space: Space = None,
    head: Head = None,
    network: Network = None,
    members: Members = None,
    epochs: Epochs = None,
    matching: FromFile = None,
    cells: Cells = None,
    out: OutFile = None,
    device: Device = None,
    seed: Seed = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Learn to predict one modality from another, score it on all cells and on those held out, add it to the report."""
    given = {k: v for k, v in locals().items() if k not in _NOT_OPTIONS}
    from unpaired import workflow

    talk(quiet=quiet)
    chosen = workflow.TranslateOptions(**given)
    result = workflow.translate(run, chosen, cells=cells, out=out, force=force)
    show_translation(run, result, as_json=as_json)


_NOT_OPTIONS = {"run", "cells", "out", "force", "as_json", "quiet"}
