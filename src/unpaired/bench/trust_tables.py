"""Tables of the trust bench: what each recipe is worth, and what is said of it without truth."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unpaired.bench.methods import method_of
from unpaired.bench.plots import save_figure
from unpaired.bench.real import left_out_text
from unpaired.bench.screen_cases import BASE
from unpaired.bench.store import Store
from unpaired.bench.tables import COVERAGE, Column, Summary, grid, markdown, summaries, write_csv, write_markdown
from unpaired.bench.trust_fit import Judged, judge
from unpaired.bench.trust_plots import Point, Step, quality_panels, violation_panels
from unpaired.data.types import Array
from unpaired.evaluate.diagnose import COVERED, FOSCTTM, TRACE

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
        *_told_text(store, told, steps),
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
    """Return case -> the median of a method over that of the published recipe; of a lead of none it is no number."""
    cases = [c for c, m, k in by if m == PUBLISHED and k == metric and (c, method, metric) in by]
    middle = {c: [float(np.median(by[c, m, metric].values)) for m in (method, PUBLISHED)] for c in cases}
    return {c: own / published if published > 0 else float("nan") for c, (own, published) in middle.items()}


def _median(values: Iterable[float]) -> float:
    """Return the median of those that are numbers."""
    numbers = [v for v in values if np.isfinite(v)]
    return float(np.median(numbers)) if numbers else float("nan")


def _by_set(ratios: Mapping[str, float]) -> float:
    """Return the median over data sets of the medians over their pairs."""
    sets: dict[str, list[float]] = {}
    for case, ratio in ratios.items():
        sets.setdefault(_group(case), []).append(ratio)
    return _median(map(_median, sets.values()))


def _gains_text(results: Sequence[_Result]) -> str:
    by = _medians(results)
    rows, worse = [], []
    trace, lead = (_ratios(by, OURS, k) for k in ("trace", "lead"))
    if not trace:
        return ""
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
        f"Median ratio over {len(trace)} pairs: trace {_median(trace.values()):.2f}, 0.5 - FOSCTTM "
        f"{_median(lead.values()):.2f}; over data sets, each by the median of its pairs: "
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
            _median(trace.values()),
            np.exp(np.mean(traces)),
            _median(lead.values()),
            np.mean(leads),
        ]
        title = "the default (all of it)" if name == OURS else method_of(name).title
        rows.append([title, *(f"{c:.2f}" for c in cells[:3]), f"{cells[3]:.4f}"])
    header = ["step", "trace, ratio to published", "trace / uniform, geometric mean"]
    header += ["0.5 - FOSCTTM, ratio to published", "mean"]
    return f"## Which ingredient gives what\n\n{grid(header, rows)}\n"


def _told_text(store: Store, told: Sequence[_Result], steps: Collection[str]) -> Iterator[str]:
    """Return what is said without truth, each data set by the rule learned from the others."""
    groups = [_group(r["case"]) for r in told]
    if len(set(groups)) < 3:
        return
    trace, lead = (judge(told, groups, what) for what in ("trace", "foscttm"))
    said = [_Said(r, trace.take(np.array([i])), lead.take(np.array([i]))) for i, r in enumerate(told)]
    points = {"trace": [s.point(s.trace) for s in said], "foscttm": [s.point(s.lead) for s in said]}
    save_figure(quality_panels(points)[0], store.folder / "expected")
    ours = np.array([i for i, r in enumerate(told) if r["method"] == OURS])
    lines = [_line(j, ours, title) for j, title in ((trace, "trace / uniform"), (lead, "0.5 - FOSCTTM"))]
    text = "Each data set is predicted by the rule learned from the others, and so are the intervals.\n\n"
    yield f"## Expected quality against the measured one\n\n{text}" + "\n".join(lines) + "\n"
    own = [s for s in said if s.result["method"] == OURS]
    yield _verdict_text([s for s in own if s.result["case"] not in steps])
    yield _violation_text(store, [s for s in own if s.result["case"] in steps or s.result["case"] == BASE])


@dataclass(frozen=True, eq=False)
class _Said:
    """One matching, and what is expected of it without its data set."""

    result: _Result
    trace: Judged
    lead: Judged

    def point(self, judged: Judged) -> Point:
        """Return it as a dot of the plot."""
        values = (float(v[0]) for v in (judged.predicted, judged.low, judged.high, judged.measured))
        return Point(_group(self.result["case"]), self.result["method"] == OURS, *values)

    @property
    def verdict(self) -> str:
        """The verdict: signal and coverage as they were found, quality as it is expected here."""
        checks = {c["name"]: c for c in self.result["diagnosis"]["checks"]}
        if any(c["state"] == "bad" and n.startswith(("label signal", "coverage")) for n, c in checks.items()):
            return "do not use"
        good = self.trace.predicted[0] >= TRACE and self.trace.low[0] > 1 and 0.5 - self.lead.predicted[0] <= FOSCTTM
        return "use" if good and (checks["coverage"]["value"] or 0.0) >= COVERED else "average"


def _line(judged: Judged, ours: Array, title: str) -> str:
    default = judged.take(ours)
    by_set = default.covered
    never = [name for name, part in by_set.items() if part < 0.5]
    return (
        f"- {title}: Spearman {judged.spearman:.2f} over {len(judged.measured)} matchings (both recipes), "
        f"{default.spearman:.2f} over the {len(ours)} of the default. The interval held the measured value of the "
        f"default in {np.mean(list(by_set.values())):.0%}, data sets alike"
        f"{'; less than half of the time in ' + ', '.join(never) if never else ''}. "
        f"The rule learned from all: {_rule_text(judged)}."
    )


def _rule_text(judged: Judged) -> str:
    r = judged.rule
    return (
        f"log(share) = {r.constant:.3f} {r.distance:+.3f} distance {r.spread:+.3f} spread "
        f"{r.blind:+.3f} [noise unknown], errors {r.low:.3f} to {r.high:.3f}"
    )


def _verdict_text(said: Sequence[_Said]) -> str:
    cases: dict[str, list[_Said]] = {}
    for one in said:
        cases.setdefault(one.result["case"], []).append(one)
    rows = []
    for case, own in cases.items():
        verdicts = [s.verdict for s in own]
        counts = ", ".join(f"{v} {verdicts.count(v)}" for v in dict.fromkeys(verdicts))
        values = ([s.trace.predicted, s.trace.measured, 0.5 - s.lead.predicted, 0.5 - s.lead.measured] for s in own)
        trace, measured, expected, foscttm = np.median(np.array(list(values))[..., 0], axis=0)
        rows.append([case, counts, f"{trace:.1f}", f"{measured:.1f}", f"{expected:.2f}", f"{foscttm:.2f}"])
    header = ["pair", "verdict (seeds)", "trace / uniform, expected", "measured", "FOSCTTM, expected", "measured"]
    return (
        f"## Verdicts\n\n{grid(header, rows)}\n\nOf the default; each data set by the rule learned from the others, "
        f"medians over seeds. {_right_text(said)}\n"
    )


def _right_text(said: Sequence[_Said]) -> str:
    """Say how often "use" was right, and how often it was given where it would have been."""
    right = [s.trace.measured[0] >= TRACE and 0.5 - s.lead.measured[0] <= FOSCTTM for s in said]
    use = [s.verdict == "use" for s in said]
    both = sum(u and r for u, r in zip(use, right, strict=True))
    return (
        f'Of {sum(use)} verdicts "use" {both} were right by the same thresholds (trace / uniform of {TRACE:g}, FOSCTTM '
        f"of {FOSCTTM:g}); of {sum(right)} matchings that good, {both} were found."
    )


def _violation_text(store: Store, said: Sequence[_Said]) -> str:
    own = {s.result["case"]: s for s in said if s.result["seed"] == 0}
    if BASE not in own or len(own) < 2:
        return ""
    curves: dict[str, list[tuple[float, Step]]] = {}
    parts = ["## A screen whose assumptions are violated step by step\n"]
    header = ["violated", "verdict", "trace / uniform, expected", "measured", "FOSCTTM, expected", "measured"]
    header += ["latent MSE / uniform"]
    for knob, title in (("a1", "(A1)"), ("a2", "(A2)")):
        found = {float(c.partition("=")[2]): s for c, s in own.items() if c.startswith(f"{knob}=")}
        steps = [(0.0, own[BASE]), *sorted(found.items())]
        curves[knob] = [(value, _step(s)) for value, s in steps]
        rows = [[f"{title} {value:g}", *_cells(s)] for value, s in steps]
        parts.append(f"{grid(header, rows)}\n")
    save_figure(violation_panels(curves)[0], store.folder / "violated")
    return "\n".join(parts)


def _step(said: _Said) -> Step:
    lead = said.lead
    low, high = (0.5 - min(0.5, float(v[0])) for v in (lead.high, lead.low))
    return Step(said.verdict, 0.5 - float(lead.predicted[0]), low, high, 0.5 - float(lead.measured[0]))


def _cells(said: _Said) -> list[str]:
    scores = said.result["scores"]
    return [
        said.verdict,
        f"{said.trace.predicted[0]:.1f}",
        f"{said.trace.measured[0]:.1f}",
        f"{0.5 - said.lead.predicted[0]:.2f}",
        f"{0.5 - said.lead.measured[0]:.2f}",
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
