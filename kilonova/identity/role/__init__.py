"""Roles, and the roles they imply."""
