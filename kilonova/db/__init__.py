"""Databases: one per service; SQL as units of work; SQLite, PostgreSQL, MariaDB."""
