"""Trusts: a user lets another act with some of its roles on one project."""
