"""Application credentials: secrets for programs, with some of their user's roles."""
