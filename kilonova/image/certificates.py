"""Key managers that keep the certificates of signed images: a directory of the operator's, or Barbican."""

from __future__ import annotations

from pathlib import Path

from kilonova.base.faults import not_found, unavailable
from kilonova.base.ids import is_uuid
from kilonova.base.world import World
from kilonova.http.client import Client, HttpTransport

NOUN = "Certificate"
MOST_BYTES = 64 << 10


class DirectoryCertificates:
    """Implements `image.contract.Certificates` over files `UUID.pem` of the operator's; everybody may have them."""

    def __init__(self, world: World, directory: Path) -> None:
        self._world = world
        self._directory = directory

    async def get(self, token: str, certificate_id: str) -> bytes:
        if not is_uuid(certificate_id):
            raise not_found(NOUN, certificate_id[:60])
        try:
            return await self._world.blocking(_read, self._directory / f"{certificate_id}.pem")
        except FileNotFoundError:
            raise not_found(NOUN, certificate_id) from None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST_BYTES)


class BarbicanCertificates:
    """Implements `image.contract.Certificates` over Barbican's API v1, found in the caller's catalog as key-manager.

    Whose secret it is and who may read it is Barbican's to decide: it is asked with the caller's token.
    """

    def __init__(self, identity: Client) -> None:
        self._identity = identity

    async def get(self, token: str, certificate_id: str) -> bytes:
        if not is_uuid(certificate_id):
            raise not_found(NOUN, certificate_id[:60])
        client = Client(HttpTransport(await self._endpoint(token)))
        try:
            path = f"/v1/secrets/{certificate_id}"
            secret = (await client.request("GET", path, token=token)).json()
            kind = (secret.get("content_types") or {}).get("default")
            if not kind:
                raise not_found(NOUN, certificate_id, inside="the secret has no payload")
            reply = await client.request("GET", f"{path}/payload", token=token, headers={"accept": kind})
        finally:
            await client.close()
        if len(reply.content) > MOST_BYTES:
            raise not_found(NOUN, certificate_id, inside=f"a payload of {len(reply.content)} bytes")
        return reply.content

    async def _endpoint(self, token: str) -> str:
        catalog = (await self._identity.request("GET", "/v3/auth/catalog", token=token)).json()["catalog"]
        urls = [
            {endpoint["interface"]: str(endpoint["url"]) for endpoint in service["endpoints"]}
            for service in catalog
            if service["type"] == "key-manager"
        ]
        found = next((known[name] for known in urls for name in ("internal", "public") if name in known), "")
        if not found:
            raise unavailable(
                "The catalog has no key manager, which keeps the certificates of signed images.",
                hint="The operator registers a service of type key-manager with its endpoints.",
            )
        return found.rstrip("/").removesuffix("/v1")
