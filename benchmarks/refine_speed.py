"""Seconds of one round of a refinement, beside the matching and the classifiers, at many cells.

python benchmarks/refine_speed.py --cells 100000 --labels 1000
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from diagnose import make
from machine import Memory

import unpaired as up
from unpaired.match.refine import Work, rounds_of


def timed(name: str, do: Callable[[], Any]) -> Any:
    """Do something, and print what it took."""
    start = time.perf_counter()
    memory = Memory()
    found = do()
    print(f"{name}: {time.perf_counter() - start:.1f} s, {memory.added() / 2**30:.1f} GB", flush=True)
    return found


def main() -> None:
    """Time one round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=1000)
    parser.add_argument("--fit", action="store_true", help="time the classifiers, too, and match in their space")
    a = parser.parse_args()
    data, space = make(a.cells, a.labels, 50, 0)
    timed("small, to compile", lambda: up.match_ot(*make(400, 10, 50, 0)))
    if a.fit:
        space = timed("classifiers", lambda: up.Propensity(seed=0).fit(data).transform(data))
    matching = timed("matching", lambda: up.match_ot(data, space))
    work = Work(data, data.direction(), {"jobs": 1}, space, 0, "cpu", progress=False, folder=None)
    print(timed("a round", lambda: next(rounds_of(work, matching)))[2])


if __name__ == "__main__":
    main()
