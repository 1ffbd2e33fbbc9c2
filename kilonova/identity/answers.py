"""How the Identity API shows things: links, collections, and what is not there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kilonova.base.faults import Fault, Kind, invalid
from kilonova.http.request import Request
from kilonova.identity.store import Filter

_TRUE, _FALSE = ("1", "true", "t", "yes", "y", "on", ""), ("0", "false", "f", "no", "n", "off")
_HOW = ("contains", "icontains", "startswith", "istartswith", "endswith", "iendswith")


def link(request: Request[Any], *path: str) -> str:
    """The URL of something below /v3."""
    return "/".join((f"{request.origin}/v3", *path))


def linked(request: Request[Any], collection: str, shown: dict[str, Any]) -> dict[str, Any]:
    """`shown` with its own URL, which ends in its id."""
    shown["links"] = {"self": link(request, collection, shown["id"])}
    return shown


def collection(request: Request[Any], name: str, shown: Iterable[Any]) -> dict[str, Any]:
    """{name: [...], "links": …}; the Identity API does not page."""
    query = "&".join(f"{key}={value}" for key, value in request.query.pairs)
    here = f"{request.origin}{request.url_path}{'?' + query if query else ''}"
    return {name: list(shown), "links": {"next": None, "self": here, "previous": None}}


def missing(noun: str, id_: str) -> Fault:
    """404 in Keystone's words."""
    return Fault(Kind.NOT_FOUND, f"Could not find {noun}: {id_[:255]}.")


def filters(request: Request[Any], *names: str, flags: tuple[str, ...] = ()) -> list[Filter]:
    """The filters of a list: `name=x`, `name__contains=x`, …, and yes/no for `flags`. Other parameters are ignored."""
    made: list[Filter] = []
    for key, value in request.query.pairs:
        name, _, how = key.partition("__")
        if key in flags:
            if value.lower() not in _TRUE + _FALSE:
                raise invalid(f"Invalid input for query parameter {key}: {value[:40]!r} is not a boolean.")
            made.append((key, "equals", value.lower() in _TRUE))
        elif key in names:
            made.append((key, "equals", value))
        elif name in names and how in _HOW:
            made.append((name, how, value))
    return made


def is_true(request: Request[Any], key: str) -> bool:
    """Whether a switch is given and not off: `?effective`, `?effective=1`, not `?effective=0`."""
    value = request.query.get(key)
    return value is not None and value.lower() != "0" and value.lower() != "false"
