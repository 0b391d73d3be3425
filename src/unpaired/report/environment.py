"""What the pages share: where their templates are, and how numbers are written in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpaired.report import words

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["environment"]


def environment() -> Environment:
    """Return the templates with their filters."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("unpaired", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {n: getattr(words, n) for n in ("count", "duration", "fixed", "number", "percent", "setting")}
    pages.filters |= {"capitalise": lambda text: text[:1].upper() + text[1:], "quantity": words.quantity}
    return pages
