"""Compute hosts, as the conductor knows them from their reports."""
