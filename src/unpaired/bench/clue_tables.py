"""The tables of the bench of CLUE: means and ranges over seeds, beside the published figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unpaired.bench.citeseq_plots import points_by_method
from unpaired.bench.clue_methods import GROUPS, METHODS, OFF
from unpaired.bench.clue_plots import share_curves
from unpaired.bench.plots import save_figure
from unpaired.bench.published import CLUE_ABLATION, CLUE_CITESEQ
from unpaired.bench.store import Store
from unpaired.bench.tables import Column, Summary, grid, summaries
from unpaired.files import write_text

__all__ = ["CASE", "COLUMNS", "write"]

CASE = "cells to be matched"


def _score(name: str, title: str, digits: int = 4) -> Column:
    return Column(name, title, lambda r: r["scores"].get(name), digits)


def _pace(result: Mapping[str, Any]) -> float | None:
    core = result.get("core_seconds")
    return core / result["epochs"] if core and result["epochs"] else None


COLUMNS = (
    _score("matching_score", "matching score ↑"),
    _score("matching_score_there", "rna to adt"),
    _score("matching_score_back", "adt to rna"),
    _score("foscttm", "FOSCTTM ↓"),
    _score("foscttm_there", "FOSCTTM, rna to adt"),
    _score("foscttm_back", "FOSCTTM, adt to rna"),
    _score("foscttm_label", "FOSCTTM within label ↓"),
    _score("foscttm_coupling", "... by ranks of the coupling ↓"),
    _score("coupling_score", "true partner in the coupling ↑"),
    _score("imputation_r", "r of imputed proteins ↑", 3),
    Column("seconds", "seconds", lambda r: r["seconds"], 0),
    Column("core_seconds", "core seconds", lambda r: r.get("core_seconds"), 0),
    Column("epochs", "epochs", lambda r: r["epochs"], 0),
    Column("pace", "core seconds / epoch", _pace, 2),
)
_SHOWN = {
    "comparison": (
        "matching_score_there", "matching_score_back", "foscttm", "foscttm_there", "foscttm_back", "imputation_r",
        "seconds", "core_seconds", "epochs", "pace",
    ),
    "pairs": (
        "matching_score", "foscttm", "foscttm_label", "foscttm_coupling", "coupling_score", "imputation_r",
        "core_seconds",
    ),
    "ablation": (),
}  # fmt: skip
_TITLES = {
    "comparison": "Comparison (tables 2 to 4)",
    "pairs": "Shares of the pairs known",
    "ablation": "Ablation (table 5)",
}
_TERMS = {"lam_cross": "cross", "lam_cos": "cosine", "lam_align": "adversary"}

_REMARKS = """\
The matching score is the mean probability of the true partner by shared nearest neighbours (cosine, k = 1) among all
{match:,d} cells to be matched; a random space scores about {chance:.5f}. FOSCTTM is over the same cells, by cosine, and
Euclidean for the propensity score, ties one half, chance 0.5; within label it is over the cells of the same label.
r is Pearson's, of log(1 + counts) over cells, mean over proteins. {learn:,d} cells are learned from.
{effort}
Stage 2 learns on for as many steps again at most, and its seconds and epochs are of both stages. Seconds are of
learning, on one thread, by the clock and of the processor; those of CLUE with drawn partners are without the propensity
score and its matching.
MultiVI learns from the cells to be matched too, as it embeds no others, and imputes nothing here; its own schedule is
500 epochs at a rate of 1e-4, for which a few thousand steps are few.
The published figures are of other data (bone marrow, 15,066 cells to be matched, many donors) and of longer training:
only the order of the methods can be compared.
"""


def write(store: Store, absent: Mapping[str, str], preset: str, steps: int | None) -> str:
    """Write tables and plots of all results that are there, and return the tables.

    Parameters
    ----------
    store
        The results.
    absent
        Method -> why it cannot be had.
    preset, steps
        What was asked for.
    """
    results = [r for r in store.results() if r["case"] == CASE]
    found = summaries(results, COLUMNS, published=CLUE_CITESEQ)
    cells = {(s.method, s.metric): s for s in found}
    parts = []
    for group, title in _TITLES.items():
        names = [n for n in GROUPS[group] if (n, "seconds") in cells or n in absent]
        if any((n, "seconds") in cells for n in names):
            table = _ablation(names, cells) if group == "ablation" else _table(group, names, cells, absent)
            parts.append(f"### {title}\n\n{table}\n")
    parts.append(_said(results, preset, steps))
    text = "\n".join(p for p in parts if p)
    write_text(store.folder / "table.md", f"# CLUE\n\nMean (lowest, highest) over seeds.\n\n{text}")
    _write_csv(store, found, absent)
    _draw(store, found)
    return text


def _table(
    group: str, names: Sequence[str], cells: Mapping[tuple[str, str], Summary], absent: Mapping[str, str]
) -> str:
    columns = [c for c in COLUMNS if c.name in _SHOWN[group]]
    rows = []
    for name in names:
        if name in absent and (name, "seconds") not in cells:
            rows.append([METHODS[name].title, "0", absent[name], *[""] * (len(columns) - 1)])
            continue
        own = [cells[name, c.name] for c in columns]
        seeds = max(len(s.values) for s in own)
        told = [_cell(s, c.digits, published=group == "comparison") for s, c in zip(own, columns, strict=True)]
        why = own[0].failed[1]
        rows.append([METHODS[name].title, str(seeds), *(told if seeds else [why, *[""] * (len(columns) - 1)])])
    return grid(["method", "seeds", *(c.title for c in columns)], rows)


def _cell(summary: Summary, digits: int, *, published: bool = True) -> str:
    known = f" [{summary.published}]" if summary.published and published else ""
    if not summary.values:
        return known.strip()
    mean, low, high = (f"{f(summary.values):.{digits}f}" for f in (np.mean, min, max))
    spread = f" ({low}, {high})" if len(summary.values) > 1 else ""
    lost = f", {summary.failed[0]} failed" if summary.failed[0] else ""
    return f"{mean}{spread}{lost}{known}"


def _ablation(names: Sequence[str], cells: Mapping[tuple[str, str], Summary]) -> str:
    """Return the table of the terms, ours beside the published, and what each term is worth by both."""
    metrics = ("matching_score", "matching_score_there", "matching_score_back", "foscttm")
    columns = [next(c for c in COLUMNS if c.name == m) for m in metrics]
    header = [*_TERMS.values(), *(c.title for c in columns)]
    header += [f"published: {t}" for t in ("rna to adt", "adt to rna", "overall")]
    rows = []
    for name in names:
        on = ["" if term in OFF[name] else "✓" for term in _TERMS]
        own = [_cell(cells[name, c.name], c.digits, published=False) for c in columns]
        rows.append([*on, *own, *CLUE_ABLATION[name]])
    return f"{grid(header, rows)}\n\n{_order(cells)}"


def _order(cells: Mapping[tuple[str, str], Summary]) -> str:
    """Say which term matters most, by what the matching score loses without it."""
    ours = {n: float(np.mean(s.values)) for (n, m), s in cells.items() if m == "matching_score" and s.values}
    sources = {
        "here": ours,
        "published, CITE-seq": {n: (float(v[0]) + float(v[1])) / 2 for n, v in CLUE_ABLATION.items()},
        "published, overall": {n: float(v[2]) for n, v in CLUE_ABLATION.items()},
    }
    lines = []
    for told, scores in sources.items():
        lost = {
            title: 1 - scores[n] / scores["clue"]
            for n, off in OFF.items()
            for term, title in _TERMS.items()
            if off == (term,) and n in scores and scores.get("clue")
        }
        ranked = sorted(lost, key=lambda t: -lost[t])
        if ranked:
            lines.append(f"- {told}: " + ", ".join(f"{t} ({-lost[t]:+.1%})" for t in ranked))
    return "What the matching score loses without a term, the most important first:\n\n" + "\n".join(lines)


def _said(results: Sequence[Mapping[str, Any]], preset: str, steps: int | None) -> str:
    sizes = next((r["cells"] for r in results if "cells" in r), None)
    if sizes is None:
        return ""
    effort = "Methods learn as long as they choose." if steps is None else f"Methods make {steps:,d} steps at most."
    return _REMARKS.format(**sizes, chance=1 / sizes["match"], effort=f"Preset {preset}. {effort}")


def _write_csv(store: Store, found: Sequence[Summary], absent: Mapping[str, str]) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["method", "metric", "mean", "low", "high", "seeds", "failed", "why", "published"])
    for s in found:
        told = (float(np.mean(s.values)), min(s.values), max(s.values)) if s.values else ("", "", "")
        writer.writerow([s.method, s.metric, *told, len(s.values), *s.failed, s.published])
    there = {s.method for s in found}
    for method, why in absent.items():
        if method not in there:
            writer.writerow([method, "", "", "", "", 0, 0, why, ""])
    write_text(store.folder / "table.csv", out.getvalue())


def _draw(store: Store, found: Sequence[Summary]) -> None:
    """Draw what there are results of."""
    by = {(s.method, s.metric): s for s in found}
    for group in ("comparison", "ablation"):
        titles = {n: METHODS[n].title for n in GROUPS[group]}
        own = [Summary(s.case, s.method, s.metric, s.by_seed) for s in found if s.method in titles and s.values]
        if len({s.method for s in own}) > 1:
            shown = [("matching_score", "matching score (higher is better)"), ("foscttm", "FOSCTTM (lower is better)")]
            axes = points_by_method([(m, t, own, titles) for m, t in shown])
            save_figure(axes[0], store.folder / group)
    if any((n, "foscttm") in by for n in GROUPS["pairs"] if n not in ("clue", "random", "propensity")):
        save_figure(share_curves(by)[0], store.folder / "pairs")
