"""Server groups: servers that want to be near to each other, or apart."""
