"""Files to tables: what each file is, what its modalities are called, and every file that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unpaired.data.detect import Kind, detect_kind
from unpaired.data.load_npz import array_names, load_npz
from unpaired.data.load_scverse import load_scverse, modality_names
from unpaired.data.load_table import load_csv, load_parquet
from unpaired.data.tables import Table, choose_names
from unpaired.errors import DataError, OptionError, Problem

__all__ = ["load_tables", "require_kinds", "split_name"]


@dataclass(frozen=True)
class _Source:
    """One file.

    ``name`` is the one that was given; ``inside`` are the modalities of a file that can hold several, ``wanted`` those
    to take of it (``None``: all).
    """

    path: Path
    name: str | None
    kind: Kind
    inside: list[str] | None
    wanted: list[str] | None = None


def load_tables(
    files: Sequence[str | Path],
    *,
    modalities: Sequence[str] | None = None,
    layer: str | None = None,
    label: str | None = None,
    batch: str | None = None,
) -> list[Table]:
    """Return the tables of some files, in their order.

    Parameters
    ----------
    files
        Paths, or ``"NAME=PATH"`` to name a modality; without a name it is called after its file.
    modalities
        Names of the modalities to take from the files; all by default.
    layer
        Layer to read in place of ``X`` (h5ad, h5mu, zarr).
    label, batch
        The columns that are not readings (npz, csv, parquet).

    Raises
    ------
    DataError
        With every file that cannot be read.
    OptionError
        If two modalities have the same name, or one that is asked for does not exist.
    """
    problems: list[Problem] = []
    sources = _sources(_entries(files), problems)
    if not problems:  # a name may be missing only because its file cannot be read
        _check_layer(sources, layer)
        sources = _chosen(sources, modalities)
        _check_unique(sources)
    columns = [c for c in (label, batch) if c is not None]
    tables: list[Table] = []
    for source in sources:
        if source.wanted == []:
            continue
        try:
            tables.extend(_load(source, layer=layer, columns=columns))
        except DataError as error:
            problems.extend(error.problems)
        except (OptionError, MemoryError):
            raise
        except Exception as error:
            problems.append(_damaged(source.path, error))
    if problems:
        raise DataError(problems)
    return tables


def require_kinds(files: Sequence[str | Path], allowed: tuple[Kind, ...]) -> None:
    """Raise unless all the files are of the allowed kinds; what cannot be read at all is left to the reader.

    Raises
    ------
    DataError
        With every file of another kind.
    """
    front = {"h5ad": "read_h5ad", "h5mu": "read_h5mu", "npz": "read_npz", "csv": "read_table", "parquet": "read_table"}
    problems = []
    for source in _sources(_entries(files), []):
        if source.kind not in allowed:
            what = f"is a file of kind {source.kind}, not {' or '.join(allowed)}."
            use = f"Use {front[source.kind]} or read." if source.kind in front else "Use read."
            problems.append(Problem("error", str(source.path), what, use))
    if problems:
        raise DataError(problems)


def _entries(files: Sequence[str | Path]) -> list[tuple[str | None, Path]]:
    """Return the given name (or ``None``) and the path of every file."""
    if isinstance(files, str | Path):
        files = [files]
    if not files:
        msg = "files must name at least one file; got none."
        raise OptionError(msg)
    return [split_name(f) for f in files]


def split_name(entry: str | Path) -> tuple[str | None, Path]:
    """Return name and path of ``"NAME=PATH"``, the name ``None`` for a path alone, even one with an equals sign."""
    if isinstance(entry, Path) or "=" not in entry or Path(entry).exists():
        return None, Path(entry)
    name, _, path = entry.partition("=")
    if not name or not path:
        msg = f"a file must be given as PATH or NAME=PATH; got {entry!r}."
        raise OptionError(msg)
    return name, Path(path)


def _sources(entries: Sequence[tuple[str | None, Path]], problems: list[Problem]) -> list[_Source]:
    """Return the files that can be opened; what is wrong with the others is added to ``problems``."""
    sources = []
    for name, path in entries:
        try:
            kind = detect_kind(path)
            sources.append(_Source(path, name, kind, _inside(path, kind)))
        except DataError as error:
            problems.extend(error.problems)
        except Exception as error:
            problems.append(_damaged(path, error))
    return sources


def _inside(path: Path, kind: Kind) -> list[str] | None:
    if kind == "npz":
        return array_names(path)
    return modality_names(path) if kind in {"h5mu", "zarr"} else None


def _check_layer(sources: Sequence[_Source], layer: str | None) -> None:
    """Raise if a layer is asked for that none of the files can have: it would be ignored in silence."""
    if layer is not None and all(s.kind in {"npz", "csv", "parquet"} for s in sources):
        msg = f"layer needs an h5ad, h5mu or zarr file; got {', '.join(str(s.path) for s in sources)}."
        raise OptionError(msg)


def _chosen(sources: Sequence[_Source], modalities: Sequence[str] | None) -> list[_Source]:
    """Return the sources with only the modalities that are asked for; each of these must exist somewhere."""
    if modalities is None:
        return list(sources)
    everything = [n for s in sources for n in ([_single(s)] if s.inside is None else s.inside)]
    wanted = choose_names(modalities, everything)
    kept = [s for s in sources if s.inside is not None or _single(s) in wanted]
    return [s if s.inside is None else replace(s, wanted=[n for n in wanted if n in s.inside]) for s in kept]


def _single(source: _Source) -> str:
    return source.name or source.path.stem


def _names(source: _Source) -> list[str]:
    """Return what the modalities that are taken from a file will be called."""
    if source.inside is None:
        return [_single(source)]
    taken = source.inside if source.wanted is None else source.wanted
    if source.name is None or not taken:
        return taken
    if len(taken) > 1:
        msg = f"{source.path} holds several modalities ({', '.join(taken)}): {source.name!r} cannot name them all."
        raise OptionError(msg)
    return [source.name]


def _check_unique(sources: Sequence[_Source]) -> None:
    seen: dict[str, Path] = {}
    for source in sources:
        for name in _names(source):
            if name in seen:
                msg = (
                    f"two modalities are named {name!r}, in {seen[name]} and {source.path}: "
                    f"name one as NAME=PATH, for example {name}2={source.path}."
                )
                raise OptionError(msg)
            seen[name] = source.path


def _load(source: _Source, *, layer: str | None, columns: Sequence[str]) -> list[Table]:
    path, name = source.path, _single(source)
    match source.kind:
        case "npz":
            tables = load_npz(path, modalities=source.wanted, columns=columns)
        case "csv":
            tables = [load_csv(path, name=name, columns=columns)]
        case "parquet":
            tables = [load_parquet(path, name=name, columns=columns)]
        case _:
            tables = load_scverse(path, name=name, modalities=source.wanted, layer=layer)
    renamed = zip(tables, _names(source), strict=True)
    return [replace(table, name=new) for table, new in renamed]


def _damaged(path: Path, error: Exception) -> Problem:
    """Return the problem of a file whose library gave up: a damaged one can make it raise anything."""
    first = (str(error).splitlines() or [""])[0][:200]
    what = f"is damaged, or written in an unknown way ({type(error).__name__}: {first})."
    return Problem("error", str(path), what, "Write it again, or download it again.")
