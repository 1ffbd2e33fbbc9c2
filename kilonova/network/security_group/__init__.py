"""Security groups and their rules: what may reach a port, and what may leave it."""
