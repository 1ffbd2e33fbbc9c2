"""Flavors: how large a server may be, who may use that size, and what else it asks of a host."""
