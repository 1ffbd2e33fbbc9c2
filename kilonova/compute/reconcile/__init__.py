"""Compute's loops: one question per file."""
