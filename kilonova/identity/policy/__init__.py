"""Policies: documents kept for services, and which endpoints they are for."""
