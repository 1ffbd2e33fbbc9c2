"""Unit tests of kilonova.bus."""
