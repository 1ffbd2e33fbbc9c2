"""The operator's choices for Ceph: `[ceph]`. Empty pools: Ceph is not used for that."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CephSettings:
    """Where the cluster is, and what this cloud keeps there."""

    conf: str = "/etc/ceph/ceph.conf"
    user: str = "kilonova"  # client.kilonova; its key stands in the keyring that ceph.conf names
    disks_pool: str = ""  # hosts keep root disks there
    volumes_pool: str = ""  # the volume backend `ceph`, in place of files
