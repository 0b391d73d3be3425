"""The papers' experiments, and the comparison with other methods: one command a table."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from unpaired.options import check_choice

if TYPE_CHECKING:
    from unpaired.bench.options import Options

__all__ = ["BENCHES", "run_bench"]

BENCHES = ("images", "citeseq", "screen", "monitor", "real", "trust", "clue")
"""Each is the module of its name."""


def run_bench(what: str, options: Options) -> str:
    """Run one of :data:`BENCHES` and return its table as Markdown; all of it is under ``options.out``.

    Raises
    ------
    OptionError
        If there is no such bench, or one of its options is not allowed.
    """
    from unpaired.embed.training import resolve_device

    check_choice("bench", what, BENCHES)
    # Before anything is kept: results of two devices must not be mixed, and a device that is not there is no result.
    device = resolve_device(options.device)
    text: str = import_module(f"unpaired.bench.{what}").run(replace(options, device=device))
    return text
