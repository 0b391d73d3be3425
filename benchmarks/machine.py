"""The machine and its versions, interleaved timing, memory, tables and the kept results."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("unpaired", "numpy", "scipy", "numba", "torch", "scglue", "POT", "jax", "ott-jax", "geomloss", "pykeops")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, Any]:
    """Return what a reader needs to judge the seconds: processor, cores, load, memory, versions, day."""
    load = [round(v, 2) for v in os.getloadavg()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": CORES,
        "load": load,
        "memory_gb": round(memory / 1e9, 1),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "date": date.today().isoformat(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
        wide = any("avx512f" in line for line in lines if line.startswith("flags"))
        return f"{name}{', AVX-512' if wide else ''}"
    return platform.processor()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def warn_if_busy() -> bool:
    """Return whether others use the machine, and say so: seconds are then preliminary."""
    load = os.getloadavg()[0]
    busy = load > 0.3 * CORES
    if busy:
        print(
            f"the load is {load:.1f} on {CORES} cores before we start: take the seconds as preliminary", file=sys.stderr
        )
    return busy


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that ``run`` took, and what it returned."""
    start = time.perf_counter()
    out = run()
    return time.perf_counter() - start, out


Seconds = dict[str, list[float]]


def interleave(runs: Mapping[str, Callable[[], Any]], rounds: int) -> tuple[Seconds, Seconds]:
    """Return the seconds of each run in each round, by the clock and of all cores.

    All run once a round, so that a busy moment of the machine meets all alike.
    """
    wall: Seconds = {name: [] for name in runs}
    cores: Seconds = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            wall[name].append(timed(run)[0])
            cores[name].append(time.process_time() - start)
    return wall, cores


class Memory:
    """The most memory that the process held since this was made, less what it held then, in bytes."""

    def __init__(self) -> None:
        self.exact = _reset_peak()
        self.before = _resident() if self.exact else _peak()

    def added(self) -> int:
        """Return the bytes added at the peak."""
        return max(0, _peak() - self.before)

    def total(self) -> int:
        """Return the bytes of the whole process at the peak."""
        return _peak()


def free_memory() -> int:
    """Return the bytes that are free now, or all that there are where that is not known."""
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.exists() else []
    known = (1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return next(known, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from what is held now
    except OSError:
        return False
    return True


def _status(key: str) -> int | None:
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(key)), None)


def _resident() -> int:
    return _status("VmRSS:") or _peak()


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM:") or unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def save(name: str, content: Mapping[str, Any], folder: Path | None = None) -> Path:
    """Write ``content`` as ``results/NAME.json`` with the machine, and return the path."""
    path = (folder or RESULTS) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": describe(), **_rounded(content)}, indent=1) + "\n")
    print(f"\nwritten: {path}")
    return path


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {str(k): _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in markdown, the first column to the left and the others to the right."""
    marks = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [list(header), marks, *map(list, rows)])


def short(seconds: float) -> str:
    """Return seconds as a person reads them: ``93 ms``, ``1.74 s``, ``11.4 min``, ``2.3 h``."""
    for limit, one, unit in ((0.9995, 1e-3, "ms"), (100, 1, "s"), (6000, 60, "min")):
        if seconds < limit:
            return f"{seconds / one:.3g} {unit}"
    return f"{seconds / 3600:.3g} h"


def times(ratio: float) -> str:
    """Return a ratio as a person reads it: ``3.4x``, ``120x``, ``8,700x``."""
    if ratio < 10:
        return f"{ratio:.1f}x"
    return f"{float(f'{ratio:.2g}'):,.0f}x"


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return float(statistics.median(values))
