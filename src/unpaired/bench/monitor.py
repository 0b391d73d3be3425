"""Figure 2 of the propensity paper: along training, the validation cross-entropy beside how good the matching is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from unpaired.bench.matching import in_latents, one_thread
from unpaired.bench.methods import SPACES, Budget
from unpaired.bench.options import Options, chosen
from unpaired.bench.plots import Curve, monitor_panels, save
from unpaired.bench.real import Source, find_pairs, hashes
from unpaired.bench.store import Store, safe_name
from unpaired.bench.tables import Column, markdown, summaries, write_csv, write_markdown
from unpaired.data.examples import digits
from unpaired.data.simulate import screen
from unpaired.data.split import hold_out
from unpaired.data.types import Array, Dataset, Truth
from unpaired.embed.embedding import Embedding, Provenance, Snapshot
from unpaired.errors import OptionError, UnpairedError
from unpaired.evaluate.scores import score
from unpaired.match.transport.front import match_ot

__all__ = ["COLUMNS", "METHODS", "PRESETS", "Preset", "run", "watched"]

_log = logging.getLogger(__name__)

METHODS: Mapping[str, str] = {
    "classifier": "classifier (published recipe)",
    "vae": "VAE (adversarial)",
    "vae-published": "VAE (published recipe)",
}
"""Those that are watched, and their titles; the last only where it is asked for."""

_DEFAULT = ("classifier", "vae")
_SPACES = {"classifier": "ps-published", "vae": "vae", "vae-published": "vae-published"}
_FRACTION = 0.3  # of every label's cells is never learned from, and is matched after an epoch
_EPS = "0.05*median"  # in units of the space itself: the first epochs' logits are a thousand times closer than the last
_LEAST = 3  # epochs that a rank correlation is made of


@dataclass(frozen=True)
class Preset:
    """How much is done.

    Attributes
    ----------
    budget
        Of the methods.
    every
        So many epochs apart a matching is made; the first and the last are always among them.
    cells
        Of a label: of the simulated screen, and at most of the data sets that are read; ``None`` takes all of these.
    """

    budget: Budget
    every: int
    cells: int | None


PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(Budget(published_epochs=5, vae_epochs=5, vae_hidden=32), 1, 12),
    "cpu": Preset(Budget(published_epochs=60, vae_epochs=60, vae_hidden=256), 2, 150),
    "paper": Preset(Budget(), 5, None),
}


@dataclass(frozen=True)
class _Unit:
    """One training that is watched."""

    case: str
    method: str
    seed: int


def _metric(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda r: r["summary"][name]


COLUMNS = (
    Column("ce_foscttm", "rank correlation of cross-entropy and FOSCTTM ↑", _metric("ce_foscttm"), 2),
    Column("ce_trace", "of cross-entropy and trace ↓", _metric("ce_trace"), 2),
    Column("loss_foscttm", "of its own loss and FOSCTTM ↑", _metric("loss_foscttm"), 2),
    Column("foscttm_first", "FOSCTTM after the first epoch", _metric("foscttm_first")),
    Column("foscttm_at_ce", "where the cross-entropy is lowest ↓", _metric("foscttm_at_ce")),
    Column("foscttm_at_loss", "where its loss is lowest ↓", _metric("foscttm_at_loss")),
    Column("foscttm_best", "at the best epoch ↓", _metric("foscttm_best")),
    Column("trace_at_ce", "trace / uniform where the cross-entropy is lowest ↑", _metric("trace_at_ce"), 2),
)


def run(options: Options) -> str:
    """Run the bench and return its table; everything is under ``options.out``.

    Without ``options.data``, the cases are the digits that come with the package and a simulated screen.

    Raises
    ------
    OptionError
        If an option is not allowed.
    DataError
        If there is a folder of data, and it holds no paired data.
    """
    options.check()
    if options.data is not None and not options.data.is_dir():
        msg = f"data must be a folder with one folder a data set; got {options.data}."
        raise OptionError(msg)
    if options.data is None and options.pairs:
        msg = "pairs are those of the data sets in a folder: name it with data."
        raise OptionError(msg)
    methods = chosen(options.methods or _DEFAULT, METHODS)
    sources: dict[str, Source | None] = {"digits": None, "simulated screen": None}
    if options.data is not None:
        sources = {s.name: s for s in find_pairs(options.data, options.pairs)}
    preset = PRESETS[options.preset]
    of = hashes([s for s in sources.values() if s is not None])
    store = Store(options.out, {"bench": "monitor", "preset": options.preset, "data": of, **asdict(preset)})
    units = [_Unit(c, m, s) for c in sources for m in methods for s in range(options.seeds)]
    _run_units(units, sources, options, store)
    return _write(store, preset)


def _run_units(units: Sequence[_Unit], sources: Mapping[str, Source | None], options: Options, store: Store) -> None:
    from joblib import Parallel, delayed

    waiting = [u for u in units if not store.has(u.case, u.method, u.seed)]
    _log.info("%d of %d units are done, %d to do.", len(units) - len(waiting), len(units), len(waiting))
    work = Parallel(n_jobs=options.jobs, batch_size=1, return_as="generator_unordered")
    todo = (delayed(_one)(u, sources[u.case], options.preset, store, options.device) for u in waiting)
    for at, done in enumerate(work(todo), start=1):
        _log.info("%d of %d: %s, %s, seed %d.", at, len(waiting), done.case, done.method, done.seed)


def _one(unit: _Unit, source: Source | None, preset: str, store: Store, device: str) -> _Unit:
    own = PRESETS[preset]
    with one_thread():
        try:
            learn, test, truth = _load(unit.case, source, own)
            embedder = SPACES[_SPACES[unit.method]].make(own.budget, device, unit.seed)
            curve = watched(embedder, learn, test, truth, every=own.every)
            result = {"curve": curve, "summary": _summary(curve)}
        except UnpairedError as error:
            result = {"failed": str(error)}
    store.keep(unit.case, unit.method, unit.seed, result)
    return unit


def _load(case: str, source: Source | None, preset: Preset) -> tuple[Dataset, Dataset, Truth]:
    """Return the cells that are learned from, those that are matched, and who is whose partner among these."""
    if source is not None:
        from unpaired.data.read import read

        data, truth = read(
            *source.files,
            label="label",
            modalities=source.modalities,
            pairing="hide",
            max_cells_per_label=preset.cells,
        )
    elif case == "digits":
        data, truth = digits(pairing="hide")
    else:
        data, truth = screen() if preset.cells is None else screen(cells=preset.cells)
    assert truth is not None
    learn, _, held = hold_out(data, truth, fraction=_FRACTION)
    assert held.truth is not None
    return learn, held.data, held.truth


# --------------------------------------------------------------------------------------------------------- watching


def watched(embedder: Any, learn: Dataset, test: Dataset, truth: Truth, *, every: int) -> list[dict[str, float]]:
    """Fit an embedder and return how good the matchings of other cells are along its training.

    A classifier learns one modality after the other; an epoch is then that of both. After every ``every``-th epoch the
    test cells are matched by optimal transport with squared distances and a weight of the entropy of 0.05 times their
    median within the labels, which means the same whatever the scale of the space, from the first epoch on.

    Parameters
    ----------
    embedder
        With ``fit(data, watch=...)``.
    learn, test
        The cells that it learns from, and those that are matched.
    truth
        Who is whose partner among the test cells; with latents, FOSCTTM is judged in them.
    every
        Epochs between two matchings.

    Returns
    -------
    One entry an epoch: its number from 1, the validation cross-entropy of the labels and the embedder's own validation
    loss (means over modalities), FOSCTTM (mean of both directions), trace over that of the uniform coupling.
    """
    seen: dict[int, list[Snapshot]] = {}
    places: dict[int, dict[str, Array]] = {}

    def watch(snapshot: Snapshot) -> None:
        number = snapshot.epoch + 1
        if number == 1 or number % every == 0:
            seen.setdefault(number, []).append(snapshot)
            places.setdefault(number, {}).update(snapshot.embed(test))  # now: the networks go on learning

    embedder.fit(learn, watch=watch)
    judge = test if truth.latents is None else in_latents(test, truth)
    whole = [e for e in sorted(places) if set(places[e]) == set(test)]  # one modality may have stopped before another
    return [{"epoch": e, **_state(seen[e]), **_quality(places[e], test, truth, judge)} for e in whole]


def _state(snapshots: Sequence[Snapshot]) -> dict[str, float]:
    """Return what the embedder knows of itself, mean over the modalities that are learned apart."""
    return {
        "cross_entropy": float(np.mean([s.cross_entropy for s in snapshots])),
        "loss": float(np.mean([s.loss for s in snapshots])),
    }


def _quality(places: Mapping[str, Array], test: Dataset, truth: Truth, judge: Dataset) -> dict[str, float]:
    """Return how good a matching by these coordinates is."""
    width = next(iter(places.values())).shape[1]
    dims = tuple(f"dimension {i}" for i in range(width))
    embedding = Embedding(places, "latent", None, dims, Provenance("watched", {}))
    scores = score(match_ot(test, embedding, eps=_EPS), truth, judge).to_dict()
    return {"foscttm": scores["foscttm"]["mean"], "trace_over_uniform": scores["trace_over_uniform"]}


def _summary(curve: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Return the rank correlations over the epochs, and FOSCTTM at the epochs that one might choose."""
    of = {k: np.array([point[k] for point in curve]) for k in curve[0]}
    at_ce, at_loss = int(of["cross_entropy"].argmin()), int(of["loss"].argmin())
    return {
        "ce_foscttm": _ranks(of["cross_entropy"], of["foscttm"]),
        "ce_trace": _ranks(of["cross_entropy"], of["trace_over_uniform"]),
        "loss_foscttm": _ranks(of["loss"], of["foscttm"]),
        "foscttm_first": float(of["foscttm"][0]),
        "foscttm_at_ce": float(of["foscttm"][at_ce]),
        "foscttm_at_loss": float(of["foscttm"][at_loss]),
        "foscttm_best": float(of["foscttm"].min()),
        "trace_at_ce": float(of["trace_over_uniform"][at_ce]),
    }


def _ranks(a: Array, b: Array) -> float | None:
    """Return Spearman's rank correlation; ``None`` of few values, or where all are the same."""
    from scipy.stats import spearmanr

    if len(a) < _LEAST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b).statistic)


# ----------------------------------------------------------------------------------------------------------- tables


def _write(store: Store, preset: Preset) -> str:
    results = list(store.results())
    found = summaries(results, COLUMNS)
    text = markdown(found, COLUMNS, METHODS, {}) + "\n" + _words(preset)
    write_csv(store.folder, found)
    write_markdown(store.folder, "Does the validation cross-entropy tell how good a matching is?", text)
    for case in dict.fromkeys(r["case"] for r in results):
        curves = {title: _curves(results, case, name) for name, title in METHODS.items()}
        if there := {title: own for title, own in curves.items() if own}:
            save(monitor_panels(there, title=case), store.folder / f"curves-{safe_name(case)}")
    return text


def _curves(results: Sequence[Mapping[str, Any]], case: str, method: str) -> list[Curve]:
    own = [r["curve"] for r in results if (r["case"], r["method"]) == (case, method) and "failed" not in r]
    return [Curve(*(tuple(p[k] for p in curve) for k in ("epoch", "cross_entropy", "foscttm"))) for curve in own]


def _words(preset: Preset) -> str:
    every = "every epoch" if preset.every == 1 else f"the first epoch and every {preset.every}th"
    return (
        f"Rank correlations (Spearman) over the epochs of one training, after {every}. The matchings are of the "
        f"{_FRACTION:.0%} of every label's cells that nothing learns from, by optimal transport with squared distances "
        f"and eps = {_EPS}, the same in any space and at any epoch. Cross-entropy and loss are those of the cells "
        f"that choose the epoch; a classifier's loss is its cross-entropy. Where the latents are known, FOSCTTM is "
        f"judged in them.\n"
    )
