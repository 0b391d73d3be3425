"""Files to a choice of classifiers: read, hold out, try the settings, and keep what was found as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from unpaired import options
from unpaired.data.load import split_name
from unpaired.data.types import Dataset
from unpaired.embed.tune import Tuning, check_tune_options
from unpaired.embed.tune import tune as tune_classifiers
from unpaired.errors import DataError, OptionError
from unpaired.files import write_json
from unpaired.match.refine_rule import SETTLED
from unpaired.match.transport.front import match_ot
from unpaired.run.folder import TUNING, check_file
from unpaired.run.record import plain, record_head
from unpaired.workflow.reading import check_reading, describe, keep_out, read_files
from unpaired.workflow.refine import refine
from unpaired.workflow.steps import log, progress, step

__all__ = ["TuneOptions", "tune"]

FORMAT_VERSION = 1
_NO_TIME = "No time was left"


@dataclass(frozen=True)
class TuneOptions:
    """Everything that ``unpaired tune`` can be told.

    Attributes
    ----------
    label, batch, layer, source, target, recipes, missing, pairing, max_cells_per_label, hold_out_labels, test_fraction
        As in :class:`~unpaired.workflow.align.AlignOptions`; with them and the seed the same, so are the cells.
    minutes
        Time for all trials together, and for refining a matching of what they choose.
    folds, device, jobs, seed
        See :func:`unpaired.embed.tune.tune`.
    """

    label: str = "label"
    batch: str | None = None
    layer: str | None = None
    source: str | None = None
    target: str | None = None
    recipes: Mapping[str, str] = field(default_factory=dict)
    missing: Literal["median", "error"] = "median"
    pairing: Literal["none", "hide"] = "none"
    max_cells_per_label: int | None = None
    hold_out_labels: tuple[str, ...] = ()
    test_fraction: float = 0.0
    minutes: float = 10.0
    folds: int = 5
    device: str = "auto"
    jobs: int = 1
    seed: int = 0


def tune(files: list[str], chosen: TuneOptions, *, out: str | Path | None = None, force: bool = False) -> Tuning:
    """Read the files, try the settings of every modality's classifier, and write what was found if ``out`` is given.

    What is left of the time goes into matching with the choice and refining that, to see whether ``--refine`` pays.

    Parameters
    ----------
    files
        Paths or ``NAME=PATH``; see :func:`unpaired.read`.
    chosen
        The options.
    out
        JSON file to write; see docs/formats.md.
    force
        Replace a file that an earlier ``tune`` wrote.

    Raises
    ------
    OutputError
        If the file cannot be made there; raised before any work.
    DataError, OptionError
        As the steps raise them.
    """
    target = None if out is None else Path(out)
    if target is not None:
        check_file(target, force=force, kind=TUNING)
    options.check_number("minutes", chosen.minutes, above=0)
    check_reading(chosen)
    how: dict[str, Any] = {"seconds": 60 * chosen.minutes}
    how |= {name: getattr(chosen, name) for name in ("folds", "device", "jobs", "seed")}
    check_tune_options(**how)
    with step({}, "reading"):
        data, _, _ = keep_out(*read_files(files, chosen), chosen)
    if chosen.source is not None or chosen.target is not None:
        data.direction(chosen.source, chosen.target)  # a name that is not there is an error here too
    describe(data)
    with step({}, "trials"):
        tuning = tune_classifiers(data, **how, progress=progress())
    for note in tuning.notes:
        log.warning("%s", note)
    paths = [split_name(f)[1] for f in files]
    if target is not None:
        check_file(target, force=force, kind=TUNING)  # a long time has passed
        write_json(target, _record(tuning, chosen, paths, data.notes))
    with step({}, "refining"):  # what was chosen is there already, whatever becomes of this
        tuning = replace(tuning, refine=_try_refine(data, tuning, chosen, how["seconds"] - tuning.seconds))
    if target is not None:
        write_json(target, _record(tuning, chosen, paths, data.notes))
    return tuning


def _try_refine(data: Dataset, tuning: Tuning, chosen: TuneOptions, left: float) -> dict[str, Any]:
    """Match with the choice and refine that, as ``align --refine auto`` does, in the seconds that are left."""
    untried: dict[str, Any] = {"status": "not tried", "rounds": 0, "pays": False, "seconds": 0.0}
    where: dict[str, Any] = {"seed": chosen.seed, "device": chosen.device, "jobs": chosen.jobs}
    propensity = tuning.propensity(folds=chosen.folds, **where, progress=progress())
    cost = propensity.repeats * sum(t.seconds for t in tuning.chosen)
    if cost >= left:
        return untried | {
            "sentence": f"{_NO_TIME}: classifiers would take {cost:.0f} s, and {max(0, left):.0f} are left."
        }
    start = perf_counter()
    try:
        source, target = data.direction(chosen.source, chosen.target)
        space = propensity.fit(data).transform(data)
        first = match_ot(data, space, source=source, target=target, jobs=chosen.jobs)
        left -= perf_counter() - start
        if left <= 0:
            return untried | {"sentence": f"{_NO_TIME} after the matching.", "seconds": _since(start)}
        _, found = refine(data, first, embedding=space, seconds=left, **where, progress=progress())
    except (DataError, OptionError, MemoryError, RuntimeError) as error:  # the choice is worth no less for that
        said = f"It failed: {str(error) or type(error).__name__}"
        return untried | {"status": "failed", "sentence": said, "seconds": _since(start)}
    told = found.made_by.options["refine"]
    changed = [r["change"] < SETTLED for r in told["rounds"] if r["kept"]]
    return {
        "status": "tried" if told["rounds"] else "not begun",
        "rounds": told["kept"],
        "pays": any(changed),
        "sentence": told["sentence"],
        "seconds": _since(start),
    }


def _since(start: float) -> float:
    return round(perf_counter() - start, 3)


def _record(tuning: Tuning, chosen: TuneOptions, inputs: list[Path], notes: tuple[str, ...]) -> dict[str, Any]:
    found = tuning.to_dict()
    return {
        **record_head(TUNING, FORMAT_VERSION, asdict(chosen), inputs),
        **plain(found),
        "notes": [*notes, *tuning.notes],
    }
