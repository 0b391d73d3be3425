"""The options that several verbs share, and what was typed of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unpaired.errors import OptionError

__all__ = ["by_name", "number_or_words", "one_or_by_name", "typed", "whole_or_words"]

Files = Annotated[list[str], typer.Argument(help="Files as PATH or NAME=PATH: h5ad, h5mu, zarr, npz, csv, parquet.")]
RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory made by align.")]
AnyRun = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory made by align or clue.")]
Label = Annotated[str, typer.Option(help="Column with the label of each sample's experiment.")]
Batch = Annotated[
    str | None, typer.Option(help="Column with the batch, kept in the results; of all verbs only clue learns from it.")
]
Layer = Annotated[str | None, typer.Option(help="Layer to read in place of X.")]
Source = Annotated[str | None, typer.Option(help="Modality to match from; needed when there are more than two.")]
Target = Annotated[str | None, typer.Option(help="Modality to match to.")]
Recipes = Annotated[
    list[str] | None,
    typer.Option(
        "--recipe", help="NAME=RECIPE: counts, peaks, protein, scale, image, none or auto; e.g. rna=counts:pcs=100."
    ),
]
Missing = Annotated[str, typer.Option(help="Missing values of a table: median (of the feature) or error.")]
Pairing = Annotated[str, typer.Option(help="none, or hide: same names are one sample; take that out and score by it.")]
MaxCells = Annotated[int | None, typer.Option(help="Keep at most so many samples of each label in each modality.")]
HoldOut = Annotated[
    list[str] | None,
    typer.Option(help="Keep all samples of this label out of everything, for translate to be scored on them."),
]
TestFraction = Annotated[
    float, typer.Option(help="Keep this fraction of the samples of every other label out, for the same.")
]
Memory = Annotated[
    str | None, typer.Option(help="Most memory of the matching, e.g. 8GB; by default half of what is free.")
]
Epochs = Annotated[int | None, typer.Option(help="Most epochs of a network.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Jobs = Annotated[int, typer.Option(help="Workers; changes no result but of a label that --max-seconds stops.")]
Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn.")]
Out = Annotated[Path, typer.Option(help="Folder to make for the results.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a run that is there, its translations included.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings.")]


def by_name(option: str, items: list[str] | None) -> dict[str, str]:
    """Return the values of an option that is given as NAME=VALUE, several times."""
    pairs = [item.partition("=") for item in items or []]
    for name, equals, value in pairs:
        if not (name and equals and value):
            msg = f"--{option} must be NAME={option.upper()}; got {name + equals + value!r}."
            raise OptionError(msg)
    return {name: value for name, _, value in pairs}


def one_or_by_name(option: str, items: list[str] | None) -> str | dict[str, str] | None:
    """Return the value of an option that is given once for all modalities, or as NAME=VALUE; ``None`` if it is not."""
    if items and len(items) == 1 and "=" not in items[0]:
        return items[0]
    return by_name(option, items) if items else None


def whole_or_words(value: str) -> Any:
    """Return the whole number, or the words as they are, for the room's own check to refuse."""
    try:
        return int(value)
    except ValueError:
        return value


def typed(ctx: typer.Context) -> set[str]:
    """Return the names of the options that the user gave."""
    return {n for n in ctx.params if (source := ctx.get_parameter_source(n)) is not None and source.name != "DEFAULT"}


def number_or_words(value: str) -> Any:
    """Return the number, or the words as they are: the room that takes them knows which there are."""
    try:
        return float(value)
    except ValueError:
        return value
