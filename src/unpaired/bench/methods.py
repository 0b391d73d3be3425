"""The methods that the benches compare, by name: a space, and a way of matching in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from unpaired.data.types import Dataset
from unpaired.embed.embedding import Embedding
from unpaired.match.gromov import match_gromov
from unpaired.match.matching import Matching
from unpaired.match.neighbours import match_snn
from unpaired.match.null import match_random, match_uniform
from unpaired.match.transport.front import match_ot
from unpaired.match.transport.posterior import EPS, weigh

__all__ = ["GROMOV_CELLS", "METHODS", "SPACES", "SWEEP", "Budget", "Method", "Space", "method_of", "missing"]


GROMOV_CELLS = 1200
"""Cells on a side of one Gromov-Wasserstein coupling of all labels: more take hours."""


@dataclass(frozen=True)
class Budget:
    """How much work a method may do; ``None`` is the method's own, or the published, number.

    Attributes
    ----------
    repeats
        Repeats of the cross-fitting.
    epochs
        Of the cross-fitted classifiers.
    published_epochs, vae_epochs
        Of the published recipe and of the VAE.
    vae_hidden
        Width of the VAE's hidden layers (published: 1,024).
    peer_epochs
        Of scGLUE and MultiVI.
    gromov_iterations
        Of Gromov-Wasserstein, outer.
    folds
        Folds of the cross-fitting.
    vae_rate
        Learning rate of the VAE (published: 1e-4).
    vae_published_beta
        Weight of the modality's cross-entropy in the published VAE (published: 0.1, and 0 in experiment 3).
    published_classifier
        Classifier of the published recipe: ``"published"``, or ``"mlp"``, which has two layers, as experiment 3's had.
    """

    repeats: int = 3
    epochs: int | None = None
    published_epochs: int | None = None
    vae_epochs: int | None = None
    vae_hidden: int = 1024
    peer_epochs: int | None = None
    gromov_iterations: int = 1000
    folds: int = 5
    vae_rate: float = 1e-4
    vae_published_beta: float = 0.1
    published_classifier: str = "published"


@dataclass(frozen=True)
class Space:
    """An embedder by name.

    Attributes
    ----------
    make
        ``(budget, device, seed)`` to an embedder.
    missing
        Says why it cannot be had here; ``None`` where it can.
    own_cells
        It embeds only the cells that it learned from, so it learns from those that are matched.
    """

    make: Callable[[Budget, str, int], Any]
    missing: Callable[[], str | None] = lambda: None
    own_cells: bool = False


@dataclass(frozen=True)
class Method:
    """A way of matching, by name.

    Attributes
    ----------
    title
        Its name in tables.
    space
        Key of :data:`SPACES`; ``None`` where none is needed.
    match
        ``(data, embedding, budget, seed)`` to a matching.
    seeded
        Whether the seed can change the result.
    """

    title: str
    space: str | None
    match: Callable[[Dataset, Embedding | None, Budget, int], Matching]
    seeded: bool = True


def _ps(budget: Budget, device: str, seed: int) -> Any:
    from unpaired.embed.propensity import Propensity

    return Propensity(folds=budget.folds, repeats=budget.repeats, epochs=budget.epochs, device=device, seed=seed)


def _ps_published(budget: Budget, device: str, seed: int) -> Any:
    from unpaired.embed.propensity import Propensity

    recipe = Propensity.published(epochs=budget.published_epochs, device=device, seed=seed)
    recipe.classifier = budget.published_classifier
    return recipe


def _vae(budget: Budget, device: str, seed: int, *, adversary: str) -> Any:
    from unpaired.embed.vae import MultimodalVAE

    return MultimodalVAE(
        adversary=adversary,
        hidden=budget.vae_hidden,
        epochs=budget.vae_epochs,
        rate=budget.vae_rate,
        beta=budget.vae_published_beta if adversary == "published" else 0.1,
        device=device,
        seed=seed,
    )


def _glue(budget: Budget, device: str, seed: int) -> Any:
    from unpaired.bench.peers.glue import Glue

    return Glue(epochs=budget.peer_epochs, seed=seed)


def _multivi(budget: Budget, device: str, seed: int) -> Any:
    from unpaired.bench.peers.multivi import MultiVI

    return MultiVI(epochs=budget.peer_epochs, seed=seed)


def _missing_glue() -> str | None:
    from unpaired.bench.peers.glue import missing

    return missing()


def _missing_multivi() -> str | None:
    from unpaired.bench.peers.multivi import missing

    return missing()


def _ps_logistic(budget: Budget, device: str, seed: int) -> Any:
    recipe = _ps(budget, device, seed)
    recipe.classifier = "logistic"
    return recipe


SPACES: Mapping[str, Space] = {
    "ps": Space(_ps),
    "ps-logistic": Space(_ps_logistic),
    "ps-published": Space(_ps_published),
    "vae": Space(partial(_vae, adversary="adversarial")),
    "vae-published": Space(partial(_vae, adversary="published")),
    "glue": Space(_glue, _missing_glue, own_cells=True),
    "multivi": Space(_multivi, _missing_multivi, own_cells=True),
}


def _ot(data: Dataset, embedding: Embedding | None, budget: Budget, seed: int, **options: Any) -> Matching:
    assert embedding is not None
    return match_ot(data, embedding, **options)


def _snn(data: Dataset, embedding: Embedding | None, budget: Budget, seed: int, **options: Any) -> Matching:
    assert embedding is not None
    return match_snn(data, embedding, **options)


def _refined(data: Dataset, embedding: Embedding | None, budget: Budget, seed: int) -> Matching:
    """Match and refine, in as many rounds as the rule makes: none where the diagnosis does not allow it."""
    from unpaired.workflow.refine import refine

    assert embedding is not None
    return refine(data, match_ot(data, embedding), embedding=embedding, seed=seed)[1]


def _scot(data: Dataset, embedding: Embedding | None, budget: Budget, seed: int) -> Matching:
    return match_gromov(data, max_iter=budget.gromov_iterations)


def _scot_global(data: Dataset, embedding: Embedding | None, budget: Budget, seed: int) -> Matching:
    return match_gromov(data, max_iter=budget.gromov_iterations, across_labels=True, max_cells=GROMOV_CELLS)


# As published: Euclidean distances, whatever their scale, and a regularisation (eps) of 0.05.
_EPS = 0.05
_OT_PUBLISHED = partial(_ot, cost="euclidean", eps=_EPS)
_SNN_PUBLISHED = partial(_snn, k=1, metric="cosine")

METHODS: Mapping[str, Method] = {
    "ps+ot": Method("PS+OT (ours)", "ps", _ot),
    "ps+refine": Method("PS+OT, refined (ours)", "ps", _refined),
    "ps+snn": Method("PS+SNN (ours)", "ps", _snn),
    "ps-published+ot": Method("PS+OT (published recipe)", "ps-published", _OT_PUBLISHED),
    "ps-published+snn": Method("PS+SNN (published recipe)", "ps-published", _SNN_PUBLISHED),
    "vae+ot": Method("VAE+OT (adversarial)", "vae", _OT_PUBLISHED),
    "vae+snn": Method("VAE+SNN (adversarial)", "vae", _SNN_PUBLISHED),
    "vae-published+ot": Method("VAE+OT (published recipe)", "vae-published", _OT_PUBLISHED),
    "vae-published+snn": Method("VAE+SNN (published recipe)", "vae-published", _SNN_PUBLISHED),
    "scot": Method("SCOT, per label", None, _scot, seeded=False),
    "scot-global": Method("SCOT, global", None, _scot_global, seeded=False),
    "glue+ot": Method("scGLUE+OT", "glue", _OT_PUBLISHED),
    "glue+snn": Method("scGLUE+SNN", "glue", _SNN_PUBLISHED),
    "multivi+ot": Method("MultiVI+OT", "multivi", _OT_PUBLISHED),
    "multivi+snn": Method("MultiVI+SNN", "multivi", _SNN_PUBLISHED),
    "random": Method("random", None, lambda data, _, __, seed: match_random(data, seed=seed)),
    "uniform": Method("uniform coupling", None, lambda data, _, __, ___: match_uniform(data), seeded=False),
}
"""All methods, in the order of the tables. Distances and regularisations (eps) of the published rows are published."""


def _ot_times(data: Dataset, embedding: Embedding | None, budget: Budget, seed: int, *, factor: float) -> Matching:
    """Match with so many times the regularisation (eps) that the noise of the embedding asks for."""
    assert embedding is not None
    # The weights of the directions are those of the assumptions alone: this asks about eps, not about them.
    weighted = weigh(data, embedding, *data.direction()).apply(data, embedding)
    return match_ot(data, weighted, eps=factor * EPS)


SWEEP: Mapping[str, Method] = {
    f"ps+ot x{f:g}": Method(f"PS+OT (ours), {f:g} x eps", "ps", partial(_ot_times, factor=f))
    for f in (0.3, 3.0, 10.0, 30.0, 100.0, 300.0)
} | {
    f"{space}+ot x{f:g}": Method(
        f"{METHODS[f'{space}+ot'].title}, {f:g} x eps", space, partial(_ot, cost="euclidean", eps=f * _EPS)
    )
    for space in ("ps-published", "vae", "vae-published")
    for f in (4.0, 10.0, 20.0, 40.0, 100.0)
}
"""OT with other regularisations (eps), for the benches that ask what it costs to have none of them fixed.

Ours with multiples of its calibrated eps, the published spaces with multiples of the published one: at 0.05 a coupling
is as sharp as the space happens to be wide.
"""


def _ot_isotropic(data: Dataset, embedding: Embedding | None, budget: Budget, seed: int) -> Matching:
    """Match with eps twice the sum of the noise of both modalities, all directions alike."""
    assert embedding is not None
    assert embedding.noise is not None
    return match_ot(data, embedding, eps=2 * sum(float(embedding.noise[n].mean()) for n in data.direction()))


def _ot_assumed(data: Dataset, embedding: Embedding | None, budget: Budget, seed: int) -> Matching:
    """Match with weights of the directions by the assumptions alone."""
    assert embedding is not None
    return match_ot(data, weigh(data, embedding, *data.direction()).apply(data, embedding), eps=EPS)


ABLATION: Mapping[str, Method] = {
    "ps-logistic+ot published": Method(
        "cross-fitted logistic, averaged; cost and eps published", "ps-logistic", _OT_PUBLISHED
    ),
    "ps-logistic+ot isotropic": Method("... squared cost, eps = 2 (s1 + s2)", "ps-logistic", _ot_isotropic),
    "ps-logistic+ot assumed": Method("... directions weighted by the assumptions", "ps-logistic", _ot_assumed),
    "ps-logistic+ot": Method("... and by the first coupling", "ps-logistic", _ot),
    "ps+ot isotropic": Method("logistic and perceptron; eps = 2 (s1 + s2)", "ps", _ot_isotropic),
    "ps+ot assumed": Method("... directions weighted by the assumptions", "ps", _ot_assumed),
}
"""What is between the published recipe and ours, one step at a time."""


def method_of(name: str) -> Method:
    """Return the method of that name, of :data:`METHODS`, :data:`SWEEP` or :data:`ABLATION`."""
    return {**METHODS, **SWEEP, **ABLATION}[name]


def missing(method: str) -> str | None:
    """Say why a method cannot be had here; ``None`` where it can."""
    space = method_of(method).space
    return None if space is None else SPACES[space].missing()
