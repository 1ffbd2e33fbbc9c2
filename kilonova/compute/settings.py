"""Compute's settings; beside the code that obeys them, so that reading them loads none of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ComputeSettings:
    """How compute behaves; operators set these."""

    console_base: str = "http://127.0.0.1:6080"
    console_seconds: float = 600.0
    stop_grace_seconds: float = 60.0
    soft_reboot_seconds: float = 120.0  # then the guest's power is cut
    host_down_seconds: float = 60.0
    reclaim_instance_interval_seconds: float = 0.0  # deleted servers can be restored for so long; 0: they are gone
    legacy_actions: bool = True  # resetNetwork and injectNetworkInfo, which today's OpenStack has taken away
    certificates: bool = True  # os-certificates, which today's OpenStack has taken away: X.509 certificates of users
    resize_confirm_seconds: float = 0.0  # resizes that wait longer are confirmed; 0: they wait for their user
    default_zone: str = "nova"
    deleted_kept_days: int = 30
    journal_kept_days: int = 30
    decisions_kept_days: int = 7  # why the scheduler chose as it did
    decisions_kept_most: int = 100_000
    cpu_allocation_ratio: float = 4.0
    memory_allocation_ratio: float = 1.0
    disk_allocation_ratio: float = 1.0
    reserved_memory_mb: int = 0
    cpu_shared_set: str = ""  # of each host: CPUs that guests share, as 0-3,^2; "": all that are not dedicated
    cpu_dedicated_set: str = ""  # of each host: CPUs of which each guest with hw:cpu_policy=dedicated has its own
    metadata_secret: str = ""
    verify_image_signatures: bool = False  # only signed images are started, and made volumes of
    trusted_image_certificates: tuple[str, ...] = ()  # that stand behind their signatures, unless a server names others
    max_servers_per_request: int = 100
