"""RabbitMQ's management API: what a host is given on the broker when it joins, and what is taken away again.

It is the only part that needs the broker's administrator: `https://user:password@host:15671/`, RabbitMQ's plugin
`rabbitmq_management`. Every call may be repeated.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx

from kilonova.base.faults import conflict, invalid, unavailable
from kilonova.bus.amqp_link import SHARED_QUEUE
from kilonova.bus.rights import REPLIES_EXCHANGE, Rights, shared_queues

TIMEOUT_SECONDS = 10.0
USER_TAG = "kilonova-host"


class BrokerAdmin:
    """Users and their rights at `url`; `vhost` is where the cluster's queues are. Close it after use."""

    def __init__(self, url: str, vhost: str, *, verify: Any = True) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not parts.username:
            raise invalid(
                "[cluster] broker_admin is not the URL of RabbitMQ's management API.",
                hint='For example "https://admin:PASSWORD@mq1.example:15671/".',
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._where = f"{parts.scheme}://{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        self._vhost = quote(vhost, safe="")
        login = (unquote(parts.username), unquote(parts.password or ""))
        self._http = httpx.AsyncClient(
            base_url=f"{self._where}{parts.path.rstrip('/')}/api/",
            auth=login,
            timeout=TIMEOUT_SECONDS,
            verify=verify,
            trust_env=False,
        )

    async def prepare(self, senders: list[str]) -> None:
        """The exchanges and queues that these agents use but may not make. UNAVAILABLE when nobody answers there."""
        queues = shared_queues(senders)
        for exchange in sorted({REPLIES_EXCHANGE, *(exchange for exchange, _ in queues)}):
            await self._put(f"exchanges/{self._vhost}/{exchange}", {"type": "topic", "durable": True})
        for exchange, queue in queues:
            await self._put(f"queues/{self._vhost}/{queue}", {"durable": True, "arguments": dict(SHARED_QUEUE)})
            await self._ask(
                "POST", f"bindings/{self._vhost}/e/{exchange}/q/{queue}", {"routing_key": queue, "arguments": {}}
            )

    async def set_user(self, name: str, password: str, rights: Rights) -> None:
        """The user of that name has this password and exactly these rights; older connections of it end."""
        user = quote(name, safe="")
        await self._put(f"users/{user}", {"password": password, "tags": USER_TAG})
        await self._put(
            f"permissions/{self._vhost}/{user}",
            {"configure": rights.configure, "write": rights.write, "read": rights.read},
        )
        await self._ask("DELETE", f"topic-permissions/{self._vhost}/{user}", missing_is_fine=True)
        for topic in rights.topics:
            await self._put(
                f"topic-permissions/{self._vhost}/{user}",
                {"exchange": topic.exchange, "write": topic.write, "read": topic.read},
            )
        await self._put(f"user-limits/{user}/max-connections", {"value": rights.connections})
        await self._end_connections(user)

    async def delete_user(self, name: str) -> None:
        """The user is gone, its connections with it."""
        user = quote(name, safe="")
        await self._ask("DELETE", f"users/{user}", missing_is_fine=True)
        await self._end_connections(user)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._http.aclose()

    async def _end_connections(self, user: str) -> None:
        await self._ask("DELETE", f"connections/username/{user}", missing_is_fine=True)

    async def _put(self, path: str, body: dict[str, Any]) -> None:
        await self._ask("PUT", path, body)

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, missing_is_fine: bool = False
    ) -> None:
        try:
            answer = await self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise unavailable(
                "RabbitMQ's management API does not answer.",
                hint="Enable its plugin rabbitmq_management, and check [cluster] broker_admin.",
                inside=f"{self._where}: {error!r}",
            ) from error
        if answer.status_code < 300 or (answer.status_code == 404 and missing_is_fine):
            return
        inside = f"{method} {path} answered {answer.status_code}: {answer.text[:300]}"
        if answer.status_code in (401, 403):
            raise conflict(
                "RabbitMQ does not take the user of [cluster] broker_admin as an administrator.",
                hint="rabbitmqctl set_user_tags USER administrator",
                inside=inside,
            )
        raise conflict("RabbitMQ refused what a host needs there.", hint="Its log says why.", inside=inside)
