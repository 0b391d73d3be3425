"""How good a matching is, and what was predicted from it."""
