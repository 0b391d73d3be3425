"""Data with known truth: every cell's latent state and its partner are known, because we made them."""

from unpaired.data.simulate.images import interventional_images as interventional_images
from unpaired.data.simulate.screen import screen as screen

__all__ = ["interventional_images", "screen"]
