"""Assignments: who has which role where."""
