"""The main jobs, from files to a run directory: what the command line runs, and what the run records."""

from unpaired.workflow.align import METHODS, AlignOptions, AlignResult, align, demo
from unpaired.workflow.translate import TranslateOptions, TranslateResult, translate

__all__ = [
    "METHODS",
    "AlignOptions",
    "AlignResult",
    "TranslateOptions",
    "TranslateResult",
    "align",
    "demo",
    "translate",
]
