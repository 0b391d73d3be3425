"""Ctrl-C ends a matching at once, with and without workers, and leaves none of them behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

START = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have told us to ignore it
import os, sys, time
import numpy as np
from unpaired.match.block import Product, Status
from unpaired.match.blocks import match_labels, one_by_one
from unpaired.data.types import Dataset, Modality
from unpaired.embed.embedding import Provenance

def say(text):
    os.write(1, f"{text}\\n".encode())

def slow(x, y, a, b, seed):
    say(f"worker {os.getpid()}")
    time.sleep(600)
    return Product(a, b), Status("ok")

X = np.arange(12.0, dtype=np.float32)[:, None]
sides = {n: Modality(n, X, np.arange(12) % 4, np.array([f"{n}{i}" for i in range(12)])) for n in ("left", "right")}
data = Dataset(sides, tuple("abcd"))
try:
    match_labels(data, None, one_by_one(slow, jobs=int(sys.argv[1])), Provenance("slow", {}), source=None, target=None)
except KeyboardInterrupt:
    say("interrupted")
    raise
"""

ENGINE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have told us to ignore it
import sys
import numpy as np
from unpaired.data.types import Dataset, Modality
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.match.transport import match_ot

def match(n, **options):
    points = {k: np.random.default_rng(i).normal(size=(n, 8)) for i, k in enumerate(("left", "right"))}
    ids = np.arange(n).astype(str)
    sides = {k: Modality(k, x.astype(np.float32), np.zeros(n, int), ids) for k, x in points.items()}
    space = Embedding(points, "latent", None, tuple("12345678"), Provenance("test", {}))
    match_ot(Dataset(sides, ("a",)), space, eps=1e-3, tol=1e-13, max_iter=10**9, jobs=int(sys.argv[1]), **options)

match(300, max_seconds=1)  # whatever has to be compiled is compiled here,
match(6000, max_seconds=4)  # for a large label too
print("ready", flush=True)
match(6000, max_seconds=600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_ends_the_search_of_a_large_label(jobs):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, "-c", ENGINE, str(jobs)], **options) as job:
        try:
            assert job.stdout.readline() == "ready\n"
            time.sleep(1)
            assert job.poll() is None
            asked = time.perf_counter()
            job.send_signal(signal.SIGINT)
            assert job.wait(timeout=30) != 0
            assert time.perf_counter() - asked < 10
        finally:
            job.kill()


def is_there(process):
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_ends_the_matching_and_its_workers(jobs, tmp_path):
    script = tmp_path / "start.py"  # worker processes import it
    script.write_text(START)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, str(script), str(jobs)], **options) as job:
        try:
            workers = [int(job.stdout.readline().split()[1]) for _ in range(jobs)]
            asked = time.perf_counter()
            job.send_signal(signal.SIGINT)
            rest = job.stdout.read()
            assert job.wait(timeout=30) != 0
            assert time.perf_counter() - asked < 10
        finally:
            job.kill()
    assert "interrupted" in rest
    deadline = time.perf_counter() + 5
    while any(map(is_there, workers)) and time.perf_counter() < deadline:
        time.sleep(0.05)
    assert not any(map(is_there, workers))
