"""Agents: the parts on hosts that build networks, and whether they live."""
