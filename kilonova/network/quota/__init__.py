"""Quotas: how much of each a project may have."""
