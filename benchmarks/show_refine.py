"""Table and picture of what ``refine.py`` measured: the rule against the first matching, and against the best round.

python benchmarks/show_refine.py ROUNDS.jsonl [PICTURE.png]
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unpaired.match.refine_rule import rounds_kept
from unpaired.workflow.refine import may_begin


def lead(scores: dict[str, Any]) -> float:
    """0.5 less FOSCTTM, mean of both sides."""
    return 0.5 - (scores["foscttm_source"] + scores["foscttm_target"]) / 2


def begins(result: dict[str, Any]) -> bool:
    """Whether ``rounds="auto"`` begins."""
    return may_begin(result["verdict"], result["alike"], result["spread"])


def kept(result: dict[str, Any]) -> int:
    """Return the rounds that ``rounds="auto"`` keeps once it has begun."""
    return rounds_kept([(r["agreement"], r["change"], r["weight"]) for r in result["rounds"]])


def chosen(result: dict[str, Any]) -> int:
    """Return the rounds that ``rounds="auto"`` keeps."""
    return kept(result) if begins(result) else 0


def begins_from(least: float) -> Callable[[dict[str, Any]], bool]:
    """Return the rule with another bound of the agreement of spreads."""
    return lambda r: begins({**r, "spread": None}) or (r["verdict"] == "average" and (r["spread"] or 0.0) >= least)


RULES: Mapping[str, tuple[Callable[[dict[str, Any]], bool], Callable[[dict[str, Any]], int]]] = {
    "begins wherever the verdict is not do not use": (lambda r: r["verdict"] != "do not use", kept),
    "... or by likeness alone": (lambda r: begins({**r, "spread": None}), kept),
    "... or spreads agree by 0.02": (begins_from(0.02), kept),
    "... 0.05 (the default)": (begins, kept),
    "... 0.10": (begins_from(0.1), kept),
    "... 0.15": (begins_from(0.15), kept),
    "0.05; always one round": (begins, lambda _: 1),
    "0.05; always eight": (begins, lambda _: 8),
}


CHOSEN_ON = [
    "screen",
    "bmmc_cite_starter adt-rna",
    "eccite_pbmc_control500 adt-rna",
    "pbmc10k_cite adt-rna",
    "scicar_a549_dex atac-rna",
    "tcga_brca_multiomics mirna-mrna",
    "tcga_brca_multiomics mirna_heldout-mrna_heldout",
    "uci_mfeat fac-kar",
    "uci_mfeat fac-pix",
    "uci_mfeat fou-fac",
    "uci_mfeat fou-mor",
    "uci_mfeat fou-zer",
    "uci_mfeat kar-pix",
    "uci_mfeat pix-mor",
    "uci_mfeat zer-mor",
]
"""Every second case by name, and the screen."""

DEFAULT = "... 0.05 (the default)"


def halves(cases: Iterable[str]) -> dict[str, list[str]]:
    """Return the half of the cases that the rule was chosen on, and the other."""
    parts: dict[str, list[str]] = {"chosen on": [], "the other half": []}
    for case in cases:
        parts["chosen on" if case in CHOSEN_ON else "the other half"].append(case)
    return parts


def quartiles(values: list[float], digits: int) -> str:
    """Return the median, and the quartiles in brackets."""
    low, mid, high = np.percentile(values, [25, 50, 75])
    return f"{mid:.{digits}f} ({low:.{digits}f}, {high:.{digits}f})"


def row(case: str, results: list[dict[str, Any]]) -> str:
    """Return a line of the table."""
    steps = [[r["first"], *r["rounds"]] for r in results]
    rounds = [chosen(r) for r in results]
    cells = [case, str(len(results)), "/".join(sorted({r["verdict"] for r in results})), "/".join(map(str, rounds))]
    for side in ("foscttm_source", "foscttm_target"):
        cells += [quartiles([s[0][side] for s in steps], 3)]
        cells += [quartiles([s[k][side] for s, k in zip(steps, rounds, strict=True)], 3)]
    cells += [quartiles([s[0]["trace_over_uniform"] for s in steps], 1)]
    cells += [quartiles([s[k]["trace_over_uniform"] for s, k in zip(steps, rounds, strict=True)], 1)]
    cells += [quartiles([max(map(lead, s)) - lead(s[0]) for s in steps], 3)]
    cells += [quartiles([lead(s[k]) - lead(s[0]) for s, k in zip(steps, rounds, strict=True)], 3)]
    return "| " + " | ".join(cells) + " |"


def summary(title: str, results: list[dict[str, Any]], rule: str) -> str:
    """Return a line of the second table: how much of the best rounds' gain a rule keeps, and how often it harms."""
    start, many = RULES[rule]
    gain, best, harm, worst, trace, runs = 0.0, 0.0, 0, 0.0, [], 0
    for r in results:
        steps = [r["first"], *r["rounds"]]
        at = many(r) if start(r) else 0
        got = lead(steps[at]) - lead(steps[0])
        gain, best, worst = gain + got, best + max(map(lead, steps)) - lead(steps[0]), min(worst, got)
        harm += got < -0.001
        runs += start(r)
        trace.append(steps[at]["trace_over_uniform"] / steps[0]["trace_over_uniform"])
    share = f"{gain / best:.0%}" if best > 0 else "-"
    numbers = (f"{runs} of {len(results)}", share, str(harm), f"{worst:.3f}", f"{min(trace):.2f}")
    return f"| {title} | {rule} | " + " | ".join(numbers) + " |"


def ratio(by_case: dict[str, list[dict[str, Any]]]) -> str:
    """Say by how much the lead grows on the sets with the verdict "use"."""
    ratios = {}
    for case, results in by_case.items():
        use = [r for r in results if r["verdict"] == "use"]
        if use:
            steps = [[r["first"], *r["rounds"]][chosen(r)] for r in use]
            ratios[case] = float(np.median([lead(s) / lead(r["first"]) for s, r in zip(steps, use, strict=True)]))
    said = ", ".join(f"{c} {v:.2f}" for c, v in ratios.items())
    mid = np.median(list(ratios.values()))
    return f"Ratio of 0.5 - FOSCTTM over the sets with the verdict use: median {mid:.2f} ({said})."


def picture(by_case: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """Draw the lead by round: where the rule begins, and where it does not."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for results in by_case.values():
        paths = np.array([[lead(s) for s in (r["first"], *r["rounds"])] for r in results])
        share = np.median(paths, axis=0) - np.median(paths[:, 0])
        start = sum(map(begins, results)) * 2 > len(results)
        axes[0 if start else 1].plot(share, marker="o", ms=3, lw=1.2, color="#0072b2" if start else "#777777")
    for ax, title in zip(axes, ("auto begins", "auto does not begin"), strict=True):
        ax.axhline(0, color="black", lw=0.8, ls="--")
        ax.set(title=title, xlabel="round")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("FOSCTTM gained (higher is better)")
    figure.savefig(file, dpi=110)


def main() -> None:
    """Print the table; draw the picture where a file is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=Path)
    parser.add_argument("picture", type=Path, nargs="?")
    a = parser.parse_args()
    by_case = defaultdict(list)
    for line in a.rounds.read_text(encoding="utf-8").splitlines():
        by_case[json.loads(line)["case"]].append(json.loads(line))
    print(
        "| data | seeds | verdict | rounds kept | FOSCTTM source before | after | target before | after | "
        "trace / uniform before | after | gain of the best round | gain |"
    )
    print("| --- " * 12 + "|")
    for case, results in sorted(by_case.items(), key=lambda item: -np.median([lead(r["first"]) for r in item[1]])):
        print(row(case, sorted(results, key=lambda r: r["seed"])))
    print(f"\n{ratio(by_case)}\n")
    print("| half | rule | begun | of the best round's gain | worse by > 0.001 | worst | least trace after / before |")
    print("| --- " * 7 + "|")
    parts = {title: [r for c in cases for r in by_case.get(c, [])] for title, cases in halves(by_case).items()}
    for title, results in {**parts, "all": [r for part in parts.values() for r in part]}.items():
        for rule in RULES if title == "chosen on" else [DEFAULT]:
            print(summary(title, results, rule))
    if a.picture is not None:
        picture(by_case, a.picture)


if __name__ == "__main__":
    main()
