"""Subnets: a range of addresses of a network, and how guests learn theirs."""
