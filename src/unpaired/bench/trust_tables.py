"""Tables of the trust bench: what each recipe is worth, and what is said of it without truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from unpaired.bench.methods import method_of
from unpaired.bench.plots import save_figure
from unpaired.bench.real import left_out_text
from unpaired.bench.screen_cases import BASE
from unpaired.bench.store import Store
from unpaired.bench.tables import COVERAGE, Column, Summary, grid, markdown, summaries, write_csv, write_markdown
from unpaired.bench.trust_fit import Judged, judge
from unpaired.bench.trust_plots import Point, quality_panels, violation_panels

__all__ = ["OURS", "PUBLISHED", "write"]

OURS, PUBLISHED = "ps+ot", "ps-published+ot"

_Result = Mapping[str, Any]


def _trace(result: _Result) -> float:
    return float(result["scores"]["trace_over_uniform"])


def _lead(result: _Result) -> float:
    """0.5 less FOSCTTM: what there is beyond chance."""
    return 0.5 - float(result["scores"]["foscttm"]["mean"])


_COLUMNS = (
    Column("trace_over_uniform", "trace / uniform ↑", _trace, 2),
    Column("foscttm_source", "FOSCTTM, source ↓", lambda r: r["scores"]["foscttm"]["source"]),
    Column("foscttm_target", "FOSCTTM, target ↓", lambda r: r["scores"]["foscttm"]["target"]),
    *COVERAGE,
)
_GAINS = (Column("trace", "", _trace), Column("lead", "", _lead))


def write(store: Store, left_out: Mapping[str, str], methods: Sequence[str]) -> str:
    """Write tables and plots of all results, and return the text."""
    results = list(store.results())
    steps = {r["case"] for r in results if r["case"].startswith(("a1=", "a2="))}
    kept = [r for r in results if r["case"] not in steps]
    found = summaries(kept, _COLUMNS)
    titles = {n: method_of(n).title for n in (OURS, PUBLISHED)}
    told = [r for r in results if "failed" not in r and r["method"] in (OURS, PUBLISHED) and r["diagnosis"]["evidence"]]
    parts = [
        _gains_text(kept),
        _ablation_text(kept, methods),
        _expected_text(store, told),
        _verdict_text([r for r in told if r["case"] not in steps]),
        _violation_text(store, [r for r in told if r["case"] in steps or r["case"] == BASE]),
        _confidence_text([r for r in told if r["case"] not in steps]),
        markdown([s for s in found if s.method in titles], _COLUMNS, titles, {}),
        left_out_text(left_out),
    ]
    text = "\n".join(p for p in parts if p)
    write_csv(store.folder, found)
    write_markdown(store.folder, "Can a matching be trusted?", text)
    return text


def _group(case: str) -> str:
    """Return the data set of a case; all screens are one."""
    return BASE if case.startswith(("a1=", "a2=")) else case.partition(" ")[0]


def _medians(results: Iterable[_Result]) -> dict[tuple[str, str, str], Summary]:
    return {(s.case, s.method, s.metric): s for s in summaries(results, _GAINS) if s.values}


def _ratios(by: Mapping[tuple[str, str, str], Summary], method: str, metric: str) -> dict[str, float]:
    """Return case -> the median of a method over that of the published recipe."""
    cases = [c for c, m, k in by if m == PUBLISHED and k == metric and (c, method, metric) in by]
    return {
        c: float(np.median(by[c, method, metric].values) / np.median(by[c, PUBLISHED, metric].values)) for c in cases
    }


def _by_set(ratios: Mapping[str, float]) -> float:
    """Return the median over data sets of the medians over their pairs."""
    sets: dict[str, list[float]] = {}
    for case, ratio in ratios.items():
        sets.setdefault(_group(case), []).append(ratio)
    return float(np.median([np.median(own) for own in sets.values()])) if sets else float("nan")


def _gains_text(results: Sequence[_Result]) -> str:
    by = _medians(results)
    rows, worse = [], []
    trace, lead = (_ratios(by, OURS, k) for k in ("trace", "lead"))
    for case in trace:
        cells = [_quartiles(by[case, m, k], d) for k, d in (("trace", 2), ("lead", 3)) for m in (PUBLISHED, OURS)]
        low, high = by[case, OURS, "lead"].quartiles, by[case, PUBLISHED, "lead"].quartiles
        assert low is not None
        assert high is not None
        if low[2] < high[1]:  # even our third quartile is below the first of the published
            worse.append(case)
        rows.append([case, *cells[:2], f"{trace[case]:.2f}", *cells[2:], f"{lead[case]:.2f}"])
    header = ["pair", "trace / uniform, published", "ours", "ratio", "0.5 - FOSCTTM, published", "ours", "ratio"]
    return (
        "## The published recipe and the default\n\n"
        f"{grid(header, rows)}\n\n"
        f"Median ratio over {len(trace)} pairs: trace {np.median(list(trace.values())):.2f}, 0.5 - FOSCTTM "
        f"{np.median(list(lead.values())):.2f}; over data sets, each by the median of its pairs: "
        f"{_by_set(trace):.2f} and {_by_set(lead):.2f}. By FOSCTTM the default is worse by more than the quartiles in "
        f"{len(worse)}{': ' + ', '.join(worse) if worse else ''}.\n"
    )


def _quartiles(summary: Summary, digits: int) -> str:
    mid, low, high = (f"{q:.{digits}f}" for q in summary.quartiles or (np.nan,) * 3)
    return f"{mid} ({low}, {high})"


def _ablation_text(results: Sequence[_Result], methods: Sequence[str]) -> str:
    by = _medians(results)
    rows = []
    for name in (PUBLISHED, *(m for m in methods if m not in (OURS, PUBLISHED)), OURS):
        trace, lead = (_ratios(by, name, k) for k in ("trace", "lead"))
        if not trace:
            continue
        leads = [np.median(by[c, name, "lead"].values) for c in lead]
        traces = [np.log(np.median(by[c, name, "trace"].values)) for c in trace]
        cells = [
            np.median(list(trace.values())),
            np.exp(np.mean(traces)),
            np.median(list(lead.values())),
            np.mean(leads),
        ]
        title = "the default (all of it)" if name == OURS else method_of(name).title
        rows.append([title, *(f"{c:.2f}" for c in cells[:3]), f"{cells[3]:.4f}"])
    header = ["step", "trace, ratio to published", "trace / uniform, geometric mean"]
    header += ["0.5 - FOSCTTM, ratio to published", "mean"]
    return f"## Which ingredient gives what\n\n{grid(header, rows)}\n"


def _expected_text(store: Store, told: Sequence[_Result]) -> str:
    groups = [_group(r["case"]) for r in told]
    if len(set(groups)) < 3:
        return ""
    found = {what: judge(told, groups, what) for what in ("trace", "foscttm")}
    axes = quality_panels({what: [_point(r, j, i) for i, r in enumerate(told)] for what, j in found.items()})
    save_figure(axes[0], store.folder / "expected")
    lines = [
        f"- {title}: Spearman {j.spearman:.2f} over {len(told)} matchings (both recipes, all seeds), "
        f"{_spearman_of(told, groups, j, OURS):.2f} over those of the default; {j.covered:.0%} within the interval "
        f"of nine in ten. The rule learned from all: {_rule_text(j)}."
        for title, j in (("trace / uniform", found["trace"]), ("0.5 - FOSCTTM", found["foscttm"]))
    ]
    return (
        "## Expected quality against the measured one\n\nEach data set is predicted by the rule learned from the "
        "others.\n\n" + "\n".join(lines) + "\n"
    )


def _spearman_of(told: Sequence[_Result], groups: Sequence[str], judged: Judged, method: str) -> float:
    from scipy.stats import spearmanr

    own = [i for i, r in enumerate(told) if r["method"] == method]
    return float(spearmanr(judged.predicted[own], judged.measured[own]).statistic)


def _rule_text(judged: Judged) -> str:
    r = judged.rule
    return (
        f"log(share) = {r.constant:.3f} {r.distance:+.3f} distance {r.spread:+.3f} spread "
        f"{r.blind:+.3f} [noise unknown], errors {r.low:.3f} to {r.high:.3f}"
    )


def _point(result: _Result, judged: Judged, at: int) -> Point:
    values = (judged.predicted[at], judged.low[at], judged.high[at], judged.measured[at])
    return Point(_group(result["case"]), result["method"] == OURS, *(float(v) for v in values))


def _verdict_text(told: Sequence[_Result]) -> str:
    cases: dict[str, list[_Result]] = {}
    for r in told:
        if r["method"] == OURS:
            cases.setdefault(r["case"], []).append(r)
    rows = []
    for case, own in cases.items():
        verdicts = [r["diagnosis"]["verdict"] for r in own]
        counts = ", ".join(f"{v} {verdicts.count(v)}" for v in dict.fromkeys(verdicts))
        expected = np.median([r["diagnosis"]["expected"]["trace_over_uniform"][1] for r in own])
        lead = np.median([r["diagnosis"]["expected"]["foscttm"][1] for r in own])
        trace = np.median([r["measured"]["trace_over_uniform"] for r in own])
        foscttm = np.median([r["measured"]["foscttm"]["mean"] for r in own])
        rows.append([case, counts, f"{expected:.1f}", f"{trace:.1f}", f"{lead:.2f}", f"{foscttm:.2f}"])
    header = ["pair", "verdict (seeds)", "trace / uniform, expected", "measured", "FOSCTTM, expected", "measured"]
    return f"## Verdicts\n\nOf the default, by the rule that the package has.\n\n{grid(header, rows)}\n"


def _violation_text(store: Store, told: Sequence[_Result]) -> str:
    own = {r["case"]: r for r in told if r["method"] == OURS and r["seed"] == 0}
    if BASE not in own or len(own) < 2:
        return ""
    curves: dict[str, list[tuple[float, _Result]]] = {}
    for knob in ("a1", "a2"):
        steps = {float(c.partition("=")[2]): r for c, r in own.items() if c.startswith(f"{knob}=")}
        curves[knob] = [(0.0, own[BASE]), *sorted(steps.items())]
    save_figure(violation_panels(curves)[0], store.folder / "violated")
    parts = ["## A screen whose assumptions are violated step by step\n"]
    header = ["violated", "verdict", "trace / uniform, expected", "measured", "FOSCTTM, expected", "measured"]
    header += ["latent MSE / uniform"]
    for knob, title in (("a1", "(A1)"), ("a2", "(A2)")):
        rows = [[f"{title} {value:g}", *_step(r)] for value, r in curves[knob]]
        parts.append(f"{grid(header, rows)}\n")
    return "\n".join(parts)


def _step(r: _Result) -> list[str]:
    expected, measured, scores = r["diagnosis"]["expected"], r["measured"], r["scores"]
    return [
        r["diagnosis"]["verdict"],
        f"{expected['trace_over_uniform'][1]:.1f}",
        f"{measured['trace_over_uniform']:.1f}",
        f"{expected['foscttm'][1]:.2f}",
        f"{measured['foscttm']['mean']:.2f}",
        f"{scores['latent_mse'] / scores['uniform']['latent_mse']:.2f}",
    ]


def _confidence_text(told: Sequence[_Result]) -> str:
    cases: dict[str, list[float]] = {}
    for r in told:
        if r["method"] == OURS:
            cases.setdefault(r["case"], []).append(r["selective_risk"]["area"] / r["selective_risk"]["random"])
    rows = [
        [case, f"{np.median(own):.3f} ({np.quantile(own, 0.25):.3f}, {np.quantile(own, 0.75):.3f})"]
        for case, own in cases.items()
    ]
    medians = [np.median(own) for own in cases.values()]
    return (
        "## Confidence\n\nArea under the selective-risk curve over that of random order; below 1, the surer cells are "
        f"better matched.\n\n{grid(['pair', 'ratio'], rows)}\n\nBelow 1 in {sum(m < 1 for m in medians)} of "
        f"{len(medians)}; median {np.median(medians):.3f}.\n"
        if rows
        else ""
    )
