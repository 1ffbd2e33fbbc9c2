"""Attachments: who has a volume, and how."""
