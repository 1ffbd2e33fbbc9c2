"""Tokens: signed, not stored; issued, validated, revoked."""
