"""The life of a server: the noun, and one file per verb."""
