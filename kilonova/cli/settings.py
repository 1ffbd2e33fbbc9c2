"""The operator's settings: one TOML file, KILONOVA_SECTION_KEY variables over it, few of them, all with defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from kilonova.base.settings import fill, overlay, read_file
from kilonova.compute.core import ComputeSettings
from kilonova.identity.settings import IdentitySettings
from kilonova.image.service import ImageSettings
from kilonova.network.settings import NetworkSettings


@dataclass(frozen=True)
class LogSettings:
    """Where and how much is logged."""

    level: str = "INFO"


@dataclass(frozen=True)
class UplinkSettings:
    """The way out for guests: an address of our own on the network of one of this machine's interfaces.

    Without it `--uplink auto` is `none`: no address is guessed and no rule of the machine is changed.
    """

    interface: str = ""
    address: str = ""  # address/length
    gateway: str = ""


@dataclass(frozen=True)
class CloudSettings:
    """Every section of the file."""

    log: LogSettings = field(default_factory=LogSettings)
    uplink: UplinkSettings = field(default_factory=UplinkSettings)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    image: ImageSettings = field(default_factory=ImageSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)


def read_settings(path: str) -> CloudSettings:
    """The settings of a file ("" for none) with the environment laid over it."""
    table = read_file(Path(path)) if path else {}
    return fill(CloudSettings, overlay(CloudSettings, table, os.environ, "KILONOVA"))
