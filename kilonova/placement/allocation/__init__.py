"""Allocations: what each consumer holds of each provider."""
