"""Floating IPs: an outside address that stands for a port's inside one."""
