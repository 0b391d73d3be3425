"""Show 1: one label and twelve labels of 1,700 cells, against every peer, interleaved in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ours
from judge import count_iterations
from machine import CORES, Seconds, interleave, median, save, short, table, timed, times, warn_if_busy
from peers import PEERS, Peer
from problems import STRENGTHS, Pair, trained

TOLS = (1e-4, 1e-6)
US = f"unpaired, {CORES} threads"
_MOST = 40_000  # iterations beyond which a plain solver's time is a lower bound
_PROBE = 4  # iterations of the shorter of two probes
_PROBE_SECONDS = 0.7  # about how much longer the longer one takes
_PATIENCE = 30.0  # seconds after which a solver that stops by its own test counts as stalled
_SLACK = 1.02  # a result this much above the tolerance still counts, for others; ours must be below it


@dataclass
class Entry:
    """One cell of the table: ``seconds = sum of weight * seconds of run``, so that it can be had round by round."""

    solver: str
    tol: float
    how: str  # run, estimated, never, cannot
    weights: Mapping[str, float] = field(default_factory=dict)
    error: float | None = None
    iterations: int | None = None
    note: str = ""

    def rounds(self, seconds: Seconds) -> list[float]:
        """Return the seconds in each round."""
        columns = [[weight * s for s in seconds[key]] for key, weight in self.weights.items()]
        return [sum(row) for row in zip(*columns, strict=True)]


@dataclass
class Session:
    """The problems of one case, and what is to be timed in it."""

    pairs: list[Pair]
    budget: float  # seconds that one run of a peer may take, else it is estimated
    runs: dict[str, Callable[[], Any]] = field(default_factory=dict)
    once: dict[str, float] = field(default_factory=dict)  # what is too slow to be run again and again

    def loop(self, peer: Peer, iterations: list[int], stop: float) -> Callable[[], Any]:
        """Return the run of a peer over all labels."""
        made = [peer.make(x, y, k, stop) for (x, y), k in zip(self.pairs, iterations, strict=True)]
        return lambda: [run() for run in made]

    def plain(self, peer: Peer, counts: list[dict[float, int | None]]) -> list[Entry]:
        """Enter a solver that walks through Sinkhorn's iterates."""
        (x, y), labels, out = self.pairs[0], len(self.pairs), []
        probes, each = self._probe(peer)
        for tol in TOLS:
            if tol < peer.floor:
                out.append(Entry(peer.name, tol, "cannot", note="single precision"))
                continue
            needed = [count[tol] or _MOST for count in counts]
            total, bound = sum(needed), any(count[tol] is None for count in counts)
            if each * total <= self.budget and not bound:
                key = f"{peer.name} {tol:g}"
                run = self.loop(peer, [max(needed)] * labels if peer.stops else needed, tol if peer.stops else 0.0)
                error = max(o.error(*pair) for o, pair in zip(run(), self.pairs, strict=True))
                how = "run" if error <= _SLACK * tol else "never"
                self.runs[key] = run
                out.append(Entry(peer.name, tol, how, {key: 1.0}, error, total))
                continue
            (few, short_key), (many, long_key) = probes
            self.runs |= {key: peer.make(x, y, k, 0.0) for k, key in probes}
            slope = (total - labels * few) / (many - few)
            weights = {short_key: labels - slope, long_key: slope}
            out.append(Entry(peer.name, tol, "estimated", weights, None, total, "at least" if bound else ""))
        return out

    def _probe(self, peer: Peer) -> tuple[list[tuple[int, str]], float]:
        """Return two numbers of iterations whose difference takes long enough to be measured, and seconds of one."""
        x, y = self.pairs[0]
        first, second = peer.make(x, y, _PROBE, 0.0), peer.make(x, y, 4 * _PROBE, 0.0)
        first()
        each = max((timed(second)[0] - timed(first)[0]) / (3 * _PROBE), 1e-4)
        many = _PROBE + 10 * max(1, round(_PROBE_SECONDS / each / 10))
        return [(k, f"{peer.name}, {k} iterations") for k in (_PROBE, many)], each

    def own(self, peer: Peer) -> list[Entry]:
        """Enter a solver that stops by a test of its own: the threshold that leads to the tolerance is looked for."""
        (x, y), labels, out = self.pairs[0], len(self.pairs), []
        _, each = self._probe(peer)
        most = max(50, int(max(3 * self.budget, _PATIENCE) / each))
        for tol in TOLS:
            for part in (1.0, 0.5, 0.2):
                run = peer.make(x, y, most, tol * part)
                run()
                seconds, outcome = timed(run)
                error = outcome.error(x, y)
                if error <= _SLACK * tol or outcome.iterations >= most:
                    break
            key, reached = f"{peer.name} {tol:g}", error <= _SLACK * tol
            note = "" if reached else f"L1 {error:.0e} after {short(seconds)}"
            weight, how = float(labels), "run" if labels == 1 else "estimated"
            if labels > 1 and seconds * labels <= self.budget:
                run, weight, how = self.loop(peer, [most] * labels, tol * part), 1.0, "run"
                run()
            if not reached or seconds * weight > 3 * self.budget:
                self.once[key] = seconds
            else:
                self.runs[key] = run
            out.append(Entry(peer.name, tol, how if reached else "never", {key: weight}, error, -1, note))
        return out

    def simple(self, peer: Peer) -> list[Entry]:
        """Enter a solver without a tolerance: either exact, or a fixed number of steps that ends where it ends."""
        x, y = self.pairs[0]
        labels, key, run = len(self.pairs), peer.name, peer.make(x, y, 0, 0.0)
        run()
        seconds, outcome = timed(run)
        error, weight, how = outcome.error(x, y), float(labels), "run" if labels == 1 else "estimated"
        if peer.kind == "exact" and labels > 1 and seconds * labels <= self.budget:
            run, weight, how = self.loop(peer, [0] * labels, 0.0), 1.0, "run"
        if peer.kind == "fixed":
            self.once[key] = seconds
        else:
            self.runs[key] = run
        note = "" if error <= max(TOLS) else f"L1 {error:.2f} after {short(seconds)}"
        return [Entry(peer.name, tol, how if error <= tol else "never", {key: weight}, error, -1, note) for tol in TOLS]

    def us(self, jobs: int) -> list[Entry]:
        """Enter ourselves."""
        name, out = US if jobs > 1 or CORES == 1 else "unpaired, 1 thread", []
        for tol in TOLS:
            if len(self.pairs) == 1:
                run = partial(lambda tol: [ours.solve(*self.pairs[0], tol=tol, jobs=jobs)], tol)
            else:
                run = partial(ours.solve_many, self.pairs, tol=tol, jobs=jobs)
            run()
            solutions = run()
            error = max(ours.error(x, y, s) for (x, y), s in zip(self.pairs, solutions, strict=True))
            key, passes = f"{name} {tol:g}", sum(s.iterations for s in solutions)
            self.runs[key] = run
            out.append(Entry(name, tol, "run" if error <= tol else "never", {key: 1.0}, error, passes))
        return out


def run_case(
    pairs: list[Pair], peers: tuple[Peer, ...], *, rounds: int, budget: float, with_us: bool
) -> list[dict[str, Any]]:
    """Return a row for each solver and tolerance."""
    session, entries = Session(pairs, budget), []
    counts = [count_iterations(x, y, TOLS, most=_MOST) for x, y in pairs]
    for jobs in sorted({1, CORES}) if with_us else ():
        entries += session.us(jobs)
    for peer in peers:
        print(f"  making {peer.name}", flush=True)
        if peer.kind == "plain":
            entries += session.plain(peer, counts)
        else:
            entries += (session.own if peer.kind == "own" else session.simple)(peer)
    print(f"  timing {len(session.runs)} runs, {rounds} rounds", flush=True)
    wall, cores = interleave(session.runs, rounds)
    once = {key: [value] * rounds for key, value in session.once.items()}
    return _rows(entries, wall | once, cores)


def _rows(entries: list[Entry], seconds: Seconds, cores: Seconds) -> list[dict[str, Any]]:
    base = {entry.tol: entry.rounds(seconds) for entry in entries if entry.solver == US}
    out = []
    for entry in entries:
        row: dict[str, Any] = {"solver": entry.solver, "tol": entry.tol, "how": entry.how, "note": entry.note}
        row |= {"error": entry.error, "iterations": entry.iterations}
        if entry.weights:
            each = entry.rounds(seconds)
            row |= {"seconds": median(each), "least": min(each)}
            if entry.tol in base:
                row["ratio"] = median(t / u for t, u in zip(each, base[entry.tol], strict=True))
        if entry.weights and entry.weights.keys() <= cores.keys():
            row["core_seconds"] = median(entry.rounds(cores))
        out.append(row)
    return out


def best_entropic(rows: list[dict[str, Any]], tol: float) -> dict[str, Any] | None:
    """Return the quickest entropic peer that reaches the tolerance."""
    exact = {peer.name for peer in PEERS if peer.kind == "exact"}
    fair = [r for r in rows if r["tol"] == tol and r["how"] in ("run", "estimated") and r["solver"] not in exact]
    return min((r for r in fair if not r["solver"].startswith("unpaired")), key=lambda r: r["seconds"], default=None)


def _text(row: dict[str, Any]) -> str:
    if row["how"] in ("never", "cannot"):
        note = row["note"] or f"L1 {row['error']:.0e}"
        return f"{row['how']} ({note})"
    mark = {"run": "", "estimated": "~"}[row["how"]]
    ratio = f" ({times(row['ratio'])})" if "ratio" in row and row["solver"] != US else ""
    return f"{'>' if row['note'] == 'at least' else ''}{mark}{short(row['seconds'])}{ratio}"


def show(
    *,
    rounds: int = 5,
    budget: float = 10.0,
    labels: Sequence[int] = (1, 12),
    threads: int = CORES,
    with_us: bool = True,
    name: str = "transport_peers",
) -> str:
    """Run all cases, keep the rows and return the tables.

    ``threads`` are those of the linear algebra that numpy, POT and torch use. On a busy machine 1 is fairer to them:
    threads that wait for each other lose much more than the share of the machine that others take.
    """
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")
    busy = warn_if_busy()
    here = tuple(peer for peer in PEERS if peer.here)
    how = {"rounds": rounds, "budget": budget, "threads": threads, "seed": 0, "busy": busy}
    start, cases = time.perf_counter(), []
    for count in labels:
        for strength, factor in STRENGTHS.items():
            print(f"{count} x 1700, {strength}", flush=True)
            pairs = trained(strength=factor)[:count]
            rows = run_case(pairs, here, rounds=rounds, budget=budget, with_us=with_us)
            best = {f"{tol:g}": best_entropic(rows, tol) for tol in TOLS}
            cases.append({"labels": count, "cells": 1700, "strength": strength, "rows": rows, "best_entropic": best})
            minutes = (time.perf_counter() - start) / 60
            save(name, {"show": "peers", **how, "minutes": minutes, "cases": cases})  # what is done is kept
    return "\n\n".join(f"**{count} x 1700**\n\n{_table(_by_strength(cases, count))}" for count in labels)


def _by_strength(cases: list[dict[str, Any]], count: int) -> dict[str, list[dict[str, Any]]]:
    return {case["strength"]: case["rows"] for case in cases if case["labels"] == count}


def _table(rows_of: Mapping[str, list[dict[str, Any]]]) -> str:
    solvers = list(dict.fromkeys(row["solver"] for rows in rows_of.values() for row in rows))
    columns = [(strength, tol) for strength in rows_of for tol in TOLS]
    cells = {(s, r["tol"], r["solver"]): _text(r) for s, rows in rows_of.items() for r in rows}
    body = [[solver, *(cells[s, tol, solver] for s, tol in columns)] for solver in solvers]
    return table(["solver", *(f"{s} {tol:.0e}" for s, tol in columns)], body)
