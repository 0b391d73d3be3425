"""Figure 2 of the propensity paper: along training, the validation cross-entropy beside how good the matching is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from unpaired.bench.matching import in_latents, one_thread, work_off
from unpaired.bench.methods import SPACES, Budget
from unpaired.bench.options import Options, chosen
from unpaired.bench.plots import Curve, monitor_panels, save_figure
from unpaired.bench.real import Source, find_pairs, hashes, left_out_text
from unpaired.bench.store import Store, failed, safe_name
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

METHODS: Mapping[str, str] = {
    "classifier": "classifier (published recipe)",
    "vae": "VAE (adversarial)",
    "vae-published": "VAE (published recipe)",
}
"""Those that are watched, and their titles; the paper's figure shows the classifier and the published VAE."""

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
        So many epochs apart a matching is made; there is also one after the first epoch, and one after the last.
    cells
        Of a label: of the simulated screen, and at most of the data sets that are read; ``None`` takes all of these.
    """

    budget: Budget
    every: int
    cells: int | None


PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(Budget(published_epochs=5, vae_epochs=5, vae_hidden=32, vae_rate=1e-3), every=1, cells=12),
    # About four minutes of one core a seed; at the published rate so few epochs lead a VAE nowhere.
    "cpu": Preset(Budget(published_epochs=40, vae_epochs=40, vae_hidden=256, vae_rate=1e-3), every=2, cells=150),
    "paper": Preset(Budget(), every=5, cells=None),
}


@dataclass(frozen=True)
class _Unit:
    """One training that is watched."""

    case: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.case}, seed {self.seed}: {self.method}"


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
    options.check(takes=("data", "pairs"))
    if options.data is not None and not options.data.is_dir():
        msg = f"data must be a folder with one folder a data set; got {options.data}."
        raise OptionError(msg)
    if options.data is None and options.pairs:
        msg = "pairs are those of the data sets in a folder: name it with data."
        raise OptionError(msg)
    methods = chosen(options.methods, METHODS)
    sources: dict[str, Source | None] = {"digits": None, "simulated screen": None}
    left_out: dict[str, str] = {}
    if options.data is not None:
        found, left_out = find_pairs(options.data, options.pairs)
        sources = {s.name: s for s in found}
    preset = PRESETS[options.preset]
    of = hashes([s for s in sources.values() if s is not None])
    settings = {"bench": "monitor", "preset": options.preset, "device": options.device, "data": of, **asdict(preset)}
    store = Store(options.out, settings)
    units = [_Unit(c, m, s) for c in sources for m in methods for s in range(options.seeds)]
    do = partial(_one, sources=sources, preset=options.preset, store=store, device=options.device)
    work_off(units, lambda u: store.has(u.case, u.method, u.seed), do, jobs=options.jobs)
    return _write(store, preset, left_out)


def _one(unit: _Unit, *, sources: Mapping[str, Source | None], preset: str, store: Store, device: str) -> None:
    own = PRESETS[preset]
    with one_thread():
        try:
            learn, test, truth = _load(unit.case, sources[unit.case], own)
            embedder = SPACES[_SPACES[unit.method]].make(own.budget, device, unit.seed)
            curve = watched(embedder, learn, test, truth, every=own.every)
            result = {"curve": curve, "summary": _summary(curve)}
        except UnpairedError as error:
            result = failed(error)
    store.keep(unit.case, unit.method, unit.seed, result)


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


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is kept of a snapshot: the networks go on learning."""

    cross_entropy: float
    loss: float
    places: Mapping[str, Array]


def watched(embedder: Any, learn: Dataset, test: Dataset, truth: Truth, *, every: int) -> list[dict[str, float]]:
    """Fit an embedder and return how good the matchings of other cells are along its training.

    A classifier learns one modality after the other; an epoch is then that of both. After the first epoch, after those
    whose number is a multiple of ``every`` and after the last, the test cells are matched by optimal transport with
    squared distances and a regularisation (eps) of 0.05 times their median within the labels, which means the same
    whatever the scale of the space, from the first epoch on.

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
    loss (means over modalities), FOSCTTM (mean of both directions), trace over that of the uniform coupling. The last
    entry is of the end of the training: where one modality stopped before another, each is as its own last epoch left
    it, and the epochs between, which are of one alone, have no entry.
    """
    seen: dict[int, list[_Seen]] = {}
    last: dict[str | None, tuple[int, _Seen]] = {}

    def watch(snapshot: Snapshot) -> None:
        number = snapshot.epoch + 1
        now = _Seen(snapshot.cross_entropy, snapshot.loss, snapshot.embed(test))
        last[snapshot.modality] = (number, now)  # which is the last is not known before it is over
        if number == 1 or number % every == 0:
            seen.setdefault(number, []).append(now)

    embedder.fit(learn, watch=watch)
    seen[max(number for number, _ in last.values())] = [of for _, of in last.values()]
    judge = test if truth.latents is None else in_latents(test, truth)
    whole = [e for e in sorted(seen) if len(seen[e]) == len(last)]
    return [{"epoch": e, **_state(seen[e]), **_quality(_places(seen[e]), test, truth, judge)} for e in whole]


def _state(seen: Sequence[_Seen]) -> dict[str, float]:
    """Return what the embedder knows of itself, mean over the modalities that are learned apart."""
    return {
        "cross_entropy": float(np.mean([s.cross_entropy for s in seen])),
        "loss": float(np.mean([s.loss for s in seen])),
    }


def _places(seen: Sequence[_Seen]) -> dict[str, Array]:
    """Return the coordinates of all modalities."""
    return {name: at for s in seen for name, at in s.places.items()}


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


def _write(store: Store, preset: Preset, left_out: Mapping[str, str]) -> str:
    results = list(store.results())
    found = summaries(results, COLUMNS)
    text = "\n".join(p for p in (markdown(found, COLUMNS, METHODS, {}), _words(preset), left_out_text(left_out)) if p)
    write_csv(store.folder, found)
    write_markdown(store.folder, "Does the validation cross-entropy tell how good a matching is?", text)
    for case in dict.fromkeys(r["case"] for r in results):
        curves = {title: _curves(results, case, name) for name, title in METHODS.items()}
        if there := {title: own for title, own in curves.items() if own}:
            save_figure(monitor_panels(there, title=case)[0], store.folder / f"curves-{safe_name(case)}")
    return text


def _curves(results: Sequence[Mapping[str, Any]], case: str, method: str) -> list[Curve]:
    own = [r["curve"] for r in results if (r["case"], r["method"]) == (case, method) and "failed" not in r]
    return [Curve(*(tuple(p[k] for p in curve) for k in ("epoch", "cross_entropy", "foscttm"))) for curve in own]


def _words(preset: Preset) -> str:
    b = preset.budget
    when = "every epoch"
    if preset.every > 1:
        when = f"the first epoch, those whose number is a multiple of {preset.every}, and the last"
    cells = "All cells are taken."
    if preset.cells is not None:
        cells = f"At most {preset.cells} cells a label are taken (of the digits, all)."
    return (
        f"{cells} Classifier: {_epochs(b.published_epochs)}. VAEs: {_epochs(b.vae_epochs)}, {b.vae_hidden:,} wide, "
        f"learning rate {b.vae_rate:g} (published: 1,024, 1e-4). Published epochs: 100 on images, 250 on CITE-seq.\n\n"
        f"Rank correlations (Spearman) over the epochs of one training, after {when}. The matchings are of the "
        f"{_FRACTION:.0%} of every label's cells that nothing learns from, by optimal transport with squared distances "
        f"and eps = {_EPS}, the same in any space and at any epoch. Cross-entropy and loss are those of the cells "
        f"that choose the epoch; a classifier's loss is its cross-entropy. Where the latents are known, FOSCTTM is "
        f"judged in them.\n"
    )


def _epochs(number: int | None) -> str:
    return "as many epochs as published" if number is None else f"{number} epochs"
