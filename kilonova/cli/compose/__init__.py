"""Composition: which adapters stand behind which ports, for the embedded cloud and for a cluster's processes."""
