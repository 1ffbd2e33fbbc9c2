"""Identity as the unmodified client uses it: trusts, keys, limits, access rules; keys that rotate under it."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.api.clients.conftest import Client
from tests.fake_cloud import FakeCloud

RULES = json.dumps([{"service": "compute", "method": "GET", "path": "/v2.1/servers"}])


def _answers(cloud: FakeCloud, token: str, path: str) -> int:
    return httpx.get(cloud.url + path, headers={"X-Auth-Token": token}, trust_env=False).status_code


def _as_program(cloud: FakeCloud, credential: dict[str, Any]) -> str:
    method = {"id": credential["ID"], "secret": credential["Secret"]}
    auth = {"identity": {"methods": ["application_credential"], "application_credential": method}}
    reply = httpx.post(f"{cloud.url}/identity/v3/auth/tokens", json={"auth": auth}, trust_env=False)
    return reply.headers["X-Subject-Token"]


def test_access_rules_hold_at_every_service(member: Client, cloud: FakeCloud) -> None:
    made = member(f"application credential create watcher --access-rules '{RULES}'")
    token = _as_program(cloud, made)
    assert _answers(cloud, token, "/compute/v2.1/servers") == 200
    for path in ("/compute/v2.1/flavors", "/image/v2/images", "/network/v2.0/networks", "/volume/v3/volumes"):
        assert _answers(cloud, token, path) == 401
    assert [one["Path"] for one in member("access rule list")] == ["/v2.1/servers"]
    member.do("application credential delete watcher")
    assert _answers(cloud, token, "/identity/v3/auth/projects") == 401


def test_trusts_and_keys(member: Client, admin: Client) -> None:
    made = admin("trust create --project admin --role member --impersonate admin demo")
    assert [role["name"] for role in made["roles"]] == ["member"]
    assert [one["ID"] for one in admin("trust list")] == [made["id"]]
    admin.do(f"trust delete {made['id']}")
    keys = member("ec2 credentials create")
    assert [one["Access"] for one in member("ec2 credentials list")] == [keys["access"]]
    member.do(f"ec2 credentials delete {keys['access']}")


def test_limits(member: Client, admin: Client) -> None:
    registered = admin("registered limit create --service compute --default-limit 5 boats")
    limit = admin("limit create --project demo --service compute --resource-limit 7 boats")
    assert [one["Resource Limit"] for one in member("limit list")] == [7]
    assert "Unable to update or delete" in admin.refused(f"registered limit delete {registered['id']}")
    admin.do(f"limit delete {limit['id']}")
    admin.do(f"registered limit delete {registered['id']}")


def test_keys_rotate_while_the_cloud_runs(member: Client, cloud: FakeCloud) -> None:
    before = member("token issue")["id"]
    assert "new key" in cloud.door("identity", "rotate-keys")
    assert _answers(cloud, before, "/compute/v2.1/servers") == 200
    assert _answers(cloud, member("token issue")["id"], "/compute/v2.1/servers") == 200
