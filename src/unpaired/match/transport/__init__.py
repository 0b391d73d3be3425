"""The entropic optimal-transport engine and its front door."""

from unpaired.match.transport.front import match_ot

__all__ = ["match_ot"]
