"""How good a matching is."""
