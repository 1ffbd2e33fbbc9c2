"""Compute (Nova): the life of a server."""
