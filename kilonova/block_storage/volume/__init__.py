"""Volumes: rows, API, and the operations on them."""
