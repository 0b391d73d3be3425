"""Predict what the other instrument would have read."""
