"""Seconds of an epoch of CLUE, ours and its authors' in scglue: the same cells, inputs, networks and batches.

python benchmarks/clue_speed.py --data DATA/pbmc10k_cite

An epoch is a pass over the cells that are learned from and the judging of those that choose the epoch. Both run in one
process on one thread, in turns. The first epoch of every turn is left out: it begins with what is set up once. Writes
results/clue_speed.json.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from machine import interleave, median, save, table, times, warn_if_busy

from unpaired.bench.clue_cases import case_of, read_cells
from unpaired.bench.clue_effort import BATCH, PRESET, RATE
from unpaired.bench.matching import one_thread
from unpaired.bench.peers.scclue import ScClue, missing
from unpaired.data.types import Dataset
from unpaired.embed.clue import Clue
from unpaired.embed.clue_learning import ClueTask, Schedule
from unpaired.embed.clue_model import PRESETS

SECONDS = ("wall", "core")


class Clock:
    """Seconds of every epoch but the first of a turn, by the clock and of the processor."""

    def __init__(self) -> None:
        self.epochs: dict[str, list[float]] = {kind: [] for kind in SECONDS}
        self.start()

    def start(self) -> None:
        """Begin a turn."""
        self._last: tuple[float, float] | None = None

    def tick(self, *_: Any) -> None:
        """Say that an epoch has ended."""
        now = time.perf_counter(), time.process_time()
        if self._last is not None:
            for kind, before, after in zip(SECONDS, self._last, now, strict=True):
                self.epochs[kind].append(after - before)
        self._last = now


def ours(data: Dataset, epochs: int, clock: Clock) -> None:
    """Train ours; judging is the end of its epoch."""
    clock.start()
    validate = ClueTask.validate

    def judged(task: ClueTask) -> Any:
        found = validate(task)
        clock.tick()
        return found

    ClueTask.validate = judged  # type: ignore[method-assign]
    try:
        Clue(PRESET, epochs=epochs, batch=BATCH, rate=RATE, device="cpu").fit(data)
    finally:
        ClueTask.validate = validate  # type: ignore[method-assign]


def theirs(data: Dataset, epochs: int, clock: Clock) -> None:
    """Train scglue's, as long and without an early end."""
    clock.start()
    ScClue(PRESETS[PRESET], Schedule(0, epochs, 100, 99), batch=BATCH, rate=RATE).fit(data, watch=clock.tick)


def main() -> None:
    """Time both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with rna.h5ad and adt.h5ad")
    parser.add_argument("--epochs", type=int, default=4, help="of a turn, the first left out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder of the result in place of results/")
    a = parser.parse_args()
    if (why := missing()) is not None:
        raise SystemExit(why)
    busy = warn_if_busy()
    learn = case_of(read_cells(a.data, None), 0).learn
    clocks = {"ours": Clock(), "scglue": Clock()}
    with one_thread():
        runs = {"ours": ours, "scglue": theirs}
        interleave({n: lambda n=n, run=run: run(learn, a.epochs, clocks[n]) for n, run in runs.items()}, a.rounds)
    middle = {kind: {n: median(c.epochs[kind]) for n, c in clocks.items()} for kind in SECONDS}
    ratio = {kind: m["scglue"] / m["ours"] for kind, m in middle.items()}
    rows = [[n, *(f"{middle[k][n]:.2f} s" for k in SECONDS)] for n in clocks]
    print(table(["an epoch", *SECONDS], [*rows, ["ratio", *(times(ratio[k]) for k in SECONDS)]]))
    content = {"cells": len(learn["rna"]), "features": {n: m.X.shape[1] for n, m in learn.modalities.items()}}
    content |= {"preset": PRESET, "batch": BATCH, "threads": 1, "rounds": a.rounds, "epochs": a.epochs, "busy": busy}
    save(
        "clue_speed",
        {**content, "median": middle, "ratio": ratio, "seconds": {n: c.epochs for n, c in clocks.items()}},
        a.out,
    )


if __name__ == "__main__":
    main()
