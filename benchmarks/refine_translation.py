"""R2 of a translation learned from a matching, before and after it is refined, on true pairs that nothing has seen.

    python benchmarks/refine_translation.py DATA --seeds 2 --jobs 2

A fifth of the cells is held out of classifiers, matching, refinement and training. Where auto does not begin, one line
says so.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from typing import Any

from machine import table
from translations import load, spread

import unpaired as up

CASES = {
    "kar, pix": ("uci_mfeat", "kar", "pix"),
    "fac, pix": ("uci_mfeat", "fac", "pix"),
    "fac, kar": ("uci_mfeat", "fac", "kar"),
    "pbmc10k adt, rna": ("pbmc10k_cite", "adt", "rna"),
    "bmmc adt, rna": ("bmmc_cite_starter", "adt", "rna"),
    "screen": ("screen", "rna", "image"),
}
FRACTION = 0.2


def one(case: str, folder: Path, seed: int) -> dict[str, Any]:
    """Return R2 of both directions before and after, and the rounds that were kept."""
    name, *names = CASES[case]
    data, truth = up.simulate.screen(seed=seed) if name == "screen" else load(CASES[case], folder)
    train, _, held = up.hold_out(data, truth, fraction=FRACTION, seed=seed)
    test, pairs = held.take("test")
    space = up.Propensity(seed=seed).fit(train).transform(train)
    first = up.match_ot(train, space, source=names[0], target=names[1])
    refined = up.refine(train, first, embedding=space, seed=seed)[1]
    out: dict[str, Any] = {"kept": refined.made_by.options["refine"]["kept"]}
    for source, target in (names, names[::-1]):
        for when, matching in (("before", first), ("after", refined)):
            model = up.Translator(device="cpu", seed=seed).fit(train, matching, source=source, target=target)
            scores = up.score_translation(model.predict(test[source]), test, pairs, reference=train, seed=seed)
            out[f"{source} -> {target} {when}"] = scores.pairs.r2
    return out


def main() -> None:
    """Print a line a direction: the median over the seeds, and every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--case", action="append", choices=list(CASES), help="one case; all by default")
    a = parser.parse_args()
    tasks = [(case, a.data, seed) for case in a.case or CASES for seed in range(a.seeds)]
    found: dict[str, list[dict[str, Any]]] = {}
    for (case, *_), result in zip(tasks, spread(one, tasks, a.jobs), strict=True):
        found.setdefault(case, []).append(result)
    rows = []
    for case, results in found.items():
        rounds = "/".join(str(r["kept"]) for r in results)
        for way in (key.removesuffix(" before") for key in results[0] if key.endswith(" before")):
            both = [[r[f"{way} {when}"] for r in results] for when in ("before", "after")]
            cells = [f"{median(v):.3f} ({', '.join(f'{x:.3f}' for x in v)})" for v in both]
            rows.append([case, way, rounds, *cells])
    print(table(["data", "direction", "rounds kept", "before (seeds)", "after"], rows))


if __name__ == "__main__":
    main()
