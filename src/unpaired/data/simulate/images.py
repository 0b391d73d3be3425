"""Pictures of two objects under interventions on where they are, by two instruments."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from unpaired.data.preprocess import Recipe
from unpaired.data.simulate.apart import set_pairing
from unpaired.data.simulate.cache import cached
from unpaired.data.simulate.scenes import CHUNK, INTERVENTIONS, draw_scenes, seen_by_squares
from unpaired.data.types import Array, Dataset, Modality, Pairs, Truth
from unpaired.errors import OptionError
from unpaired.options import check_choice, check_integer, check_seed
from unpaired.seeds import named_rng

__all__ = ["VERSION", "interventional_images"]

_NAMES = ("circles", "squares")
_MAPS = {"circles": "summer", "squares": "Wistia"}  # matplotlib's, for the backgrounds
_SMALLEST, _LARGEST = 64, 1024
VERSION = 1
"""Of what is drawn: a cached file, or a bench, of another one is not taken up."""


def interventional_images(
    n: int = 25_000,
    *,
    size: int = 64,
    pairing: Literal["hide", "use", "none"] = "hide",
    seed: int = 0,
    cache: Path | str | None = None,
    jobs: int = 1,
) -> tuple[Dataset, Truth | None]:
    """Draw scenes of two objects on a cluttered background, each seen by two instruments: ``circles`` and ``squares``.

    The data of experiment 1 of the propensity paper (section 6.1 and appendix D.3): the balls of Ahuja et al.,
    "Interventional causal representation learning" (ICML 2023), with a second modality. There they are 128 pixels wide,
    20,000 to train on, 5,000 to choose the epoch by and 20,000 for the test.

    **Latent state.** ``z = (x1, y1, x2, y2)`` in ``[0, 1]``, with ``y`` up, where 1 is the width of the picture.
    Without an intervention ``x1, y1 ~ U(0.1, 0.9)`` and, with ``c = 1.25 (x1^2 + y1^2)``, ``x2 ~ U(0.1, 0.5),
    y2 ~ U(0.5, 0.9)`` if ``c >= 1``, else ``x2 ~ U(0.5, 0.9), y2 ~ U(0.1, 0.5)``.

    **Label.** One of 12 interventions, all equally likely: it sets one coordinate to 0.25, 0.5 or 0.75 (``"x1=0.25"``).
    Set on object 1, the mechanism draws object 2 for what was set; set on object 2, nothing else changes.

    **circles.** White; 25 background discs of radius 0.3 at uniform places, in colours uniform from matplotlib's
    ``summer``, later over earlier; two anti-aliased discs at ``z`` of radius 2.56 pixels (0.02 at 128 pixels) in the
    colours (2, 156, 154) and (222, 100, 100), the second over the first; all flipped vertically.

    **squares.** The same with ``Wistia``, other background discs and two squares with a side of 5.12 pixels, in the
    colours ``viridis(0.1)`` and ``viridis(0.6)``. Their top left corner before the flip (the lower left one of what is
    seen) is at ``z' = sigmoid(2 ((z - 0.5) R + 0.2))``, where ``R = [[cos a, -sin a], [sin a, cos a]]`` with
    ``a = 0.3 pi`` multiplies each object's ``(x, y)`` from the right. Their edges are anti-aliased, too.

    At every size the objects keep their size in pixels, and the background discs theirs in widths.

    Parameters
    ----------
    n
        Scenes. The first ones are the same whatever ``n`` is.
    size
        Width and height in pixels, 64 or more.
    pairing
        ``"hide"``: the two modalities are shuffled apart and the truth is kept for scoring; ``"use"``: the pairs are
        offered for learning; ``"none"``: nobody knows.
    seed
        Seed of the scenes and of the shuffling. For a test set of its own take another seed, and the recipes of the
        training set.
    cache
        A folder for the pictures: those that were made before are read from it. By default nothing is kept.
    jobs
        Threads that draw; what is drawn does not depend on them.

    Returns
    -------
    Dataset
        ``X`` is ``(n, 3, size, size)`` uint8 (a byte for each value: 0.3 GB for 25,000 pictures of 64 pixels), with the
        recipe ``"image"``, fitted exactly on all pictures.
    Truth or None
        Only with ``pairing="hide"``: the partners and, for both modalities, the common latent state ``z``, ``(n, 4)``.

    Raises
    ------
    OptionError
        If an option has a value that is not allowed.
    OutputError
        If the cache cannot be written.
    """
    check_integer("n", n, low=1)
    check_integer("size", size, low=_SMALLEST, high=_LARGEST)
    check_choice("pairing", pairing, ("hide", "use", "none"))
    check_seed(seed)
    check_integer("jobs", jobs, low=1)
    if cache is not None and not isinstance(cache, str | Path):
        msg = f"cache must be a folder's path; got {cache!r}."
        raise OptionError(msg)
    scenes = draw_scenes(n, seed)
    made_of = {
        "what": f"interventional_images-{n}-{size}px-seed{seed}",
        "version": VERSION,
        "numpy": ".".join(np.__version__.split(".")[:2]),  # what a generator draws may change with it
    }
    shapes = dict.fromkeys(_NAMES, ((n, 3, size, size), "uint8"))
    pictures = cached(cache, made_of, shapes, lambda: _draw(scenes.latents, size, seed, jobs))
    classes = tuple(sorted(INTERVENTIONS))
    codes = np.array([classes.index(name) for name in INTERVENTIONS])[scenes.labels]
    modalities = {name: _modality(name, pictures.pop(name), codes) for name in _NAMES}
    units = {name: np.arange(n) for name in _NAMES}
    return set_pairing(Dataset(modalities, classes, pairs=Pairs(units)), scenes.latents, pairing, seed)


def _modality(name: str, X: Array, codes: Array) -> Modality:
    ids = np.array([f"{name}:scene{i:06d}" for i in range(len(X))])
    return Modality(name, X, codes, ids, recipe=_fit_image(X))


def _fit_image(X: Array) -> Recipe:
    """Fit the recipe ``"image"`` on all pictures: the sums are of whole numbers, a few pictures at a time."""
    total, squares = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    for start in range(0, len(X), CHUNK):
        part = X[start : start + CHUNK]
        total += part.sum(axis=(0, 2, 3), dtype=np.int64)
        squares += np.square(part, dtype=np.uint16).sum(axis=(0, 2, 3), dtype=np.int64)
    count = X.size // 3
    mean = total / count
    std = np.sqrt(squares / count - mean**2)
    shape = (3, 1, 1)
    arrays = {"mean": mean.astype(np.float32).reshape(shape), "std": std.astype(np.float32).reshape(shape)}
    return Recipe(name="image", reason="four dimensions: images", options={}, arrays=arrays)


# --------------------------------------------------------------------------------------------------------- pictures


def _draw(latents: Array, size: int, seed: int, jobs: int) -> dict[str, Array]:
    """Return the pictures of both modalities, name -> ``(n, 3, size, size)``."""
    n = len(latents)
    out = {name: np.empty((n, 3, size, size), dtype=np.uint8) for name in _NAMES}
    painters = {name: _painter(name, size, seed) for name in _NAMES}

    def work(task: tuple[str, int]) -> None:
        name, chunk = task
        rows = slice(chunk * CHUNK, min((chunk + 1) * CHUNK, n))
        out[name][rows] = painters[name](chunk, latents[rows])

    tasks = [(name, k) for name in _NAMES for k in range(-(-n // CHUNK))]
    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(work, tasks):
            pass
    return out


def _painter(name: str, size: int, seed: int) -> Callable[[int, Array], Array]:
    """Return what draws a chunk of a modality: ``(number of the chunk, its latents) -> pictures``."""
    from matplotlib import colormaps  # slow to import, as is the compiler

    table = colormaps[_MAPS[name]](np.arange(256), bytes=True)[:, :3]
    if name == "circles":
        objects = np.array([(2, 156, 154), (222, 100, 100)], dtype=np.uint8)
    else:
        objects = np.array([colormaps["viridis"](0.1 + i / 2, bytes=True)[:3] for i in range(2)], dtype=np.uint8)
    return partial(_paint_chunk, name, size, seed, table, objects)


def _paint_chunk(name: str, size: int, seed: int, table: Array, objects: Array, chunk: int, latents: Array) -> Array:
    from unpaired.data.simulate.drawing import DISC, DISCS, SQUARE, draw

    rng = named_rng(seed, "interventional_images", name, str(chunk))
    centres = rng.uniform(size=(CHUNK, DISCS, 2))
    colours = table[rng.integers(256, size=(CHUNK, DISCS))]
    kind, places = (DISC, latents) if name == "circles" else (SQUARE, seen_by_squares(latents))
    k = len(latents)
    return draw(kind, size, centres[:k], colours[:k], places.reshape(k, 2, 2), objects)
