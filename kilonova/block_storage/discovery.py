"""Discovery documents."""

from __future__ import annotations

from typing import Any

from kilonova.http.request import Answer, Request
from kilonova.http.route import Route


async def versions(service: Any, request: Request[Any]) -> Answer:
    """The one version there is: 300 at the root, 200 at `/v3`."""
    shown = {
        "id": "v3.0",
        "links": [
            {"href": "https://docs.openstack.org/", "rel": "describedby", "type": "text/html"},
            {"href": f"{request.origin}/v3/", "rel": "self"},
        ],
        "media-types": [
            {"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"},
        ],
        "min_version": "3.0",
        "status": "CURRENT",
        "updated": "2023-08-31T00:00:00Z",
        "version": "3.71",
    }
    return Answer({"versions": [shown]}, 300 if request.url_path in ("", "/") else 200)


_OPEN = "discovery is for everyone"
DISCOVERY = (
    Route(method="GET", path="/", handler=versions, open_because=_OPEN, needs_token=False),
    Route(method="GET", path="/v3", handler=versions, open_because=_OPEN, needs_token=False),
)
