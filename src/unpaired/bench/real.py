"""All methods on all paired data sets under a folder, the pairing hidden."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from unpaired.bench.matching import Problem, run_units, unavailable, units_of
from unpaired.bench.methods import METHODS, Budget
from unpaired.bench.options import Options, chosen
from unpaired.bench.store import Store
from unpaired.bench.tables import COVERAGE, Column, Summary, grid, markdown, summaries, write_csv, write_markdown
from unpaired.errors import DataError, OptionError
from unpaired.errors import Problem as Trouble

__all__ = ["COLUMNS", "Preset", "Source", "find_pairs", "run", "verdicts"]

_log = logging.getLogger(__name__)

_KINDS = (".h5ad", ".h5mu", ".npz", ".zarr")
_MANY = 6  # pairs of modalities in one data set; of more, neighbours only
_TIE, _WORSE = "within noise of the best", "worse than the best"
_RANK_SD = 1 / np.sqrt(12)  # of a uniform rank between 0 and 1


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
        40, Budget(repeats=2, published_epochs=2, vae_epochs=2, vae_hidden=64, peer_epochs=2, gromov_iterations=20)
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


def find_pairs(folder: Path, wanted: Sequence[str], *, label: str = "label") -> list[Source]:
    """Return the paired modalities of every data set under a folder, which are folders of files themselves.

    Parameters
    ----------
    folder
        One folder a data set.
    wanted
        ``"NAME:SOURCE-TARGET"``: of a data set that is named here only these; of others all pairs that share half of
        their cells, or of more than six those of modalities that come one after another.
    label
        Column with the label.

    Raises
    ------
    OptionError
        If a wanted pair is not there, or not written so.
    DataError
        If there is no paired data set.
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
    found = [
        s for own in sorted(p for p in folder.iterdir() if p.is_dir()) for s in _of(own, asked.get(own.name), label)
    ]
    if not found:
        what = "no folder in it holds two modalities of the same cells."
        raise DataError(
            [Trouble("error", str(folder), what, "One folder a data set, with h5ad, h5mu, npz or zarr files.")]
        )
    return found


def _of(folder: Path, asked: list[str] | None, label: str) -> list[Source]:
    from unpaired.data.read import read

    files = tuple(str(f) for f in sorted(folder.iterdir()) if f.suffix in _KINDS)
    if not files:
        return []
    try:
        data, _ = read(*files, label=label, pairing="use", recipes="none")
    except DataError as error:
        _log.info("%s is left out: %s", folder.name, error.problems[0].what)
        return []
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
    elif len(there) > _MANY:
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

    def epochs(steps: float, batch: int, span: tuple[int, int]) -> int:
        return min(span[1], max(span[0], round(steps / max(1.0, cells / batch))))

    return replace(
        preset.budget,
        published_epochs=epochs(preset.steps, _BATCH, _EPOCHS),
        vae_epochs=epochs(2 * preset.steps, _BATCH, _EPOCHS),
        peer_epochs=epochs(preset.steps, _PEER_BATCH, _PEER_EPOCHS),
    )


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
    sources = {s.name: s for s in find_pairs(options.data, options.pairs)}
    settings = {"bench": "real", "preset": options.preset, "device": options.device, **asdict(PRESETS[options.preset])}
    store = Store(options.out, {**settings, "data": hashes(sources.values())})
    load = partial(_load, sources=sources, preset=options.preset)
    units = units_of(list(sources), methods, options.seeds)
    run_units(units, load, store, jobs=options.jobs, device=options.device)
    return _write(store, PRESETS[options.preset], unavailable(methods))


def hashes(sources: Any) -> dict[str, str]:
    """Return file -> its hash, for all files of some data sets."""
    from unpaired.files import sha256

    return {
        f"{Path(f).parent.name}/{Path(f).name}": sha256(Path(f)) for f in sorted({f for s in sources for f in s.files})
    }


def _write(store: Store, preset: Preset, absent: Mapping[str, str]) -> str:
    results = list(store.results())
    found = summaries(results, COLUMNS)
    titles = {name: m.title for name, m in METHODS.items()}
    counts = {r["case"]: r["scores"]["coverage"]["pairs"] for r in results if r["method"] == "ps+ot" and "scores" in r}
    parts = [_about(preset), markdown(found, COLUMNS, titles, absent), _verdict_text(verdicts(found, counts), found)]
    text = "\n".join(parts)
    write_csv(store.folder, found, absent)
    write_markdown(store.folder, "All methods on all paired data sets", text)
    return text


def _about(preset: Preset) -> str:
    b = preset.budget
    cells = "all cells" if preset.most is None else f"at most {preset.most} cells of a label"
    work = "as many epochs as published"
    if preset.steps is not None:
        span = f"{_EPOCHS[0]} to {_EPOCHS[1]} epochs"
        work = f"about {preset.steps} steps of the optimizer (the VAE {2 * preset.steps}), {span}"
    return (
        f"Every method sees {cells}. Published networks and peers have {work}; the VAE is {b.vae_hidden} wide "
        f"(published: 1,024), its learning rate {b.vae_rate:g} (1e-4); Gromov-Wasserstein has {b.gromov_iterations} "
        "outer iterations at most. All rows but ours are matched as published: Euclidean distances, whatever their "
        "scale, and eps = 0.05 (OT), or one neighbour by cosine (SNN). FOSCTTM is of the barycentric projections, "
        "ties one half, mean of both directions, over labels alike.\n"
    )


def verdicts(found: Sequence[Summary], pairs: Mapping[str, int], ours: str = "ps+ot") -> list[dict[str, Any]]:
    """Say in which cases a method's FOSCTTM is the best, or within noise of it.

    Within noise: the medians over seeds differ by less than the standard error of a mean of so many uniform ranks,
    0.29 over the root of the number of pairs. Methods that are scored on fewer labels are no rivals.

    Parameters
    ----------
    found
        Summaries of metric ``"foscttm"``, among others.
    pairs
        Case -> true pairs scored.
    ours
        The method.
    """
    labels = {(s.case, s.method): min(s.values, default=0.0) for s in found if s.metric == "labels"}
    out = []
    for case in dict.fromkeys(s.case for s in found):
        own = {s.method: s for s in found if s.case == case and s.metric == "foscttm" and s.values}
        if ours not in own:
            continue
        least = labels.get((case, ours), 0.0)
        rivals = [s for m, s in own.items() if labels.get((case, m), 0.0) >= least]
        best = min(rivals, key=lambda s: float(np.median(s.values)))
        gap = float(np.median(own[ours].values) - np.median(best.values))
        noise = float(_RANK_SD / np.sqrt(pairs[case]))
        state = "best" if best.method == ours else _TIE if gap <= noise else _WORSE
        out.append(
            {"case": case, "best": best.method, "gap": gap, "noise": noise, "state": state, "methods": len(rivals)}
        )
    return out


def _verdict_text(verdict: Sequence[Mapping[str, Any]], found: Sequence[Summary]) -> str:
    if not verdict:
        return ""
    rows = [
        [v["case"], v["state"], METHODS[v["best"]].title, f"{v['gap']:.3f}", f"{v['noise']:.3f}", str(v["methods"])]
        for v in verdict
    ]
    header = ["case", "ours is", "best", "gap", "noise", "methods compared"]
    good = sum(v["state"] != _WORSE for v in verdict)
    by_set: dict[str, list[bool]] = {}
    for v in verdict:
        by_set.setdefault(v["case"].rpartition(" ")[0], []).append(v["state"] != _WORSE)
    whole, half = (sum(f(states) for states in by_set.values()) for f in (all, _most_of))
    lost = sorted({METHODS[s.method].title for s in found if not s.values and s.metric == "foscttm"})
    return "\n".join(
        [
            "### PS+OT (ours) by FOSCTTM\n",
            grid(header, rows),
            "",
            "Noise is the standard error of a mean of so many uniform ranks. Best or within noise in "
            f"{good} of {len(verdict)} pairs of modalities: in all pairs of {whole}, in most pairs of {half}, "
            f"of {len(by_set)} data sets.",
            *([f"Without a result somewhere: {', '.join(lost)}."] if lost else []),
            "",
        ]
    )


def _most_of(states: Sequence[bool]) -> bool:
    return sum(states) > len(states) / 2
