"""Quotas: how much a project, and a user in it, may have of each countable thing."""
