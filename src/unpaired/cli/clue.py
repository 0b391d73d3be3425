"""``unpaired clue``: one space for cells of which some are measured in several modalities."""

from __future__ import annotations

from typing import Annotated

import typer

from unpaired.cli.options import (
    AsJson,
    Batch,
    Device,
    Files,
    Force,
    Layer,
    Missing,
    Out,
    Quiet,
    Recipes,
    Seed,
    by_name,
)
from unpaired.cli.show import show_clue, talk

__all__ = ["clue"]

Pairs = Annotated[
    str,
    typer.Option(
        metavar="shared|FILE|none",
        help="Which cells are one: shared, those of the same name in several modalities; FILE, a CSV table with a "
        "column for each modality and a row for each cell, its name in each, empty where it was not measured; or none.",
    ),
]
Preset = Annotated[
    str, typer.Option(help="Networks and loss: citeseq or multiome as published for such data, or default.")
]
Label = Annotated[
    str | None,
    typer.Option(help="Column with the label of each sample's experiment, for --soft-pairs and the pictures."),
]
SoftPairs = Annotated[
    bool,
    typer.Option(
        "--soft-pairs",
        help="While learning, draw partners for cells of one modality from a matching by --label, which it needs.",
    ),
]
TestFraction = Annotated[
    float | None,
    typer.Option(
        help="Of the cells measured in several modalities, keep so many out of everything that learns, to judge by "
        "them; 0.1 by default, and none without pairs."
    ),
]
Impute = Annotated[
    str,
    typer.Option(help="Write imputed readings of the cells that lack a modality (missing), of all cells, or none."),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        help="Most passes over the cells; by default as many as make 36,000 steps, an hour or so without a GPU."
    ),
]
Likelihoods = Annotated[
    list[str] | None,
    typer.Option(
        "--likelihood",
        help="NAME=KIND: nb (counts), bernoulli (0 and 1) or normal, where it is not to be told by the readings.",
    ),
]


def clue(
    files: Files,
    out: Out,
    pairs: Pairs,
    label: Label = None,
    batch: Batch = None,
    layer: Layer = None,
    recipe: Recipes = None,
    missing: Missing = "median",
    preset: Preset = "default",
    likelihood: Likelihoods = None,
    soft_pairs: SoftPairs = False,
    test_fraction: TestFraction = None,
    impute: Impute = "missing",
    epochs: Epochs = None,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Learn one space of partly paired cells, impute what each lacks, and write a run directory with a report."""
    given = {k: v for k, v in locals().items() if k not in _NOT_OPTIONS}
    from unpaired import workflow

    given |= {"recipes": by_name("recipe", recipe), "likelihoods": by_name("likelihood", likelihood)}
    talk(quiet=quiet)
    result = workflow.clue(files, out, workflow.ClueOptions(**given), force=force)
    show_clue(result, as_json=as_json)


_NOT_OPTIONS = {"files", "out", "recipe", "likelihood", "force", "as_json", "quiet"}
