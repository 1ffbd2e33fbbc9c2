"""Placement: resource providers, inventories, traits, allocations, candidates."""
