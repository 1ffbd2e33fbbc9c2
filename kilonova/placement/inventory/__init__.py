"""Inventories: how much of each resource class a provider has."""
