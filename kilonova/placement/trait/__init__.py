"""Traits: what a provider can do."""
