"""``unpaired check``: what is wrong with the inputs, before any work."""

from __future__ import annotations

import json
from typing import Any

import typer

from unpaired.cli.options import (
    AsJson,
    Batch,
    Files,
    Jobs,
    Label,
    Layer,
    Memory,
    Missing,
    Pairing,
    Recipes,
    Source,
    Target,
    by_name,
)
from unpaired.errors import DataError

__all__ = ["check"]


def check(
    files: Files,
    label: Label = "label",
    batch: Batch = None,
    layer: Layer = None,
    source: Source = None,
    target: Target = None,
    recipe: Recipes = None,
    missing: Missing = "median",
    pairing: Pairing = "none",
    memory: Memory = None,
    jobs: Jobs = 1,
    as_json: AsJson = False,
) -> None:
    """Say everything that is wrong with the inputs, or worth knowing, at once; and what matching them will take."""
    from unpaired.data.check import check_tables
    from unpaired.data.load import load_tables
    from unpaired.match.forecast import forecast_ot
    from unpaired.options import check_integer, to_bytes

    check_integer("jobs", jobs, low=1)
    room = None if memory is None else to_bytes("memory", memory)
    both = [source, target] if source is not None and target is not None else None
    tables = load_tables(files, modalities=both, layer=layer, label=label, batch=batch)
    how: dict[str, Any] = {"missing": missing, "pairing": pairing, "recipes": by_name("recipe", recipe)}
    problems = check_tables(tables, label=label, batch=batch, **how)
    errors = [p for p in problems if p.severity == "error"]
    sides: dict[str, Any] = {"source": source, "target": target}
    takes = None if errors else forecast_ot(tables, label=label, memory=room, jobs=jobs, **sides)
    if as_json:
        said = {"problems": [vars(p) for p in problems], "matching": None if takes is None else takes.to_dict()}
        typer.echo(json.dumps(said, indent=1))
    for line in [] if as_json else [*problems, *([] if takes is None else [takes])]:
        typer.echo(str(line))
    typer.echo(
        f"{len(errors)} error{'' if len(errors) == 1 else 's'}, {len(problems) - len(errors)} other remarks", err=True
    )
    raise typer.Exit(DataError.exit_code if errors else 0)
