"""Scheduling: which host gets a server. Pure filters and weighers; the claim in placement decides."""
