"""`kilonova first-server`: what a new user does first, through the public APIs only, as the default project's member:

a key pair, a network with a router, a security group that lets ssh in, a server, a floating IP; then ssh.
Everything is found again by its name, so running it twice shows the same server.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import time
from pathlib import Path
from typing import Any

from kilonova.base.faults import Fault, Kind, not_found, unavailable
from kilonova.cli.environment import base_url, program
from kilonova.cli.state import State, default_directory
from kilonova.http.client import Client, HttpTransport

NAME = "first"
ACTIVE_SECONDS = 300
SSH_SECONDS = 120


def run(options: argparse.Namespace) -> int:
    """Boot it, ssh in, show what to type next."""
    asyncio.run(_FirstServer(State(options.state)).show())
    return 0


class _FirstServer:
    def __init__(self, state: State) -> None:
        self.state = state
        self.choices = state.need()
        self.secrets = state.secrets()
        transport = HttpTransport(base_url(self.choices), timeout_seconds=120)
        self.client = Client(transport)
        self.token = ""
        self.key_file = state.directory / "first.key"
        self.began = time.monotonic()

    def told(self, text: str) -> None:
        """A line of progress with the time since the start."""
        print(f"  {time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    async def show(self) -> None:
        """The whole story."""
        await self.login()
        self.told("token issued")
        await self.key_pair()
        network = await self.network()
        self.told("key pair, network, subnet, router and security group are there")
        server = await self.server(network["id"])
        self.told(f"server {NAME} ({server['id']}) is ACTIVE")
        address = await self.floating_ip(server["id"])
        self.told(f"floating IP {address}")
        real = self.choices.hypervisor == "libvirt" and self.choices.network == "linux"
        if real:
            line = await self.ssh(address, "uname -sr; uptime")
            self.told("ssh works: " + " | ".join(line.split("\n")))
        await self.console(server["id"], tail=4 if real else 2)
        self.trace(server["id"])
        self.next_steps(server["id"], address)
        await self.client.close()

    async def ask(self, method: str, path: str, json: Any = None) -> Any:
        """The JSON answer of the cloud to the member."""
        headers = {"openstack-api-version": "compute 2.90"} if path.startswith("/compute") else None
        return (await self.client.request(method, path, token=self.token, json=json, headers=headers)).json()

    async def login(self) -> None:
        user = {"name": "demo", "domain": {"id": "default"}, "password": self.secrets.member_password}
        scope = {"project": {"name": "demo", "domain": {"id": "default"}}}
        auth = {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}
        reply = await self.client.request("POST", "/identity/v3/auth/tokens", json={"auth": auth})
        self.token = reply.headers["x-subject-token"]

    def public_key(self) -> str:
        """The public half of a key that is made at first use and kept in the state directory."""
        if not self.key_file.exists():
            make = ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-C", "kilonova first server"]
            subprocess.run([*make, "-f", str(self.key_file)], check=True)
        return Path(f"{self.key_file}.pub").read_text().strip()

    async def key_pair(self) -> None:
        pair = {"name": NAME, "public_key": self.public_key(), "type": "ssh"}
        try:
            await self.ask("POST", "/compute/v2.1/os-keypairs", {"keypair": pair})
        except Fault as fault:
            if fault.kind is not Kind.CONFLICT:
                raise

    async def found(self, path: str, noun: str) -> Any:
        """The first of a list, or None."""
        rows = (await self.ask("GET", path))[noun]
        return rows[0] if rows else None

    async def network(self) -> Any:
        network = await self.found(f"/network/v2.0/networks?name={NAME}", "networks")
        if network is None:
            network = (await self.ask("POST", "/network/v2.0/networks", {"network": {"name": NAME}}))["network"]
        if not network["subnets"]:
            subnet = {"name": NAME, "network_id": network["id"], "ip_version": 4, "cidr": "10.10.0.0/24"}
            subnet_id = (await self.ask("POST", "/network/v2.0/subnets", {"subnet": subnet}))["subnet"]["id"]
        else:
            subnet_id = network["subnets"][0]
        if await self.found(f"/network/v2.0/routers?name={NAME}", "routers") is None:
            public = await self.found("/network/v2.0/networks?router:external=true", "networks")
            gateway = {"name": NAME, "external_gateway_info": {"network_id": public["id"]}}
            router = (await self.ask("POST", "/network/v2.0/routers", {"router": gateway}))["router"]
            await self.ask(
                "PUT", f"/network/v2.0/routers/{router['id']}/add_router_interface", {"subnet_id": subnet_id}
            )
        await self.security_group()
        return network

    async def security_group(self) -> None:
        """A group of that name which lets ssh and ping in."""
        if await self.found(f"/network/v2.0/security-groups?name={NAME}", "security_groups"):
            return
        made = await self.ask("POST", "/network/v2.0/security-groups", {"security_group": {"name": NAME}})
        for rule in ({"protocol": "tcp", "port_range_min": 22, "port_range_max": 22}, {"protocol": "icmp"}):
            whole = {"security_group_id": made["security_group"]["id"], "direction": "ingress", **rule}
            await self.ask("POST", "/network/v2.0/security-group-rules", {"security_group_rule": whole})

    async def server(self, network_id: str) -> Any:
        server = await self.found(f"/compute/v2.1/servers/detail?name=^{NAME}$", "servers")
        if server is None:
            image = await self.found("/image/v2/images?name=cirros", "images")
            if image is None:
                raise not_found("Image", "cirros")
            wanted = {
                "name": NAME,
                "imageRef": image["id"],
                "flavorRef": "1",
                "key_name": NAME,
                "networks": [{"uuid": network_id}],
                "security_groups": [{"name": NAME}],
            }
            server = (await self.ask("POST", "/compute/v2.1/servers", {"server": wanted}))["server"]
        deadline = time.monotonic() + ACTIVE_SECONDS
        while True:
            server = (await self.ask("GET", f"/compute/v2.1/servers/{server['id']}"))["server"]
            if server["status"] == "ACTIVE":
                return server
            if server["status"] == "ERROR" or time.monotonic() > deadline:
                reason = server.get("fault", {}).get("message", f"still {server['status']}")
                raise unavailable(
                    f"The first server did not become ACTIVE: {reason}", hint=f"kilonova trace {server['id']}"
                )
            await asyncio.sleep(0.3)

    async def floating_ip(self, server_id: str) -> str:
        port = await self.found(f"/network/v2.0/ports?device_id={server_id}", "ports")
        known = await self.found(f"/network/v2.0/floatingips?port_id={port['id']}", "floatingips")
        if known is None:
            public = await self.found("/network/v2.0/networks?router:external=true", "networks")
            wanted = {"floating_network_id": public["id"], "port_id": port["id"]}
            known = (await self.ask("POST", "/network/v2.0/floatingips", {"floatingip": wanted}))["floatingip"]
        return str(known["floating_ip_address"])

    def ssh_command(self, address: str) -> list[str]:
        """The ssh line that works."""
        quiet = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        return ["ssh", "-i", str(self.key_file), *quiet, f"cirros@{address}"]

    async def ssh(self, address: str, command: str) -> str:
        deadline = time.monotonic() + SSH_SECONDS
        line = [
            *self.ssh_command(address)[:-1],
            "-o",
            "ConnectTimeout=5",
            "-o",
            "BatchMode=yes",
            f"cirros@{address}",
            command,
        ]
        while True:
            process = await asyncio.create_subprocess_exec(*line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            out, error = await process.communicate()
            if process.returncode == 0:
                return out.decode().strip()
            if time.monotonic() > deadline:
                hint = f"See its console: openstack console log show {NAME}"
                raise unavailable(f"ssh to {address} did not work.", hint=hint, inside=error.decode()[-400:])
            await asyncio.sleep(1)

    async def console(self, server_id: str, tail: int) -> None:
        body = {"os-getConsoleOutput": {"length": 200}}
        text = (await self.ask("POST", f"/compute/v2.1/servers/{server_id}/action", body))["output"]
        self.told("its console ends with:")
        for line in [one for one in text.splitlines() if one.strip()][-tail:]:
            print(f"            │ {line[:110]}")

    def trace(self, server_id: str) -> None:
        from kilonova.cli.trace import trace_file
        from kilonova.trace.collect import SpanStore
        from kilonova.trace.draw import draw
        from kilonova.trace.unfold import from_spans

        time.sleep(1.2)  # the last spans of the create are on their way to the collector
        store = SpanStore(trace_file(self.state))
        spans = store.find(server_id)
        store.close()
        if spans:
            path = self.state.directory / "first-server.svg"
            path.write_bytes(draw(from_spans(spans), "svg"))
            self.told(f"its creation is drawn in {path}")

    def next_steps(self, server_id: str, address: str) -> None:
        where = "" if self.state.directory == default_directory() else f" --state {self.state.directory}"
        call = program()
        print(
            f"""
  ACTIVE  server {NAME}  {server_id}
  ssh     {" ".join(self.ssh_command(address))}
  trace   {call} trace{where} {server_id}
  client  eval "$({call} env{where} --member)"; openstack server list
  stop    {call} down{where}            (everything stays; add --purge and nothing does)
"""
        )
