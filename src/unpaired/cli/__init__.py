"""The command line. Every verb is one call into a room; data go to stdout, talk to stderr."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from unpaired.cli import align, bench, check, clue, run, translate, tune
from unpaired.errors import UnpairedError

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich is slow to import, and help must answer at once
    pretty_exceptions_enable=False,
    help="Match unpaired samples of different instruments by the label they share. "
    "Exit codes: 2 a wrong option, 3 bad data, 4 a label failed.",
)

_MATCHING = (check.check, tune.tune, align.align, translate.translate, run.score, run.report)
for _verb in (*_MATCHING, clue.clue, bench.bench, align.demo):
    app.command()(_verb)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    from unpaired._version import __version__

    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; an expected error is one message on stderr and its exit code."""
    try:
        app()
    except UnpairedError as error:
        typer.echo(str(error), err=True)
        sys.exit(error.exit_code)
