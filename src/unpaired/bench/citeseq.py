"""Tables 1 and 2 of the propensity paper, CITE-seq: matchings of held-out cells, and what is learned from matchings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from unpaired.bench.citeseq_plots import points_by_method
from unpaired.bench.citeseq_prediction import PREDICTED, Lesson, Predictor, Task, passes, run_tasks
from unpaired.bench.citeseq_prediction import TITLES as R2_TITLES
from unpaired.bench.citeseq_tables import CASE, PREDICTION, About, budget_text, learned_of, matched_of, tables
from unpaired.bench.matching import Problem, notes_text, run_units, unavailable, units_of
from unpaired.bench.methods import METHODS, SPACES, Budget, missing
from unpaired.bench.options import Options, chosen
from unpaired.bench.plots import save_figure
from unpaired.bench.real import Source, hashes
from unpaired.bench.store import Store
from unpaired.bench.tables import Summary, write_csv, write_markdown
from unpaired.data.bmmc import BMMC_FILE, BMMC_SHA256, Split, bmmc_citeseq, bmmc_file
from unpaired.errors import OptionError
from unpaired.files import write_json

__all__ = ["PRESETS", "Preset", "run"]

_LEARN = "bone marrow, learning cells"
_LABELS = ("label", "cell_type")  # of a folder with few cells: coarse types, if it has any
_WHOLE = {"cells": 90_000, "labels": 45, "proteins": 134}  # at least so many, and just so many, in GSE194122


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
    steps
        Of the optimizers of the published recipe and of the peers, about; the VAE has twice as many. ``None`` leaves
        the budget.
    """

    most: int | None
    budget: Budget
    predictor: Predictor
    steps: int | None = None


_SMOKE = Budget(
    repeats=2, epochs=3, published_epochs=2, vae_epochs=2, vae_hidden=64, peer_epochs=2, gromov_iterations=20
)
_CPU = Budget(vae_hidden=256, vae_epochs=60, gromov_iterations=200)  # a longer or faster VAE matched worse
PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(40, _SMOKE, Predictor(epochs=2, default_epochs=2)),
    "cpu": Preset(700, _CPU, Predictor(steps=1000), steps=120),
    "paper": Preset(None, Budget(), Predictor()),
}

_BATCH, _PEER_BATCH = 256, 128
_EPOCHS = 60, 250  # of the published recipe and the VAE: a large set is given the first, 250 are published
_PEER_EPOCHS = 60, 100


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
    options.check(takes=("data",))
    names = chosen(options.methods, (*METHODS, "pairs"))
    if options.data is not None and not options.data.exists():
        msg = (
            f"data must be the file of GSE194122, or a folder with rna.h5ad and adt.h5ad; {options.data} is not there."
        )
        raise OptionError(msg)
    methods = tuple(n for n in names if n in METHODS)
    path = bmmc_file(options.data)
    preset = PRESETS[options.preset]
    settings = {"bench": "citeseq", "preset": options.preset, "device": options.device, **asdict(preset)}
    how: dict[str, Any] = {"path": path, "preset": options.preset, "counts": _counted(methods)}
    identity = _identity(options.data)
    if not (options.out / "bench.json").exists():
        _split(**how)  # data that cannot be used are said to be before a folder is made
    store = Store(options.out, {**settings, "data": identity})
    about = _about(store, how)
    units = units_of([CASE], methods, options.seeds)
    run_units(units, partial(_load, how=how), store, jobs=options.jobs, device=options.device)
    tasks = _tasks(names, options.seeds)
    run_tasks(tasks, partial(_lesson, how=how), store, jobs=options.jobs, device=options.device)
    budget = _budget(preset, about.learn, about.test)
    said = budget_text(options.preset, preset.most, budget, preset.predictor, about)
    return _write(store, about, unavailable(methods), said)


def _tasks(names: Sequence[str], seeds: int) -> list[Task]:
    return [
        Task(PREDICTION, CASE, name, seed)
        for name in PREDICTED
        if name in names and (name not in METHODS or missing(name) is None)
        for seed in range(seeds)
    ]


def _budget(preset: Preset, learn: int, test: int) -> Budget:
    """Return the budget for so many cells to learn from and to match: few make few steps a pass."""
    if preset.steps is None:
        return preset.budget

    def within(epochs: int, span: tuple[int, int]) -> int:
        return min(span[1], max(span[0], epochs))

    return replace(
        preset.budget,
        published_epochs=within(passes(preset.steps, learn, _BATCH), _EPOCHS),
        peer_epochs=within(passes(preset.steps, test, _PEER_BATCH), _PEER_EPOCHS),  # they learn from what is matched
    )


# ------------------------------------------------------------------------------------------------------------ data


def _identity(given: Path | None) -> dict[str, str]:
    """Return file -> hash; a file that was downloaded has been held to its own already."""
    if given is None:
        return {f"{BMMC_FILE}.gz": BMMC_SHA256}
    files = [given / "rna.h5ad", given / "adt.h5ad"] if given.is_dir() else [given]
    # Of one that is not there the reader will say so.
    return hashes([Source(given.name, tuple(str(f) for f in files if f.exists()), ("rna", "adt"))])


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
    budget = _budget(PRESETS[how["preset"]], len(learn["rna"]), len(test["rna"]))
    return Problem(learn, test, truth, test, budget, counts, {_LEARN: learn})


def _lesson(*, how: Mapping[str, Any]) -> Lesson:
    return _lesson_of(**how)


@lru_cache(maxsize=1)
def _lesson_of(path: Path, preset: str, counts: bool) -> Lesson:  # noqa: FBT001
    split, own = _split(path=path, preset=preset, counts=counts), PRESETS[preset]
    learn, learn_truth = split.learn
    test, truth = split.test
    assert learn_truth is not None
    assert truth is not None
    budget = _budget(own, len(learn["rna"]), len(test["rna"]))
    return Lesson(_LEARN, learn, learn_truth, test, truth, budget, own.predictor)


def _about(store: Store, how: Mapping[str, Any]) -> About:
    """Return what is to be said of the data; kept, so that a finished bench need not read them again."""
    kept = store.folder / "data.json"
    if not kept.exists():
        split, label = _split(**how), _label(how["path"])
        sizes = f"{split!r}, {len(split.data.classes)} labels of column {label!r}."
        learn, test = (len(split.rows(*parts)["rna"]) for parts in (("train", "valid"), ("test",)))
        about = About(_as_published(split, label), learn, test, (sizes, *split.data.notes))
        write_json(kept, asdict(about))
    found = json.loads(kept.read_text(encoding="utf-8"))
    return About(**{**found, "notes": tuple(found["notes"])})


def _as_published(split: Split, label: str) -> bool:
    """Whether the data are those of the published figures: all cells, their own labels, and the file's own split."""
    proteins = split.data["adt"]
    whole = len(proteins) >= _WHOLE["cells"] and proteins.X.shape[1] == _WHOLE["proteins"]
    return split.published and label == _LABELS[-1] and whole and len(split.data.classes) == _WHOLE["labels"]


# ---------------------------------------------------------------------------------------------------------- tables


def _write(store: Store, about: About, absent: Mapping[str, str], said: str) -> str:
    results = list(store.results())
    matched = matched_of(results, published=about.published)
    learned = learned_of(results, published=about.published)
    text = "\n".join(p for p in (tables(matched, learned, about, absent, said), notes_text(results)) if p)
    write_csv(store.folder, [*matched, *(s for own in learned.values() for s in own)], absent)
    write_markdown(store.folder, "CITE-seq of bone marrow", text)
    _draw(store.folder, matched, learned)
    return text


def _draw(folder: Path, matched: Sequence[Summary], learned: Mapping[str, Sequence[Summary]]) -> None:
    titles = {name: m.title for name, m in METHODS.items()}
    drawn = [("foscttm_sampled", "FOSCTTM of a drawn partner (lower is better)", matched, titles)]
    drawn += [("trace_over_uniform", "trace / uniform (higher is better)", matched, titles)]
    save_figure(points_by_method(drawn)[0], folder / "matching")
    if any(learned.values()):
        losses = [("r2_mse", "MSE loss"), ("r2_unbiased", "unbiased loss")]
        drawn = [
            (metric, f"R2 {case.removeprefix(PREDICTION).strip()}, {loss}", own, dict(R2_TITLES))
            for case, own in learned.items()
            for metric, loss in losses
        ]
        save_figure(points_by_method(drawn)[0], folder / "prediction")
