"""Which resources a quota names at each microversion, for projects and for classes."""

from __future__ import annotations

from kilonova.http.versions import Version, within

# Network's own quotas once stood here too; they are without limit until clients of 2.36 stop seeing them.
NETWORK = ("fixed_ips", "floating_ips", "security_group_rules", "security_groups")
INJECTED = ("injected_file_content_bytes", "injected_file_path_bytes", "injected_files")
GROUPS = ("server_groups", "server_group_members")
ALWAYS = ("cores", "instances", "key_pairs", "metadata_items", "ram")


def of_projects(version: Version) -> tuple[str, ...]:
    """The resources of a project's quota."""
    return (
        *ALWAYS,
        *GROUPS,
        *(NETWORK if within(version, "", "2.35") else ()),
        *(INJECTED if within(version, "", "2.56") else ()),
    )


def of_classes(version: Version) -> tuple[str, ...]:
    """The resources of a quota class."""
    return (
        *ALWAYS,
        *(GROUPS if within(version, "2.50", "") else ()),
        *(NETWORK if within(version, "", "2.49") else ()),
        *(INJECTED if within(version, "", "2.56") else ()),
    )
