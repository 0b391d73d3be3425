"""Show 2: one label from 500 to 100,000 cells, and a million on a line; each in a process of its own for its memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ours
from judge import count_iterations, row_error
from machine import CORES, Memory, free_memory, median, save, short, table, timed, warn_if_busy
from peers import BY_NAME
from problems import STRENGTHS, Pair, line, logits

SIZES = (500, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
LINE = 1_000_000
_HERE = Path(__file__).resolve().parent
_PEER_BYTES = {"POT sinkhorn_log": 70, "POT sinkhorn": 45, "POT emd (exact)": 50, "OTT online f32": 0}  # a pair, about
_FEW = 2  # iterations of the shorter of two runs of a peer, whose difference gives the seconds of one


def show(
    *,
    sizes: Sequence[int] = SIZES,
    strengths: Sequence[str] = tuple(STRENGTHS),
    tol: float = 1e-4,
    jobs: int = CORES,
    peers_up_to: int = 0,
    line_cells: int = LINE,
    memory: float | None = None,
    name: str = "transport_sizes",
) -> str:
    """Run all sizes, the smaller first so that all is compiled, keep the rows and return the tables."""
    busy, rows, peers = warn_if_busy(), [], []
    for strength in strengths:
        ours_alike = {"solver": "ours", "strength": strength, "tol": tol, "jobs": jobs}
        rows += [_apart(n=n, memory=memory, **ours_alike) for n in sizes]
        for n in (n for n in sizes if n <= peers_up_to):
            peers += [_apart(solver=s, n=n, strength=strength, tol=tol) for s in _PEER_BYTES]
        if line_cells:
            for n in (5000, line_cells):  # the first compiles
                row = _apart(n=n, line=True, **ours_alike)
            rows.append(row)
    save(name, {"show": "sizes", "tol": tol, "jobs": jobs, "seed": 0, "busy": busy, "rows": rows, "peers": peers})
    return "\n\n".join([_table(rows), _peer_table(peers)] if peers else [_table(rows)])


def _apart(**task: Any) -> dict[str, Any]:
    """Run one size in a process of its own."""
    needed, there = _PEER_BYTES.get(task["solver"], 0) * task["n"] ** 2, free_memory()
    if needed > 0.8 * there:
        reason = f"needs about {needed / 1e9:.0f} GB, {there / 1e9:.0f} GB are free"
        return {"solver": task["solver"], "n": task["n"], "strength": task["strength"], "failed": reason}
    code = f"import sys; sys.path.insert(0, {str(_HERE)!r}); import show_sizes; show_sizes.one({json.dumps(task)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"])[-1]
        row = {"solver": task["solver"], "n": task["n"], "strength": task["strength"], "failed": reason}
    else:
        row = json.loads(done.stdout.strip().splitlines()[-1])
    print(json.dumps(row), flush=True)
    return row


def one(task: str) -> None:
    """Run what ``task`` says and print the row."""
    given = json.loads(task)
    on_line = given.get("line", False)
    make, n, factor = line if on_line else logits, given["n"], STRENGTHS[given["strength"]]
    pair = make(n, n, strength=factor)
    row = {key: given[key] for key in ("solver", "n", "strength")} | {"dimensions": pair[0].shape[1]}
    print(json.dumps(row | (_ours(pair, given) if given["solver"] == "ours" else _peer(pair, given))))


def _ours(pair: Pair, given: dict[str, Any]) -> dict[str, Any]:
    x, y = pair
    options: dict[str, Any] = {"tol": given["tol"], "jobs": given["jobs"]}
    if given.get("memory"):
        options["memory"] = int(given["memory"] * 1e9)
    ours.solve(x[:600], y[:600], **options)  # what a session has loaded anyway: not this problem's memory
    repeats = 6 if len(x) <= 2000 else 3 if len(x) <= 10_000 else 2 if len(x) <= 20_000 else 1
    memory, seconds = Memory(), []
    for _ in range(repeats):
        took, solution = timed(lambda: ours.solve(x, y, **options))
        seconds.append(took)
    row = {"seconds": median(seconds[1:] or seconds), "repeats": len(seconds[1:] or seconds)}
    row |= {"memory_added": memory.added(), "memory_process": memory.total()} | ours.facts(solution)
    row["error"] = ours.error(x, y, solution)
    if x.shape[1] == 1:  # every pair of some rows, besides the running sums over all
        row["error_of_some_rows"] = row_error(x, y, solution.plan.f, solution.plan.g)
    return row


def _peer(pair: Pair, given: dict[str, Any]) -> dict[str, Any]:
    peer, (x, y) = BY_NAME[given["solver"]], pair
    many = _FEW + int(np.clip(2e8 / len(x) ** 2, 2, 200))
    peer.make(x[:100], y[:100], _FEW, 0.0)()
    memory = Memory()
    seconds, outcome = timed(peer.make(x, y, _FEW, 0.0))
    row: dict[str, Any] = {"memory_added": memory.added(), "memory_process": memory.total()}
    if peer.kind == "exact":
        return row | {"seconds": seconds, "error": outcome.error(x, y)}
    each = max(timed(peer.make(x, y, many, 0.0))[0] - seconds, 0.0) / (many - _FEW)
    row |= {"seconds_an_iteration": each}
    if len(x) <= 5000:
        needed = count_iterations(x, y, [given["tol"]], seconds=120.0)[given["tol"]]
        row |= {"iterations": needed, "seconds": None if needed is None else seconds + (needed - _FEW) * each}
    return row


def _table(rows: Sequence[dict[str, Any]]) -> str:
    header = "cells|seconds|memory added|a cell|process|L1 certified|L1 counted|path|entries a row"
    return table(header.split("|"), [_cells(row) for row in rows])


def _cells(row: dict[str, Any]) -> list[str]:
    what = f"{row['n']:,} {row['strength']}{' (line)' if row.get('dimensions') == 1 else ''}"
    if "failed" in row:
        return [what, row["failed"], *[""] * 7]
    entries = "" if row["entries_per_row"] is None else f"{row['entries_per_row']:.0f}"
    certified = f"{row['certified']:.1e}{'' if row['converged'] else ' (not converged)'}"
    added, process = row["memory_added"], f"{row['memory_process'] / 1e6:.0f} MB"
    memory = [f"{added / 1e6:.0f} MB", f"{added / row['n'] / 1e3:.1f} kB", process]
    return [what, short(row["seconds"]), *memory, certified, f"{row['error']:.1e}", str(row["path"]), entries]


def _peer_table(rows: Sequence[dict[str, Any]]) -> str:
    cells = []
    for row in rows:
        what = f"{row['n']:,} {row['strength']}"
        if "failed" in row:
            cells.append([what, row["solver"], row["failed"], "", ""])
            continue
        each = "" if "seconds_an_iteration" not in row else short(row["seconds_an_iteration"])
        total = "" if row.get("seconds") is None else ("~" if each else "") + short(row["seconds"])
        cells.append([what, row["solver"], each, total, f"{row['memory_added'] / 1e6:.0f} MB"])
    return table(["cells", "solver", "an iteration", "seconds", "memory added"], cells)
