"""Image (Glance): image metadata and data."""
