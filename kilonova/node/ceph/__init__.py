"""Ceph's RADOS block devices: one pool each for images, root disks and volumes."""
