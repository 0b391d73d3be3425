"""What the compiled loops share: an answer is the same however its process came by the machine code."""

import os
import subprocess
import sys

import pytest

_SOLVE = """
import hashlib, sys
import numpy as np
from unpaired.match.transport.solve import solve_many

CASES = {  # way -> sizes, memory
    "small": ([(n, n + 3) for n in range(3, 60, 5)], None),
    "dense": ([(300, 260)], None),
    "multiscale": ([(300, 260)], 10_000),
}
for way in sys.argv[1:]:
    sizes, memory = CASES[way]
    rng = np.random.default_rng(0)
    problems = [
        (rng.normal(size=(n, 6)), rng.normal(size=(m, 6)), np.full(n, 1 / n), np.full(m, 1 / m)) for n, m in sizes
    ]
    bits = hashlib.blake2b()
    for unbalanced in (None, 1.0):
        for solution in solve_many(problems, eps=0.5, unbalanced=unbalanced, tol=1e-6, memory=memory):
            assert solution.used["path"] == way
            parts = [solution.plan.f, solution.plan.g]
            if solution.coupling is not None:  # without much memory there is none
                parts.append(solution.coupling.data)
            for part in parts:
                bits.update(part.tobytes())
    print(way, bits.hexdigest())
"""


@pytest.mark.slow
def test_compiling_reading_the_cache_and_the_order_of_problems_change_no_bit(tmp_path):
    """The first process compiles, the second reads what that left, the third comes to the loops in another order."""

    def answers(*ways):
        done = subprocess.run(
            [sys.executable, "-c", _SOLVE, *ways],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(line.split() for line in done.stdout.splitlines())

    ways = ("small", "dense", "multiscale")
    compiled = answers(*ways)
    assert set(compiled) == set(ways)
    assert any(tmp_path.rglob("*.nbi"))
    assert answers(*ways) == compiled
    assert answers(*reversed(ways)) == compiled
