"""Small helpers for the sentences of problems: short lists and near matches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

__all__ = ["counted", "did_you_mean", "listed"]

_SHOWN = 10


def listed(items: Iterable[Any], *, limit: int = _SHOWN) -> str:
    """Return ``'a', 'b' (and 12 more)``."""
    names = [repr(str(i)) for i in items]
    more = f" (and {len(names) - limit} more)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return ``1 cell`` or ``3 cells``; a large number with its thousands set apart."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def did_you_mean(name: str, available: Sequence[Any], *, kind: str) -> str:
    """Return the near matches of a mistyped name, and what there is to choose from."""
    names = [str(a) for a in available]
    lowered = {n.lower(): n for n in names}
    near = [lowered[n] for n in get_close_matches(name.lower(), lowered, n=3, cutoff=0.6)]
    hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
    return f"{hint}There {'are these' if names else 'are no'} {kind}{': ' + listed(names) if names else ''}."
