"""What a run's translations say, as the page shows it: every number was saved when the model was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unpaired.report import words
from unpaired.run.folder import TRANSLATION, TRANSLATIONS
from unpaired.run.translation import read_translation_record

__all__ = ["METRICS", "DistanceRow", "Part", "Translation", "read_translations"]

METRICS: Mapping[str, tuple[str, str]] = {
    "l2": ("L2 of means", "Distance between the mean of the predicted and of the measured cells."),
    "wasserstein": ("1-Wasserstein", "How far predicted cells must be moved, on average, to become the measured ones."),
    "kl_gaussian": ("KL, Gaussian", "How unexpected the measured cells are by the predicted ones, as two Gaussians."),
    "kl_neighbours": ("KL, neighbours", "The same from the distances to nearest neighbours, Gaussian or not."),
    "energy": ("Energy distance", "0 only where the two have the same distribution."),
}
"""The distances between distributions: key in the record -> name, and what it says. Lower is better."""

_PARTS: Mapping[str, tuple[str, str, str]] = {
    "test": ("Test cells", "on test cells", "kept out of everything; the model knows their labels"),
    "label": (
        "Cells of held-out labels",
        "on cells of held-out labels",
        "all cells of these labels were kept out of everything",
    ),
    "train": ("Training cells", "on training cells", "the model saw these cells and their matching, not their pairs"),
}
"""Parts of the cells, in the order in which they count: name, name in a sentence, what it means."""


@dataclass(frozen=True)
class DistanceRow:
    """One distance, averaged over labels in two ways.

    Attributes
    ----------
    key, name, meaning
        The distance: in the record, in words, and what it says.
    by_cells, baseline_by_cells, by_inverse, baseline_by_inverse
        Averages weighted by the label's measured cells and by their inverse: of the predicted cells, and of the
        baseline.
    labels
        How many labels are in the averages.
    useless
        Whether the predicted cells are no nearer than the baseline.
    """

    key: str
    name: str
    meaning: str
    by_cells: float | None
    baseline_by_cells: float | None
    by_inverse: float | None
    baseline_by_inverse: float | None
    labels: int
    useless: bool


@dataclass(frozen=True, eq=False)
class Part:
    """The scores of one part of the cells.

    Attributes
    ----------
    key, name, place, meaning
        ``"test"``, ``"label"`` or ``"train"``; its name; its name in a sentence; what it says about the model.
    cells
        Its predicted cells, or ``None`` where that was not saved.
    pairs, distributions
        What was saved: cell by cell where true pairs are known, and label by label; ``None`` where there is none.
    """

    key: str
    name: str
    place: str
    meaning: str
    cells: int | None
    pairs: Mapping[str, Any] | None
    distributions: Mapping[str, Any] | None

    @property
    def useless(self) -> bool:
        """Whether, judged by the true pairs, a guess that knows nothing, or only the label, is as good."""
        if self.pairs is None or self.pairs["r2"] is None:
            return False
        return bool(self.pairs["r2"] <= max(0.0, self.pairs["r2_of_label"] or 0.0))

    @property
    def has_baseline(self) -> bool:
        """Whether there was another label to draw a baseline from."""
        d = self.distributions
        return d is not None and any(v is not None for v in d["baseline_by_cells"].values())

    @property
    def distances(self) -> list[DistanceRow]:
        """Rows of the table of distances."""
        d = self.distributions
        return [] if d is None else [_distance(d, key) for key in METRICS if key in d["by_cells"]]

    @property
    def wasserstein(self) -> DistanceRow | None:
        """The row that stands for all in a sentence."""
        return next((row for row in self.distances if row.key == "wasserstein"), None)

    @property
    def features_left_out(self) -> dict[str, list[str]]:
        """Features without a score, by the reason."""
        return {} if self.pairs is None else words.by_reason(self.pairs["left_out"])

    @property
    def labels_left_out(self) -> dict[str, list[str]]:
        """Labels without distances, by the reason."""
        return {} if self.distributions is None else words.by_reason(self.distributions["coverage"]["left_out"])

    @property
    def not_computed(self) -> dict[tuple[str, str], list[str]]:
        """Labels that lack a distance, by its name and the reason."""
        groups: dict[tuple[str, str], list[str]] = {}
        for label, found in (self.distributions or {"per_label": {}})["per_label"].items():
            for key, reason in found.get("not_computed", {}).items():
                groups.setdefault((METRICS[key][0], reason), []).append(label)
        return groups


@dataclass(frozen=True, eq=False)
class Translation:
    """A model of one modality from another's readings, and how good it is.

    Attributes
    ----------
    source, target
        From which modality, and of which.
    record
        The contents of ``translation.json``.
    parts
        The parts that were scored, the most telling first.
    """

    source: str
    target: str
    record: Mapping[str, Any]
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """The direction."""
        return f"{self.source} to {self.target}"

    @property
    def judged(self) -> tuple[Part, ...]:
        """The parts that the model was not trained on."""
        return tuple(p for p in self.parts if p.key != "train")

    @property
    def with_pairs(self) -> tuple[Part, ...]:
        """The parts of which true pairs are known."""
        return tuple(p for p in self.parts if p.pairs is not None)

    @property
    def with_distances(self) -> tuple[Part, ...]:
        """The parts of which labels could be compared."""
        return tuple(p for p in self.parts if p.distributions is not None)

    @property
    def notes(self) -> list[str]:
        """The notes that are no warnings."""
        kept = (n for n in self.record["notes"] if not n.startswith(("warning:", "error:")))
        return words.unique(n.removeprefix("note: ") for n in kept)


def read_translations(run: Path) -> list[Translation]:
    """Return the translations of a run, by the names of their folders.

    Hidden folders, which a writing that was killed may leave, and those without a record are skipped.

    Raises
    ------
    DataError
        If a record is missing, cannot be read or is of a newer format.
    """
    folder = run / TRANSLATIONS
    if not folder.is_dir():
        return []
    found = sorted(p.parent for p in folder.glob(f"[!.]*/{TRANSLATION}"))
    return [_translation(read_translation_record(p)) for p in found]


def _translation(record: Mapping[str, Any]) -> Translation:
    scores, cells = record["scores"], record["cells"]
    parts = [
        Part(key, name, place, meaning, cells.get(key), scores[key]["pairs"], scores[key]["distributions"])
        for key, (name, place, meaning) in _PARTS.items()
        if scores.get(key) is not None
    ]
    return Translation(record["source"], record["target"], record, tuple(parts))


def _distance(d: Mapping[str, Any], key: str) -> DistanceRow:
    value, base = d["by_cells"][key], d["baseline_by_cells"].get(key)
    inverse, inverse_base = d["by_inverse_cells"].get(key), d["baseline_by_inverse_cells"].get(key)
    useless = value is not None and base is not None and value >= base
    labels = d["coverage"]["metrics"].get(key, 0)
    return DistanceRow(key, *METRICS[key], value, base, inverse, inverse_base, labels, useless)
