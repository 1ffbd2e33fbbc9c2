"""Image bytes as objects of a Swift container: segments under a manifest when they are large, ranged reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from kilonova.base.faults import Fault, not_found, unavailable
from kilonova.base.units import MIB
from kilonova.base.world import World

SEGMENT_BYTES = 64 * MIB


class SwiftUser(msgspec.Struct, frozen=True):
    """Who owns the container, as identity v3 knows them."""

    auth_url: str
    name: str
    password: str
    project: str
    region: str = ""


class SwiftStore:
    """Implements `image.contract.ImageStore` on one container, made when it is missing."""

    def __init__(self, world: World, user: SwiftUser, container: str, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._world = world
        self._user = user
        self._container = container
        self._segment_bytes = segment_bytes
        self._token, self._url = "", ""
        self._http = httpx.AsyncClient(timeout=300, trust_env=False)

    async def save(self, image_id: str, chunks: AsyncIterator[bytes]) -> None:
        await self._ask("PUT", "")
        gathered, segments = bytearray(), 0
        try:
            async for chunk in chunks:
                gathered += chunk
                if len(gathered) >= self._segment_bytes:
                    segments += 1
                    await self._ask("PUT", f"{image_id}/{segments:08}", body=bytes(gathered))
                    gathered.clear()
            if not segments:
                await self._ask("PUT", image_id, body=bytes(gathered))
                return
            if gathered:
                segments += 1
                await self._ask("PUT", f"{image_id}/{segments:08}", body=bytes(gathered))
            manifest = {"x-object-manifest": f"{quote(self._container)}/{quote(image_id)}/"}
            await self._ask("PUT", image_id, headers=manifest)
            segments = 0
        finally:
            if segments:
                await self.drop(image_id)

    async def read(self, image_id: str, start: int, end: int) -> AsyncIterator[bytes]:
        if start >= end:
            return
        await self._ask("HEAD", "", fine=(404,))  # the token is good, or there is a new one now
        headers = {"x-auth-token": self._token, "range": f"bytes={start}-{end - 1}"}
        try:
            async with self._http.stream("GET", self._at(image_id), headers=headers) as answer:
                if answer.status_code == 404:
                    raise not_found("The data of image", image_id)
                if answer.status_code not in (200, 206):
                    raise _refused(answer.status_code, await answer.aread())
                async for chunk in answer.aiter_raw(MIB):
                    yield chunk
        except httpx.HTTPError as error:
            raise unavailable("The image store does not answer.", inside=repr(error)) from error

    async def drop(self, image_id: str) -> None:
        await self._ask("DELETE", image_id, fine=(404,))
        listed = await self._ask("GET", "", query=f"prefix={quote(image_id)}/&format=json", fine=(404,))
        for segment in listed.json() if listed.status_code == 200 else ():
            await self._ask("DELETE", segment["name"], fine=(404,))

    async def free_bytes(self) -> int:
        return 1 << 62  # an object store does not say; it refuses when it is full

    def location(self, image_id: str) -> str:
        return f"swift+https://{urlsplit(self._user.auth_url).netloc}/{self._container}/{image_id}"

    def _at(self, name: str) -> str:
        return f"{self._url}/{quote(self._container)}" + (f"/{quote(name)}" if name else "")

    async def _ask(
        self, method: str, name: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None, query: str = "",
        fine: tuple[int, ...] = (),
    ) -> httpx.Response:  # fmt: skip
        answer = await self._send(method, name, body, headers or {}, query)
        if answer.status_code == 401:
            self._token = ""
            answer = await self._send(method, name, body, headers or {}, query)
        if answer.is_error and answer.status_code not in fine:
            raise _refused(answer.status_code, answer.content)
        return answer

    async def _send(
        self, method: str, name: str, body: bytes, headers: Mapping[str, str], query: str
    ) -> httpx.Response:
        await self._log_in()
        url = self._at(name) + (f"?{query}" if query else "")
        try:
            return await self._http.request(method, url, content=body, headers={**headers, "x-auth-token": self._token})
        except httpx.HTTPError as error:
            raise unavailable("The image store does not answer.", inside=repr(error)) from error

    async def _log_in(self) -> None:
        """A token and where the account is, until the token is refused."""
        if self._token:
            return
        user = {"name": self._user.name, "domain": {"id": "default"}, "password": self._user.password}
        scope = {"project": {"name": self._user.project, "domain": {"id": "default"}}}
        auth = {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}
        try:
            answer = await self._http.post(f"{self._user.auth_url.rstrip('/')}/auth/tokens", json={"auth": auth})
        except httpx.HTTPError as error:
            raise unavailable("The image store's identity does not answer.", inside=repr(error)) from error
        if answer.is_error:
            raise _refused(answer.status_code, answer.content)
        self._url = _account(answer.json()["token"]["catalog"], self._user.region)
        self._token = answer.headers["x-subject-token"]


def _account(catalog: list[dict[str, Any]], region: str) -> str:
    for service in catalog:
        if service["type"] == "object-store":
            for endpoint in service["endpoints"]:
                if endpoint["interface"] == "public" and (not region or endpoint["region_id"] == region):
                    return str(endpoint["url"]).rstrip("/")
    raise unavailable("The image store's catalog has no object store.")


def _refused(status: int, body: bytes) -> Fault:
    return unavailable("The image store refused.", inside=f"{status}: {body[:300]!r}")
