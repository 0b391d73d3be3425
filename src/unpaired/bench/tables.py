"""Medians and quartiles over seeds, beside the published figures, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unpaired.files import write_text

__all__ = ["COVERAGE", "Column", "Summary", "grid", "markdown", "summaries", "write_csv", "write_markdown"]


@dataclass(frozen=True)
class Column:
    """A metric of a table.

    Attributes
    ----------
    name
        Its name in the CSV.
    title
        Its name in the Markdown, with an arrow to the better side.
    take
        Takes the value out of a result; ``None`` where it has none.
    digits
        Decimal places.
    """

    name: str
    title: str
    take: Callable[[Mapping[str, Any]], float | None]
    digits: int = 3


COVERAGE = (
    Column("labels", "labels scored", lambda r: float(r["scores"]["coverage"]["labels"]), 0),
    Column("not_converged", "not converged", lambda r: float(r["states"].get("not_converged", 0)), 0),
)
"""What the averages of a matching's scores cover: labels, and those of them whose solver did not converge."""


@dataclass(frozen=True)
class Summary:
    """One cell of a table: a metric of a method in a case, over the seeds.

    Attributes
    ----------
    case, method, metric
        What it is of.
    by_seed
        Seed -> value, of the seeds that gave one.
    failed
        Seeds of which the method failed, and why it did of the first.
    empty
        Seeds of which it worked and the metric has no value.
    published
        The published figure, as printed; empty where there is none.
    """

    case: str
    method: str
    metric: str
    by_seed: Mapping[int, float]
    failed: tuple[int, str] = (0, "")
    empty: int = 0
    published: str = ""

    @property
    def values(self) -> tuple[float, ...]:
        """The values."""
        return tuple(self.by_seed.values())

    @property
    def quartiles(self) -> tuple[float, float, float] | None:
        """Median, first and third quartile."""
        if not self.values:
            return None
        low, mid, high = np.quantile(self.values, [0.25, 0.5, 0.75])
        return float(mid), float(low), float(high)


def summaries(
    results: Iterable[Mapping[str, Any]],
    columns: Sequence[Column],
    *,
    published: Mapping[tuple[str, str], str] | None = None,
) -> list[Summary]:
    """Summarise the results over seeds, method by method in the order in which they come.

    Parameters
    ----------
    results
        As of :meth:`~unpaired.bench.store.Store.results`.
    columns
        The metrics.
    published
        (method, metric) -> the published figure.
    """
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for result in results:
        grouped.setdefault((result["case"], result["method"]), []).append(result)
    found = []
    for (case, method), own in grouped.items():
        reasons = [r["failed"] for r in own if "failed" in r]
        for column in columns:
            taken = {r["seed"]: column.take(r) for r in own if "failed" not in r}
            values = {seed: v for seed, v in taken.items() if v is not None}
            failed = (len(reasons), reasons[0] if reasons else "")
            known = (published or {}).get((method, column.name), "")
            found.append(Summary(case, method, column.name, values, failed, len(taken) - len(values), known))
    return found


def markdown(
    found: Sequence[Summary], columns: Sequence[Column], titles: Mapping[str, str], absent: Mapping[str, str]
) -> str:
    """Return one table a case: a row a method, median (Q1, Q3), the published figure in square brackets.

    Parameters
    ----------
    found
        The cells.
    columns
        The metrics, in order.
    titles
        Method -> its title; also the order of the rows.
    absent
        Method -> why there is no result of it.
    """
    cases = list(dict.fromkeys(s.case for s in found))
    by = {(s.case, s.method, s.metric): s for s in found}
    parts = []
    for case in cases:
        rows = []
        for method, title in titles.items():
            cells = [by.get((case, method, c.name)) for c in columns]
            own = [c for c in cells if c is not None]
            if own:
                rows.append([title, str(_seeds(own)), *_cells(cells, columns)])
            elif method in absent:
                rows.append([title, "0", absent[method], *[""] * (len(columns) - 1)])
        header = ["method", "seeds", *(c.title for c in columns)]
        parts.append(f"### {case}\n\n{grid(header, rows)}\n")
    return "\n".join(parts)


def _seeds(cells: Sequence[Summary]) -> int:
    return max(len(c.values) for c in cells)


def _cells(found: Sequence[Summary | None], columns: Sequence[Column]) -> list[str]:
    """Return a row's cells; why nothing worked is said once."""
    cells = [_cell(s, c.digits) for s, c in zip(found, columns, strict=True)]
    return [
        c if i == 0 or c != cells[0] or not _failed(s) else ""
        for i, (s, c) in enumerate(zip(found, cells, strict=True))
    ]


def _failed(summary: Summary | None) -> bool:
    return summary is not None and not summary.values


def _cell(summary: Summary | None, digits: int) -> str:
    if summary is None:
        return ""
    quartiles = summary.quartiles
    known = f" [{summary.published}]" if summary.published else ""
    if quartiles is None:
        return (summary.failed[1] or "none") + known
    mid, low, high = (f"{q:.{digits}f}" for q in quartiles)
    spread = f" ({low}, {high})" if len(summary.values) > 1 else ""
    lost = f", {summary.failed[0]} failed" if summary.failed[0] else ""
    empty = f", {summary.empty} without" if summary.empty else ""
    return f"{mid}{spread}{lost}{empty}{known}"


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, the first column to the left and the others to the right."""
    marks = ["---", *["---:"] * (len(header) - 1)]
    clean = [[c.replace("|", r"\|").replace("\n", " ") for c in row] for row in rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [list(header), marks, *clean])


def write_markdown(folder: Path, title: str, text: str) -> Path:
    """Write ``table.md`` and return its path."""
    path = folder / "table.md"
    write_text(
        path, f"# {title}\n\nMedian (first quartile, third quartile) over seeds; figures in [] are published.\n\n{text}"
    )
    return path


def write_csv(folder: Path, found: Sequence[Summary], absent: Mapping[str, str] | None = None) -> Path:
    """Write ``table.csv``: a line a case, method and metric, and one a method that cannot be had. Return its path."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["case", "method", "metric", "median", "q1", "q3", "seeds", "failed", "why", "published"])
    for s in found:
        quartiles = s.quartiles or ("", "", "")
        writer.writerow([s.case, s.method, s.metric, *quartiles, len(s.values), *s.failed, s.published])
    there = {s.method for s in found}
    for method, why in (absent or {}).items():
        if method not in there:
            writer.writerow(["", method, "", "", "", "", 0, 0, why, ""])
    path = folder / "table.csv"
    write_text(path, out.getvalue())
    return path
