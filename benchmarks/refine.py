"""What every round of a refinement does to the scores, on the spaces that ``unpaired bench trust`` keeps.

    unpaired bench trust --preset cpu --data DATA --seeds 5 --out TRUST
    python benchmarks/refine.py DATA TRUST ROUNDS.jsonl --seeds 5 --jobs 2

A line a (case, seed): the scores of the matching by the propensity, the verdict on it, and for each of eight rounds
(nothing is stopped or undone here) its record and its scores. Lines that are there are not made again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

import unpaired as up
from unpaired.bench.matching import one_thread
from unpaired.bench.real import find_pairs
from unpaired.bench.screen_cases import BASE
from unpaired.bench.store import Store
from unpaired.bench.trust import DIGITS, _load, _screen
from unpaired.match.refine import Work, rounds_of
from unpaired.match.refine_rule import MOST


def scores_of(problem: Any, matching: up.Matching) -> dict[str, Any]:
    """Return what is compared, judged as the benches judge it."""
    found = up.score(matching, problem.truth, problem.judge)
    told = {k: found.unweighted[k] for k in ("trace_over_uniform", "foscttm_source", "foscttm_target", "latent_mse")}
    return told | {"uniform_mse": found.uniform["latent_mse"]}


def one(case: str, seed: int, sources: Any, trust: Path, preset: str) -> dict[str, Any]:
    """Refine one case of one seed for eight rounds."""
    with one_thread():
        screen = case == BASE
        problem = _screen(case, seed=seed, preset=preset) if screen else _load(case, sources=sources, preset=preset)
        settings = json.loads((trust / "bench.json").read_text(encoding="utf-8"))["settings"]
        space, told = Store(trust, settings).space(case, "ps", seed, _must_be_there)
        matching = up.match_ot(problem.data, space)
        said = up.diagnose(problem.data, space, matching)
        work = Work(
            problem.data, problem.data.direction(), {"jobs": 1}, space, seed, "cpu", progress=False, folder=None
        )
        rounds = [
            {**asdict(record), **scores_of(problem, new)} for _, new, record in islice(rounds_of(work, matching), MOST)
        ]
    first = scores_of(problem, matching)
    return {
        "case": case,
        "seed": seed,
        "verdict": said.verdict,
        "alike": said["same distribution"].state,
        "spread": said["same distribution"].details["spread"],
        "first": first,
        "rounds": rounds,
        "fit": told["seconds"],
    }


def _must_be_there() -> Any:
    msg = "the spaces of this case are not in the folder: run unpaired bench trust first."
    raise SystemExit(msg)


def main() -> None:
    """Refine all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("trust", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--case", action="append", help="one case; all by default")
    a = parser.parse_args()
    found, _ = find_pairs(a.data, (), most=None)
    sources = {s.name: s for s in found}
    text = a.out.read_text(encoding="utf-8").splitlines() if a.out.exists() else []
    done = {(r["case"], r["seed"]) for r in map(json.loads, text)}
    todo = [(c, s) for s in range(a.seeds) for c in a.case or (BASE, DIGITS, *sources) if (c, s) not in done]
    work = Parallel(n_jobs=a.jobs, return_as="generator_unordered")
    with a.out.open("a", encoding="utf-8") as file:
        for line in work(delayed(one)(c, s, sources, a.trust, a.preset) for c, s in todo):
            file.write(json.dumps(line) + "\n")
            file.flush()
            print(line["case"], line["seed"], flush=True)


if __name__ == "__main__":
    main()
