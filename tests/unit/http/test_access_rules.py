"""Which requests access rules allow."""

from __future__ import annotations

import pytest

from kilonova.http.access_rules import permits

RULES = (
    ("compute", "GET", "/v2.1/servers"),
    ("compute", "GET", "/v2.1/servers/{server_id}"),
    ("volume", "POST", "/v3/*/volumes"),
    ("object-store", "PUT", "/v1/**"),
    ("image", "GET", "/v2/images/a.b"),
)


@pytest.mark.parametrize(
    ("participant", "method", "path", "allowed"),
    [
        ("nova_api", "GET", "/v2.1/servers", True),
        ("nova_api", "GET", "/v2.1/servers/one", True),
        ("nova_api", "GET", "/v2.1/servers/one/action", False),
        ("nova_api", "GET", "/v2.1/servers/", False),
        ("nova_api", "POST", "/v2.1/servers", False),
        ("neutron", "GET", "/v2.1/servers", False),
        ("nobody", "GET", "/v2.1/servers", False),
        ("cinder", "POST", "/v3/project/volumes", True),
        ("cinder", "POST", "/v3/a/b/volumes", False),
        ("swift", "PUT", "/v1/account/container/an/object", True),
        ("glance", "GET", "/v2/images/a.b", True),
        ("glance", "GET", "/v2/images/axb", False),
        ("glance", "GET", "/v2/images/a.b\n", False),
    ],
)
def test_a_rule_allows_its_service_method_and_path(participant: str, method: str, path: str, allowed: bool) -> None:
    assert permits(RULES, participant, method, (path,)) is allowed


def test_a_path_may_be_told_with_or_without_its_mount() -> None:
    assert permits(
        (("compute", "GET", "/compute/v2.1/servers"),), "nova_api", "GET", ("/v2.1/servers", "/compute/v2.1/servers")
    )
    assert not permits((), "nova_api", "GET", ("/v2.1/servers",))
