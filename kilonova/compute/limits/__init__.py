"""Limits: a project's quota and use as one flat answer."""
