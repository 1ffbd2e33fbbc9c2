"""Allocation candidates: which providers have room."""
