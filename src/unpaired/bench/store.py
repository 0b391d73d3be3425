"""What a bench has done so far, one file a result, so that it can be killed anywhere and goes on."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

from unpaired._version import __version__
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import DataError, OptionError, OutputError, UnpairedError
from unpaired.files import write_arrays, write_json
from unpaired.run.record import plain, versions

__all__ = ["Store", "failed", "safe_name"]

_FORMAT = "unpaired bench"
_COVARIANCE = "noise_covariance"


def safe_name(text: str) -> str:
    """Return a text as the name of a file: what a label or a data set may be called is not always one.

    Names that differ stay different: what had to be changed gets a hash of what it was.
    """
    safe = "".join(c if c.isalnum() or c in "+-_." else "_" for c in text)
    return safe if safe == text else f"{safe}-{blake2b(text.encode(), digest_size=3).hexdigest()}"


def failed(error: UnpairedError) -> dict[str, Any]:
    """Return the result of a method that failed.

    One that does not apply (the options or the data are not for it) is done with that. What broke down is tried again
    when the bench is started again: its package may be another one by then.

    Raises
    ------
    OutputError
        If that is what the error is: a full disk is no method's failure.
    """
    if isinstance(error, OutputError):
        raise error
    return {"failed": str(error), "again": not isinstance(error, (OptionError, DataError))}


class Store:
    """The folder of a bench.

    Parameters
    ----------
    folder
        Made if it is not there.
    settings
        All that the results depend on; a folder of other settings, or of another version, is not gone on with.

    Raises
    ------
    OutputError
        If the folder holds something else, or results of other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        wanted = json.loads(json.dumps(plain({**settings, "unpaired": __version__})))
        file = folder / "bench.json"
        if file.exists():
            self._check(file, wanted)
            return
        if folder.exists() and not _is_free(folder, file.name):
            msg = f"{folder} is there and holds no bench; name a new folder."
            raise OutputError(msg)
        _write(file, {"format": _FORMAT, "settings": wanted, **_where()})

    def _check(self, file: Path, wanted: Mapping[str, Any]) -> None:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))["settings"]
        except (ValueError, KeyError, TypeError, OSError):
            msg = f"{file} is not a bench's record; name a new folder."
            raise OutputError(msg) from None
        differ = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
        if differ:
            which = "; ".join(f"{k}: {found.get(k)!r} there, {wanted.get(k)!r} asked for" for k in differ)
            msg = f"{self.folder} holds results of other settings ({which}); name a new folder."
            raise OutputError(msg)

    def path(self, case: str, method: str, seed: int) -> Path:
        """Return the file of a result."""
        return self.folder / "results" / safe_name(case) / safe_name(method) / f"seed-{seed}.json"

    def has(self, case: str, method: str, seed: int) -> bool:
        """Return whether a result is there; a failure that is to be tried again is none."""
        file = self.path(case, method, seed)
        return file.exists() and not _read(file).get("again", False)

    def keep(self, case: str, method: str, seed: int, result: Mapping[str, Any]) -> None:
        """Write a result, whole, with the versions that made it."""
        value = {"case": case, "method": method, "seed": seed, **plain(result), **_where()}
        _write(self.path(case, method, seed), value)

    def failure(self, case: str, method: str, seed: int) -> UnpairedError | None:
        """Return an error like that with which a method failed; ``None`` where it did not, or has not been run."""
        file = self.path(case, method, seed)
        found = _read(file) if file.exists() else {}
        if "failed" not in found:
            return None
        return UnpairedError(found["failed"]) if found.get("again") else OptionError(found["failed"])

    def results(self) -> Iterator[dict[str, Any]]:
        """Iterate over all results, in an order that does not depend on when they were made."""
        yield from map(_read, sorted((self.folder / "results").glob("*/*/seed-*.json")))

    def space(self, case: str, name: str, seed: int, make: Callable[[], tuple[Embedding, dict[str, Any]]]) -> Any:
        """Return an embedding and what is to be said of it, made now or before; a damaged one is made again.

        Parameters
        ----------
        case, name, seed
            What it is of.
        make
            Makes it, and plain values to keep with it.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        base = self.folder / "spaces" / safe_name(case) / f"{safe_name(name)}-seed-{seed}"
        told, arrays = base.with_name(f"{base.name}.json"), base.with_name(f"{base.name}.safetensors")
        if told.exists():  # written last
            with suppress(OSError, ValueError, SafetensorError):
                info, flat = json.loads(told.read_text(encoding="utf-8")), load_file(arrays)
                return _rebuilt(info, flat), info["more"]
        embedding, more = make()
        with _or_say(arrays):
            base.parent.mkdir(parents=True, exist_ok=True)
            write_arrays(arrays, _flat(embedding))
        p = embedding.made_by
        made_by = {"method": p.method, "options": plain(p.options), "notes": list(p.notes)}
        info = {"space": embedding.space, "dims": list(embedding.dims), "made_by": made_by, "more": plain(more)}
        _write(told, info)
        return embedding, info["more"]


def _is_free(folder: Path, record: str) -> bool:
    """Whether nothing is in a folder but what a bench left that was killed while it wrote its record."""
    return folder.is_dir() and all(p.name.startswith(f".{record}.") for p in folder.iterdir())


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        msg = f"{file} is damaged; delete it and start the bench again: the rest is kept."
        raise OutputError(msg) from None
    return found


def _write(file: Path, value: Any) -> None:
    with _or_say(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, value)


@contextmanager
def _or_say(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        msg = f"{file} cannot be written ({error.strerror}); what was done before is kept."
        raise OutputError(msg) from None


def _flat(embedding: Embedding) -> dict[str, Any]:
    parts = {"arrays": embedding.arrays, "noise": embedding.noise or {}, _COVARIANCE: embedding.noise_covariance or {}}
    return {f"{part}/{n}": a for part, of in parts.items() for n, a in of.items()}


def _rebuilt(info: Mapping[str, Any], flat: Mapping[str, Any]) -> Embedding:
    parts: dict[str, dict[str, Any]] = {"arrays": {}, "noise": {}, _COVARIANCE: {}}
    for key, value in flat.items():
        part, _, name = key.partition("/")
        parts[part][name] = value
    made_by = Provenance(info["made_by"]["method"], info["made_by"]["options"], tuple(info["made_by"]["notes"]))
    noise, covariance = parts["noise"] or None, parts[_COVARIANCE] or None
    return Embedding(parts["arrays"], info["space"], noise, tuple(info["dims"]), made_by, covariance)


def _where() -> dict[str, Any]:
    return {
        "unpaired": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": versions(),
    }
