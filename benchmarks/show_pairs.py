"""R2 on held-out true pairs, by what the translator learned from: random partners, SNN, OT, or the true pairs."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from machine import save, table
from translations import CASES, kept, load, quartiles, spread

import unpaired as up

FRACTION = 0.2
LEARNED = [
    *((how, loss) for how in ("uniform", "snn", "ot") for loss in ("mse", "unbiased")),
    ("true", "mse"),
]


def show(
    *, data: Path, cases: list[str] | None, seeds: list[int], members: int, jobs: int, steps: int | None = None
) -> str:
    """Train on everything, and return the table."""
    chosen = cases or list(CASES)
    tasks = [(case, data, seed, members, steps) for case in chosen for seed in seeds]
    found = dict(zip([(c, s) for c, _, s, *_ in tasks], spread(_one, tasks, jobs), strict=True))
    by_case = {c: {k: [found[c, s][k] for s in seeds] for k in found[c, seeds[0]]} for c in chosen}
    name = "translation_pairs" if steps is None else f"translation_pairs_{steps}"
    save(name, {"fraction": FRACTION, "members": members, "steps": steps, "seeds": seeds, "r2": by_case})
    rows = [_row(case, r2) for case, r2 in by_case.items()]
    head = ["", *(f"{how}, {loss}" for how, loss in LEARNED), "gap closed by ot, mse", "unbiased"]
    return table(head, rows)


def _row(case: str, r2: dict[str, list[float]]) -> list[str]:
    shown = [quartiles(r2[f"{how} {loss}"]) for how, loss in LEARNED]
    top = median(r2["true mse"])
    # Random at its better loss: against the worse one anything would look like progress.
    base = max(median(r2[f"uniform {loss}"]) for loss in ("mse", "unbiased"))
    gaps = [f"{(median(r2[f'ot {loss}']) - base) / (top - base):.0%}" for loss in ("mse", "unbiased")]
    return [case, *shown, *gaps]


def _one(case: str, folder: Path, seed: int, members: int, steps: int | None) -> dict[str, Any]:
    name = f"pairs_{case}_{seed}_{members}_{steps}"
    return kept(name, lambda: _train_all(case, folder, seed, members, steps))


def _train_all(case: str, folder: Path, seed: int, members: int, steps: int | None) -> dict[str, Any]:
    _, source, target = CASES[case]
    data, truth = load(CASES[case], folder)
    train, known, held = up.hold_out(data, truth, fraction=FRACTION, seed=seed)
    test, pairs = held.take("test")
    space = up.Propensity(seed=seed).fit(train).transform(train)
    names = {"source": source, "target": target}
    matchings = {
        "uniform": up.match_uniform(train, **names),
        "snn": up.match_snn(train, space, **names),
        "ot": up.match_ot(train, space, **names),
        "true": up.match_pairs(train, known, **names),
    }
    out = {}
    epochs = None if steps is None else -(-steps // max(1, round(0.9 * len(train[target]) / 256)))
    for how, loss in LEARNED:
        model = up.Translator(loss=loss, members=members, epochs=epochs, device="cpu", seed=seed)
        model.fit(train, matchings[how], **names)
        scores = up.score_translation(model.predict(test[source]), test, pairs, reference=train, seed=seed)
        out[f"{how} {loss}"] = scores.pairs.r2
    return out
