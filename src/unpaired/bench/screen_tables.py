"""The tables of the screens, the published figures of other data, and the sentences that follow from the numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unpaired.bench.screen_cases import BASE, KNOBS, PARTS, Preset
from unpaired.bench.tables import COVERAGE, Column, Summary, grid

__all__ = [
    "MATCHING",
    "PREDICTION",
    "PUBLISHED",
    "breaking",
    "coverage_text",
    "knob_tables",
    "order_text",
    "published_table",
    "relative_mse",
    "values_of",
]

PUBLISHED: Mapping[str, Mapping[tuple[str, str], float]] = {
    "ps-published+ot": {
        ("in", "kl_gaussian"): 50.967, ("in", "wasserstein"): 4.199, ("in", "l2"): 3.280,
        ("out", "kl_gaussian"): 43.554, ("out", "wasserstein"): 5.394, ("out", "l2"): 7.219,
    },
    "vae-published+ot": {
        ("in", "kl_gaussian"): 55.483, ("in", "wasserstein"): 4.339, ("in", "l2"): 3.490,
        ("out", "kl_gaussian"): 47.910, ("out", "wasserstein"): 5.629, ("out", "l2"): 7.444,
    },
    "random": {
        ("in", "kl_gaussian"): 58.806, ("in", "wasserstein"): 4.499, ("in", "l2"): 3.826,
        ("out", "kl_gaussian"): 51.310, ("out", "wasserstein"): 6.239, ("out", "l2"): 7.793,
    },
}  # fmt: skip
"""Xi et al. 2024, tables 2 and 3: medians, averaged by inverse cell count; on data that are not public.

The keys are those of the methods here that come closest. They are not the same: see :mod:`unpaired.bench.screen_cases`.
"""

_PUBLISHED_TITLES = {"ps-published+ot": "PS+OT", "vae-published+ot": "VAE+OT", "random": "random"}
_NAMES = {"l2": "L2", "wasserstein": "W1", "kl_gaussian": "KL", "kl_neighbours": "KL, neighbours"}


def relative_mse(result: Mapping[str, Any]) -> float | None:
    """Return the latent MSE in units of the uniform coupling's: 1 is to know the label and no more."""
    own, uniform = result["scores"]["latent_mse"], result["scores"]["uniform"]["latent_mse"]
    return None if own is None or not uniform else float(own / uniform)


MATCHING = (
    Column("latent_mse", "latent MSE ↓", lambda r: r["scores"]["latent_mse"]),
    Column("latent_mse_over_uniform", "latent MSE / uniform ↓", relative_mse),
    Column("trace_over_uniform", "trace / uniform ↑", lambda r: r["scores"]["trace_over_uniform"], 2),
    Column("foscttm", "FOSCTTM ↓", lambda r: r["scores"]["foscttm"]["mean"]),
    Column("seconds", "seconds", lambda r: r["seconds"] + r["space"].get("seconds", 0.0), 1),
    *COVERAGE,
)
"""Of a matching of the training cells, judged by the truth; FOSCTTM in the latents."""


def _distance(average: str, metric: str) -> Callable[[Mapping[str, Any]], float | None]:
    def take(result: Mapping[str, Any]) -> float | None:
        known = result["distributions"]
        return None if known is None else known[average][metric]

    return take


def _r2(result: Mapping[str, Any]) -> float | None:
    return None if result["pairs"] is None else result["pairs"]["r2"]


PREDICTION = (
    Column("r2", "R² ↑", _r2),
    *(Column(m, f"{n} ↓", _distance("by_inverse_cells", m), 2) for m, n in _NAMES.items()),
    *(Column(f"{m}_by_cells", f"{n}, by cells ↓", _distance("by_cells", m), 2) for m, n in _NAMES.items()),
)
"""Of predicted genes: R² by the true pairs, and distances by label, averaged by inverse cell count or by cells."""


def values_of(found: Sequence[Summary], case: str, method: str, metric: str) -> Summary | None:
    """Return one cell of a table, if it has a value."""
    return next(
        (s for s in found if (s.case, s.method, s.metric) == (case, method, metric) and s.quartiles is not None), None
    )


def _median(found: Sequence[Summary], case: str, method: str, metric: str) -> float | None:
    cell = values_of(found, case, method, metric)
    return None if cell is None or cell.quartiles is None else cell.quartiles[0]


def _shown(cell: Summary | None, digits: int = 2) -> str:
    if cell is None or cell.quartiles is None:
        return ""
    mid, low, high = (f"{q:.{digits}f}" for q in cell.quartiles)
    return f"{mid} ({low}, {high})" if len(cell.values) > 1 else mid


def coverage_text(results: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> list[str]:
    """Say of each part what R2 and the distances speak of, over all cases and seeds, and which cover less than others.

    Parameters
    ----------
    results
        As of :func:`~unpaired.bench.screen_translation.by_part`.
    titles
        Method -> its title.
    """
    lines = []
    for title in PARTS.values():
        own = [r for r in results if r["case"].endswith(f", {title}") and "failed" not in r]
        said = [*_pairs_said(own), *_labels_said(own, titles)]
        if said:
            lines.append(f"What the scores {title} cover, all cases: {'; '.join(said)}.")
    return lines


def _pairs_said(results: Sequence[Mapping[str, Any]]) -> list[str]:
    pairs = [r["pairs"] for r in results if r["pairs"] is not None]
    if not pairs:
        return []
    fewest, most = min(p["pairs"] for p in pairs), max(p["pairs"] for p in pairs)
    span = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    lost = max(p["pairs_total"] - p["pairs"] for p in pairs)
    rest = f", and up to {lost} more are known and not scored" if lost else ", all that are known"
    return [f"R² {span} true pairs a screen{rest}"]


def _labels_said(results: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> list[str]:
    """Say how many labels have distances, and by method where a metric has fewer."""
    known = [(r["method"], r["distributions"]["coverage"]) for r in results if r["distributions"] is not None]
    if not known:
        return []
    least = min((c for _, c in known), key=lambda c: (c["labels"] - c["labels_total"], c["labels"]))
    where = " where they cover least" if len({c["labels"] for _, c in known}) > 1 else ""
    said = [f"distances {least['labels']} of {least['labels_total']} labels{where}"]
    for metric, name in _NAMES.items():
        fewer: dict[str, int] = {}
        for method, cover in known:
            count = cover["metrics"][metric]
            if count < cover["labels"]:
                fewer[method] = min(count, fewer.get(method, count))
        if fewer:
            worst = ", ".join(f"{titles[m]} {fewer[m]}" for m in titles if m in fewer)
            every = len(set(fewer.values())) == 1 and set(fewer) == {method for method, _ in known}
            least_of = f"{next(iter(fewer.values()))} with every method" if every else worst
            said.append(f"but {name} is of fewer labels for some, at worst: {least_of}")
    return said


# ------------------------------------------------------------------------------------------- beside the published


def published_table() -> str:
    """Return the published figures, of other data and by networks of other widths, as a table."""
    keys = [(part, m) for part in PARTS for m in ("kl_gaussian", "wasserstein", "l2")]
    header = ["published, other data", *(f"{_NAMES[m]}, {PARTS[part]}" for part, m in keys)]
    rows = [[_PUBLISHED_TITLES[name], *(f"{own[k]:.3f}" for k in keys)] for name, own in PUBLISHED.items()]
    return grid(header, rows)


def order_text(found: Sequence[Summary], titles: Mapping[str, str]) -> list[str]:
    """Say in which order the methods of the published tables come here, and where the cross-fitted default stands."""
    lines = []
    for part, title in PARTS.items():
        for metric in ("kl_gaussian", "kl_neighbours", "wasserstein", "l2"):
            here = {m: _median(found, f"{BASE}, {title}", m, metric) for m in (*PUBLISHED, "ps+ot")}
            known = {m: v for m, v in here.items() if v is not None}
            if set(PUBLISHED) <= set(known):
                lines.append(_order_sentence(known, titles, f"By {_NAMES[metric]} {title}", (part, metric)))
    return lines


def _order_sentence(known: Mapping[str, float], titles: Mapping[str, str], start: str, key: tuple[str, str]) -> str:
    ranked = sorted(PUBLISHED, key=lambda m: known[m])
    wanted = sorted(PUBLISHED, key=lambda m: PUBLISHED[m][key[0], "kl_gaussian"])
    shown = " < ".join(f"{titles[m]} {known[m]:.2f}" for m in ranked)
    same = "the published order" if ranked == wanted else "not the published order"
    ours = ""
    if "ps+ot" in known:
        better = sum(known["ps+ot"] < known[m] for m in PUBLISHED)
        ours = f" {titles['ps+ot']}: {known['ps+ot']:.2f}, below {better} of the {len(PUBLISHED)}."
    return f"{start}: {shown} ({same}).{ours}"


# ------------------------------------------------------------------------------------------------- robustness


def knob_tables(found: Sequence[Summary], preset: Preset, titles: Mapping[str, str]) -> str:
    """Return one table a knob: a row a method and value."""
    metrics = ("latent_mse_over_uniform", "trace_over_uniform", "foscttm")
    header = ["method", "value", "latent MSE / uniform ↓", "trace / uniform ↑", "FOSCTTM ↓", "R² ↑", "L2 ↓"]
    parts = []
    for option, values in preset.knobs:
        knob = KNOBS[option]
        rows = []
        for method, title in titles.items():
            for value in (knob.kept, *values):
                case = knob.case(value)
                judged = [values_of(found, case, method, m) for m in metrics]
                judged += [values_of(found, f"{case}, {PARTS['in']}", method, m) for m in ("r2", "l2")]
                if judged[0] is not None:
                    digits = (2, 2, 3, 3, 2)
                    cells = [_shown(c, d) for c, d in zip(judged, digits, strict=True)]
                    rows.append([title, f"{value:g}", *cells])
        if rows:
            parts.append(f"### {knob.title} (`{option}`)\n\n{grid(header, rows)}\n")
    return "\n".join(parts)


def breaking(found: Sequence[Summary], preset: Preset, methods: Sequence[str], titles: Mapping[str, str]) -> list[str]:
    """Say, for every knob and method, from which value on the matching is worth no more than the label alone.

    That is where the median latent MSE is no longer below the uniform coupling's; and for predictions where the median
    R² in distribution is no longer above that learned from the uniform coupling.
    """
    lines = []
    for option, values in preset.knobs:
        knob = KNOBS[option]
        order = (knob.kept, *values)
        for method in methods:
            ratios = {v: _median(found, knob.case(v), method, "latent_mse_over_uniform") for v in order}
            known = {v: r for v, r in ratios.items() if r is not None}
            if len(known) > 1:
                lines.append(f"`{option}`, {titles[method]}: {_mse_sentence(known)}")
        gains = {v: _gain(found, f"{knob.case(v)}, {PARTS['in']}") for v in order}
        gained = {v: g for v, g in gains.items() if g is not None}
        if len(gained) > 1:
            lines.append(f"`{option}`, prediction from {titles['ps+ot']}: {_gain_sentence(gained)}")
    return lines


def _gain(found: Sequence[Summary], case: str) -> float | None:
    """Return how much R² the matching gains over the uniform coupling: the median of the differences seed by seed."""
    ours, chance = (values_of(found, case, m, "r2") for m in ("ps+ot", "uniform"))
    if ours is None or chance is None:
        return None
    differences = [value - chance.by_seed[seed] for seed, value in ours.by_seed.items() if seed in chance.by_seed]
    return float(np.median(differences)) if differences else None


def _mse_sentence(ratios: Mapping[float, float]) -> str:
    lost = next((v for v, r in ratios.items() if r >= 1), None)
    first, last = next(iter(ratios)), list(ratios)[-1]
    run = f"latent MSE / uniform goes from {ratios[first]:.2f} at {first:g} to {ratios[last]:.2f} at {last:g}"
    if lost is None:
        return f"{run}; it stays below the uniform coupling's at every value."
    if lost == first:
        return f"{run}; it is not below the uniform coupling's even where nothing is violated."
    return f"{run}; the first not below the uniform coupling's is at {lost:g} ({ratios[lost]:.2f})."


def _gain_sentence(gains: Mapping[float, float]) -> str:
    lost = next((v for v, g in gains.items() if g <= 0), None)
    first, last = next(iter(gains)), list(gains)[-1]
    run = f"R² less the uniform coupling's goes from {gains[first]:+.3f} at {first:g} to {gains[last]:+.3f} at {last:g}"
    if lost is None:
        return f"{run}; it is a gain at every value."
    return f"{run}; the first that is no gain is at {lost:g} ({gains[lost]:+.3f})."
