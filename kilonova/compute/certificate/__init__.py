"""X.509 certificates that say who a user is."""
