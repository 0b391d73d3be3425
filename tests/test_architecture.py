"""The house keeps its shape: rooms import one way, files stay short, sources stand on their own."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MOST_LINES = 350


def test_rooms_import_one_way():
    # In a process of its own: it switches off all loggers that there are, and later tests would hear nothing.
    code = "import sys; from importlinter import cli; sys.exit(cli.lint_imports(config_filename='pyproject.toml'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_sources():
    assert SOURCES


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_file_is_short_enough_to_read(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{path.name} has {lines} lines and is asking to be two files"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_file_points_at_nothing_outside_the_package(path):
    assert "shared/" not in path.read_text(encoding="utf-8")


def test_malicious_lightning_releases_stay_excluded():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (requirement,) = [line for line in project["dependencies"] if line.startswith("lightning")]
    assert "!=2.6.2" in requirement
    assert "!=2.6.3" in requirement


def test_lock_holds_hashed_packages_only():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    names = [line.split("==")[0].lower() for line in lines if line and not line.startswith((" ", "#"))]
    assert names
    assert not [name for name in names if name == "torch" or name.startswith(("nvidia-", "-", "triton"))]
