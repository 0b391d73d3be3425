"""The front door of refinement: whether to begin, the rounds, and the record of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from unpaired.data.types import Dataset
from unpaired.embed.classifiers import DEVICES
from unpaired.embed.embedding import Embedding, Provenance
from unpaired.errors import OptionError
from unpaired.evaluate.diagnose import check_together, diagnose
from unpaired.evaluate.diagnosis import Diagnosis
from unpaired.match.matching import Matching
from unpaired.match.refine import information, refine_rounds
from unpaired.match.refine_rule import Refined
from unpaired.options import check_choice, check_integer, check_number, check_seed

__all__ = ["check_rounds", "may_begin", "refine"]

_ALIKE = ("good", "caution")
_SPREAD = 0.05  # agreement of spreads, chosen on half of the data sets: with less next to nothing was gained


def refine(
    data: Dataset,
    matching: Matching,
    *,
    embedding: Embedding,
    rounds: int | str = "auto",
    seed: int = 0,
    device: str = "cpu",
    jobs: int = 1,
    folder: str | Path | None = None,
    seconds: float | None = None,
    diagnosis: Diagnosis | None = None,
    progress: bool = False,
) -> tuple[Embedding, Matching]:
    """Learn encoders of both modalities from a matching, match again by them, and go round.

    A round draws partners from the coupling and teaches two networks, cross-fitted, to tell a cell's partner from
    other cells of its label. The next coupling is the posterior by a mean of two log odds: those of the first space
    and those of the codes, each weighted by its own noise; the codes count for less than a half where drawn partners
    that the encoders did not see have little in common in them. docs/refine.md says when that helps and when it cannot.

    Parameters
    ----------
    data
        The data set.
    matching
        Its matching by :func:`unpaired.match_ot` with ``eps="auto"``.
    embedding
        The space in which it was made; its noise must be known.
    rounds
        How many. ``"auto"`` begins where the verdict of :func:`unpaired.diagnose` on the matching is "use", or
        "average" and its check "same distribution" is not bad, or the agreement of spreads that it tells at least
        0.05. It ends when a round changes nothing, after eight at most, and undoes a round whose encoders learned
        nothing, or after which the two ensembles agree less.
    seed
        Seed of everything that is drawn.
    device
        Where the networks learn: ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.
    jobs
        Threads of the matching; the result does not depend on it.
    folder
        Where the codes of finished rounds are kept. Called again with the same folder, data and options, a refinement
        that was killed goes on with the round it was in.
    seconds
        Time for all rounds: after the first, none is begun that would not end in it if it took as long as the last.
    diagnosis
        That of the matching, where it is known already.
    progress
        Show progress bars.

    Returns
    -------
    embedding, matching
        The space of the last round kept, in which half a squared distance is the log odds of a pair, and the matching
        in it, of these two modalities alone; what was given where no round was kept.
        ``matching.made_by.options["refine"]`` has the rounds and the reason why there were no more.

    Raises
    ------
    OptionError
        If an option is not allowed, the three do not belong together, or the matching is not of ``match_ot`` with
        ``eps="auto"`` and uniform marginals.
    DataError
        If a round that was asked for has no pairs to learn from; ``"auto"`` ends before it.
    OutputError
        If a finished round cannot be kept in the folder.

    Examples
    --------
    >>> import unpaired as up
    >>> data, _ = up.simulate.screen(seed=0)  # doctest: +SKIP
    >>> space = up.Propensity().fit(data).transform(data)  # doctest: +SKIP
    >>> space, matching = up.refine(data, up.match_ot(data, space), embedding=space)  # doctest: +SKIP
    """
    check_rounds(rounds)
    check_seed(seed)
    check_choice("device", device, DEVICES)
    check_integer("jobs", jobs, low=1)
    if seconds is not None:
        check_number("seconds", seconds, above=0)
    made = matching.made_by
    if "refine" in made.options:
        msg = "this matching was refined already; give the one that it began with, and more rounds."
        raise OptionError(msg)
    if made.method != "match_ot" or made.options.get("eps_from") != "noise":
        msg = f"refine goes on from a matching by match_ot with eps='auto'; this one is by {made.method}."
        raise OptionError(msg)
    if made.options.get("unbalanced") is not None or made.options.get("weights") != "uniform":
        msg = "refine goes on from a matching with uniform marginals; leave out unbalanced and the cells' weights."
        raise OptionError(msg)
    if folder is not None and Path(folder).exists() and not Path(folder).is_dir():
        msg = f"folder must be a folder for finished rounds, and {folder} is a file; choose another name."
        raise OptionError(msg)
    if embedding.noise is None and embedding.noise_covariance is None:
        msg = "refine needs the noise of the space (two or more repeats of the cross-fitting), and this one has none."
        raise OptionError(msg)
    check_together(data, embedding, matching)
    if diagnosis is None:
        diagnosis = diagnose(data, embedding, matching, seed=seed)
    why_not = _why_not(diagnosis) if rounds == "auto" else None
    if why_not is not None:
        sentence = f"Not begun: {why_not}, and what is learned from such pairs can drift away from the truth."
        found = Refined(embedding, matching, (), sentence)
    else:
        found = refine_rounds(
            data,
            matching,
            embedding,
            rounds=None if isinstance(rounds, str) else rounds,
            seed=seed,
            device=device,
            jobs=jobs,
            folder=None if folder is None else Path(folder),
            seconds=seconds,
            progress=progress,
        )
    return found.embedding, _told(
        found, matching, asked=rounds, diagnosis=diagnosis, more={"seed": seed, "device": device, "limit": seconds}
    )


def may_begin(verdict: str, alike: str, spread: float | None) -> bool:
    """Return whether ``rounds="auto"`` begins.

    Parameters
    ----------
    verdict
        Of the diagnosis.
    alike, spread
        State of its check "same distribution", and the agreement of spreads that it found; ``None`` where none can be.
    """
    return verdict == "use" or (verdict == "average" and (alike in _ALIKE or (spread or 0.0) >= _SPREAD))


def _why_not(diagnosis: Diagnosis) -> str | None:
    """Say why the rounds should not begin; ``None`` where they may."""
    check = diagnosis["same distribution"]
    if may_begin(diagnosis.verdict, check.state, check.details.get("spread")):
        return None
    why = f"the verdict on the matching is '{diagnosis.verdict}'"
    return (
        why
        if check.state in _ALIKE
        else f"{why}, and its two modalities do not seem to see the same differences between cells"
    )


def check_rounds(rounds: int | str) -> None:
    """Raise :class:`~unpaired.errors.OptionError` if ``rounds`` is neither ``"auto"`` nor a number of rounds."""
    if isinstance(rounds, str):
        check_choice("rounds", rounds, ("auto",))
    else:
        check_integer("rounds", rounds, low=1)


def _told(
    found: Refined, first: Matching, *, asked: int | str, diagnosis: Diagnosis, more: Mapping[str, Any]
) -> Matching:
    """Return the matching with the record of the rounds."""
    record: dict[str, Any] = {
        "asked": asked,
        "kept": sum(r.kept for r in found.rounds),
        "sentence": found.sentence,
        "verdict": diagnosis.verdict,
        **more,
        "first": {"information": information(first), "partners": _partners(first)},
        "rounds": [asdict(r) for r in found.rounds],
    }
    made = found.matching.made_by
    return replace(found.matching, made_by=Provenance(made.method, {**made.options, "refine": record}, made.notes))


def _partners(matching: Matching) -> float | None:
    """Return the mean effective number of partners of the source cells that have one."""
    found = [b.effective_partners()[b.sums(1) > 0] for b in matching.matched]
    total = sum(len(f) for f in found)
    return sum(float(f.sum()) for f in found) / total if total else None
