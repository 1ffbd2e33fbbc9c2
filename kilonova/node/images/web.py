"""Data from the web for users, without lending them the host's place in the network (CVE-2026-34881).

Every URL, the first and each that a redirect leads to, is checked: scheme, port, host; its name is resolved once,
every address is judged, and the connection goes to an address that was judged: a name that answers differently the
second time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httpx

from kilonova.base.faults import Fault, invalid, unavailable
from kilonova.base.units import MIB
from kilonova.base.world import World
from kilonova.image.contract import WebRules

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], list[str]]

_NAT64: Final = ip_network("64:ff9b::/96")
_NAT64_LOCAL: Final = ip_network("64:ff9b:1::/48")
_COMPATIBLE: Final = ip_network("::/96")
_REDIRECTS: Final = (301, 302, 303, 307, 308)


def resolve(host: str, port: int) -> list[str]:
    """The host's addresses. Blocks."""
    return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})


def embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 one carries to a translator, else the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address.teredo is not None:
            return address.teredo[1]
        if address in _NAT64 or address in _COMPATIBLE or address in _NAT64_LOCAL:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


class WebReader:
    """Implements `image.contract.WebSource`."""

    def __init__(self, world: World, rules: WebRules, resolve: Resolve = resolve) -> None:
        self._world = world
        self._rules = rules
        self._resolve = resolve
        self._allowed: list[IPv4Network | IPv6Network] = [ip_network(one) for one in rules.allowed_networks]

    async def check(self, url: str) -> None:
        await self._judged(url)

    async def size(self, url: str) -> int | None:
        async with self._opened("HEAD", url, {}) as answer:
            length = answer.headers.get("content-length", "")
            return int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None

    async def read(self, url: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        headers = {} if end is None else {"range": f"bytes={start}-{end - 1}"}
        async with self._opened("GET", url, headers) as answer:
            skip = start if answer.status_code == 200 else 0
            left = None if end is None else end - start
            async for chunk in answer.aiter_raw(MIB):
                piece = chunk[skip:]
                skip -= len(chunk) - len(piece)
                if left is not None:
                    piece = piece[:left]
                    left -= len(piece)
                if piece:
                    yield piece
                if left == 0:
                    return

    @asynccontextmanager
    async def _opened(self, method: str, url: str, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        timeout = httpx.Timeout(self._rules.timeout_seconds)
        async with httpx.AsyncClient(timeout=timeout, trust_env=False, follow_redirects=False) as client:
            try:
                answer = await self._follow(client, method, url, headers)
                try:
                    if answer.status_code not in (200, 206):
                        raise unavailable(f"The server at {_shown(url)} answered {answer.status_code}.")
                    yield answer
                finally:
                    await answer.aclose()
            except httpx.HTTPError as error:
                raise unavailable(f"The data at {_shown(url)} could not be read.", inside=repr(error)) from error

    async def _follow(
        self, client: httpx.AsyncClient, method: str, url: str, headers: dict[str, str]
    ) -> httpx.Response:
        for _ in range(self._rules.redirects + 1):
            host, address = await self._judged(url)
            answer = await client.send(_request(client, method, url, (host, address), headers), stream=True)
            if answer.status_code not in _REDIRECTS:
                return answer
            await answer.aclose()
            url = urljoin(url, answer.headers.get("location", ""))
        raise invalid("The URL redirects too often.")

    async def _judged(self, url: str) -> tuple[str, str]:
        """(host, address to connect to). INVALID when the URL may not be fetched."""
        try:
            parts = urlsplit(url)
            port = parts.port or {"http": 80, "https": 443}.get(parts.scheme.lower(), 0)
        except ValueError:
            raise _refused(url, "it is malformed") from None
        rules = self._rules
        if parts.scheme.lower() not in rules.allowed_schemes or parts.scheme.lower() not in ("http", "https"):
            raise _refused(url, f"scheme {parts.scheme[:20]!r} is not allowed")
        host = parts.hostname or ""
        if not host or "@" in parts.netloc or any(one <= " " or one == "\\" for one in url):
            raise _refused(url, "it is malformed")
        if port not in rules.allowed_ports:
            raise _refused(url, f"port {port} is not allowed")
        if host.lower().rstrip(".") in rules.blocked_hosts:
            raise _refused(url, "its host is not allowed")
        addresses = await self._addresses(host, port, url)
        for address in addresses:
            if not self._may_reach(address):
                raise _refused(url, "its host is not on the public network")
        return host, str(addresses[0])

    async def _addresses(self, host: str, port: int, url: str) -> list[Address]:
        try:
            found = await self._world.blocking(self._resolve, host, port)
            return [ip_address(one.partition("%")[0]) for one in found]
        except (OSError, UnicodeError, ValueError):
            raise _refused(url, f"host {host[:80]} could not be resolved") from None

    def _may_reach(self, address: Address) -> bool:
        if any(address.version == network.version and address in network for network in self._allowed):
            return True
        inner = embedded(address)
        if inner != address and not self._may_reach(inner):
            return False
        return address.is_global and not address.is_multicast and not address.is_reserved


def _request(
    client: httpx.AsyncClient, method: str, url: str, to: tuple[str, str], headers: dict[str, str]
) -> httpx.Request:
    """A request that goes to the judged address, though it asks for the host: in its header and in TLS."""
    host, address = to
    target = httpx.URL(url)
    named = target.netloc.decode("ascii")
    sent = {"host": named, "accept": "*/*", "accept-encoding": "identity", "user-agent": "kilonova-image", **headers}
    extensions: dict[str, Any] = {"sni_hostname": host} if target.scheme == "https" else {}
    return client.build_request(method, target.copy_with(host=address), headers=sent, extensions=extensions)


def _shown(url: str) -> str:
    """The URL without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:200]


def _refused(url: str, why: str) -> Fault:
    return invalid(f"URI does not pass filtering: {why}.", hint="Give a URL of the public web.", inside=url[:300])
