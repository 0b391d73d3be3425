"""What the jobs that begin with files share: reading them, and keeping cells out of what learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from unpaired import options
from unpaired.data.read import read
from unpaired.data.split import HeldOut, hold_out
from unpaired.data.types import Dataset, Truth
from unpaired.errors import OptionError
from unpaired.workflow.steps import log

if TYPE_CHECKING:
    from unpaired.workflow.align import AlignOptions
    from unpaired.workflow.tune import TuneOptions

    Asked: TypeAlias = AlignOptions | TuneOptions

__all__ = ["check_reading", "describe", "keep_out", "read_files"]


def check_reading(chosen: Asked) -> None:
    """Raise :class:`~unpaired.errors.OptionError` if an option of the reading is wrong whatever the data are."""
    options.check_choice("pairing", chosen.pairing, ("none", "hide"))
    options.check_number("test_fraction", chosen.test_fraction)
    if not 0 <= chosen.test_fraction < 1:
        msg = f"test_fraction must be a number from 0 to below 1; got {chosen.test_fraction!r}."
        raise OptionError(msg)


def read_files(files: list[str], chosen: Asked) -> tuple[Dataset, Truth | None]:
    """Read the files as the options say; see :func:`unpaired.read`."""
    named = chosen.source is not None and chosen.target is not None
    return read(
        *files,
        label=chosen.label,
        modalities=[str(chosen.source), str(chosen.target)] if named else None,
        batch=chosen.batch,
        layer=chosen.layer,
        pairing=chosen.pairing,
        recipes=chosen.recipes,
        missing=chosen.missing,
        max_cells_per_label=chosen.max_cells_per_label,
        seed=chosen.seed,
    )


def keep_out(data: Dataset, truth: Truth | None, chosen: Asked) -> tuple[Dataset, Truth | None, HeldOut | None]:
    """Return what there is to learn from, and what was kept out of it: ``None`` if that is no cell."""
    if not chosen.hold_out_labels and not chosen.test_fraction:
        return data, truth, None
    kept, known, held = hold_out(
        data, truth, labels=chosen.hold_out_labels, fraction=chosen.test_fraction, seed=chosen.seed
    )
    return kept, known, held if any(len(m) for m in held.data.modalities.values()) else None


def describe(data: Dataset) -> None:
    """Say the size and the recipe of every modality, and what is worth knowing of the data."""
    for name, modality in data.modalities.items():
        recipe = modality.recipe
        shape = " x ".join(str(s) for s in modality.X.shape)
        log.info("%s: %s; recipe %s", name, shape, f"{recipe.name} ({recipe.reason})" if recipe else "none")
    for note in data.notes:
        log.warning("%s", note)
