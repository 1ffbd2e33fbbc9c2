"""The noun image: metadata, data, members, tags."""
