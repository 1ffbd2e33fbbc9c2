"""Volume types and their extra specs."""
