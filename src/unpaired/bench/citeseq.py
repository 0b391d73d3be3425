"""Tables 1 and 2 of the propensity paper, CITE-seq: matchings of held-out cells, and what is learned from matchings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from unpaired.bench.citeseq_plots import points_by_method
from unpaired.bench.citeseq_prediction import COLUMNS as R2_COLUMNS
from unpaired.bench.citeseq_prediction import DIRECTIONS, PREDICTED, Lesson, Predictor, Task, run_tasks
from unpaired.bench.citeseq_prediction import PUBLISHED as R2_PUBLISHED
from unpaired.bench.citeseq_prediction import TITLES as R2_TITLES
from unpaired.bench.matching import Problem, run_units, unavailable, units_of
from unpaired.bench.methods import METHODS, SPACES, Budget, missing
from unpaired.bench.options import Options, chosen
from unpaired.bench.plots import save
from unpaired.bench.published import CITESEQ
from unpaired.bench.store import Store
from unpaired.bench.tables import Column, Summary, markdown, summaries, write_csv, write_markdown
from unpaired.data.bmmc import Split, bmmc_citeseq, bmmc_file
from unpaired.errors import OptionError
from unpaired.files import sha256, write_json

__all__ = ["COLUMNS", "PRESETS", "Preset", "run"]

_CASE = "bone marrow, test cells"
_LEARN = "bone marrow, learning cells"
_PREDICTION = "bone marrow,"
_LABELS = ("label", "cell_type")  # of a folder with few cells: coarse types, if it has any


@dataclass(frozen=True)
class Preset:
    """How much is done.

    Attributes
    ----------
    most
        Cells of a label at most; ``None`` takes all.
    budget
        Of the methods that match.
    predictor
        Of the predictors.
    """

    most: int | None
    budget: Budget
    predictor: Predictor


_SMOKE = Budget(
    repeats=2, epochs=3, published_epochs=2, vae_epochs=2, vae_hidden=64, peer_epochs=2, gromov_iterations=20
)
_CPU = Budget(published_epochs=60, vae_epochs=60, vae_hidden=256, peer_epochs=60, gromov_iterations=200)
PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(40, _SMOKE, Predictor(epochs=2, default_epochs=2)),
    "cpu": Preset(700, _CPU, Predictor(steps=1000)),
    "paper": Preset(None, Budget(), Predictor()),
}

COLUMNS = (
    Column("trace", "trace ↑", lambda r: r["scores"]["trace"], 4),
    Column("foscttm_sampled", "FOSCTTM of a drawn partner ↓", lambda r: r["scores"]["foscttm_sampled"]["mean"], 4),
    Column("foscttm", "FOSCTTM ↓", lambda r: r["scores"]["foscttm"]["mean"], 4),
    Column("trace_over_uniform", "trace / uniform ↑", lambda r: r["scores"]["trace_over_uniform"], 2),
    Column("seconds", "seconds", lambda r: r["seconds"] + r["space"].get("seconds", 0.0), 1),
)

_REMARKS = """\
Published figures, in [], are medians over ten seeds of all cells of GSE194122: a trace compares only at as many cells a
label. The published FOSCTTM is that of a drawn partner, the mean of both directions. The paper says that its predictor
goes from genes to proteins; its published code goes from proteins to the components of the genes, so the published
figures stand beside both. "Any cell of the label", a new partner at every visit, is what the published table calls
random. The cells learned from are those of train and validation together, because our methods choose the epoch by cells
that they hold out themselves.
"""


def run(options: Options) -> str:
    """Run the bench and return its tables; everything is under ``options.out``.

    ``options.data`` is the file of GEO, or a folder with ``rna.h5ad`` and ``adt.h5ad``; without it the file is
    downloaded, or taken from the cache.

    Raises
    ------
    OptionError
        If an option is not allowed.
    DataError
        If the data cannot be had or used.
    """
    options.check()
    names = chosen(options.methods, (*METHODS, "pairs"))
    if options.data is not None and not options.data.exists():
        msg = (
            f"data must be the file of GSE194122, or a folder with rna.h5ad and adt.h5ad; {options.data} is not there."
        )
        raise OptionError(msg)
    methods = tuple(n for n in names if n in METHODS)
    methods = tuple(n for n in METHODS if n in methods or n == "uniform")
    path = bmmc_file(options.data)
    preset = PRESETS[options.preset]
    store = Store(options.out, {"bench": "citeseq", "preset": options.preset, **asdict(preset), "data": _hashes(path)})
    how: dict[str, Any] = {"path": path, "preset": options.preset, "counts": _counted(methods)}
    notes = _notes(store, how)
    units = units_of([_CASE], methods, options.seeds)
    run_units(units, partial(_load, how=how), store, jobs=options.jobs, device=options.device)
    tasks = _tasks(names, options.seeds)
    run_tasks(tasks, partial(_lesson, how=how), store, jobs=options.jobs, device=options.device)
    return _write(store, unavailable(methods), notes)


def _tasks(names: Sequence[str], seeds: int) -> list[Task]:
    predicted = [n for n in PREDICTED if n in names or n == "uniform"]
    return [
        Task(_PREDICTION, _CASE, name, seed)
        for name in predicted
        if name not in METHODS or missing(name) is None
        for seed in range(seeds)
    ]


# ------------------------------------------------------------------------------------------------------------ data


def _hashes(path: Path) -> dict[str, str]:
    files = [path / "rna.h5ad", path / "adt.h5ad"] if path.is_dir() else [path]
    return {f.name: sha256(f) for f in files if f.exists()}  # of one that is not there the reader will say so


def _counted(methods: Sequence[str]) -> bool:
    """Whether a method that can be had models counts."""
    spaces = {METHODS[n].space for n in methods if missing(n) is None}
    return any(s is not None and SPACES[s].own_cells for s in spaces)


def _label(path: Path) -> str:
    """Return the column with the label: the coarse one of a folder that has it, where fine types have too few cells."""
    import h5py

    if not path.is_dir() or not (path / "rna.h5ad").is_file():
        return _LABELS[-1]
    try:
        with h5py.File(path / "rna.h5ad", "r") as file:
            return next((c for c in _LABELS if c in file.get("obs", {})), _LABELS[-1])
    except OSError:  # the reader will say what is wrong with it
        return _LABELS[-1]


@lru_cache(maxsize=1)
def _split(path: Path, preset: str, counts: bool) -> Split:  # noqa: FBT001
    """Return the data; the split and the shuffling are the same for all seeds of the methods."""
    return bmmc_citeseq(path, label=_label(path), max_cells_per_label=PRESETS[preset].most, counts=counts)


def _load(case: str, *, how: Mapping[str, Any]) -> Problem:
    split = _split(**how)
    learn, _ = split.learn
    test, truth = split.test
    assert truth is not None
    counts = split.take_counts("test") if split.counts is not None else None
    return Problem(learn, test, truth, test, PRESETS[how["preset"]].budget, counts, {_LEARN: learn})


def _lesson(*, how: Mapping[str, Any]) -> Lesson:
    return _lesson_of(**how)


@lru_cache(maxsize=1)
def _lesson_of(path: Path, preset: str, counts: bool) -> Lesson:  # noqa: FBT001
    split, own = _split(path, preset, counts), PRESETS[preset]
    learn, learn_truth = split.learn
    test, truth = split.test
    assert learn_truth is not None
    assert truth is not None
    return Lesson(_LEARN, learn, learn_truth, test, truth, own.budget, own.predictor)


def _notes(store: Store, how: Mapping[str, Any]) -> list[str]:
    """Return what is to be said of the data; kept, so that a finished bench need not read them again."""
    kept = store.folder / "data.json"
    if not kept.exists():
        split = _split(**how)
        sizes = f"{split!r}, {len(split.data.classes)} labels of column {_label(how['path'])!r}."
        write_json(kept, {"notes": [sizes, *split.data.notes]})
    notes: list[str] = json.loads(kept.read_text(encoding="utf-8"))["notes"]
    return notes


# ---------------------------------------------------------------------------------------------------------- tables


def _write(store: Store, absent: Mapping[str, str], notes: Sequence[str]) -> str:
    results = list(store.results())
    matched = summaries([r for r in results if r["case"] == _CASE], COLUMNS, published=CITESEQ)
    cases = [Task(_PREDICTION, _CASE, "", 0).case_of(d) for d in DIRECTIONS]
    learned: list[Summary] = []
    for case in cases:
        learned += summaries([r for r in results if r["case"] == case], R2_COLUMNS, published=R2_PUBLISHED)
    titles = {name: m.title for name, m in METHODS.items()}
    text = "\n".join(
        [
            markdown(matched, COLUMNS, titles, absent),
            markdown(learned, R2_COLUMNS, R2_TITLES, {}),
            _REMARKS,
            "\n".join(f"* {note}" for note in notes) + "\n",
        ]
    )
    write_csv(store.folder, [*matched, *learned])
    write_markdown(store.folder, "CITE-seq of bone marrow", text)
    drawn = [("foscttm_sampled", "FOSCTTM of a drawn partner (lower is better)", matched, titles)]
    drawn += [("trace_over_uniform", "trace / uniform (higher is better)", matched, titles)]
    save(points_by_method(drawn), store.folder / "matching")
    if learned:
        parts = [("r2_mse", "MSE loss"), ("r2_unbiased", "unbiased loss")]
        drawn = [
            (
                metric,
                f"R2 {case.removeprefix(_PREDICTION).strip()}, {loss}",
                [s for s in learned if s.case == case],
                dict(R2_TITLES),
            )
            for case in cases
            for metric, loss in parts
        ]
        save(points_by_method(drawn), store.folder / "prediction")
    return text
