"""What the rounds of a refinement tell of themselves, and when there are no more of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unpaired.embed.embedding import Embedding
from unpaired.match.matching import Matching

__all__ = ["MOST", "SETTLED", "Refined", "Round", "ended", "no_time", "rounds_kept"]

MOST = 8
"""Rounds at most, where their number is not given."""

SETTLED = 0.99
"""Change (a correlation) from which on a matching is the same as before."""

_FALL = 0.03  # of the agreement: more than it goes up and down by chance


@dataclass(frozen=True)
class Round:
    """How a round went.

    Attributes
    ----------
    round
        Its number, from 1.
    seconds
        Wall time; of a round that was read back, what it took when it was made.
    loss
        Loss (nats) of telling a drawn partner from the other cells of a group of 64 (of images 32), of source cells
        that were kept aside; its logarithm (4.16, 3.47) is chance, less for labels of fewer cells. It only chooses
        the epoch.
    weight
        Of the codes in the mean of log odds: a half, or less where they know less than a seventh of what the first
        space does; 0 where they tell partners that the encoders did not see from others no better than by chance.
    information
        What its coupling claims to know of a partner, in nats (see :func:`information`).
    agreement
        Correlation within labels of what the target's features are expected to be, by the matchings of two ensembles
        of encoders with folds, weights and order of their own. Most of the pairs that they learn from are the same, and
        from the second round on these come from encoders that knew the cell: some of a rise is their own doing. Each is
        weighted as the mean of both is, which is a little too sure of one alone.
    change
        The same correlation between this matching and the one before.
    kept
        Whether it is part of the result.
    """

    round: int
    seconds: float
    loss: float
    weight: float
    information: float
    agreement: float
    change: float
    kept: bool


@dataclass(frozen=True, eq=False)
class Refined:
    """What the rounds made.

    Attributes
    ----------
    embedding, matching
        Of the last round that was kept, or what was given.
    rounds
        All of them, also one that was undone.
    sentence
        Why there were no more.
    """

    embedding: Embedding
    matching: Matching
    rounds: tuple[Round, ...]
    sentence: str


def rounds_kept(told: Sequence[tuple[float, float, float]]) -> int:
    """Return how many rounds the rule keeps, of which these are agreement, change and weight.

    A round whose encoders learned nothing (weight 0) is undone, and so is one after which the two ensembles agree less,
    by more than 0.03, than after the best one before; it is the last. The matching has settled from a change of 0.99
    on: that round is the last, too.
    """
    best = -np.inf
    for number, (agreement, change, weight) in enumerate(told, start=1):
        if weight == 0 or agreement < best - _FALL:
            return number - 1
        if change >= SETTLED:
            return number
        best = max(best, agreement)
    return len(told)


def ended(done: Sequence[Round]) -> str | None:
    """Say why the last of the rounds is the last; ``None`` where it is not."""
    last = done[-1]
    if last.weight == 0:
        return (
            f"Round {last.round} was undone: of partners that they had not seen, its encoders told no more than chance "
            "would."
        )
    if rounds_kept([(r.agreement, r.change, r.weight) for r in done]) < len(done):
        before = max(r.agreement for r in done[:-1])
        return (
            f"Round {last.round} was undone: the two ensembles of encoders agreed less after it ({last.agreement:.2f}) "
            f"than before ({before:.2f})."
        )
    if last.change >= SETTLED:
        return f"Round {last.round} changed next to nothing (correlation {last.change:.3f} with the one before)."
    return None


def no_time(done: Sequence[Round], seconds: float | None) -> str | None:
    """Say that another round as long as the last would not end in time; ``None`` where it would."""
    if seconds is None or sum(r.seconds for r in done) + done[-1].seconds <= seconds:
        return None
    return f"No time was left for another round of {done[-1].seconds:.0f} s."
