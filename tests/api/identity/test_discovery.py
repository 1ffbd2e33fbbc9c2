"""Versions and the home document."""

from __future__ import annotations

from kilonova.identity.service import ROUTES
from tests.api.identity.support import Cloud

_REL = "https://docs.openstack.org/api/openstack-identity/3/rel"


async def test_versions_without_a_token(cloud: Cloud) -> None:
    reply = await cloud.send("GET", "/")
    assert reply.status == 300 and reply.json()["versions"]["values"][0]["id"] == "v3.14"
    shown = (await cloud.send("GET", "/v3")).json()["version"]
    assert shown["links"][0]["href"].endswith("/v3/")


async def test_the_home_document_says_where_everything_is(cloud: Cloud) -> None:
    reply = await cloud.send("GET", "/v3", accept="application/json-home")
    assert reply.headers["content-type"] == "application/json-home"
    home = reply.json()["resources"]
    assert home[f"{_REL}/users"] == {"href": "/users"}
    assert home[f"{_REL}/project_user_role"] == {
        "href-template": "/projects/{project_id}/users/{user_id}/roles/{role_id}",
        "href-vars": {
            name: f"https://docs.openstack.org/api/openstack-identity/3/param/{name}"
            for name in ("project_id", "user_id", "role_id")
        },
    }
    paths = {route.path for route in ROUTES if route.path not in ("/", "/v3") and "kilonova" not in route.path}
    # grants of users on projects and groups on domains are told apart by their paths, so none is lost
    assert len(home) == len(paths)
    at_root = (await cloud.send("GET", "/", accept="application/json-home")).json()["resources"]
    assert at_root[f"{_REL}/users"] == {"href": "/v3/users"}
