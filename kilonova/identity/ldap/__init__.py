"""Domains whose users and groups are in an LDAP directory: read there, mirrored here, never written."""
