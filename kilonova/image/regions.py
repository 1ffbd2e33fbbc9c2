"""Image services of other regions, found in the caller's own catalog."""

from __future__ import annotations

from kilonova.base.faults import not_found
from kilonova.http.client import Client


class CatalogRegions:
    """Implements `image.contract.OtherClouds` over identity."""

    def __init__(self, identity: Client) -> None:
        self._identity = identity

    async def endpoint(self, token: str, region: str, interface: str) -> str:
        catalog = (await self._identity.request("GET", "/v3/auth/catalog", token=token)).json()["catalog"]
        for service in catalog:
            if service["type"] != "image":
                continue
            for endpoint in service["endpoints"]:
                if endpoint["region_id"] == region and endpoint["interface"] == interface:
                    return str(endpoint["url"])
        raise not_found("Image service of region", f"{region} ({interface})")
