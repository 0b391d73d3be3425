"""Can this matching be trusted? Asked of the data, the space and the coupling, never of the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from unpaired.data.types import Dataset
from unpaired.embed.embedding import Embedding
from unpaired.errors import OptionError
from unpaired.evaluate import checks
from unpaired.evaluate.agreement import Agreement, compare_modalities
from unpaired.evaluate.confidence import Confidence, confidence
from unpaired.evaluate.diagnosis import Check, Diagnosis, LabelDiagnosis
from unpaired.evaluate.expected import Evidence, Expected, collect, expect
from unpaired.evaluate.signal import label_signal
from unpaired.match.blocks import check_embedding
from unpaired.match.matching import Matching
from unpaired.options import check_seed

__all__ = ["check_together", "diagnose"]

TRACE, FOSCTTM = 2.0, 0.40
"""Expected trace over uniform and FOSCTTM from which on cell-level matches are worth using."""
COVERED = 0.5
"""Share of the cells of each side: of less matched, nothing is said that holds for all."""
_PUBLISHED = 0.05  # eps, with the plain distance
_NO_CLAIM = "No label has two matched cells on both sides, so nothing can be said of single cells."
_NOT_LEARNED = (
    "How much can be believed of a coupling was learned for match_ot with eps='auto' or as published, in a space of "
    "propensity scores; of this one nothing is expected, so read nothing into single matches."
)


def diagnose(
    data: Dataset,
    embedding: Embedding,
    matching: Matching,
    *,
    sure: Confidence | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Say whether a matching can be believed, without any truth.

    Parameters
    ----------
    data, embedding, matching
        What was matched, in which space, and the result.
    sure
        The confidence of the cells, where it is known already.
    seed
        Seed of the permutation tests.

    Returns
    -------
    Diagnosis
        ``print`` it for sentences. docs/trust.md says what each means and how the thresholds were validated.

    Raises
    ------
    OptionError
        If the three do not have the same cells, cells have other labels than they were matched by, or coordinates are
        not finite.

    Examples
    --------
    >>> import unpaired as up
    >>> data, _ = up.examples.digits(pairing="hide")
    >>> space = up.Propensity(seed=0, classifier="logistic").fit(data).transform(data)
    >>> up.diagnose(data, space, up.match_ot(data, space)).verdict
    'average'
    """
    check_seed(seed)
    check_together(data, embedding, matching)
    names = (matching.source, matching.target)
    signals = {n: label_signal(data, embedding, n, seed=seed) for n in names}
    agreement = compare_modalities(data, embedding, *names, seed=seed)
    sure = confidence(matching, data) if sure is None else sure
    partners = {b.label: b.effective_partners()[b.sums(1) > 0] for b in matching.matched}
    known = embedding.noise is not None or embedding.noise_covariance is not None
    evidence = collect(
        sure.claims,
        agreement.clouds.distance,
        agreement.spread,
        noise_known=known,
        labels_total=len(matching.blocks),
    )
    expected = expect(evidence) if evidence is not None and _learned_of(embedding, matching) else None
    found = (
        *checks.signal(signals),
        *checks.calibration(signals),
        checks.alike(agreement, names),
        checks.labels(data, embedding, names),
        checks.overlap(data, names),
        checks.partners(matching, partners),
        checks.coverage(matching),
        checks.convergence(matching),
    )
    reason = _NO_CLAIM if evidence is None else _NOT_LEARNED
    verdict, sentence = _verdict(found, expected, evidence, reason)
    return Diagnosis(
        *names, verdict, sentence, expected, evidence, found, dict(_labels(matching, agreement, sure, partners))
    )


def check_together(data: Dataset, embedding: Embedding, matching: Matching) -> None:
    """Raise :class:`~unpaired.errors.OptionError` if a matching is not of this data set and this space."""
    names = (matching.source, matching.target)
    for name, cells in zip(names, matching.shape, strict=True):
        placed = len(embedding.arrays.get(name, ()))
        if len(data[name]) != cells or placed != cells:
            msg = (
                f"the matching has {cells} cells of {name!r}, the data {len(data[name])} and the space {placed}: "
                "give those that belong together."
            )
            raise OptionError(msg)
    check_embedding([data[n] for n in names], embedding)
    _check_labels(data, matching)


def _check_labels(data: Dataset, matching: Matching) -> None:
    """Raise if the cells of a label are of other labels in the data: their rows are in another order then."""
    code = {label: i for i, label in enumerate(data.classes)}
    for block in matching.blocks:
        for name, rows in ((matching.source, block.rows), (matching.target, block.cols)):
            if (data[name].labels[rows] != code.get(block.label, -2)).any():
                msg = (
                    f"cells of {name!r} that the matching took for {block.label!r} have other labels in the data: give "
                    "the data set that was matched."
                )
                raise OptionError(msg)


def _learned_of(embedding: Embedding, matching: Matching) -> bool:
    """Whether the rule of the expected quality was learned of such couplings: others may claim what they like."""
    made, options = matching.made_by.method, matching.made_by.options
    published = options.get("cost") == "euclidean" and options.get("eps") == _PUBLISHED
    return made == "match_ot" and embedding.space == "logit" and (options.get("eps_from") == "noise" or published)


def _verdict(
    found: tuple[Check, ...], expected: Expected | None, evidence: Evidence | None, reason: str
) -> tuple[Literal["use", "average", "do not use"], str]:
    fatal = [c for c in found if c.state == "bad" and c.name.startswith(("label signal", "coverage"))]
    if fatal:
        return "do not use", fatal[0].sentence
    if expected is None or evidence is None:
        return "average", reason
    trace, foscttm = expected.trace_over_uniform, expected.foscttm
    of = (
        f"over {evidence.labels} of {evidence.labels_total} labels, " if evidence.labels < evidence.labels_total else ""
    )
    quality = (
        f"{of}the true partner is expected to be {_times(trace[1])} as likely as by the label alone "
        f"({_times(trace[0])} to {_times(trace[2])}), FOSCTTM {foscttm[1]:.2f} ({foscttm[0]:.2f} to {foscttm[2]:.2f}; "
        "0.5 is chance)"
    )
    covered = next(c.value for c in found if c.name == "coverage")
    if trace[1] >= TRACE and trace[0] > 1 and foscttm[1] <= FOSCTTM and (covered or 0.0) >= COVERED:
        return "use", f"Who is matched with whom carries information: {quality}."
    return "average", f"Average over the cells of a label, and read nothing into single matches: {quality}."


def _times(value: float) -> str:
    return f"{value:.1f} times" if value < 10 else f"{value:.0f} times"


def _labels(
    matching: Matching, agreement: Agreement, sure: Confidence, partners: Mapping[str, Any]
) -> Iterator[tuple[str, LabelDiagnosis]]:
    for block in matching.blocks:
        test = agreement.clouds.labels.get(block.label)
        claim = sure.claims.get(block.label)
        yield (
            block.label,
            LabelDiagnosis(
                cells=(len(block.rows), len(block.cols)),
                distance=None if test is None else test.distance,
                p_value=None if test is None else test.p_value,
                partners=float(np.mean(partners[block.label])) if len(partners.get(block.label, ())) else None,
                claimed_foscttm=None if claim is None else claim.foscttm,
            ),
        )
