"""Compute's schema, change by change."""
