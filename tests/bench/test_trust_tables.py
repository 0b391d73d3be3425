"""Tables and plots of the trust bench, on results made by hand."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from unpaired.bench import trust_tables as module
from unpaired.bench.plots import save_figure
from unpaired.bench.trust_fit import Judged
from unpaired.bench.trust_plots import Point, Step, quality_panels, violation_panels
from unpaired.bench.trust_tables import OURS, PUBLISHED, write
from unpaired.evaluate.diagnose import COVERED, FOSCTTM, TRACE
from unpaired.evaluate.expected import Evidence, Rule

RULE = Rule(-1.0, -0.4, 1.0, -0.4, -0.3, 0.3)
CASES = ("one a-b", "one a-c", "two a-b", "three a-b", "digits", "screen", "a1=0.5", "a1=1", "a2=0.5")


def checks(signal="good", coverage="good", covered=1.0):
    return [
        {"name": "label signal of a", "state": signal, "value": 0.3},
        {"name": "same distribution", "state": "bad", "value": 0.9},
        {"name": "coverage", "state": coverage, "value": covered},
    ]


def result(case, method, seed, trace=3.0, foscttm=0.3, *, claim=40.0, lead=0.4, found=None):
    evidence = Evidence(claim, 0.5 - lead, 0.2, 0.5, noise_known=method == OURS, labels=3, labels_total=3)
    quality = {"trace_over_uniform": trace, "foscttm": {"mean": foscttm, "source": foscttm, "target": foscttm}}
    return {
        "case": case,
        "method": method,
        "seed": seed,
        "scores": {**quality, "coverage": {"labels": 3}, "latent_mse": 0.5, "uniform": {"latent_mse": 2.0}},
        "states": {"ok": 3},
        "measured": quality,
        "diagnosis": {"evidence": asdict(evidence), "checks": found or checks()},
        "selective_risk": {"area": 0.2 + 0.01 * seed, "random": 0.25},
    }


def store(tmp_path, results):
    tmp_path.mkdir(exist_ok=True)
    return SimpleNamespace(folder=tmp_path, results=lambda: iter(results))


def rows(text, title):
    """Cells of the table under a heading, without its header."""
    lines = text.split(f"## {title}\n")[1].split("\n##")[0].splitlines()
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """Plots are drawn and not written, which takes seconds."""
    found = {}
    monkeypatch.setattr(module, "save_figure", lambda ax, base: found.update({base.name: ax.figure}))
    return found


@pytest.fixture
def results():
    """Three seeds of every case, whose trace and lead differ from case to case and claim more than they are."""
    rng = np.random.default_rng(0)
    found = []
    for i, case in enumerate(CASES):
        for seed in range(3):
            for method, more in ((OURS, 2.0), (PUBLISHED, 1.0)):
                trace, lead = 1 + more * (i + 1) * rng.uniform(0.9, 1.1), 0.03 * more * (i + 1) * rng.uniform(0.9, 1.1)
                own = {"claim": 1 + 5 * (trace - 1), "lead": min(0.5, 2 * lead)}
                found.append(result(case, method, seed, trace, 0.5 - min(0.5, lead), **own))
    return found


# ------------------------------------------------------------------ the two recipes


def pair(case, published, ours):
    """Seeds of both recipes: (trace, FOSCTTM) each."""
    both = ((PUBLISHED, published), (OURS, ours))
    return [result(case, method, i, *v) for method, own in both for i, v in enumerate(own)]


def gains(tmp_path, *pairs):
    return write(store(tmp_path, [r for p in pairs for r in p]), {}, ())


BETTER = pair("one a-b", [(2.0, 0.4)] * 3, [(4.0, 0.2)] * 3)
ALIKE = pair("one a-c", [(2.0, 0.4), (2.0, 0.3), (2.0, 0.2)], [(2.0, 0.41), (2.0, 0.3), (2.0, 0.2)])
WORSE = pair("two a-b", [(5.0, 0.3)] * 3, [(4.0, 0.4)] * 3)


def test_ratios_are_of_medians_and_their_median_is_over_pairs_and_over_data_sets(tmp_path):
    text = gains(tmp_path, BETTER, ALIKE, WORSE)
    found = {r[0]: (r[3], r[6]) for r in rows(text, "The published recipe and the default")}
    assert found == {"one a-b": ("2.00", "3.00"), "one a-c": ("1.00", "1.00"), "two a-b": ("0.80", "0.50")}
    assert "Median ratio over 3 pairs: trace 1.00, 0.5 - FOSCTTM 1.00" in text
    assert "by the median of its pairs: 1.15 and 1.25." in text  # (1.5 + 0.8) / 2 and (2 + 0.5) / 2


def test_those_are_worse_whose_quartiles_are_apart(tmp_path):
    assert "worse by more than the quartiles in 1: two a-b." in gains(tmp_path, BETTER, ALIKE, WORSE)
    assert "worse by more than the quartiles in 0." in gains(tmp_path, BETTER, ALIKE)
    little = pair("two a-b", [(5.0, 0.3), (5.0, 0.35), (5.0, 0.4)], [(5.0, 0.34), (5.0, 0.36), (5.0, 0.41)])
    assert "worse by more than the quartiles in 0." in gains(tmp_path, little)  # by less than seeds differ


@pytest.mark.parametrize("foscttm", [0.5, 0.52])
def test_a_ratio_to_a_lead_of_none_is_no_number_and_is_left_out(tmp_path, foscttm):
    none = pair("two a-b", [(1.0, foscttm)] * 3, [(2.0, 0.56)] * 3)
    text = gains(tmp_path, BETTER, none)
    assert rows(text, "The published recipe and the default")[1][6] == "nan"
    assert "over 2 pairs: trace 2.00, 0.5 - FOSCTTM 3.00; over data sets, each by the median" in text
    assert "of its pairs: 2.00 and 3.00." in text


def test_without_one_of_the_two_nothing_is_compared(tmp_path):
    text = write(store(tmp_path, [r for r in BETTER if r["method"] == OURS]), {"gone": "why"}, (OURS,))
    assert "Median ratio" not in text
    assert "gone is left out: why" in text


def test_failures_are_told_and_compare_with_nothing(tmp_path):
    failed = [{"case": "two a-b", "method": OURS, "seed": s, "failed": "no memory"} for s in range(3)]
    text = gains(tmp_path, BETTER, [r for r in WORSE if r["method"] == PUBLISHED], failed)
    assert "Median ratio over 1 pairs: trace 2.00" in text
    assert "no memory" in text


def test_every_step_of_the_default_is_compared_with_the_published_recipe(tmp_path):
    name = "ps-logistic+ot isotropic"
    between = [result("one a-b", name, s, 3.0, 0.3) for s in range(3)]
    text = write(store(tmp_path, [*BETTER, *between]), {}, (PUBLISHED, name, OURS))
    found = rows(text, "Which ingredient gives what")
    assert [r[1:] for r in found] == [
        ["1.00", "2.00", "1.00", "0.1000"],
        ["1.50", "3.00", "2.00", "0.2000"],
        ["2.00", "4.00", "3.00", "0.3000"],
    ]
    assert found[-1][0] == "the default (all of it)"


# ------------------------------------------------------------------ verdicts


def judged(predicted, measured, low=None):
    one = (np.array([v], dtype=float) for v in (predicted, measured, predicted if low is None else low, predicted))
    return Judged(*one, np.array(["one"]), RULE)


def said(trace=(9.0, 9.0), foscttm=(0.1, 0.1), low=2.0, **found):
    """What is said of a matching of which (expected, measured) is given."""
    lead = judged(0.5 - foscttm[0], 0.5 - foscttm[1])
    return module._Said(result("one a-b", OURS, 0, found=checks(**found)), judged(*trace, low), lead)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "use"),
        ({"trace": (TRACE, 9.0)}, "use"),
        ({"trace": (TRACE - 0.01, 9.0)}, "average"),
        ({"foscttm": (FOSCTTM - 1e-9, 0.1)}, "use"),
        ({"foscttm": (FOSCTTM + 0.01, 0.1)}, "average"),
        ({"low": 1.0}, "average"),
        ({"covered": COVERED, "coverage": "caution"}, "use"),
        ({"covered": COVERED - 0.01, "coverage": "caution"}, "average"),
        ({"signal": "caution"}, "use"),
        ({"signal": "bad"}, "do not use"),
        ({"coverage": "bad", "covered": 0.0}, "do not use"),
        ({"trace": (1.0, 1.0), "signal": "bad"}, "do not use"),
    ],
)
def test_verdicts_are_those_of_a_diagnosis(change, verdict):
    assert said(**change).verdict == verdict


def test_use_is_right_where_both_are_measured_so():
    good, bad = (9.0, 9.0), (9.0, 1.5)
    many = [
        *[said()] * 4,  # used, and right
        said(trace=bad),  # used, and the trace is not that good
        said(foscttm=(0.1, 0.45)),  # used, and FOSCTTM is not
        *[said(trace=(1.5, 9.0))] * 2,  # not used, and it would have been right
        said(trace=(1.5, 1.5)),
        said(trace=good, signal="bad"),  # not used, and it would have been right
    ]
    text = module._right_text(many)
    assert text.startswith('Of 6 verdicts "use" 4 were right by the same thresholds')
    assert text.endswith("of 7 matchings that good, 4 were found.")


def test_verdicts_are_counted_over_seeds_of_the_default(tmp_path, results):
    text = write(store(tmp_path, results), {}, ())
    found = {r[0]: r for r in rows(text, "Verdicts")}
    assert list(found) == [c for c in CASES if not c.startswith("a")]
    for case, row in found.items():
        own = [r for r in results if (r["case"], r["method"]) == (case, OURS)]
        assert sum(int(part.rsplit(" ", 1)[1]) for part in row[1].split(", ")) == 3
        assert float(row[3]) == pytest.approx(np.median([r["measured"]["trace_over_uniform"] for r in own]), abs=0.051)
        assert float(row[5]) == pytest.approx(np.median([r["measured"]["foscttm"]["mean"] for r in own]), abs=0.0051)


def test_only_the_default_is_plotted_where_it_is_violated_and_both_recipes_else(tmp_path, results, drawn):
    write(store(tmp_path, results), {}, ())
    assert set(drawn) == {"expected", "violated"}
    assert [len(ax.collections) for ax in drawn["expected"].axes] == [len(results)] * 2
    measured = [ax.lines[1].get_ydata() for ax in drawn["violated"].axes]
    assert [len(y) for y in measured] == [3, 2]
    own = next(r for r in results if (r["case"], r["method"], r["seed"]) == ("a1=1", OURS, 0))
    assert measured[0][-1] == pytest.approx(own["measured"]["foscttm"]["mean"])


def test_data_sets_whose_interval_fails_are_named():
    owners = np.array(["one", "one", "two", "two"])
    ends = {"low": np.array([0.0, 0, 0, 2]), "high": np.array([2.0, 2, 0.5, 3])}
    both = Judged(np.arange(4.0), np.array([1.0, 1.1, 1.2, 1.3]), **ends, owners=owners, rule=RULE)
    text = module._line(both, np.arange(4), "trace")
    assert "in 50%, data sets alike; less than half of the time in two. The rule" in text
    assert "less than half" not in module._line(both, np.arange(2), "trace")
    assert "over the 2 of the default. The interval held the measured value of the default in 100%" in module._line(
        both, np.arange(2), "trace"
    )


# ------------------------------------------------------------------ the whole


def test_everything_is_written(tmp_path, results, monkeypatch):
    monkeypatch.setattr(module, "save_figure", save_figure)
    text = write(store(tmp_path, results), {"gone": "why"}, ())
    names = {p.name for p in tmp_path.iterdir()}
    assert {"table.md", "table.csv", *(f"{n}.{e}" for n in ("expected", "violated") for e in ("png", "svg"))} <= names
    assert (tmp_path / "table.md").read_text(encoding="utf-8").endswith(text)
    assert "nan" not in text
    steps = [r for r in rows(text, "A screen whose assumptions are violated step by step") if r[0].startswith("(")]
    assert [r[0] for r in steps] == ["(A1) 0", "(A1) 0.5", "(A1) 1", "(A2) 0", "(A2) 0.5"]
    assert all(r[-1] == "0.25" for r in steps)
    confidence = {r[0]: r[1] for r in rows(text, "Confidence")}
    assert set(confidence) == {c for c in CASES if not c.startswith("a")}
    assert set(confidence.values()) == {"0.840 (0.820, 0.860)"}
    assert "Below 1 in 6 of 6; median 0.840." in text


def test_a_data_set_is_not_judged_by_itself_in_the_table_either(tmp_path, results):
    def expected_of(some, name):
        text = write(store(tmp_path / name, some), {}, ())
        return {r[0]: (r[2], r[4]) for r in rows(text, "Verdicts")}

    wrong = {"measured": {"trace_over_uniform": 1.0, "foscttm": {"mean": 0.499}}}
    changed = [r | wrong if r["case"].startswith("one") else r for r in results]
    before, after = expected_of(results, "before"), expected_of(changed, "after")
    moved = {case for case in before if before[case] != after[case]}
    assert moved == {"two a-b", "three a-b", "digits", "screen"}


def test_of_two_data_sets_nothing_can_be_learned(tmp_path, results):
    few = [r for r in results if r["case"].startswith(("one", "two"))]
    text = write(store(tmp_path, few), {}, ())
    assert "## Verdicts" not in text
    assert "## Confidence" in text


def test_what_has_no_evidence_is_not_judged(tmp_path, results):
    bare = [{**r, "diagnosis": {"evidence": None, "checks": checks()}} if r["case"] == "digits" else r for r in results]
    assert "digits" not in [r[0] for r in rows(write(store(tmp_path, bare), {}, ()), "Verdicts")]


# ------------------------------------------------------------------ plots


def test_every_matching_is_a_dot_with_its_interval():
    points = [Point(f"set {i % 4}", i % 2 == 0, 2.0 + i, 1.0 + i, 4.0 + i, 2.5 + i) for i in range(9)]
    axes = quality_panels({"trace": points, "foscttm": [replace(p, predicted=0.1) for p in points[:5]]})
    assert [len(ax.collections) for ax in axes] == [9, 5]
    assert [len(ax.lines) for ax in axes] == [10, 6]  # and the diagonal
    assert [ax.get_xscale() for ax in axes] == ["log", "linear"]
    for p, dot, line in zip(points, axes[0].collections, axes[0].lines, strict=False):
        assert dot.get_offsets().tolist() == [[p.predicted, p.measured]]
        assert list(line.get_xdata()) == [p.low, p.high]
        assert (len(dot.get_facecolor()) > 0) == p.ours
    colours = [to_rgba(dot.get_edgecolor()[0]) for dot in axes[0].collections]
    assert colours[0] == colours[4] == colours[8]
    assert len(set(colours)) == 4
    legend = axes[1].get_legend() or axes[1].figure.legends[0]
    assert [t.get_text() for t in legend.get_texts()][:4] == [f"set {i}" for i in range(4)]


def test_many_data_sets_are_told_apart():
    points = [Point(f"set {i}", True, 2.0, 1.0, 3.0, 2.0) for i in range(20)]
    axes = quality_panels({"trace": points, "foscttm": points})
    looks = {(to_rgba(d.get_edgecolor()[0]), d.get_paths()[0].vertices.tobytes()) for d in axes[0].collections}
    assert len(looks) == 20


def test_a_violated_assumption_is_two_lines_a_band_and_marks():
    steps = [("use", 0.1), ("average", 0.3), ("average", 0.45), ("do not use", 0.5)]
    curve = [(i / 3, Step(v, m, m - 0.05, m + 0.02, m + 0.01)) for i, (v, m) in enumerate(steps)]
    axes = violation_panels({"a1": curve, "a2": curve[:2]})
    for ax, own in zip(axes, (curve, curve[:2]), strict=True):
        assert len(ax.lines) == 3  # expected, measured, chance
        band, *marks = ax.collections
        assert [len(m.get_offsets()) for m in marks] == [
            sum(s.verdict == v for _, s in own) for v in ("use", "average", "do not use")
        ]
        assert band.get_paths()[0].vertices[:, 1].min() == pytest.approx(0.05)
        assert ax.lines[0].get_ydata().tolist() == [s.expected for _, s in own]
        assert ax.lines[1].get_ydata().tolist() == [s.measured for _, s in own]
