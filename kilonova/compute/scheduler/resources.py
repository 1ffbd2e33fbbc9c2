"""What a server needs of a host, in placement's resource classes."""

from __future__ import annotations

from collections.abc import Mapping

from kilonova.compute.contract import Flavor
from kilonova.compute.contract.numa import is_dedicated


def resources_of(flavor: Flavor, image: Mapping[str, str], *, from_volume: bool) -> dict[str, int]:
    """VCPU (PCPU when they are dedicated), MEMORY_MB, DISK_GB (none for a root on a volume).

    `resources:CLASS` of the flavor's specs override. `image`: the properties of what it boots from.
    """
    disk = (0 if from_volume else flavor.root_gb) + flavor.ephemeral_gb + -(-flavor.swap_mb // 1024)
    cpus = "PCPU" if is_dedicated(flavor, image) else "VCPU"
    wanted = {cpus: flavor.vcpus, "MEMORY_MB": flavor.memory_mb, "DISK_GB": disk}
    for key, value in flavor.extra_specs.items():
        if key.startswith("resources:") and value.isdigit():
            wanted[key.removeprefix("resources:")] = int(value)
    return {name: amount for name, amount in wanted.items() if amount}
