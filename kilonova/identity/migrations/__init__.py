"""Identity's schema, one step at a time."""
