"""All methods on all paired data sets under a folder, the pairing hidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from unpaired.bench.matching import Problem, notes_text, run_units, unavailable, units_of
from unpaired.bench.methods import GROMOV_CELLS, METHODS, Budget
from unpaired.bench.options import Options, chosen
from unpaired.bench.store import Store
from unpaired.bench.tables import COVERAGE, Column, markdown, summaries, write_csv, write_markdown
from unpaired.bench.verdicts import verdict_text, verdicts
from unpaired.errors import DataError, OptionError
from unpaired.errors import Problem as Trouble

__all__ = ["COLUMNS", "Preset", "Source", "find_pairs", "hashes", "left_out_text", "published_epochs", "run"]

_KINDS = (".h5ad", ".h5mu", ".npz", ".zarr")
_MANY = 6  # pairs of modalities in one data set; of more, neighbours only


@dataclass(frozen=True)
class Preset:
    """How much is done.

    Attributes
    ----------
    most
        Cells of a label at most, in every modality, so that Gromov-Wasserstein ends; ``None`` takes all.
    budget
        Of the methods.
    steps
        Of the optimizers of the published recipe and of the peers, about; the VAE is allowed twice as many. ``None``
        leaves the budget.
    """

    most: int | None
    budget: Budget
    steps: int | None = None


PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(
        40,
        Budget(
            repeats=2, epochs=3, published_epochs=2, vae_epochs=2, vae_hidden=64, peer_epochs=2, gromov_iterations=20
        ),
    ),
    "cpu": Preset(700, Budget(vae_hidden=256, vae_rate=1e-3, gromov_iterations=200), steps=120),
    "paper": Preset(None, Budget()),
}

_BATCH, _PEER_BATCH = 256, 128
_EPOCHS = 15, 250  # of the published recipe and the VAE: with fewer nothing is learned, more are not published
_PEER_EPOCHS = 5, 100


@dataclass(frozen=True)
class Source:
    """Two modalities that measured the same cells, and their files.

    Attributes
    ----------
    name
        ``"FOLDER SOURCE-TARGET"``.
    files
        The files of the data set.
    modalities
        The names of the two.
    """

    name: str
    files: tuple[str, ...]
    modalities: tuple[str, str]


def _mean_foscttm(result: Mapping[str, Any]) -> float:
    return float(result["scores"]["foscttm"]["mean"])


COLUMNS = (
    Column("foscttm", "FOSCTTM ↓", _mean_foscttm),
    Column("foscttm_sampled", "of a drawn partner ↓", lambda r: r["scores"]["foscttm_sampled"]["mean"]),
    Column("trace_over_uniform", "trace / uniform ↑", lambda r: r["scores"]["trace_over_uniform"], 2),
    *COVERAGE,
    Column("seconds", "seconds", lambda r: r["seconds"] + r["space"].get("seconds", 0.0), 1),
)


def find_pairs(
    folder: Path, wanted: Sequence[str], *, label: str = "label", most: int | None = _MANY
) -> tuple[list[Source], dict[str, str]]:
    """Find the paired modalities of every data set under a folder, which are folders of files themselves.

    Parameters
    ----------
    folder
        One folder a data set.
    wanted
        ``"NAME:SOURCE-TARGET"``: of a data set that is named here only these; of others all pairs that share half of
        their cells, or of more than ``most`` those of modalities that come one after another.
    label
        Column with the label.
    most
        Pairs of one data set; ``None`` takes all.

    Returns
    -------
    sources, left_out
        The pairs; and folder -> why nothing in it can be used, of those that nobody named.

    Raises
    ------
    OptionError
        If a wanted pair is not there, or not written so.
    DataError
        If a data set that is named cannot be used, or there is no paired data set.
    """
    asked: dict[str, list[str]] = {}
    for item in wanted:
        name, colon, pair = item.partition(":")
        if not (name and colon and "-" in pair):
            msg = f"a pair must be NAME:SOURCE-TARGET; got {item!r}."
            raise OptionError(msg)
        asked.setdefault(name, []).append(pair)
    unknown = [n for n in asked if not (folder / n).is_dir()]
    if unknown:
        msg = f"there is no data set {unknown[0]!r} in {folder}."
        raise OptionError(msg)
    found: list[Source] = []
    left_out: dict[str, str] = {}
    for own in sorted(p for p in folder.iterdir() if p.is_dir()):
        try:
            sources = _of(own, asked.get(own.name), label, most)
        except DataError as error:
            if own.name in asked:
                raise
            left_out[own.name] = error.problems[0].what
            continue
        found += sources
        if not sources:
            left_out[own.name] = "no two of its modalities share half of their cells."
    if not found:
        what = "no folder in it holds two modalities of the same cells."
        fix = "One folder a data set, with h5ad, h5mu, npz or zarr files."
        why = [Trouble("error", str(folder / name), reason) for name, reason in left_out.items()]
        raise DataError([Trouble("error", str(folder), what, fix), *why])
    return found, left_out


def _of(folder: Path, asked: list[str] | None, label: str, most: int | None) -> list[Source]:
    from unpaired.data.read import read

    files = tuple(str(f) for f in sorted(folder.iterdir()) if f.suffix in _KINDS)
    if not files:
        raise DataError([Trouble("error", str(folder), f"there is no file in it that ends in {', '.join(_KINDS)}.")])
    data, _ = read(*files, label=label, pairing="use", recipes="none")
    names = list(data)

    def shared(a: str, b: str) -> bool:
        assert data.pairs is not None
        return int((data.pairs.partners(a, b) >= 0).sum()) >= min(len(data[a]), len(data[b])) / 2

    there = [(a, b) for a, b in combinations(names, 2) if shared(a, b)]
    if asked is not None:
        by_name = {f"{a}-{b}": (a, b) for x, y in there for a, b in ((x, y), (y, x))}
        if lost := [p for p in asked if p not in by_name]:
            msg = f"{folder.name} has no pair {lost[0]!r}; there are {', '.join(by_name)}."
            raise OptionError(msg)
        there = [by_name[p] for p in asked]
    elif most is not None and len(there) > most:
        there = [p for p in pairwise(names) if p in there]
    return [Source(f"{folder.name} {a}-{b}", files, (a, b)) for a, b in there]


def _load(case: str, sources: Mapping[str, Source], preset: str) -> Problem:
    from unpaired.data.read import read

    source, own = sources[case], PRESETS[preset]
    data, truth = read(
        *source.files, label="label", modalities=source.modalities, pairing="hide", max_cells_per_label=own.most
    )
    assert truth is not None
    return Problem(data, data, truth, data, _budget(own, max(len(m) for m in data.modalities.values())))


def _budget(preset: Preset, cells: int) -> Budget:
    """Return the budget for a data set of so many cells: a small one has few steps an epoch."""
    if preset.steps is None:
        return preset.budget
    return replace(
        preset.budget,
        published_epochs=published_epochs(cells, preset.steps),
        vae_epochs=_epochs(cells, 2 * preset.steps, _BATCH, _EPOCHS),
        peer_epochs=_epochs(cells, preset.steps, _PEER_BATCH, _PEER_EPOCHS),
    )


def published_epochs(cells: int, steps: int = 120) -> int:
    """Return the epochs that make about so many steps of the optimizer, within what is published."""
    return _epochs(cells, steps, _BATCH, _EPOCHS)


def _epochs(cells: int, steps: int, batch: int, span: tuple[int, int]) -> int:
    return min(span[1], max(span[0], round(steps / max(1.0, cells / batch))))


def run(options: Options) -> str:
    """Run the bench and return its table; everything is under ``options.out``.

    Raises
    ------
    OptionError
        If an option is not allowed, or there is no folder of data.
    DataError
        If it holds no paired data.
    """
    options.check(takes=("data", "pairs"))
    if options.data is None or not options.data.is_dir():
        msg = f"data must be a folder with one folder a data set; got {options.data}."
        raise OptionError(msg)
    methods = chosen(options.methods, METHODS)
    found, left_out = find_pairs(options.data, options.pairs)
    sources = {s.name: s for s in found}
    settings = {"bench": "real", "preset": options.preset, "device": options.device, **asdict(PRESETS[options.preset])}
    store = Store(options.out, {**settings, "data": hashes(sources.values())})
    load = partial(_load, sources=sources, preset=options.preset)
    units = units_of(list(sources), methods, options.seeds)
    run_units(units, load, store, jobs=options.jobs, device=options.device)
    return _write(store, PRESETS[options.preset], unavailable(methods), left_out)


def hashes(sources: Any) -> dict[str, str]:
    """Return file -> its hash, for all files of some data sets."""
    from unpaired.files import sha256

    return {
        f"{Path(f).parent.name}/{Path(f).name}": sha256(Path(f)) for f in sorted({f for s in sources for f in s.files})
    }


def _write(store: Store, preset: Preset, absent: Mapping[str, str], left_out: Mapping[str, str]) -> str:
    results = list(store.results())
    found = summaries(results, COLUMNS)
    titles = {name: m.title for name, m in METHODS.items()}
    parts = [_about(preset), markdown(found, COLUMNS, titles, absent), notes_text(results)]
    parts += [verdict_text(verdicts(found, _pairs(results)), found, titles)]
    text = "\n".join(p for p in (*parts, left_out_text(left_out)) if p)
    write_csv(store.folder, found, absent)
    write_markdown(store.folder, "All methods on all paired data sets", text)
    return text


def left_out_text(left_out: Mapping[str, str]) -> str:
    """Say which data sets are left out, and why."""
    return "".join(f"{name} is left out: {why}\n\n" for name, why in left_out.items())


def _pairs(results: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Return case -> the true pairs of every label scored; the same for all methods that score all labels."""
    most: dict[str, list[int]] = {}
    for r in results:
        if "scores" in r:
            own = [label["pairs"] for label in r["scores"]["per_label"].values()]
            most[r["case"]] = max(most.get(r["case"], []), own, key=len)
    return most


def _about(preset: Preset) -> str:
    b = preset.budget
    cells = "all cells" if preset.most is None else f"at most {preset.most} cells of a label"
    work = "as many epochs as published"
    if preset.steps is not None:
        span = f"{_EPOCHS[0]} to {_EPOCHS[1]} epochs"
        work = f"about {preset.steps} steps of the optimizer (the VAE {2 * preset.steps}), {span}"
    return (
        f"Every method sees {cells}. Ours is its default, {b.folds} folds x {b.repeats} repeats of classifiers that "
        "learn for as long as they would for a user (below 10,000 cells logistic regression and perceptron, averaged). "
        f"Published networks and peers have {work}; the VAE is {b.vae_hidden} wide (published: 1,024), its learning "
        f"rate {b.vae_rate:g} (1e-4); Gromov-Wasserstein has {b.gromov_iterations} outer iterations at most, and one "
        f"coupling of all labels at most {GROMOV_CELLS:,} cells on a side. The other spaces are matched as "
        "published: Euclidean distances, whatever their scale, and eps = 0.05 (OT), or one neighbour by cosine (SNN). "
        "FOSCTTM is of the barycentric projections, in the features that the recipes make (z-scores of tables), ties "
        "one half, mean of both directions, over labels alike.\n"
    )
