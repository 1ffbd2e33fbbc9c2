"""The catalog: which services exist, and where they are reached."""
