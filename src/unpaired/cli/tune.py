"""``unpaired tune``: try a few classifiers a modality, and say which to align with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unpaired.cli.options import (
    AsJson,
    Batch,
    Device,
    Files,
    HoldOut,
    Jobs,
    Label,
    Layer,
    MaxCells,
    Missing,
    Pairing,
    Quiet,
    Recipes,
    Seed,
    Source,
    Target,
    TestFraction,
    by_name,
)
from unpaired.cli.show import show_tuning, talk

__all__ = ["tune"]

Minutes = Annotated[
    float,
    typer.Option(
        help="Time for all trials, then for a refinement; the cheapest trial of every modality is always finished."
    ),
]
Folds = Annotated[int, typer.Option(help="Folds of the cross-fitting, two or more.")]
OutFile = Annotated[Path | None, typer.Option(help="JSON file for what was found.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that tune wrote.")]


def tune(
    files: Files,
    label: Label = "label",
    batch: Batch = None,
    layer: Layer = None,
    source: Source = None,
    target: Target = None,
    recipe: Recipes = None,
    missing: Missing = "median",
    pairing: Pairing = "none",
    max_cells_per_label: MaxCells = None,
    hold_out_label: HoldOut = None,
    test_fraction: TestFraction = 0.0,
    minutes: Minutes = 10.0,
    folds: Folds = 5,
    device: Device = "auto",
    jobs: Jobs = 1,
    seed: Seed = 0,
    out: OutFile = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Try a few classifiers for every modality, judged on cells they did not see, and say which to align with."""
    given = {k: v for k, v in locals().items() if k not in _NOT_OPTIONS}
    from unpaired import workflow

    given |= {"recipes": by_name("recipe", recipe), "hold_out_labels": tuple(hold_out_label or ())}
    talk(quiet=quiet)
    tuning = workflow.tune(files, workflow.TuneOptions(**given), out=out, force=force)
    show_tuning(tuning, out, as_json=as_json)


_NOT_OPTIONS = {"files", "recipe", "hold_out_label", "out", "force", "as_json", "quiet"}
