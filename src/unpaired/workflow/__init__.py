"""The main jobs, from files to a run directory: what the command line runs, and what it leaves behind."""

from unpaired.workflow.align import METHODS, AlignOptions, AlignResult, align, demo
from unpaired.workflow.clue import ClueOptions, ClueResult, clue
from unpaired.workflow.translate import TranslateOptions, TranslateResult, translate
from unpaired.workflow.tune import TuneOptions, tune

__all__ = [
    "METHODS",
    "AlignOptions",
    "AlignResult",
    "ClueOptions",
    "ClueResult",
    "TranslateOptions",
    "TranslateResult",
    "TuneOptions",
    "align",
    "clue",
    "demo",
    "translate",
    "tune",
]
