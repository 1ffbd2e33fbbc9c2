"""Users: who logs in."""
