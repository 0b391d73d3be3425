"""The methods that the bench of CLUE compares, by name: from the cells to a space of those that are to be matched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired.bench.clue_cases import SIDES
from unpaired.bench.clue_effort import BATCH, PRESET, RATE, Answer, Effort, Seconds, Spaces, cells_in, planned
from unpaired.data.types import Dataset
from unpaired.match.transport.front import match_ot
from unpaired.seeds import named_rng, named_seed

if TYPE_CHECKING:
    from unpaired.embed.clue import Clue
    from unpaired.embed.clue_model import ClueConfig

__all__ = ["ALIASES", "GROUPS", "METHODS", "OFF", "SHARES", "Method"]

_DIMS = 40  # of the random space, as many as CLUE's has


@dataclass(frozen=True)
class Method:
    """A method by name.

    Attributes
    ----------
    title
        Its name in tables.
    run
        ``(learn, match, effort, before, spaces)`` to an answer, where ``before`` is the answer of :attr:`after`, if it
        was just made.
    share
        Share of the pairs that it is given.
    after
        The method whose model it goes on from.
    missing
        Says why it cannot be had here; ``None`` where it can.
    in_propensity
        Whether it matches in the space of the propensity score.
    """

    title: str
    run: Callable[[Dataset, Dataset, Effort, Answer | None, Spaces], Answer]
    share: float = 1.0
    after: str | None = None
    missing: Callable[[], str | None] = field(default=lambda: None)
    in_propensity: bool = False


# ------------------------------------------------------------------------------------------------------------ ours


def _clue(
    learn: Dataset,
    match: Dataset,
    effort: Effort,
    before: Answer | None,
    spaces: Spaces,
    *,
    off: tuple[str, ...] = (),
    soft: bool = False,
) -> Answer:
    """Learn CLUE without some terms of its loss, or with partners from a matching where none is known."""
    import_module("unpaired.embed.clue_fit")  # what a process imports once is no method's time
    # The same for all shares, and made once: its time is not counted either.
    matching = match_ot(learn, spaces().learn) if soft else None
    start = Seconds.now()
    model = _new(cells_in(learn), effort, off)
    model.fit(learn, matching=matching)
    return _placed(model, match, start.passed(), len(model.history_))


def _new(cells: int, effort: Effort, off: tuple[str, ...]) -> Clue:
    from unpaired.embed.clue import Clue
    from unpaired.embed.clue_model import PRESETS

    weights: dict[str, Any] = dict.fromkeys(off, 0.0)
    config: ClueConfig = replace(PRESETS[PRESET], **weights)
    return Clue(
        PRESET,
        config=config if off else None,
        epochs=effort.epochs(cells),
        batch=BATCH,
        rate=RATE,
        device=effort.device,
        seed=named_seed(effort.seed, "clue"),
    )


def _extended(learn: Dataset, match: Dataset, effort: Effort, before: Answer | None, spaces: Spaces) -> Answer:
    """Learn on with the cells to be matched, for as many steps again at most."""
    first = before or _clue(learn, match, effort, None, spaces)
    start, model = Seconds.now(), first.model
    assert first.epochs is not None
    model.epochs = effort.epochs(cells_in(learn) + sum(len(match[n]) for n in SIDES))
    model.extend(match)
    return _placed(model, match, first.seconds + start.passed(), first.epochs + len(model.history_))


def _placed(model: Clue, match: Dataset, seconds: Seconds, epochs: int) -> Answer:
    imputed = model.impute(match, *SIDES).mean
    return Answer(model.transform(match).arrays, seconds, epochs, imputed, model=model)


def _propensity(learn: Dataset, match: Dataset, effort: Effort, before: Answer | None, spaces: Spaces) -> Answer:
    """Place cells by what the labels of the cells to learn from tell; no pair is looked at."""
    found = spaces()
    # With all of its entries, so that partners that are hardly likely are ranked too.
    matching = match_ot(match, found.match, keep=1.0)
    return Answer(found.match.arrays, found.seconds, metric="euclidean", matching=matching)


def _random(learn: Dataset, match: Dataset, effort: Effort, before: Answer | None, spaces: Spaces) -> Answer:
    arrays = {}
    for name in SIDES:
        order = match[name].order
        arrays[name] = np.empty((len(order), _DIMS))
        arrays[name][order] = named_rng(effort.seed, "clue", "random", name).standard_normal((len(order), _DIMS))
    return Answer(arrays)


# ----------------------------------------------------------------------------------------------------------- peers


def _scglue(learn: Dataset, match: Dataset, effort: Effort, before: Answer | None, spaces: Spaces) -> Answer:
    from unpaired.bench.peers.scclue import ScClue, missing
    from unpaired.embed.clue_model import PRESETS

    missing()  # imports it
    seed = named_seed(effort.seed, "scclue")
    start = Seconds.now()
    model = ScClue(PRESETS[PRESET], planned(cells_in(learn), effort), batch=BATCH, rate=RATE, seed=seed).fit(learn)
    seconds = start.passed()
    return Answer(model.transform(match).arrays, seconds, model.epochs_run_, model.impute(match, *SIDES))


def _multivi(learn: Dataset, match: Dataset, effort: Effort, before: Answer | None, spaces: Spaces) -> Answer:
    from unpaired.bench.peers.multivi_pairs import missing, place_multivi

    missing()  # imports it
    epochs = effort.epochs(cells_in(learn) + sum(len(match[n]) for n in SIDES))
    start = Seconds.now()
    latents, run = place_multivi(learn, match, epochs=epochs, batch=BATCH, seed=named_seed(effort.seed, "multivi"))
    return Answer(latents, start.passed(), run)


def _bridge(learn: Dataset, match: Dataset, effort: Effort, before: Answer | None, spaces: Spaces) -> Answer:
    from unpaired.bench.peers.bridge import Bridge

    start = Seconds.now()
    model = Bridge().fit(learn)
    seconds = start.passed()
    return Answer(model.transform(match), seconds, imputed=model.impute(match, *SIDES))


def _cobolt(learn: Dataset, match: Dataset, effort: Effort, before: Answer | None, spaces: Spaces) -> Answer:
    raise AssertionError  # it cannot be had


def _missing_scglue() -> str | None:
    from unpaired.bench.peers.scclue import missing

    return _told(missing())


def _missing_multivi() -> str | None:
    from unpaired.bench.peers.multivi_pairs import missing

    return _told(missing())


def _missing_cobolt() -> str | None:
    return _told("the package index has no release of it; what it lists under the name is another package.")


def _told(why: str | None) -> str | None:
    return None if why is None else f"not available: {why}"


# ------------------------------------------------------------------------------------------------------------ names

OFF: Mapping[str, tuple[str, ...]] = {
    "clue": (),
    "clue-without-cos": ("lam_cos",),
    "clue-without-cross": ("lam_cross",),
    "clue-without-adversary": ("lam_align",),
    "clue-cos-only": ("lam_cross", "lam_align"),
    "clue-cross-only": ("lam_cos", "lam_align"),
    "clue-adversary-only": ("lam_cross", "lam_cos"),
    "clue-none": ("lam_cross", "lam_cos", "lam_align"),
}
"""Method -> terms of the loss that are off: all eight combinations, in the order of the paper's table 5."""

SHARES = (1.0, 0.5, 0.1, 0.01, 0.0)
"""Of the pairs that are known."""


def _percent(share: float) -> str:
    return f"{share * 100:g}"


def _shares() -> dict[str, Method]:
    found = {}
    for share in SHARES[1:]:
        told = _percent(share)
        found[f"clue-{told}"] = Method(f"CLUE (ours), {told} % of pairs", _clue, share)
        soft = partial(_clue, soft=True)
        title = f"CLUE (ours), {told} % of pairs, others drawn by labels"
        found[f"clue-soft-{told}"] = Method(title, soft, share, in_propensity=True)
    return found


def _ablations() -> dict[str, Method]:
    told = {"lam_cos": "cosine", "lam_cross": "cross", "lam_align": "adversary"}
    return {
        name: Method(f"CLUE (ours), without {', '.join(told[t] for t in off)}", partial(_clue, off=off))
        for name, off in OFF.items()
        if off
    }


METHODS: Mapping[str, Method] = {
    "clue": Method("CLUE (ours)", _clue),
    "clue-extend": Method("CLUE (ours), stage 2", _extended, after="clue"),
    "scglue": Method("CLUE (scglue)", _scglue, missing=_missing_scglue),
    "multivi": Method("MultiVI", _multivi, missing=_missing_multivi),
    "bridge": Method("bridge (dictionary)", _bridge),
    "cobolt": Method("Cobolt", _cobolt, missing=_missing_cobolt),
    **_shares(),
    "propensity": Method("propensity score (ours), no pairs", _propensity, 0.0, in_propensity=True),
    **_ablations(),
    "random": Method("random", _random, 0.0),
}
"""All methods, in the order of the work."""

ALIASES: Mapping[str, str] = {"clue-100": "clue", "clue-soft-100": "clue"}
"""Where all pairs are known, no partner is drawn."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "comparison": ("clue", "clue-extend", "scglue", "multivi", "bridge", "cobolt", "random"),
    "pairs": ("clue", *_shares(), "propensity", "random"),
    "ablation": tuple(OFF),
}
"""Tables, and the methods in each."""
