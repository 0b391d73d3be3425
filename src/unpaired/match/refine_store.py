"""What the encoders of a round said, on disk: a refinement that was killed goes on with the round it was in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired._version import __version__
from unpaired.embed.embedding import Provenance
from unpaired.errors import OutputError
from unpaired.files import write_arrays

if TYPE_CHECKING:
    from unpaired.embed.contrastive import Encoded

__all__ = ["Kept", "forget", "keep", "kept", "round_file"]


@dataclass(frozen=True)
class Kept:
    """A file of a round.

    Attributes
    ----------
    path
        The file; its folder is made when it is written.
    made_of
        Everything that the codes depend on: a file that was made of anything else is not read.
    """

    path: Path
    made_of: Mapping[str, Any]

    @property
    def told(self) -> str:
        """The same as text."""
        return json.dumps({**self.made_of, "unpaired": __version__}, sort_keys=True)


def round_file(folder: Path, number: int) -> Path:
    """Return the file of a round."""
    return folder / f"round-{number}.safetensors"


def forget(folder: Path) -> None:
    """Take away the files of all rounds, and the folder if they were all that was in it: it may be the user's."""
    files = list(folder.glob("round-*.safetensors*"))  # also those of a longer refinement that was killed
    for file in files:
        file.unlink(missing_ok=True)
    if files:
        with suppress(OSError):
            folder.rmdir()


def keep(place: Kept, encoded: Encoded) -> None:
    """Write the codes of a round, whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    from safetensors import SafetensorError

    made_by = encoded.made_by
    info = {
        "made_of": place.told,
        "made_by": json.dumps([made_by.method, dict(made_by.options), list(made_by.notes)]),
        "loss": json.dumps([list(encoded.loss), encoded.seconds]),
    }
    parts = {"codes": encoded.codes, "noise": encoded.noise}
    arrays = {f"{kind}/{n}": x for kind, by_name in parts.items() for n, x in by_name.items()}
    try:
        place.path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(place.path, arrays | {"common": encoded.common}, info)
    except (OSError, SafetensorError) as error:
        msg = f"{place.path} cannot be written ({error}); mend that and start again: it goes on from there."
        raise OutputError(msg) from None


def kept(place: Kept, names: tuple[str, str]) -> Encoded | None:
    """Return the codes of a round that was done before; ``None`` where there is no file that fits, or a damaged one."""
    from safetensors import SafetensorError, safe_open

    from unpaired.embed.contrastive import Encoded

    try:
        with safe_open(place.path, framework="np") as file:
            info = file.metadata() or {}
            if info.get("made_of") != place.told:
                return None
            codes, noise = ({n: np.asarray(file.get_tensor(f"{p}/{n}")) for n in names} for p in ("codes", "noise"))
            method, options, notes = json.loads(info["made_by"])
            common = np.asarray(file.get_tensor("common"))
            loss, seconds = json.loads(info["loss"])
            return Encoded(codes, noise, common, tuple(loss), Provenance(method, options, tuple(notes)), seconds)
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
