"""Domains: the name spaces of users and projects."""
