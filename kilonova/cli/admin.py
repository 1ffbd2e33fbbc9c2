"""Asking a cloud as its admin: every service behind one door, for the commands that read and mend."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kilonova.cli.encryption import encryption_of
from kilonova.cli.environment import base_url
from kilonova.cli.settings import read_settings
from kilonova.cli.state import State, secrets_of
from kilonova.http.client import Client, HttpTransport, Reply

_VERSIONS = {"openstack-api-version": "compute 2.90, volume 3.44, placement 1.36"}


class Doors:
    """Every service as one: the first word of a path says which is asked."""

    def __init__(self, url_of: Callable[[str], str], verify: Any) -> None:
        self._url_of, self._verify = url_of, verify
        self._open: dict[str, Client] = {}

    async def request(self, method: str, path: str, **options: Any) -> Reply:
        """As the service answers."""
        _, mount, rest = path.split("/", 2)
        if mount not in self._open:
            self._open[mount] = Client(
                HttpTransport(self._url_of(f"/{mount}"), timeout_seconds=60, verify=self._verify)
            )
        return await self._open[mount].request(method, f"/{rest}", **options)

    async def close(self) -> None:
        """Let go of all connections."""
        for client in self._open.values():
            await client.close()


class Admin:
    """`url_of("/compute")` is where that service is asked; `verify` the TLS context, whom to trust there."""

    def __init__(self, url_of: Callable[[str], str], password: str, verify: Any = True) -> None:
        self.doors = Doors(url_of, verify)
        self._password = password
        self._token = ""

    @classmethod
    def of(cls, options: argparse.Namespace) -> Admin:
        """The admin of the cloud that a command's --state or --config names."""
        if options.config:
            cluster = read_settings(str(options.config)).cluster
            tls = encryption_of(cluster).tls
            return cls(cluster.internal_url, secrets_of(Path(cluster.secrets)).admin_password, tls.client)
        state = State(options.state)
        base = base_url(state.need())
        return cls(lambda mount: base + mount, state.secrets().admin_password)

    async def log_in(self) -> None:
        """Whoever asks from now on is the admin."""
        user = {"name": "admin", "domain": {"id": "default"}, "password": self._password}
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        auth = {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}
        reply = await self.doors.request("POST", "/identity/v3/auth/tokens", json={"auth": auth})
        self._token = reply.headers["x-subject-token"]

    async def ask(self, method: str, path: str, json: Any = None) -> Any:
        """The JSON that the service answers; a Fault when it refuses."""
        if not self._token:
            await self.log_in()
        return (await self.doors.request(method, path, token=self._token, headers=_VERSIONS, json=json)).json()

    async def all(self, path: str, noun: str) -> list[dict[str, Any]]:
        """Every page of a list."""
        rows: list[dict[str, Any]] = []
        joiner = "&" if "?" in path else "?"
        while True:
            marker = f"&marker={rows[-1]['id']}" if rows else ""
            page = (await self.ask("GET", f"{path}{joiner}limit=500{marker}"))[noun]
            rows += page
            if len(page) < 500:
                return rows

    async def close(self) -> None:
        """Let go of all connections."""
        await self.doors.close()
