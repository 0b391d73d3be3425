"""``unpaired align``, and ``unpaired demo``: the same on data that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unpaired.cli.options import (
    AsJson,
    Batch,
    Device,
    Files,
    Force,
    HoldOut,
    Jobs,
    Label,
    Layer,
    MaxCells,
    Memory,
    Missing,
    Out,
    Pairing,
    Quiet,
    Recipes,
    Seed,
    Source,
    Target,
    TestFraction,
    by_name,
    number_or_words,
    one_or_by_name,
    typed,
    whole_or_words,
)
from unpaired.cli.show import show_alignment, talk
from unpaired.errors import OptionError

__all__ = ["align", "demo"]

Method = Annotated[str, typer.Option("--match", help="ot, snn, uniform or random.")]
Preset = Annotated[str, typer.Option(help="default, or published: the paper's recipe (overrides what it sets).")]
Classifier = Annotated[
    list[str] | None,
    typer.Option(
        help="auto, blend (logistic and mlp averaged), logistic, mlp, conv or published; or NAME=KIND for one modality."
    ),
]
Epochs = Annotated[list[str] | None, typer.Option(help="Most epochs of a network; or NAME=N for one modality.")]
Folds = Annotated[int, typer.Option(help="Folds of the cross-fitting; 1 is one model on one split.")]
Repeats = Annotated[int, typer.Option(help="Repeats of the cross-fitting.")]
Calibrate = Annotated[bool, typer.Option(help="Divide the logits by a temperature.")]
Eps = Annotated[
    str,
    typer.Option(
        help="Weight of the entropy: a number, auto (2, in directions weighted by the classifiers' noise), "
        "or e.g. 0.05*median of the cost."
    ),
]
Cost = Annotated[str, typer.Option(help="sqeuclidean or euclidean.")]
Unbalanced = Annotated[float | None, typer.Option(help="Penalty in place of the marginal constraints.")]
MaxIter = Annotated[int, typer.Option(help="Most passes over the pairs of one label.")]
MaxSeconds = Annotated[float, typer.Option(help="Most seconds for one label.")]
Tol = Annotated[float, typer.Option(help="Largest error of the marginals.")]
K = Annotated[int, typer.Option("-k", help="Neighbours of snn.")]
Metric = Annotated[str, typer.Option(help="Distance of snn: euclidean or cosine.")]

Refine = Annotated[
    str,
    typer.Option(
        help="auto, off, or a number of rounds: learn encoders from the matching and match again. auto begins only "
        "where the verdict and the likeness of the modalities allow it."
    ),
]

_PUBLISHED = {
    "classifier": "published",
    "folds": 1,
    "repeats": 1,
    "calibrate": False,
    "eps": 0.05,
    "cost": "euclidean",
    "metric": "cosine",
}
_TAKEN_BY = {
    "ot": {"eps", "cost", "unbalanced", "max_iter", "max_seconds", "tol", "memory", "refine"},
    "snn": {"k", "metric"},
    "uniform": set[str](),
    "random": set[str](),
}
_NOT_OPTIONS = {
    "ctx",
    "files",
    "out",
    "recipe",
    "preset",
    "eps",
    "classifier",
    "epochs",
    "hold_out_label",
    "force",
    "refine",
}
_NOT_OPTIONS |= {"as_json", "quiet"}


def align(
    ctx: typer.Context,
    files: Files,
    out: Out,
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
    preset: Preset = "default",
    classifier: Classifier = None,
    folds: Folds = 5,
    repeats: Repeats = 3,
    calibrate: Calibrate = True,
    epochs: Epochs = None,
    method: Method = "ot",
    eps: Eps = "auto",
    cost: Cost = "sqeuclidean",
    unbalanced: Unbalanced = None,
    max_iter: MaxIter = 10_000,
    max_seconds: MaxSeconds = 600.0,
    tol: Tol = 1e-4,
    memory: Memory = None,
    k: K = 1,
    metric: Metric = "euclidean",
    refine: Refine = "off",
    device: Device = "auto",
    jobs: Jobs = 1,
    seed: Seed = 0,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Match the samples of two modalities and write a run directory with a report."""
    given = {k: v for k, v in locals().items() if k not in _NOT_OPTIONS}
    from unpaired import workflow

    given |= {
        "recipes": by_name("recipe", recipe),
        "hold_out_labels": tuple(hold_out_label or ()),
        "eps": number_or_words(eps),
        "refine": whole_or_words(refine),
        "classifier": one_or_by_name("classifier", classifier) or "auto",
        "epochs": _whole(one_or_by_name("epochs", epochs)),
    }
    given |= _preset(preset, given_by_user := typed(ctx))
    _refuse_unused(method, given_by_user)
    talk(quiet=quiet)
    result = workflow.align(files, out, workflow.AlignOptions(**given), force=force)
    show_alignment(result, as_json=as_json)


def demo(
    out: Out = Path("demo-run"),
    jobs: Jobs = 1,
    seed: Seed = 0,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run align on real data that come with the package: halves of handwritten digits, their pairing hidden."""
    from unpaired import workflow

    talk(quiet=quiet)
    result = workflow.demo(out, workflow.AlignOptions(pairing="hide", jobs=jobs, seed=seed), force=force)
    show_alignment(result, as_json=as_json)


def _whole(epochs: str | dict[str, str] | None) -> Any:
    if isinstance(epochs, dict):
        return {name: whole_or_words(value) for name, value in epochs.items()}
    return None if epochs is None else whole_or_words(epochs)


def _preset(name: str, given: set[str]) -> dict[str, Any]:
    """Return what the preset sets; an option of the user's is never rewritten."""
    from unpaired.options import check_choice

    check_choice("preset", name, ("default", "published"))
    clash = sorted(given & set(_PUBLISHED)) if name == "published" else []
    if clash:
        msg = f"preset 'published' sets {clash[0]} to {_PUBLISHED[clash[0]]!r}; leave out {clash[0]}, or the preset."
        raise OptionError(msg)
    return _PUBLISHED if name == "published" else {}


def _refuse_unused(method: str, given: set[str]) -> None:
    """Raise if an option was given that the method does not take: it would be ignored in silence."""
    taken = _TAKEN_BY.get(method, set())
    unused = sorted(given & set().union(*_TAKEN_BY.values()) - taken)
    if method in _TAKEN_BY and unused:
        msg = f"{unused[0]} is not an option of --match {method}; leave it out."
        raise OptionError(msg)
