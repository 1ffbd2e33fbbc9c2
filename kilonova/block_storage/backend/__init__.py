"""Backends: what the volume agents report, and which one gets a volume."""
