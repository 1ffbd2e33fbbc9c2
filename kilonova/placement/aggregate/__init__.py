"""Aggregates: which providers belong together."""
