"""The main jobs, from files to a run directory: what the command line runs, and what it leaves behind."""

from unpaired.workflow.align import METHODS, AlignOptions, AlignResult, align, demo
from unpaired.workflow.translate import TranslateOptions, TranslateResult, translate
from unpaired.workflow.tune import TuneOptions, tune

__all__ = [
    "METHODS",
    "AlignOptions",
    "AlignResult",
    "TranslateOptions",
    "TranslateResult",
    "TuneOptions",
    "align",
    "demo",
    "translate",
    "tune",
]
