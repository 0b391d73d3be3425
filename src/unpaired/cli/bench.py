"""``unpaired bench``: the papers' experiments, and the comparison with other methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unpaired.cli.options import Device, Quiet
from unpaired.cli.show import talk

__all__ = ["bench"]


def bench(
    what: Annotated[str, typer.Argument(help="images, citeseq, screen, monitor, real, trust or clue.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; a bench that was stopped goes on there.")],
    methods: Annotated[
        str, typer.Option(help="Names (of clue: of tables, too), separated by commas; all by default.")
    ] = "",
    seeds: Annotated[int, typer.Option(help="Seeds 0 to N - 1.")] = 3,
    preset: Annotated[str, typer.Option(help="smoke, cpu or paper.")] = "cpu",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of data sets, one folder each; for clue a folder with rna.h5ad and adt.h5ad; or the file."
        ),
    ] = None,
    pair: Annotated[
        list[str] | None, typer.Option(help="NAME:SOURCE-TARGET, of a data set with many modalities.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Workers, each on one thread; changes no result.")] = 1,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Run one of the benches: a table in Markdown and CSV, one file a result, plots."""
    from unpaired.bench import run_bench
    from unpaired.bench.options import Options

    talk(quiet=quiet)
    names = tuple(n.strip() for n in methods.split(",") if n.strip())
    options = Options(out, preset, names, seeds, data, tuple(pair or ()), jobs, device)  # type: ignore[arg-type]
    typer.echo(run_bench(what, options))
