"""Tasks: how imports go."""
