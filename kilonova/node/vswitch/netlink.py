"""The part of pyroute2 that hosts use. Its package would load all others too, 6 MB in each agent: they are skipped."""

from __future__ import annotations

import importlib.util
import sys

if "pyroute2" not in sys.modules and (_spec := importlib.util.find_spec("pyroute2")) is not None:
    sys.modules["pyroute2"] = importlib.util.module_from_spec(_spec)  # there, so that its parts load; not run

from pyroute2.iproute import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

__all__ = ["IPRoute", "NetlinkError"]
