"""Serving ASGI applications inside our own event loop, and what a process watches of itself."""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Any

from kilonova.base import memory
from kilonova.base.clock import Clock
from kilonova.base.world import World
from kilonova.cli.admin_port import Problems
from kilonova.cli.state import refuse_port_in_use
from kilonova.trace import metrics

LOOK_SECONDS = 0.3
LAG_SECONDS = 1.0
# Longer than any client keeps a connection that it does not use (aiohttp 15 s, ours 5): whoever asks just when the
# connection is closed on him gets a reset, and does not know whether he was heard.
IDLE_SECONDS = 75
TRIM_SECONDS = 20.0  # between gifts of freed memory to the machine


class Listener:
    """One listening address; with `tls` it speaks nothing else."""

    def __init__(
        self,
        app: Any,
        place: tuple[str, int],
        tls: ssl.SSLContext | None = None,
        *,
        leave_seconds: int = 5,
        websockets: bool = False,
    ) -> None:
        """`place`: host and port. `leave_seconds`: how long requests under way may take when it closes.

        `websockets`: whether `app` has any; without them what speaks them is not loaded.
        """
        import uvicorn  # processes that serve no API do without it, and the 2 MiB that it loads

        from kilonova.cli.http_protocol import Protocol, Server

        self._host, self._port = host, port = place
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=Protocol,
            ws="auto" if websockets else "none",
            log_config=None,
            access_log=False,  # URLs may carry console tokens; requests are spans and metrics instead
            lifespan="off",
            server_header=False,
            date_header=False,
            proxy_headers=False,  # the API kit reads X-Forwarded-* itself
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=leave_seconds,
            ws_max_size=1 << 20,
            ssl_context_factory=(lambda _config, _default: tls) if tls is not None else None,
        )
        self._server = Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listening when it returns; a port in use is a CONFLICT that says so."""
        refuse_port_in_use(self._host, self._port)
        self._task = asyncio.get_running_loop().create_task(self._server.serve())
        while not self._server.started:
            if self._task.done():
                await self._task
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        """Answer what was asked, then stop."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


def memory_mb() -> int:
    """Proportional memory of this process, in MB."""
    with open(f"/proc/{os.getpid()}/smaps_rollup") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) // 1024
    return 0


class LoopLag:
    """How late the event loop runs its timers: looked at twice a second, from when this is made."""

    def __init__(self, world: World) -> None:
        self.seconds = 0.0
        world.spawn(self._measure(world.clock), "loop lag")

    def problems(self) -> list[str]:
        """More than a second is too late to be ready."""
        return [f"the event loop lags {self.seconds:.1f} s"] if self.seconds > LAG_SECONDS else []

    async def _measure(self, clock: Clock) -> None:
        while True:
            before = clock.monotonic()
            await clock.sleep(0.5)
            self.seconds = clock.monotonic() - before - 0.5
            metrics.loop_lag(self.seconds)


class Healthcheck:
    """Answers /healthcheck, as OpenStack's APIs do, for load balancers: 200, or 503 while the process is not ready.

    Everybody may ask, so it tells no reason, and looks once in `LOOK_SECONDS` however often it is asked.
    """

    def __init__(self, app: Any, problems: Problems, clock: Clock) -> None:
        self._app, self._problems, self._clock = app, problems, clock
        self._looked, self._ready = float("-inf"), False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/healthcheck":
            await self._app(scope, receive, send)
            return
        if self._clock.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = self._clock.monotonic()
            self._ready = not await self._problems()
        status, body = (200, b"OK\n") if self._ready else (503, b"UNAVAILABLE\n")
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def give_memory_back(world: World) -> None:
    """For ever: what the process needed for its start now, and what it used and freed since then every so often."""
    memory.give_back()
    while True:
        await world.clock.sleep(TRIM_SECONDS)
        memory.trim()
