"""Compute's contract: what other services and `node` may import of it; one file per party."""

from __future__ import annotations

from kilonova.compute.contract.conductor import Conductor, HostReport, SeenGuest
from kilonova.compute.contract.host import ComputeAgent, ComputeHost, Screen
from kilonova.compute.contract.hypervisor import (
    Disk,
    DiskUse,
    Guest,
    GuestSpec,
    GuestUse,
    Hypervisor,
    HypervisorInfo,
    LocalDisks,
    NetworkDisk,
    Nic,
    NicUse,
)
from kilonova.compute.contract.scheduling import (
    DRY_RUN_MOST,
    Destination,
    Fit,
    GroupSpec,
    Rejection,
    RequestSpec,
    Scheduler,
    Short,
)
from kilonova.compute.contract.server import BlockDevice, Built, Flavor, Power, Rescue, ServerForHost, StepSecrets
from kilonova.compute.contract.topology import NumaCell, Pages, PciDevice, PciPool, Placed, PlacedCell

EXCHANGE = "nova"
CONDUCTOR_TOPIC = "conductor"
SCHEDULER_TOPIC = "scheduler"
COMPUTE_TOPIC = "compute"

__all__ = [
    "COMPUTE_TOPIC",
    "CONDUCTOR_TOPIC",
    "DRY_RUN_MOST",
    "EXCHANGE",
    "SCHEDULER_TOPIC",
    "BlockDevice",
    "Built",
    "ComputeAgent",
    "ComputeHost",
    "Conductor",
    "Destination",
    "Disk",
    "DiskUse",
    "Fit",
    "Flavor",
    "GroupSpec",
    "Guest",
    "GuestSpec",
    "GuestUse",
    "HostReport",
    "Hypervisor",
    "HypervisorInfo",
    "LocalDisks",
    "NetworkDisk",
    "Nic",
    "NicUse",
    "NumaCell",
    "Pages",
    "PciDevice",
    "PciPool",
    "Placed",
    "PlacedCell",
    "Power",
    "Rejection",
    "RequestSpec",
    "Rescue",
    "Scheduler",
    "Screen",
    "SeenGuest",
    "ServerForHost",
    "Short",
    "StepSecrets",
]
