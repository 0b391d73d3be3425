"""Show 5: seconds of compilation on first use and with the cache, and of importing the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from machine import median, save, table, warn_if_busy

_HERE = Path(__file__).resolve().parent
CASES = {  # one for each path that the engine takes
    "many labels of 50": "pairs = list(screen([50] * 20))",
    "one label of 1,700": "pairs = [logits(1700, 1700)]",
    "one label of 1,700, weak": "pairs = [logits(1700, 1700, strength=0.15)]",
    "one label of 14,000": "pairs = [logits(14_000, 14_000)]",
    "two labels (a line), 10,000": "pairs = [line(10_000, 10_000)]",
}
_SCRIPT = """
import json, sys, time
sys.path.insert(0, {here!r})
from problems import line, logits, screen
{pairs}
import ours
took = []
for _ in range(3):
    start = time.perf_counter()
    ours.solve_many(pairs, tol=1e-4, jobs=1)
    took.append(time.perf_counter() - start)
print(json.dumps(took))
"""


def show(*, rounds: int = 7, name: str = "transport_compile") -> str:
    """Run each case with an empty cache and again with a full one, keep the rows and return the table."""
    busy, rows = warn_if_busy(), []
    for case, pairs in CASES.items():
        script = _SCRIPT.format(here=str(_HERE), pairs=pairs)
        with tempfile.TemporaryDirectory() as folder:  # NUMBA_CACHE_DIR moves all caches there
            empty, full = (json.loads(_python(script, {"NUMBA_CACHE_DIR": folder})[1]) for _ in range(2))
            size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
        steady = min(*empty[1:], *full[1:])
        row = {"case": case, "steady": steady, "first": empty[0], "first_with_cache": full[0], "cache_bytes": size}
        rows.append(row)
        print(row, flush=True)
    imports = _imports(rounds)
    save(name, {"show": "compile", "rounds": rounds, "busy": busy, "rows": rows, "imports": imports})
    body = [[r["case"], *(f"{r[k]:.2f}" for k in ("first", "first_with_cache", "steady"))] for r in rows]
    seconds = table(["problem", "first use, s", "first use with the cache, s", "later, s"], body)
    lines = [[key, f"{value:.3f}" if isinstance(value, float) else str(value)] for key, value in imports.items()]
    return f"{seconds}\n\n{table(['statement', 'seconds'], lines)}"


def _imports(rounds: int) -> dict[str, Any]:
    """Return seconds of a process that does nothing but import, less those of one that does nothing."""
    statements = ["pass", "import unpaired", "from unpaired import match_ot", "import unpaired.match.transport.solve"]
    taken: dict[str, list[float]] = {statement: [] for statement in statements}
    for _ in range(rounds):
        for statement, seconds in taken.items():
            seconds.append(_python(statement, {})[0])
    base = median(taken.pop("pass"))
    out: dict[str, Any] = {statement: median(seconds) - base for statement, seconds in taken.items()}
    loaded = "import sys, unpaired; print(sorted({'numba', 'torch', 'scipy'} & set(sys.modules)))"
    return out | {"heavy modules after import unpaired": _python(loaded, {})[1].strip()}


def _python(code: str, more: Mapping[str, str]) -> tuple[float, str]:
    """Return the seconds of a process that runs ``code``, and the last line that it printed."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ) | dict(more), capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr)
    return seconds, (done.stdout.strip().splitlines() or [""])[-1]
