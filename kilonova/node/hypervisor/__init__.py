"""Hypervisors that run a host's guests: libvirt with QEMU or KVM, and a fake for simulation and API tests."""
