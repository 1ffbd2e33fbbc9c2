"""How a well-known set of metadata definitions is written down."""

from __future__ import annotations

import msgspec

IMAGE, FLAVOR, VOLUME = "OS::Glance::Image", "OS::Nova::Flavor", "OS::Cinder::Volume"
AGGREGATE, SERVER, DATABASE = "OS::Nova::Aggregate", "OS::Nova::Server", "OS::Trove::Instance"
RESOURCE_TYPES = (IMAGE, VOLUME, FLAVOR, AGGREGATE, SERVER, DATABASE)
YES_NO = ("true", "false")


Property = tuple[str, str, str, str | tuple[str, ...]]  # name, title, description, type or choices


class Known(msgspec.Struct, frozen=True):
    """A namespace to register."""

    name: str
    title: str
    description: str
    types: tuple[tuple[str, str], ...]  # (resource type, prefix)
    properties: tuple[Property, ...] = ()
    objects: tuple[tuple[str, str, tuple[Property, ...]], ...] = ()
