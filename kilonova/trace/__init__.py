"""Traces: one request id from the door to the hypervisor; spans at the seams, kept in a ring, drawn as diagrams."""
