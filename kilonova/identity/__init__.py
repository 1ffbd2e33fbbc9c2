"""Identity (Keystone): users, projects, roles, tokens, catalog."""
