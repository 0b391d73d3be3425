"""What the README says is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_the_ten_lines_run(tmp_path, monkeypatch, capsys):
    (script,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert "1797 of 1797 pairs" in out
    assert (tmp_path / "run" / "report.html").is_file()


def test_the_numbers_shown_are_those_of_the_demo(tmp_path, capsys):
    from unpaired import workflow
    from unpaired.cli.show import show_alignment

    result = workflow.demo(tmp_path / "demo-run", workflow.AlignOptions(pairing="hide"))
    show_alignment(result, as_json=False)
    shown = capsys.readouterr().out.replace(str(tmp_path) + "/", "").splitlines()
    (said,) = re.findall(r"```\n(Matching.*?)\n```", README.read_text(encoding="utf-8"), flags=re.S)
    numbers = re.compile(r"[0-9.]*[0-9]")
    assert [numbers.sub("#", line) for line in shown] == [numbers.sub("#", line) for line in said.splitlines()]
    for ours, theirs in zip(shown, said.splitlines(), strict=True):
        found = [[float(v) for v in numbers.findall(line)] for line in (ours, theirs)]
        assert found[0] == pytest.approx(found[1], rel=0.02, abs=2e-4)  # the last digit may differ between machines
