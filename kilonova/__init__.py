"""Kilonova: a whole infrastructure cloud in one Python code base."""

__version__ = "0.1.0"
