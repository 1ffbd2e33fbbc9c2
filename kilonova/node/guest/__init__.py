"""The cloud guest: a tiny bootable image, built from Debian packages without root, mounts or loop devices."""

from __future__ import annotations
