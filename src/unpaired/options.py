"""Checks of option values: one sentence each (name, allowed, got), before any work is done."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from unpaired.errors import OptionError

__all__ = ["check_choice", "check_integer", "check_number", "check_seed", "to_bytes"]

_MAX_SEED = 2**32 - 1
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


def check_choice(name: str, value: Any, allowed: Collection[str]) -> None:
    """Raise :class:`OptionError` unless ``value`` is one of ``allowed``."""
    if not isinstance(value, str) or value not in allowed:
        msg = f"{name} must be one of {', '.join(sorted(allowed))}; got {value!r}."
        raise OptionError(msg)


def check_integer(name: str, value: Any, *, low: int, high: int | None = None) -> None:
    """Raise :class:`OptionError` unless ``value`` is a whole number in ``[low, high]``."""
    is_integer = hasattr(value, "__index__") and not isinstance(value, bool)
    if not is_integer or value < low or (high is not None and value > high):
        span = f"of at least {low}" if high is None else f"from {low} to {high}"
        msg = f"{name} must be a whole number {span}; got {value!r}."
        raise OptionError(msg)


def check_number(name: str, value: Any, *, above: float | None = None, high: float | None = None) -> None:
    """Raise :class:`OptionError` unless ``value`` is a finite number, larger than ``above`` and at most ``high``."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    finite = number == number and abs(number) != float("inf")  # noqa: PLR0124  NaN is the only value unequal to itself
    if not finite or (above is not None and number <= above) or (high is not None and number > high):
        bounds = [f"larger than {above}"] if above is not None else []
        bounds += [f"at most {high}"] if high is not None else []
        msg = f"{name} must be a finite number{' ' if bounds else ''}{' and '.join(bounds)}; got {value!r}."
        raise OptionError(msg)


def check_seed(value: Any) -> None:
    """Raise :class:`OptionError` unless ``value`` can seed every library in use (0 to 2**32 - 1)."""
    check_integer("seed", value, low=0, high=_MAX_SEED)


def to_bytes(name: str, value: Any) -> int:
    """Return an amount of memory in bytes: a whole number, or text such as ``"8GB"`` (10^9 each) or ``"8GiB"`` (2^30).

    Raises
    ------
    OptionError
        If it is neither, or less than one byte.
    """
    amount = -1
    if isinstance(value, str):
        if found := _SIZE.fullmatch(value.strip()):
            number, unit, binary = found.groups()
            amount = int(float(number) * (1024 if binary else 1000) ** _POWERS[unit.lower()])
    elif hasattr(value, "__index__") and not isinstance(value, bool):
        amount = int(value)
    if amount < 1:
        msg = f"{name} must be an amount of memory such as 8GB, 500MB or a number of bytes; got {value!r}."
        raise OptionError(msg)
    return amount
