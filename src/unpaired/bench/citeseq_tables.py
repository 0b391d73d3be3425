"""The tables of the bench of CITE-seq: what is set beside the published figures, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unpaired.bench.citeseq_prediction import COLUMNS as R2_COLUMNS
from unpaired.bench.citeseq_prediction import DIRECTIONS, PUBLISHED_DIRECTION, Predictor, Task
from unpaired.bench.citeseq_prediction import PUBLISHED as R2_PUBLISHED
from unpaired.bench.citeseq_prediction import TITLES as R2_TITLES
from unpaired.bench.methods import METHODS, Budget
from unpaired.bench.published import CITESEQ
from unpaired.bench.tables import COVERAGE, Column, Summary, grid, markdown, summaries

__all__ = ["CASE", "COLUMNS", "PREDICTION", "About", "budget_text", "learned_of", "matched_of", "tables"]

CASE = "bone marrow, test cells"
PREDICTION = "bone marrow,"

_EPOCHS = 250  # published, of the classifiers and of the VAE

COLUMNS = (
    Column("trace", "trace ↑", lambda r: r["scores"]["trace"], 4),
    Column("foscttm_sampled", "FOSCTTM of a drawn partner ↓", lambda r: r["scores"]["foscttm_sampled"]["mean"], 4),
    Column("foscttm", "FOSCTTM ↓", lambda r: r["scores"]["foscttm"]["mean"], 4),
    Column("trace_over_uniform", "trace / uniform ↑", lambda r: r["scores"]["trace_over_uniform"], 2),
    *COVERAGE,
    Column("seconds", "seconds", lambda r: r["seconds"] + r["space"].get("seconds", 0.0), 1),
)

_REMARKS = """\
The published FOSCTTM is that of a drawn partner, the mean of both directions. The paper says that its predictor goes
from genes to proteins; its published code goes from proteins to the components of the genes, and the published R2 are
taken to be of that direction alone. "Any cell of the label", a new partner at every visit, is what the published table
calls random. The cells learned from are those of train and validation together, because our methods choose the epoch by
cells that they hold out themselves.
"""

_SAME = "Published figures, in [], are medians over ten seeds of the same cells, split as here.\n"

_OTHER = """\
These are medians over ten seeds of all cells of GSE194122 as its file splits them. The tables above are of other cells,
or of fewer: only the order of the methods can be compared, and a trace not even across tables, because it depends on
the number of cells a label.
"""


@dataclass(frozen=True)
class About:
    """What is to be said of the data.

    Attributes
    ----------
    published
        Whether they are those of the published figures.
    learn, test
        Cells learned from and matched, in each modality.
    notes
        Sentences.
    """

    published: bool
    learn: int
    test: int
    notes: tuple[str, ...]


def matched_of(results: Iterable[Mapping[str, Any]], *, published: bool) -> list[Summary]:
    """Return the cells of the table of matchings, with the published figures if these are of the same data."""
    return summaries([r for r in results if r["case"] == CASE], COLUMNS, published=CITESEQ if published else None)


def learned_of(results: Iterable[Mapping[str, Any]], *, published: bool) -> dict[str, list[Summary]]:
    """Return case -> the cells of its table of predictions; published figures stand only in their own direction."""
    kept = list(results)
    out = {}
    for direction in DIRECTIONS:
        case = Task(PREDICTION, CASE, "", 0).case_of(direction)
        known = R2_PUBLISHED if published and direction == PUBLISHED_DIRECTION else None
        out[case] = summaries([r for r in kept if r["case"] == case], R2_COLUMNS, published=known)
    return out


def tables(
    matched: Sequence[Summary],
    learned: Mapping[str, Sequence[Summary]],
    about: About,
    absent: Mapping[str, str],
    said: str,
) -> str:
    """Return everything as Markdown.

    Parameters
    ----------
    matched, learned
        As of :func:`matched_of` and :func:`learned_of`.
    about
        What is to be said of the data,
    absent
        of methods that cannot be had: method -> why,
    said
        and of the budget.
    """
    titles = {name: m.title for name, m in METHODS.items()}
    found = [s for own in learned.values() for s in own]
    parts = [markdown(matched, COLUMNS, titles, absent), markdown(found, R2_COLUMNS, R2_TITLES, {})]
    parts += [said, *([_SAME] if about.published else [_other_data(titles)]), _REMARKS]
    return "\n".join([*parts, "\n".join(f"* {note}" for note in about.notes) + "\n"])


def _other_data(titles: Mapping[str, str]) -> str:
    """Return the published figures in tables of their own."""
    matchings = _figures("published, other data", CITESEQ, COLUMNS, titles)
    way = " to ".join(PUBLISHED_DIRECTION)
    predictions = _figures(f"published, other data, {way}", R2_PUBLISHED, R2_COLUMNS, R2_TITLES)
    return f"### Published figures, of other data\n\n{matchings}\n\n{predictions}\n\n{_OTHER}"


def _figures(
    corner: str, known: Mapping[tuple[str, str], str], columns: Sequence[Column], titles: Mapping[str, str]
) -> str:
    shown = [c for c in columns if any(metric == c.name for _, metric in known)]
    rows = [[titles[m], *(known.get((m, c.name), "") for c in shown)] for m in titles if any(m == k for k, _ in known)]
    return grid([corner, *(c.title for c in shown)], rows)


def budget_text(preset: str, most: int | None, budget: Budget, predictor: Predictor, about: About) -> str:
    """Say how much work was done, beside what is published."""
    cells = "all cells" if most is None else f"at most {most} cells of a label"
    ps, vae = budget.published_epochs or _EPOCHS, budget.vae_epochs or _EPOCHS
    peers = "as many epochs as they choose" if budget.peer_epochs is None else f"{budget.peer_epochs} epochs"
    return (
        f"Preset {preset} (in brackets what is published): {cells}, of which {about.learn:,d} are learned from and "
        f"{about.test:,d} matched. PS as published is trained for {ps} epochs ({_EPOCHS}), the VAEs for {vae} "
        f"({_EPOCHS}), {budget.vae_hidden:,d} wide (1,024), at a rate of {budget.vae_rate:g} (1e-4); scGLUE and "
        f"MultiVI for {peers}; Gromov-Wasserstein for {budget.gromov_iterations:,d} outer iterations at most (1,000). "
        f"The predictors but our default are the published network, trained for {predictor.epochs_of(about.learn):,d} "
        f"epochs ({Predictor().epochs}).\n"
    )
