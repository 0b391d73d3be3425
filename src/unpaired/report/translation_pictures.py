"""The pictures of a translation, from its saved scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unpaired.report import prediction_plots
from unpaired.report.pictures import inline_svg
from unpaired.report.translation import METRICS, Part, Translation
from unpaired.report.words import fixed, short_names

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["TranslationPictures", "translation_pictures"]

_BARS = 40  # features, above which only the best and the worst have a bar
_ENDS = 12  # of the best, and of the worst
_GAP = "···"
_DRAWN = ("l2", "wasserstein", "kl_gaussian")
_PLACES: Mapping[int, tuple[str, ...]] = {2: ("best", "worst"), 3: ("best", "median", "worst")}


@dataclass(frozen=True)
class TranslationPictures:
    """The pictures of one translation.

    Attributes
    ----------
    features
        R² by feature, best first; ``None`` when no true pair is known.
    histogram
        How many features have which R², where there are too many for a bar each.
    ends
        How many features have a bar at either end, or ``None`` when all have one.
    cut
        Whether an R² is below the scale.
    scatter, distances
        By key of the part: predicted against measured; distances by label.
    training
        The loss by epoch, or ``None`` when there is no more than one.
    """

    features: Markup | None
    histogram: Markup | None
    ends: int | None
    cut: bool
    scatter: Mapping[str, Markup]
    distances: Mapping[str, Markup]
    training: Markup | None


def translation_pictures(t: Translation) -> TranslationPictures:
    """Return the pictures of a translation."""
    names, values = _features(t)
    many = len(names) > _BARS
    history = [_or_nan(x) for x in t.record["training"]["history"] or []]
    return TranslationPictures(
        features=_feature_bars(t, [*names[:_ENDS], _GAP, *names[-_ENDS:]] if many else names) if names else None,
        histogram=inline_svg(prediction_plots.feature_histogram(values), f"{t.name}: number of features by R²")
        if many
        else None,
        ends=_ENDS if many else None,
        cut=any(v < prediction_plots.FLOOR for p in t.with_pairs for v in _r2(p).values()),
        scatter={p.key: _scatter(t, p) for p in t.with_pairs if p.pairs and p.pairs["scatter"]},
        distances={p.key: _distances(t, p) for p in t.with_distances if _has_distances(p)},
        training=inline_svg(prediction_plots.training_curve(history), f"{t.name}: loss by epoch")
        if len(history) > 1
        else None,
    )


def _features(t: Translation) -> tuple[list[str], list[float]]:
    """Names and R² of the features in the most telling part, best first."""
    if not t.with_pairs:
        return [], []
    r2 = _r2(t.with_pairs[0])
    known = {n: v for n, v in r2.items() if math.isfinite(v)}
    names = sorted(known, key=lambda n: -known[n])
    return names, [known[n] for n in names]


def _r2(part: Part) -> dict[str, float]:
    return {} if part.pairs is None else {n: _or_nan(s["r2"]) for n, s in part.pairs["per_feature"].items()}


def _feature_bars(t: Translation, names: Sequence[str]) -> Markup:
    first, *others = t.with_pairs
    values = _r2(first)
    ax = prediction_plots.feature_bars(
        names,
        [values.get(n, math.nan) for n in names],
        points={p.name.lower(): [_r2(p).get(n, math.nan) for n in names] for p in others},
        name=first.name.lower(),
    )
    return inline_svg(ax, f"{t.name}: R² by feature, {first.place}")


def _scatter(t: Translation, part: Part) -> Markup:
    examples: Sequence[Mapping[str, Any]] = part.pairs["scatter"] if part.pairs else []
    names = short_names([e["feature"] for e in examples], 22)
    places = _PLACES.get(len(examples), ("",) * len(examples))
    titles = [
        f"{place}: {name}, R² {fixed(e['r2'], 2)}".removeprefix(": ")
        for place, name, e in zip(places, names, examples, strict=True)
    ]
    return inline_svg(
        prediction_plots.scatter_panels(examples, titles), f"{t.name}: predicted and measured readings {part.place}"
    )


def _labels(part: Part) -> Mapping[str, Any]:
    found: Mapping[str, Any] = part.distributions["per_label"] if part.distributions else {}
    return found


def _has_distances(part: Part) -> bool:
    return any(s.get(k) is not None for s in _labels(part).values() for k in _DRAWN)


def _distances(t: Translation, part: Part) -> Markup:
    by_label = _labels(part)
    panels = {
        METRICS[k][0]: (
            [_or_nan(s.get(k)) for s in by_label.values()],
            [_or_nan(s["baseline"].get(k)) for s in by_label.values()],
        )
        for k in _DRAWN
    }
    panels = {name: v for name, v in panels.items() if any(map(math.isfinite, v[0]))}
    return inline_svg(
        prediction_plots.distance_panels(list(by_label), panels), f"{t.name}: distances by label, {part.place}"
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
