"""The command line. Every verb is one call into a room; data go to stdout, talk to stderr."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from unpaired.errors import DataError, LabelError, OptionError, UnpairedError

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich is slow to import, and help must answer at once
    pretty_exceptions_enable=False,
    help="Match unpaired samples of different instruments by the label they share. "
    "Exit codes: 2 a wrong option, 3 bad data, 4 a label failed.",
)

Files = Annotated[list[str], typer.Argument(help="Files as PATH or NAME=PATH: h5ad, h5mu, zarr, npz, csv, parquet.")]
RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory made by align.")]
Label = Annotated[str, typer.Option(help="Column with the label of each sample's experiment.")]
Batch = Annotated[str | None, typer.Option(help="Column with the batch, kept in the results; no method uses it yet.")]
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
Method = Annotated[str, typer.Option("--match", help="ot, snn, uniform or random.")]
Preset = Annotated[str, typer.Option(help="default, or published: the paper's recipe (overrides what it sets).")]
Classifier = Annotated[
    list[str] | None, typer.Option(help="auto, logistic, mlp, conv or published; or NAME=KIND for one modality.")
]
Folds = Annotated[int, typer.Option(help="Folds of the cross-fitting; 1 is one model on one split.")]
Repeats = Annotated[int, typer.Option(help="Repeats of the cross-fitting.")]
Calibrate = Annotated[bool, typer.Option(help="Divide the logits by a temperature.")]
Epochs = Annotated[int | None, typer.Option(help="Most epochs of a network.")]
Eps = Annotated[
    str,
    typer.Option(
        help="Weight of the entropy: a number, auto (the classifiers' noise), or e.g. 0.05*median of the cost."
    ),
]
Cost = Annotated[str, typer.Option(help="sqeuclidean or euclidean.")]
Unbalanced = Annotated[float | None, typer.Option(help="Penalty in place of the marginal constraints.")]
MaxIter = Annotated[int, typer.Option(help="Most passes over the pairs of one label.")]
MaxSeconds = Annotated[float, typer.Option(help="Most seconds for one label.")]
Tol = Annotated[float, typer.Option(help="Largest error of the marginals.")]
Memory = Annotated[
    str | None, typer.Option(help="Most memory of the matching, e.g. 8GB; by default half of what is free.")
]
K = Annotated[int, typer.Option("-k", help="Neighbours of snn.")]
Metric = Annotated[str, typer.Option(help="Distance of snn: euclidean or cosine.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Jobs = Annotated[int, typer.Option(help="Workers; changes no result but of a label that --max-seconds stops.")]
Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn.")]
Out = Annotated[Path, typer.Option(help="Folder to make for the results.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a run that is there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings.")]

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
    "ot": {"eps", "cost", "unbalanced", "max_iter", "max_seconds", "tol", "memory"},
    "snn": {"k", "metric"},
    "uniform": set[str](),
    "random": set[str](),
}


@app.command()
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
    how: dict[str, Any] = {"missing": missing, "pairing": pairing, "recipes": _by_name("recipe", recipe)}
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


@app.command()
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
        "recipes": _by_name("recipe", recipe),
        "eps": _number_or_words(eps),
        "classifier": _classifiers(classifier),
    }
    given |= _preset(preset, typed := _typed(ctx))
    _refuse_unused(method, typed)
    _talk(quiet=quiet)
    result = workflow.align(files, out, workflow.AlignOptions(**given), force=force)
    _show(result, as_json=as_json)


_NOT_OPTIONS = {"ctx", "files", "out", "recipe", "preset", "eps", "classifier", "force", "as_json", "quiet"}


@app.command()
def score(
    run: RunDir,
    truth: Annotated[Path | None, typer.Option(help="CSV of true pairs, one column a modality.")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Score a run by the pairing that it hid, or by a file of true pairs."""
    from unpaired.evaluate.scores import score as judge
    from unpaired.run.read import read_run, read_truth

    found = read_run(run)
    known = read_truth(truth, found.data) if truth is not None else found.truth
    if known is None:
        msg = f"{run} has no truth to score by; run align with --pairing hide, or give --truth FILE."
        raise OptionError(msg)
    scores = judge(found.matching, known, found.data, seed=seed)
    typer.echo(json.dumps(scores.to_dict(), indent=1) if as_json else _table(scores.to_dict()))


@app.command()
def report(run: RunDir) -> None:
    """Write the report of a run again and print where it is."""
    from unpaired.report.page import write_report

    typer.echo(str(write_report(run)))


@app.command()
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

    _talk(quiet=quiet)
    result = workflow.demo(out, workflow.AlignOptions(pairing="hide", jobs=jobs, seed=seed), force=force)
    _show(result, as_json=as_json)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    from unpaired._version import __version__

    if version:
        typer.echo(__version__)
        raise typer.Exit


def _by_name(option: str, items: list[str] | None) -> dict[str, str]:
    pairs = [item.partition("=") for item in items or []]
    for name, equals, value in pairs:
        if not (name and equals and value):
            msg = f"--{option} must be NAME={option.upper()}; got {name + equals + value!r}."
            raise OptionError(msg)
    return {name: value for name, _, value in pairs}


def _classifiers(items: list[str] | None) -> Any:
    if items and len(items) == 1 and "=" not in items[0]:
        return items[0]
    return _by_name("classifier", items) if items else "auto"


def _number_or_words(eps: str) -> Any:
    try:
        return float(eps)
    except ValueError:
        return eps  # auto, or 0.05*median: the matching knows its words


def _typed(ctx: typer.Context) -> set[str]:
    """Names of the options that the user gave."""
    return {n for n in ctx.params if (source := ctx.get_parameter_source(n)) is not None and source.name != "DEFAULT"}


def _preset(name: str, typed: set[str]) -> dict[str, Any]:
    """Return what the preset sets; an option of the user's is never rewritten."""
    from unpaired.options import check_choice

    check_choice("preset", name, ("default", "published"))
    clash = sorted(typed & set(_PUBLISHED)) if name == "published" else []
    if clash:
        msg = f"preset 'published' sets {clash[0]} to {_PUBLISHED[clash[0]]!r}; leave out {clash[0]}, or the preset."
        raise OptionError(msg)
    return _PUBLISHED if name == "published" else {}


def _refuse_unused(method: str, typed: set[str]) -> None:
    """Raise if an option was given that the method does not take: it would be ignored in silence."""
    taken = _TAKEN_BY.get(method, set())
    unused = sorted(typed & set().union(*_TAKEN_BY.values()) - taken)
    if method in _TAKEN_BY and unused:
        msg = f"{unused[0]} is not an option of --match {method}; leave it out."
        raise OptionError(msg)


def _talk(*, quiet: bool) -> None:
    logger = logging.getLogger("unpaired")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]
    logger.propagate = False  # a library may have set up the root logger, and would say everything twice
    logger.setLevel(logging.WARNING if quiet else logging.INFO)


def _show(result: Any, *, as_json: bool) -> None:
    scores = None if result.scores is None else result.scores.to_dict()
    page = result.path / "report.html"
    if as_json:
        typer.echo(json.dumps({"run": str(result.path), "report": str(page), "scores": scores}, indent=1))
    else:
        typer.echo(repr(result.matching))
        if scores is not None:
            typer.echo(_table(scores))
        typer.echo(f"report: {page}")
    failed = [b.label for b in result.matching.blocks if b.status.state == "failed"]
    if failed:
        msg = f"{len(failed)} labels failed, first {failed[0]!r}; the report says why."
        raise LabelError(msg)


def _table(scores: dict[str, Any]) -> str:
    uniform, covered = scores["uniform"], scores["coverage"]

    def line(name: str, value: float, base: float) -> str:
        return f"{name:<28}{value:>10.4f}{base:>10.4f}"

    lines = [f"{scores['source'] + ' -> ' + scores['target']:<28}{'this':>10}{'uniform':>10}"]
    lines += [line(n, scores[n], uniform[n]) for n in ("trace", "trace_over_uniform")]
    lines += [
        line(f"foscttm {side}", scores["foscttm"][side], uniform["foscttm"][side]) for side in ("source", "target")
    ]
    if scores["latent_mse"] is not None:
        lines.append(line("latent_mse", scores["latent_mse"], uniform["latent_mse"]))
    lines.append(f"{'matching_score':<28}{scores['matching_score']:>10.4f}")
    lines.append(
        f"means over {covered['labels']} of {covered['labels_total']} labels, "
        f"{covered['pairs']} of {covered['pairs_total']} known pairs"
    )
    return "\n".join(lines)


def main() -> None:
    """Run the command line; an expected error is one message on stderr and its exit code."""
    try:
        app()
    except UnpairedError as error:
        typer.echo(str(error), err=True)
        sys.exit(error.exit_code)
