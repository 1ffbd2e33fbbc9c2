"""Ports: one NIC's MAC, addresses and filters on a network, and the host it is built on."""
