"""The catalog as a token carries it: URL templates filled for the token's project."""

from __future__ import annotations

import re

import msgspec

from kilonova.base.faults import invalid
from kilonova.identity.contract import CatalogEndpoint, CatalogService

_PLACE = re.compile(r"[$%]\((\w+)\)s")
_PROJECT = frozenset(("project_id", "tenant_id"))


def catalog_for(templates: list[CatalogService], project_id: str) -> list[CatalogService]:
    """Each service with its endpoints; those that need a project are left out when there is none."""
    return [
        msgspec.structs.replace(
            service, endpoints=[made for endpoint in service.endpoints if (made := _filled(endpoint, project_id))]
        )
        for service in templates
    ]


def _filled(endpoint: CatalogEndpoint, project_id: str) -> CatalogEndpoint | None:
    if "(" not in endpoint.url:
        return endpoint
    if not project_id:
        return None
    return msgspec.structs.replace(endpoint, url=_PLACE.sub(project_id, endpoint.url))


def checked_url(url: str) -> str:
    """`url` when a catalog can hold it: not empty, and only `$(project_id)s` (or tenant_id) to be filled in."""
    if not url.strip() or any(character.isspace() for character in url):
        raise invalid("Invalid input for field endpoint.url: it must be a URL without spaces.")
    unknown = set(_PLACE.findall(url)) - _PROJECT
    if unknown or _PLACE.sub("", url).count("(s") or "$(" in _PLACE.sub("", url) or "%(" in _PLACE.sub("", url):
        raise invalid(
            f"Invalid input for field endpoint.url: {url[:200]!r} holds a place that cannot be filled.",
            hint="Use $(project_id)s.",
        )
    return url
