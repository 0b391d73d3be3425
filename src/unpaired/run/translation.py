"""The translations of a run: model, predictions and scores of one direction in a folder, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unpaired._version import __version__
from unpaired.data.types import Array, Dataset, Modality
from unpaired.embed.embedding import Provenance
from unpaired.errors import DataError, OptionError, Problem
from unpaired.files import sha256, write_json
from unpaired.options import check_choice
from unpaired.run.folder import (
    PREDICTIONS,
    TRANSLATION,
    TRANSLATION_FORMAT,
    TRANSLATIONS,
    check_target,
    new_file,
    new_folder,
)
from unpaired.run.read import check_outputs, read_record
from unpaired.run.record import plain, versions
from unpaired.translate.prediction import Prediction

if TYPE_CHECKING:
    from anndata import AnnData

    from unpaired.evaluate.translation import TranslationScores
    from unpaired.translate.translator import Translator

__all__ = [
    "FORMAT_VERSION",
    "PARTS",
    "check_translation",
    "read_translation",
    "read_translation_record",
    "translation_path",
    "write_predictions",
    "write_translation",
]

FORMAT_VERSION = 1
_AGAIN = "Run unpaired translate again with --force."
_KINDS = {
    **dict.fromkeys(("options", "training", "matching", "cells", "outputs", "scores", "versions"), dict),
    **dict.fromkeys(("source", "target", "space"), str),
    "notes": list,
}
PARTS = ("train", "test", "label")
"""Cells that were learned from, and the parts of those that were held out (:class:`unpaired.data.split.HeldOut`)."""


@dataclass(frozen=True, eq=False)
class _Piece:
    """A prediction with the cells that it is of, one entry for each of their rows."""

    prediction: Prediction
    modality: Modality
    classes: tuple[str, ...]
    part: Array | None


def translation_path(run: str | Path, source: str, target: str) -> Path:
    """Return the folder of a direction's translation in a run directory, whether or not there is one."""
    return Path(run) / TRANSLATIONS / f"{source}-to-{target}"


def check_translation(run: str | Path, source: str, target: str, *, force: bool) -> Path:
    """Return the folder of a direction's translation if one can be written there; called before any long work.

    Raises
    ------
    DataError
        If ``run`` is not a run.
    OutputError
        If there is a translation already and ``force`` is off, or something that is not one, or no permission.
    """
    read_record(run)
    folder = translation_path(run, source, target)
    check_target(folder if folder.parent.exists() else folder.parent, force=force, record=TRANSLATION)
    return folder


def write_translation(
    run: str | Path,
    model: Translator,
    parts: Mapping[str, tuple[Dataset, Prediction]],
    *,
    scores: Mapping[str, TranslationScores],
    matching: Provenance,
    asked: Mapping[str, Any] | None = None,
    seconds: float = 0.0,
    force: bool = False,
) -> Path:
    """Write a translation into a run directory; nothing is left of it when writing fails.

    Parameters
    ----------
    run
        The run directory.
    model
        The fitted model.
    parts
        ``"train"``, and where cells were held out ``"test"`` and ``"label"``: the data set, and the prediction of its
        cells of the source.
    scores
        The scores of these parts.
    matching
        How the matching was made that was learned from.
    asked
        What the user asked for, kept as a record.
    seconds
        Wall time of the training.
    force
        Replace a translation of this direction (never anything else).

    Returns
    -------
    The folder: ``translation.json``, ``predicted.h5ad``, and the model's ``model.safetensors`` and ``model.json``. See
    docs/formats.md.

    Raises
    ------
    DataError
        If ``run`` is not a run.
    OutputError
        If the folder cannot be made there.
    OptionError
        If there is no such part, or the predictions are not of one direction and space.
    """
    pieces = _pieces(parts)
    first = pieces[0].prediction
    folder = check_translation(run, first.source, first.target, force=force)
    record = {
        "format": TRANSLATION_FORMAT,
        "format_version": FORMAT_VERSION,
        "unpaired": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "source": first.source,
        "target": first.target,
        "space": first.space,
        "options": plain(model.used()),
        "asked": plain(asked or {}),
        "notes": list(model.notes_),
        "matching": {"method": matching.method, "sha256": matching.options.get("sha256")},
        "training": {
            "history": plain(model.history_),
            "seconds": round(float(seconds), 3),
            "members": plain(model.used().get("members")),
        },
        "cells": {name: len(prediction.rows) for name, (_, prediction) in parts.items()},
        "scores": {name: plain(found.to_dict()) for name, found in scores.items()},
    }
    folder.parent.mkdir(exist_ok=True)
    try:
        with new_folder(folder, force=force, record=TRANSLATION) as work:
            model.save(work)
            _anndata(pieces).write_h5ad(work / "predicted.h5ad", compression="gzip")
            files = sorted(p for p in work.iterdir() if p.is_file())
            write_json(work / TRANSLATION, record | {"outputs": {p.name: sha256(p) for p in files}})
    finally:
        with suppress(OSError):  # it holds something
            folder.parent.rmdir()
    return folder


def read_translation(folder: str | Path) -> dict[str, Any]:
    """Return the contents of ``translation.json``, having made sure that the files beside it were not changed since.

    Raises
    ------
    DataError
        If the folder is not a translation, or one of a newer format, or a file of it is missing or was changed.
    """
    record = read_translation_record(folder)
    check_outputs(Path(folder), record, _AGAIN)
    return record


def read_translation_record(folder: str | Path) -> dict[str, Any]:
    """Return the contents of ``translation.json`` alone, as :func:`read_translation` without a look at other files.

    Raises
    ------
    DataError
        If the record is missing, is none, or is of a newer format.
    """
    file = Path(folder) / TRANSLATION
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise DataError([Problem("error", str(file), f"cannot be read ({why}).", _AGAIN)]) from None
    if not isinstance(record, dict) or record.get("format") != TRANSLATION_FORMAT:
        raise DataError([Problem("error", str(file), "is not the record of a translation.", _AGAIN)])
    version = record.get("format_version")
    if type(version) is not int or version > FORMAT_VERSION:
        what = f"has format version {version!r}; this version of unpaired reads up to {FORMAT_VERSION}."
        raise DataError([Problem("error", str(file), what, "Use a newer version of unpaired.")])
    wrong = [k for k, kind in _KINDS.items() if not isinstance(record.get(k), kind)]
    if wrong:
        raise DataError([Problem("error", str(file), f"lacks {', '.join(wrong)}.", _AGAIN)])
    return dict(record)


def write_predictions(
    path: str | Path,
    prediction: Prediction,
    modality: Modality,
    classes: Sequence[str],
    *,
    part: Array | None = None,
    force: bool = False,
) -> Path:
    """Write predicted readings as h5ad; nothing is left of it when writing fails.

    Parameters
    ----------
    path
        The file to make. Its folder must exist.
    prediction
        What was predicted.
    modality
        The cells that it was predicted from.
    classes
        The names of their labels.
    part
        ``(n,)`` the part of each of these cells, kept as a column; none by default.
    force
        Replace a file of predictions that is there (never anything else).

    Returns
    -------
    The path: ``X`` the means, ``layers["spread"]`` the standard deviations, a row a predicted cell; how they were made
    is in ``uns["unpaired"]``.

    Raises
    ------
    OutputError
        If the file cannot be made there.
    OptionError
        If the prediction is not of these cells.
    """
    path = Path(path)
    piece = _piece(prediction, modality, classes, part)
    with new_file(path, force=force) as work:
        _anndata([piece]).write_h5ad(work, compression="gzip")
    return path


def _pieces(parts: Mapping[str, tuple[Dataset, Prediction]]) -> list[_Piece]:
    pieces = []
    for name, (data, prediction) in parts.items():
        check_choice("part", name, PARTS)
        modality = data[prediction.source]
        pieces.append(
            _piece(prediction, modality, data.classes, np.repeat(np.array(name, dtype=object), len(modality)))
        )
    directions = {(p.prediction.source, p.prediction.target, p.prediction.space) for p in pieces}
    if len(directions) != 1:
        msg = f"a translation has predictions of one direction and space; got {len(directions)}."
        raise OptionError(msg)
    return pieces


def _piece(prediction: Prediction, modality: Modality, classes: Sequence[str], part: Array | None) -> _Piece:
    """Return what is written of a prediction: its own cells only."""
    if len(modality) != prediction.cells or modality.name != prediction.source:
        msg = (
            f"the prediction is of {prediction.cells} cells of {prediction.source!r}, not of these {len(modality)} of "
        )
        msg += f"{modality.name!r}."
        raise OptionError(msg)
    rows = prediction.rows
    return _Piece(prediction, modality.take(rows), tuple(classes), None if part is None else np.asarray(part)[rows])


def _anndata(pieces: Sequence[_Piece]) -> AnnData:
    import anndata
    import pandas as pd

    first = pieces[0].prediction
    labels = [np.array([*p.classes, ""], dtype=object)[p.modality.labels] for p in pieces]
    ids = np.concatenate([p.modality.ids.astype(str) for p in pieces])
    obs = pd.DataFrame({"label": np.concatenate(labels)}, index=pd.Index(ids, dtype=object))
    if all(p.part is not None for p in pieces):
        obs["part"] = np.concatenate([np.asarray(p.part, dtype=object) for p in pieces])
    var = pd.DataFrame(index=_unique(first.feature_names))
    mean, spread = (np.concatenate([getattr(p.prediction, k) for p in pieces]) for k in ("mean", "spread"))
    adata = anndata.AnnData(X=mean.astype(np.float32), obs=obs, var=var)
    adata.layers["spread"] = spread.astype(np.float32)
    adata.uns["unpaired"] = {
        "format": PREDICTIONS,
        "format_version": FORMAT_VERSION,
        "unpaired": __version__,
        "source": first.source,
        "target": first.target,
        "space": first.space,
        "method": first.made_by.method,
        "options": json.dumps(plain(first.made_by.options)),
        "notes": np.array(first.made_by.notes, dtype=str),
    }
    return adata


def _unique(names: Array) -> Any:
    """Return the names as an index in which a repeated one is numbered."""
    import pandas as pd
    from anndata.utils import make_index_unique

    return make_index_unique(pd.Index(np.asarray(names, dtype=str).astype(object)))
