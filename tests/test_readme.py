"""What the README says is what happens."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_ten_lines_run(tmp_path, monkeypatch, capsys):
    (script,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert "1797 of 1797 pairs" in out
    assert (tmp_path / "run" / "report.html").is_file()


def test_the_numbers_shown_are_those_of_the_demo(tmp_path, capsys):
    from unpaired import cli, workflow

    result = workflow.demo(tmp_path / "demo-run", workflow.AlignOptions(pairing="hide"))
    cli._show(result, as_json=False)
    shown = capsys.readouterr().out.replace(str(tmp_path) + "/", "").strip()
    assert shown in README.read_text(encoding="utf-8")
