"""What the suites expect to find in a cloud: images, flavors, networks, volume types. Made over its public APIs."""

from __future__ import annotations

from typing import Any

import httpx

from tests.fake_cloud import FakeCloud

FLAVORS = (("42", "m1.nano", 192), ("84", "m1.micro", 256))


class Admin:
    """The cloud's admin, asking plainly."""

    def __init__(self, cloud: FakeCloud) -> None:
        self.http = httpx.Client(base_url=cloud.url, timeout=120, trust_env=False)
        user = {"name": "admin", "domain": {"id": "default"}, "password": cloud.secrets["admin_password"]}
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        auth = {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}
        answer = self.http.post("/identity/v3/auth/tokens", json={"auth": auth})
        answer.raise_for_status()
        self.http.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]

    def ask(self, method: str, path: str, json: Any = None) -> Any:
        """The JSON answer; an error is an error."""
        answer = self.http.request(method, path, json=json)
        if answer.is_error:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.content else None


def prepare(cloud: FakeCloud) -> dict[str, str]:
    """Make it all; the values for the suites' configuration."""
    admin = Admin(cloud)
    for id_, name, ram in FLAVORS:
        flavor = {"id": id_, "name": name, "ram": ram, "vcpus": 1, "disk": 1}
        admin.ask("POST", "/compute/v2.1/flavors", {"flavor": flavor})
        admin.ask("POST", f"/compute/v2.1/flavors/{id_}/os-extra_specs", {"extra_specs": {"hw_rng:allowed": "True"}})
    multiattach = {"name": "multiattach", "extra_specs": {"multiattach": "<is> True"}}
    admin.ask("POST", "/volume/v3/types", {"volume_type": multiattach})
    shared = admin.ask("POST", "/network/v2.0/networks", {"network": {"name": "shared", "shared": True}})["network"]
    subnet = {"name": "shared", "network_id": shared["id"], "ip_version": 4, "cidr": "192.168.233.0/24"}
    admin.ask("POST", "/network/v2.0/subnets", {"subnet": subnet})
    public = admin.ask("GET", "/network/v2.0/networks?router:external=true")["networks"][0]
    image = admin.ask("GET", "/image/v2/images?name=cirros")["images"][0]
    extensions = admin.ask("GET", "/network/v2.0/extensions")["extensions"]
    return {
        "IMAGE": image["id"],
        "IMAGE_ALT": _second_image(admin, image),
        "PUBLIC": public["id"],
        "EXTENSIONS": ",".join(sorted(one["alias"] for one in extensions)),
    }


def _second_image(admin: Admin, first: dict[str, Any]) -> str:
    """The same bytes once more, as an image of another name."""
    wanted = {name: first[name] for name in ("disk_format", "container_format", "min_disk", "min_ram")}
    made = admin.ask("POST", "/image/v2/images", {**wanted, "name": "cirros-alt", "visibility": "public"})
    data = admin.http.get(f"/image/v2/images/{first['id']}/file").content
    headers = {"Content-Type": "application/octet-stream"}
    admin.http.put(f"/image/v2/images/{made['id']}/file", content=data, headers=headers).raise_for_status()
    return str(made["id"])
