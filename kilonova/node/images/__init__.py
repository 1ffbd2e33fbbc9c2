"""A host's image cache and the local disks of its guests."""
