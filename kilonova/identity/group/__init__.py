"""Groups: users who share their roles."""
