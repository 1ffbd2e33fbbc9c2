"""A company's directory, as the guide has it: configured, listed, given a role, and its people at work in the cloud."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import httpx
import pytest

from tests.api.clients.conftest import Client
from tests.api.identity.slapd import SLAPD, Slapd, slapd
from tests.fake_cloud import FakeCloud


@pytest.fixture
def directory() -> Iterator[Slapd]:
    if SLAPD is None:
        pytest.skip("slapd is not installed")
    with slapd() as made:
        yield made


def _as(name: str) -> str:
    return shlex.join([f"--os-username={name}", f"--os-password={name}", "--os-user-domain-name=corp"])


def test_people_of_a_directory_work_in_the_cloud(admin: Client, cloud: FakeCloud, directory: Slapd) -> None:
    domain = admin("domain create corp")["id"]
    config = {"identity": {"driver": "ldap"}, "ldap": directory.options()}
    reply = httpx.put(
        f"{cloud.url}/identity/v3/domains/{domain}/config",
        json={"config": config},
        headers={"X-Auth-Token": admin("token issue")["id"]},
        trust_env=False,
    )
    assert reply.status_code == 201, reply.text
    assert {one["Name"] for one in admin("user list --domain corp")} == {"alice", "bob", "carol", "dave"}
    assert {one["Name"] for one in admin("group list --domain corp")} == {"staff", "ops"}
    assert admin("user show --domain corp alice")["email"] == "alice@corp.example"
    assert "alice" in admin("group contains user --group-domain corp --user-domain corp ops alice", as_json=False)
    admin.do("role add --project demo --group ops --group-domain corp member")
    token = admin(f"{_as('alice')} --os-project-name=demo token issue")
    assert token["user_id"] == admin("user show --domain corp alice")["id"]
    assert admin(f"{_as('alice')} --os-project-name=demo server list") == []
    assert "HTTP 401" in admin.refused(f"{_as('bob')} --os-project-name=demo server list")
    for refused in ("user set --domain corp --email x@y alice", "user create --domain corp --password x eve"):
        assert "in a directory (LDAP), which is read and never written" in admin.refused(refused)
    admin.do("domain set --disable corp")
    admin.do("domain delete corp")
