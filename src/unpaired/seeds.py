"""Random generators that depend on the seed and on names, never on the order of the work or the number of workers."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

__all__ = ["named_rng", "named_seed"]


def _sequence(seed: int, names: tuple[str, ...]) -> np.random.SeedSequence:
    words = [int.from_bytes(blake2b(n.encode(), digest_size=8).digest(), "little") for n in names]
    return np.random.SeedSequence([seed, *words])


def named_rng(seed: int, *names: str) -> np.random.Generator:
    """Return the generator of one unit of work, told by its names (of a modality, a label, a purpose)."""
    return np.random.default_rng(_sequence(seed, names))


def named_seed(seed: int, *names: str) -> int:
    """Return a 32-bit seed of one unit of work, for libraries that want a whole number."""
    return int(_sequence(seed, names).generate_state(1)[0])
