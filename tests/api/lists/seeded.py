"""A fake cloud with a few of everything in it, and an administrator who asks it over HTTP."""

from __future__ import annotations

import time
from typing import Any

import httpx

from tests.fake_cloud import FakeCloud

VERSIONS = {
    "compute": {"OpenStack-API-Version": "compute 2.90"},
    "volume": {"OpenStack-API-Version": "volume 3.71"},
    "placement": {"OpenStack-API-Version": "placement 1.39"},
}


class Seeded:
    """`get(service, path)` answers JSON; `ids` fill the parameters of paths."""

    def __init__(self, cloud: FakeCloud) -> None:
        self.http = httpx.Client(base_url=cloud.url, timeout=30)
        self.ids: dict[str, str] = {}
        env = cloud.environment()
        password = {"user": {"name": "admin", "password": env["OS_PASSWORD"], "domain": {"name": "Default"}}}
        scope = {"project": {"name": "admin", "domain": {"name": "Default"}}}
        body = {"auth": {"identity": {"methods": ["password"], "password": password}, "scope": scope}}
        answer = self.http.post("/identity/v3/auth/tokens", json=body)
        assert answer.status_code == 201, answer.text
        self.http.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]
        token = answer.json()["token"]
        self.ids["user_id"], self.project_id = token["user"]["id"], token["project"]["id"]

    def ask(self, method: str, service: str, path: str, body: Any = None, status: int = 0) -> Any:
        """The JSON of an answer, which must have the status (or any of success)."""
        answer = self.http.request(method, f"/{service}{path}", json=body, headers=VERSIONS.get(service, {}))
        fine = answer.status_code == status if status else answer.is_success
        assert fine, f"{method} {service}{path}: {answer.status_code} {answer.text[:400]}"
        return answer.json() if answer.content else {}

    def get(self, service: str, path: str, status: int = 200) -> Any:
        return self.ask("GET", service, path, status=status)

    def make(self, service: str, path: str, envelope: str, **fields: Any) -> Any:
        """What a POST made."""
        return self.ask("POST", service, path, {envelope: fields})[envelope]

    def until(self, service: str, path: str, envelope: str, status: str) -> None:
        """Wait for a status."""
        deadline = time.monotonic() + 60
        while (seen := self.get(service, path)[envelope]["status"]) != status:
            assert time.monotonic() < deadline, f"{service}{path} is still {seen}"
            time.sleep(0.1)

    def fill(self) -> None:
        """A few of everything."""
        public = self.get("network", "/v2.0/networks?router:external=true")["networks"][0]["id"]
        networks = [self._network(number, public) for number in range(3)]
        self._images()
        self._identity()
        self._servers(networks[0])
        flavor = self.make("compute", "/v2.1/flavors", "flavor", name="own", ram=64, vcpus=1, disk=1,
                           **{"os-flavor-access:is_public": False})  # fmt: skip
        self.ids["flavor_id"] = flavor["id"]
        grant = {"addTenantAccess": {"tenant": self.project_id}}
        self.ask("POST", "compute", f"/v2.1/flavors/{flavor['id']}/action", grant)
        for number in range(3):
            self.make("compute", "/v2.1/os-aggregates", "aggregate", name=f"a{number}")
            self.make("compute", "/v2.1/os-server-groups", "server_group", name=f"g{number}", policy="affinity")
            self.make("compute", "/v2.1/os-keypairs", "keypair", name=f"k{number}", type="ssh", public_key=KEY)
            made = self.make("volume", "/v3/types", "volume_type", name=f"t{number}",
                             **{"os-volume-type-access:is_public": number < 2})  # fmt: skip
        self.ids["type_id"] = made["id"]
        self.ask("POST", "volume", f"/v3/types/{made['id']}/action", {"addProjectAccess": {"project": self.project_id}})

    def _network(self, number: int, public: str) -> str:
        network = self.make("network", "/v2.0/networks", "network", name=f"n{number}")["id"]
        cidr = f"10.{40 + number}.0.0/24"
        self.make("network", "/v2.0/subnets", "subnet", name=f"s{number}", network_id=network, ip_version=4, cidr=cidr)
        self.make("network", "/v2.0/ports", "port", name=f"p{number}", network_id=network)
        self.make("network", "/v2.0/routers", "router", name=f"r{number}")
        self.make("network", "/v2.0/security-groups", "security_group", name=f"g{number}", description=f"d{number}")
        self.make("network", "/v2.0/floatingips", "floatingip", floating_network_id=public)
        return str(network)

    def _images(self) -> None:
        for number in range(3):
            image = self.ask("POST", "image", "/v2/images", {"name": f"i{number}", "disk_format": "raw",
                             "container_format": "bare", "visibility": "shared"})  # fmt: skip
        self.ids["image_id"] = image["id"]
        self.ask("POST", "image", f"/v2/images/{image['id']}/members", {"member": "1" * 32})
        spaces = self.get("image", "/v2/metadefs/namespaces")["namespaces"]
        self.ids["namespace"] = next(one["namespace"] for one in spaces if one.get("resource_type_associations"))

    def _identity(self) -> None:
        group = self.make("identity", "/v3/groups", "group", name="team")["id"]
        self.ids["group_id"] = group
        self.ask("PUT", "identity", f"/v3/groups/{group}/users/{self.ids['user_id']}")
        path = f"/v3/users/{self.ids['user_id']}/application_credentials"
        self.make("identity", path, "application_credential", name="robot")
        ec2 = {"tenant_id": self.project_id}
        self.ask("POST", "identity", f"/v3/users/{self.ids['user_id']}/credentials/OS-EC2", ec2)
        for number in range(2):
            self.make("identity", "/v3/projects", "project", name=f"q{number}")
            provider = {"identity_provider": {"enabled": True, "remote_ids": [f"https://p{number}.example"]}}
            self.ask("PUT", "identity", f"/v3/OS-FEDERATION/identity_providers/p{number}", provider)
            cloud = {"auth_url": f"https://c{number}.example/v3", "sp_url": f"https://c{number}.example/sp"}
            other = {"service_provider": cloud | {"enabled": True}}
            self.ask("PUT", "identity", f"/v3/OS-FEDERATION/service_providers/c{number}", other)

    def _resize(self, server: str) -> None:
        url = f"/v2.1/servers/{server}"
        self.ask("POST", "compute", f"{url}/action", {"resize": {"flavorRef": "2"}})
        self.until("compute", url, "server", "VERIFY_RESIZE")
        self.ask("POST", "compute", f"{url}/action", {"confirmResize": None})
        self.until("compute", url, "server", "ACTIVE")

    def _servers(self, network: str) -> None:
        image = next(one["id"] for one in self.get("image", "/v2/images?name=cirros")["images"])
        for number in range(3):
            volume = self.make("volume", "/v3/volumes", "volume", name=f"v{number}", size=1 + number)["id"]
            self.until("volume", f"/v3/volumes/{volume}", "volume", "available")
            snapshot = self.make("volume", "/v3/snapshots", "snapshot", name=f"n{number}", volume_id=volume)["id"]
            self.until("volume", f"/v3/snapshots/{snapshot}", "snapshot", "available")
            self.ids["snapshot_id"] = snapshot
            devices = [
                {"uuid": image, "source_type": "image", "destination_type": "local", "boot_index": 0},
                {"uuid": volume, "source_type": "volume", "destination_type": "volume", "boot_index": -1},
            ]
            server = self.make("compute", "/v2.1/servers", "server", name=f"s{number}", flavorRef="1", imageRef=image,
                               networks=[{"uuid": network}], block_device_mapping_v2=devices)["id"]  # fmt: skip
            self.until("compute", f"/v2.1/servers/{server}", "server", "ACTIVE")
            if number:
                self._resize(server)
        self.ids["server_id"] = server
        self.ask("POST", "compute", f"/v2.1/servers/{server}/action", {"os-stop": None})
        self.until("compute", f"/v2.1/servers/{server}", "server", "SHUTOFF")


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl lists"
