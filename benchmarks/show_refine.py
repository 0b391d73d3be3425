"""Table and picture of what ``refine.py`` measured: the rule against the first matching, and against the best round.

python benchmarks/show_refine.py ROUNDS.jsonl [PICTURE.png]
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
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
    return may_begin(result["verdict"], result["alike"])


def kept(result: dict[str, Any]) -> int:
    """Return the rounds that ``rounds="auto"`` keeps."""
    if not begins(result):
        return 0
    return rounds_kept([r["agreement"] for r in result["rounds"]], [r["change"] for r in result["rounds"]])


def quartiles(values: list[float], digits: int) -> str:
    """Return the median, and the quartiles in brackets."""
    low, mid, high = np.percentile(values, [25, 50, 75])
    return f"{mid:.{digits}f} ({low:.{digits}f}, {high:.{digits}f})"


def row(case: str, results: list[dict[str, Any]]) -> str:
    """Return a line of the table."""
    steps = [[r["first"], *r["rounds"]] for r in results]
    chosen = [kept(r) for r in results]
    cells = [case, str(len(results)), "/".join(sorted({r["verdict"] for r in results})), "/".join(map(str, chosen))]
    for side in ("foscttm_source", "foscttm_target"):
        cells += [quartiles([s[0][side] for s in steps], 3)]
        cells += [quartiles([s[k][side] for s, k in zip(steps, chosen, strict=True)], 3)]
    cells += [quartiles([s[0]["trace_over_uniform"] for s in steps], 1)]
    cells += [quartiles([s[k]["trace_over_uniform"] for s, k in zip(steps, chosen, strict=True)], 1)]
    cells += [quartiles([max(map(lead, s)) - lead(s[0]) for s in steps], 3)]
    cells += [quartiles([lead(s[k]) - lead(s[0]) for s, k in zip(steps, chosen, strict=True)], 3)]
    return "| " + " | ".join(cells) + " |"


def summary(by_case: dict[str, list[dict[str, Any]]]) -> str:
    """Say how much of the best rounds' gain the rule keeps, and how often it harms."""
    ratios, gain, best, harm, runs = [], 0.0, 0.0, 0, 0
    for results in by_case.values():
        for r in results:
            steps = [lead(s) for s in (r["first"], *r["rounds"])]
            got = steps[kept(r)] - steps[0]
            gain, best = gain + got, best + max(steps) - steps[0]
            harm += got < -0.001
            runs += begins(r)
        use = [r for r in results if r["verdict"] == "use"]
        if use:
            found = [lead(r["rounds"][kept(r) - 1]) / lead(r["first"]) for r in use]
            ratios.append(float(np.median(found)))
    return (
        f"Ratio of 0.5 - FOSCTTM, median over the {len(ratios)} sets with the verdict use: {np.median(ratios):.2f}. "
        f"Begun in {runs} of {sum(map(len, by_case.values()))} runs; {gain / best:.0%} of what the best round would "
        f"gain in all runs; worse by more than 0.001 in {harm}."
    )


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
    print(summary(by_case))
    if a.picture is not None:
        picture(by_case, a.picture)


if __name__ == "__main__":
    main()
