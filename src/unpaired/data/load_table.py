"""Tables of text (csv, tsv, semicolons) and parquet files: one row a sample."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired.data.tables import Table
from unpaired.data.wording import counted, did_you_mean, listed
from unpaired.errors import DataError, Problem

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load_csv", "load_parquet"]

_ID_NAMES = ("id", "sample_id", "cell", "barcode", "index")
_UNNAMED = re.compile(r"^(Unnamed: 0|__index_level_0__)?$")
_MISSING = ["", "NA", "nan", "NaN"]
_SHOWN = 10


def load_csv(path: Path, *, name: str, columns: Sequence[str]) -> Table:
    """Return the table of a text file with a header.

    Parameters
    ----------
    path
        A file of UTF-8 text, separated by commas, tabs or semicolons.
    name
        The modality's name.
    columns
        The columns that tell of the samples (label, batch); all others but the ids are readings.
    """
    import pandas as pd

    separator, decimal = _dialect(path)
    header, first_unnamed = _header(path, separator)
    text = [i for i, h in enumerate(header) if h in columns or _is_id(h) or (i == 0 and first_unnamed)]
    with path.open(encoding="utf-8-sig", newline="") as file:
        next(csv.reader(file, delimiter=separator))  # pandas would rename the columns of equal names
        frame = pd.read_csv(
            file,
            sep=separator,
            header=None,
            names=list(range(len(header))),
            index_col=False,
            dtype=dict.fromkeys(text, str),
            # In names of labels "NA" is a name; only among numbers is it a missing value.
            keep_default_na=False,
            na_values={i: _MISSING for i in range(len(header)) if i not in text},
            decimal=decimal,
            low_memory=False,
        )
    return _table(frame.set_axis(header, axis=1), path=path, name=name, columns=columns)


def load_parquet(path: Path, *, name: str, columns: Sequence[str]) -> Table:
    """Return the table of a parquet file; the parameters are those of :func:`load_csv`."""
    import pandas as pd

    frame = pd.read_parquet(path)
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.rename_axis(index=frame.index.name or "").reset_index()
    return _table(frame.set_axis(frame.columns.astype(str), axis=1), path=path, name=name, columns=columns)


def _dialect(path: Path) -> tuple[str, str]:
    """Return the separator of the columns and of the decimals."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, sample = file.readline(), file.read(4096)
    bare = re.sub(r'"[^"]*"', "", header)
    separator = max("\t;,", key=bare.count)
    comma = separator != "," and re.search(rf"{separator}-?\d+,\d", sample)
    return separator, "," if comma else "."


def _header(path: Path, separator: str) -> tuple[list[str], bool]:
    """Return the names of the columns, and whether the first is unnamed; every row must have as many cells."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator)
        header = [h.strip() for h in next(reader)]
        widths: dict[int, int] = {}
        for row in reader:
            if row:
                widths.setdefault(len(row), reader.line_num)
    if not widths:
        raise _error(path, "has a header, but no rows.", "Write the file again.")
    if set(widths) == {len(header) + 1}:  # R's write.table gives the row names no header
        header = ["", *header]
    odd = {width: line for width, line in widths.items() if width != len(header)}
    if odd:
        width, line = min(odd.items(), key=lambda item: item[1])
        what = f"line {line} has {counted(width, 'cell')}, but the header has {counted(len(header), 'column')}."
        raise _error(path, what, "Write the file again: it may have been cut off.")
    return header, bool(_UNNAMED.match(header[0]))


def _is_id(header: str) -> bool:
    return header.strip().lower() in _ID_NAMES


def _table(frame: pd.DataFrame, *, path: Path, name: str, columns: Sequence[str]) -> Table:
    import pandas as pd

    header = [str(c) for c in frame.columns]
    problems = [_no_column(path, c, header) for c in columns if c not in header]
    problems += [
        Problem("error", str(path), f"has {header.count(c)} columns named {c!r}.", "Rename all but one.")
        for c in columns
        if header.count(c) > 1
    ]
    if problems:  # a mistyped name would make a wrong reading of all the rest
        raise DataError(problems)
    at_id, skipped = _id_column(frame, header, path=path, columns=columns)
    told = [header.index(c) for c in columns]
    numeric = [i for i in range(len(header)) if i not in {at_id, skipped, *told}]
    ids = np.arange(len(frame)).astype(str) if at_id is None else frame.iloc[:, at_id].astype(str).to_numpy()
    obs = frame.iloc[:, told].set_axis(pd.Index(ids, dtype=object), axis=0)
    return Table(
        name=name,
        X=_numbers(frame, numeric, header, path=path),
        obs=obs,
        feature_names=np.array([header[i] for i in numeric], dtype=str),
        feature_types=None,
        where=str(path),
        numbered=at_id is None,
    )


def _no_column(path: Path, column: str, header: list[str]) -> Problem:
    fix = did_you_mean(column, header, kind="columns")
    return Problem("error", str(path), f"has no column {column!r}.", fix)


def _id_column(
    frame: pd.DataFrame, header: list[str], *, path: Path, columns: Sequence[str]
) -> tuple[int | None, int | None]:
    """Return the position of the column of ids, and of an unnamed column of mere row numbers beside it."""
    named = [i for i, h in enumerate(header) if _is_id(h) and h not in columns]
    unnamed = 0 if header and _UNNAMED.match(header[0]) and header[0] not in columns else None
    if len(named) > 1:
        what = f"columns {listed(header[i] for i in named)} all look like ids."
        raise _error(path, what, "Rename or drop all but one.")
    if not named:
        return unnamed, None
    if unnamed is not None:
        numbers = frame.iloc[:, unnamed].astype(str)
        if any((numbers == np.arange(s, s + len(frame)).astype(str)).all() for s in (0, 1)):
            return named[0], unnamed
        raise _error(path, f"its first column has no name, and {header[named[0]]!r} looks like ids.", "Name it.")
    return named[0], None


def _numbers(frame: pd.DataFrame, at: list[int], header: list[str], *, path: Path) -> Any:
    """Return the readings; every column that holds something else than numbers is a problem."""
    import pandas as pd

    bad = []
    columns = []
    for i in at:
        column = frame.iloc[:, i]
        numbers = column
        if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
            numbers = pd.to_numeric(column.mask(column.isin(_MISSING)), errors="coerce")
            wrong = np.flatnonzero(numbers.isna() & column.notna() & ~column.isin(_MISSING))
            if len(wrong) or pd.api.types.is_datetime64_any_dtype(column):
                row = int(wrong[0]) if len(wrong) else 0
                bad.append((header[i], str(column.iloc[row]), row + 1, len(wrong) or len(column)))
        columns.append(numbers)
    if bad:
        fix = "Drop it, or name it as the label or batch; readings must be numbers."
        problems = [
            Problem("error", str(path), f"column {c!r} has {v!r} in row {r} ({counted(k, 'value')} not a number).", fix)
            for c, v, r, k in bad[:_SHOWN]
        ]
        if len(bad) > _SHOWN:
            what = f"{len(bad) - _SHOWN} more columns are not numbers: {listed(b[0] for b in bad[_SHOWN:])}."
            problems.append(Problem("error", str(path), what, "Drop them."))
        raise DataError(problems)
    if not columns:
        return np.empty((len(frame), 0), dtype=np.float32)
    return np.column_stack([c.to_numpy(dtype=np.float64, na_value=np.nan) for c in columns])


def _error(path: Path, what: str, fix: str) -> DataError:
    return DataError([Problem("error", str(path), what, fix)])
