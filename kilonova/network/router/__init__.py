"""Routers: join subnets, and lead outside with source NAT."""
