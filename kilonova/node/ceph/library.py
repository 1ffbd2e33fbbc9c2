"""Ceph's own Python modules, `rados` and `rbd`: Debian packages them for its Python, not for virtual environments."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

from kilonova.base.faults import Fault, Kind, conflict, no_capacity, unavailable

PLACES = ("/usr/lib/python3/dist-packages", "/usr/lib64/python3/site-packages")


@cache
def library() -> tuple[Any, Any]:
    """(rados, rbd). UNAVAILABLE with the package to install where this Python has none that it can load."""
    return _module("rados"), _module("rbd")  # rbd imports rados


def _module(name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    try:
        return importlib.import_module(name)
    except ImportError:  # not in this environment: Debian's, when it is built for the same Python
        found = importlib.machinery.PathFinder.find_spec(name, list(PLACES))
    if found is None or found.loader is None:
        raise unavailable(
            "This machine lacks Ceph's client for the Python that runs here.",
            hint="Install python3-rados and python3-rbd, and run Kilonova with Debian's own Python.",
            inside=f"no module {name} for Python {sys.version.split()[0]} in {PLACES}",
        )
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def ceph_faults(what: str) -> Iterator[None]:
    """Ceph's errors as faults: missing is NOT_FOUND, in use CONFLICT, full NO_CAPACITY, anything else UNAVAILABLE."""
    rados, rbd = library()
    try:
        yield
    except (rbd.ImageNotFound, rados.ObjectNotFound) as error:
        raise Fault(Kind.NOT_FOUND, f"{what} could not be found.", inside=repr(error)) from error
    except (rbd.ImageBusy, rbd.ImageHasSnapshots) as error:
        raise conflict(f"{what} is in use.", inside=repr(error)) from error
    except (rbd.DiskQuotaExceeded, rados.NoSpace) as error:
        raise no_capacity("The storage cluster is full.", inside=repr(error)) from error
    except (rbd.Error, rados.Error) as error:
        raise unavailable("The storage cluster did not do what it was asked.", inside=f"{what}: {error!r}") from error
