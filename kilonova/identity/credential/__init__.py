"""Credentials: secrets kept for users, EC2 keys among them, and logins by signature."""
