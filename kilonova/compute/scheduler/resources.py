"""What a server needs of a host, in placement's resource classes."""

from __future__ import annotations

from kilonova.compute.contract import Flavor


def resources_of(flavor: Flavor, *, from_volume: bool) -> dict[str, int]:
    """VCPU, MEMORY_MB, DISK_GB (none for a root on a volume); `resources:CLASS` of the flavor's specs override."""
    disk = (0 if from_volume else flavor.root_gb) + flavor.ephemeral_gb + -(-flavor.swap_mb // 1024)
    wanted = {"VCPU": flavor.vcpus, "MEMORY_MB": flavor.memory_mb, "DISK_GB": disk}
    for key, value in flavor.extra_specs.items():
        if key.startswith("resources:") and value.isdigit():
            wanted[key.removeprefix("resources:")] = int(value)
    return {name: amount for name, amount in wanted.items() if amount}
