"""Numbers and names as a person reads them; what is not known is an en dash, never ``nan`` or ``None``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = [
    "DASH",
    "by_reason",
    "count",
    "duration",
    "fixed",
    "number",
    "percent",
    "quantity",
    "setting",
    "short_names",
    "unique",
]

DASH = "–"  # noqa: RUF001 - the en dash is meant


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with ``digits`` significant digits: ``1,797``, ``2.50``, ``0.0139``, ``1.2e-5``."""
    if value is None or _missing(value):
        return DASH
    size = abs(value)
    if size == 0 or isinstance(value, int) or 10 ** (digits - 1) <= size < 1e6:
        return f"{value:,.0f}"
    # Python changes to exponents below 1e-4, a reader before that.
    text = f"{value:.{digits - 1}e}" if size < 1e-3 else f"{value:#.{digits}g}".removesuffix(".")
    mantissa, mark, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else text


def fixed(value: float | None, places: int = 3) -> str:
    """Return a number with ``places`` decimals, for columns of fractions."""
    return DASH if _missing(value) else f"{value:.{places}f}"


def percent(value: float | None) -> str:
    """Return a fraction as per cent; 100 % is never what rounding made of something smaller."""
    if value is None or _missing(value):
        return DASH
    text = f"{100 * value:.1f} %"
    if text == "100.0 %":
        return "100 %" if value >= 1 else "> 99.9 %"
    return text


def count(value: int | None) -> str:
    """Return a whole number with thousands separated."""
    return DASH if value is None else f"{value:,d}"


def quantity(value: int, one: str, many: str | None = None) -> str:
    """Return ``1 label``, ``1,797 cells``: the number with its noun."""
    return f"{value:,d} {one if value == 1 else many or one + 's'}"


def duration(value: float | None) -> str:
    """Return seconds as ``0.17 s``, ``3.4 s``, ``2 min 5 s`` or ``1 h 12 min``."""
    if value is None or _missing(value):
        return DASH
    if value < 60:
        return f"{number(value, 2)} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def setting(value: Any) -> str:
    """Return an option's value in words."""
    if value is None or value in ({}, [], ""):
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return (
            DASH if _missing(value) else f"{value:.4g}".replace("e-0", "e-") if isinstance(value, float) else str(value)
        )
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {setting(v)}" for k, v in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(setting(v) for v in value)
    return str(value)


def short_names(names: Sequence[str], most: int = 18) -> list[str]:
    """Return names of at most ``most`` characters for a plot.

    A name that is too long first loses the words that most of the names have: in "knock-down of MYC (guide 1)" and
    forty others like it, it is "MYC" that must stay. What is still too long is cut in the middle.
    """
    words = [name.split() for name in names]
    having = Counter(word for own in words for word in set(own))
    common = {word for word, n in having.items() if 2 * n > len(names) > 1}
    return [_shorten(own, common, most) for own in words]


def _shorten(words: list[str], common: set[str], most: int) -> str:
    text = " ".join(words)
    if len(text) > most and not common.issuperset(words):
        kept = ["…" if word in common else word for word in words]
        text = " ".join(w for w, after in zip(kept, [*kept[1:], ""], strict=True) if not w == after == "…")
        text = text.strip("… ,;")
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def unique(items: Iterable[str]) -> list[str]:
    """Return the items without repeats, in their order."""
    return list(dict.fromkeys(items))


def by_reason(left_out: Mapping[str, str]) -> dict[str, list[str]]:
    """Return name -> reason as reason -> names."""
    groups: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        groups.setdefault(reason, []).append(name)
    return groups
