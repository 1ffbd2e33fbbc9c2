"""A domain whose users are in a real directory: who they are, what they may, and what becomes of changes there."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from kilonova.identity.settings import IdentitySettings
from tests.api.identity.directory import Corp, corp, make_corp
from tests.api.identity.slapd import person, team
from tests.api.support import ApiClient

__all__ = ["corp"]


async def test_a_person_logs_in_with_the_directorys_password(corp: Corp) -> None:
    reply = await corp.login("alice", "alice")
    assert reply.status == 201, reply.content
    user = reply.json()["token"]["user"]
    # the id that Keystone makes of domain, kind and the directory's id
    wanted = hashlib.sha256(f"{corp.domain_id}useralice".encode()).hexdigest()
    assert user == {
        "id": wanted, "name": "alice", "domain": {"id": corp.domain_id, "name": "corp"}, "password_expires_at": None,
    }  # fmt: skip
    again = await corp.cloud.send("POST", "/v3/auth/tokens", _by_id(wanted, "alice"))
    assert again.json()["token"]["user"]["id"] == wanted
    assert (await corp.login("ALICE", "alice")).json()["token"]["user"]["id"] == wanted


def _by_id(user_id: str, password: str) -> dict[str, Any]:
    user = {"id": user_id, "password": password}
    return {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}


async def test_whoever_may_not_hears_the_same(corp: Corp) -> None:
    tries = [("alice", "bob"), ("dave", "dave"), ("nobody", "x"), ("alice", ""), ("reader", "x")]
    replies = [await corp.login(*one) for one in tries]
    assert [reply.status for reply in replies] == [401] * len(tries)
    assert len({reply.content for reply in replies}) == 1


async def test_users_and_groups_are_listed_shown_and_filtered(corp: Corp) -> None:
    users = await corp.users()
    assert set(users) == {"alice", "bob", "carol", "dave"}
    assert [name for name, one in users.items() if not one["enabled"]] == ["dave"]
    shown = (await corp.admin.get(f"/v3/users/{corp.id_of('alice')}"))["user"]
    assert shown == users["alice"]
    assert shown["email"] == "alice@corp.example" and shown["domain_id"] == corp.domain_id
    assert "telephoneNumber" not in shown and "0815" not in str(users)
    assert set(await corp.users(name="bob")) == {"bob"}
    assert set(await corp.users(name__startswith="c")) == {"carol"}
    assert set(await corp.users(enabled="false")) == {"dave"}
    assert await corp.users(name="nobody") == {}
    groups = (await corp.admin.get(f"/v3/groups?domain_id={corp.domain_id}"))["groups"]
    assert {one["name"]: one["description"] for one in groups} == {"staff": "The staff", "ops": "The ops"}
    assert {one["id"] for one in groups} == {corp.team_id("staff"), corp.team_id("ops")}
    assert await corp.members("staff") == {"alice", "bob", "carol"}
    mine = (await corp.admin.get(f"/v3/users/{corp.id_of('alice')}/groups"))["groups"]
    assert {one["name"] for one in mine} == {"staff", "ops"}
    inside = f"/v3/groups/{corp.team_id('ops')}/users"
    await corp.admin.send("HEAD", f"{inside}/{corp.id_of('alice')}")
    await corp.admin.get(f"{inside}/{corp.id_of('bob')}", 404)
    everybody = {one["name"] for one in (await corp.admin.get("/v3/users"))["users"]}
    assert {"alice", "admin"} <= everybody


async def test_the_roles_of_a_group_are_its_members(corp: Corp) -> None:
    await corp.users()
    await corp.refresh()
    scope = await corp.give("ops")
    token = await corp.token("alice", scope)
    assert (await corp.login("bob", "bob", scope)).status == 401
    mine = await ApiClient(corp.cloud.app, token).get("/v3/auth/projects")
    assert [one["id"] for one in mine["projects"]] == [corp.cloud.made.project_id]
    names = await corp.admin.get("/v3/role_assignments?effective&include_names")
    found = [one for one in names["role_assignments"] if one["user"]["id"] == corp.id_of("alice")]
    assert {one["role"]["name"] for one in found} == {"member", "reader"}
    # whoever leaves the group there loses them here, at once where it logs in again, and by the loop in any case
    corp.slapd.set(team("ops"), member=[person("bob")])
    assert await corp.refresh() > 0
    assert not await corp.is_good(token)
    assert (await corp.login("alice", "alice", scope)).status == 401
    assert (await corp.login("bob", "bob", scope)).status == 201


async def test_who_joins_a_group_has_its_roles_at_the_next_login(corp: Corp) -> None:
    await corp.refresh()
    scope = await corp.give("ops")
    assert (await corp.login("carol", "carol", scope)).status == 401
    corp.slapd.set(team("ops"), member=[person("alice"), person("carol")])
    assert (await corp.login("carol", "carol", scope)).status == 201


async def test_who_is_disabled_there_is_out_here_and_old_tokens_do_not_come_back(corp: Corp) -> None:
    token = await corp.token("alice")
    assert await corp.is_good(token)
    corp.slapd.set(person("alice"), title="FALSE")
    assert (await corp.login("alice", "alice")).status == 401
    await corp.refresh()
    assert not await corp.is_good(token)
    corp.slapd.set(person("alice"), title=None)
    later = await corp.token("alice")
    assert await corp.is_good(later) and not await corp.is_good(token)


async def test_who_is_gone_is_disabled_and_is_itself_when_it_returns(corp: Corp) -> None:
    token = await corp.token("bob")
    id_ = corp.id_of("bob")
    where = f"/v3/projects/{corp.cloud.made.project_id}/users/{id_}/roles/{corp.cloud.made.role_ids['member']}"
    await corp.admin.put(where, None, 204)
    corp.slapd.delete(person("bob"))
    assert (await corp.login("bob", "bob")).status == 401
    assert (await corp.admin.get(f"/v3/users/{id_}"))["user"]["enabled"] is False
    assert not await corp.is_good(token)
    assert await corp.members("staff") == {"alice", "carol"}
    corp.slapd.add_person("bob")
    assert (await corp.users(name="bob"))["bob"]["id"] == id_
    assert (await corp.login("bob", "bob", {"project": {"id": corp.cloud.made.project_id}})).status == 201


async def test_who_is_gone_may_be_deleted_with_all_that_it_had(corp: Corp) -> None:
    await corp.users()
    id_ = corp.id_of("bob")
    where = f"/v3/projects/{corp.cloud.made.project_id}/users/{id_}/roles/{corp.cloud.made.role_ids['member']}"
    await corp.admin.put(where, None, 204)
    assert (await corp.admin.send("DELETE", f"/v3/users/{id_}")).status == 403
    corp.slapd.delete(person("bob"))
    await corp.refresh()
    await corp.admin.delete(f"/v3/users/{id_}")
    corp.slapd.add_person("bob")
    assert (await corp.login("bob", "bob")).status == 201
    assert (await corp.admin.send("GET", where)).status == 404


async def test_names_that_change_hands(corp: Corp) -> None:
    """Where the id is not the name, two people may swap names, or one may get that of who is gone."""
    await corp.configure(user_name_attribute="cn")
    await corp.users()
    corp.slapd.set(person("alice"), cn="Bob Dobbs")
    corp.slapd.set(person("bob"), cn="Alice Liddell")
    users = await corp.users()
    assert users["Bob Dobbs"]["id"] == corp.id_of("alice") and users["Alice Liddell"]["id"] == corp.id_of("bob")
    corp.slapd.delete(person("alice"))
    await corp.users()
    corp.slapd.set(person("carol"), cn="Bob Dobbs")
    assert (await corp.users(name="Bob%20Dobbs", enabled="true"))["Bob Dobbs"]["id"] == corp.id_of("carol")
    assert (await corp.login("Bob Dobbs", "carol")).status == 201


async def test_two_of_one_name_are_nobody(corp: Corp) -> None:
    corp.slapd.add_person("alice2", cn=["Alice Liddell"], userPassword="alice")
    await corp.configure(user_name_attribute="cn")
    assert (await corp.login("Alice Liddell", "alice")).status == 401
    assert len([name for name in await corp.users() if name == "Alice Liddell"]) == 1


async def test_what_is_there_is_not_written_here(corp: Corp) -> None:
    await corp.users()
    admin, id_, staff = corp.admin, corp.id_of("alice"), corp.team_id("staff")
    demo = corp.cloud.made.user_ids["demo"]
    tries: list[tuple[str, str, Any]] = [
        ("POST", "/v3/users", {"user": {"name": "eve", "domain_id": corp.domain_id, "password": "x"}}),
        ("PATCH", f"/v3/users/{id_}", {"user": {"name": "eve"}}),
        ("PATCH", f"/v3/users/{id_}", {"user": {"password": "x"}}),
        ("DELETE", f"/v3/users/{id_}", None),
        ("POST", f"/v3/users/{id_}/password", {"user": {"original_password": "alice", "password": "x"}}),
        ("POST", "/v3/groups", {"group": {"name": "gang", "domain_id": corp.domain_id}}),
        ("PATCH", f"/v3/groups/{staff}", {"group": {"name": "gang"}}),
        ("DELETE", f"/v3/groups/{staff}", None),
        ("PUT", f"/v3/groups/{staff}/users/{demo}", None),
        ("DELETE", f"/v3/groups/{staff}/users/{id_}", None),
    ]
    for method, path, body in tries:
        reply = await admin.send(method, path, body)
        assert reply.status == 403, (method, path, reply.content)
        assert "directory (LDAP)" in reply.json()["error"]["message"]
    wrong = {"user": {"original_password": "bob", "password": "x"}}
    assert (await admin.send("POST", f"/v3/users/{id_}/password", wrong)).status == 401
    assert set(await corp.users()) == {"alice", "bob", "carol", "dave"}
    assert (await corp.login("alice", "alice")).status == 201


async def test_its_users_are_in_groups_of_the_cloud_too(corp: Corp) -> None:
    await corp.users()
    group = (await corp.admin.post("/v3/groups", {"group": {"name": "both"}}, 201))["group"]["id"]
    await corp.admin.put(f"/v3/groups/{group}/users/{corp.id_of('alice')}", None, 204)
    await corp.refresh()
    await corp.token("alice")
    found = (await corp.admin.get(f"/v3/users/{corp.id_of('alice')}/groups"))["groups"]
    assert {one["name"] for one in found} == {"both", "staff", "ops"}


async def test_programs_of_its_users_log_in_while_the_user_may(corp: Corp) -> None:
    await corp.refresh()
    scope = await corp.give("ops")
    mine = ApiClient(corp.cloud.app, await corp.token("alice", scope))
    path = f"/v3/users/{corp.id_of('alice')}/application_credentials"
    made = (await mine.post(path, {"application_credential": {"name": "ci"}}, 201))["application_credential"]
    method = {"id": made["id"], "secret": made["secret"]}
    auth = {"auth": {"identity": {"methods": ["application_credential"], "application_credential": method}}}
    assert (await corp.cloud.send("POST", "/v3/auth/tokens", auth)).status == 201
    corp.slapd.set(person("alice"), title="FALSE")
    await corp.refresh()
    assert (await corp.cloud.send("POST", "/v3/auth/tokens", auth)).status == 401


async def test_page_by_page_it_is_the_same(corp: Corp) -> None:
    for number in range(7):
        corp.slapd.add_person(f"more{number}")
    await corp.configure(page_size=3)
    assert len(await corp.users()) == 11


async def test_enabled_as_active_directory_tells_it(corp: Corp) -> None:
    await corp.configure(
        user_enabled_attribute="employeeNumber", user_enabled_mask=2, user_enabled_default="512", query_scope="sub"
    )
    corp.slapd.set(person("alice"), employeeNumber="514")
    corp.slapd.set(person("bob"), employeeNumber="512")
    assert {name: one["enabled"] for name, one in (await corp.users()).items()} == {
        "alice": False, "bob": True, "carol": True, "dave": True,
    }  # fmt: skip
    assert (await corp.login("alice", "alice")).status == 401
    assert (await corp.login("bob", "bob")).status == 201


async def test_enabled_as_a_group_tells_it(corp: Corp) -> None:
    await corp.configure(user_enabled_emulation=True, user_enabled_emulation_dn=team("ops"))
    assert [name for name, one in (await corp.users()).items() if one["enabled"]] == ["alice"]
    assert (await corp.login("bob", "bob")).status == 401


async def test_locked_as_other_directories_tell_it(corp: Corp) -> None:
    """An attribute that says that somebody is locked: inverted, and nobody is by default."""
    await corp.configure(user_enabled_invert=True, user_enabled_default="False")
    corp.slapd.set(person("bob"), title="TRUE")
    assert [name for name, one in (await corp.users()).items() if not one["enabled"]] == ["bob"]


async def test_groups_whose_members_are_ids(corp: Corp) -> None:
    corp.slapd.add(team("unix"), objectClass="posixGroup", gidNumber="100", memberUid=["carol", "nobody"])
    await corp.configure(group_objectclass="posixGroup", group_member_attribute="memberUid", group_members_are_ids=True)
    await corp.users()
    assert await corp.members("unix") == {"carol"}
    scope = await corp.give("unix")
    assert (await corp.login("carol", "carol", scope)).status == 201
    assert (await corp.login("alice", "alice", scope)).status == 401


async def test_a_filter_leaves_only_some(corp: Corp) -> None:
    await corp.configure(user_filter="(|(uid=alice)(uid=bob))", group_filter="cn=ops")
    assert set(await corp.users()) == {"alice", "bob"}
    assert (await corp.login("carol", "carol")).status == 401
    groups = (await corp.admin.get(f"/v3/groups?domain_id={corp.domain_id}"))["groups"]
    assert [one["name"] for one in groups] == ["ops"]


async def test_more_attributes_and_fewer(corp: Corp) -> None:
    await corp.configure(
        user_additional_attribute_mapping=["telephoneNumber:phone"], user_attribute_ignore=["email", "enabled"]
    )
    alice = (await corp.users())["alice"]
    assert alice["phone"] == "0815" and "email" not in alice
    assert (await corp.users())["dave"]["enabled"]


@pytest.mark.parametrize("how", ["ldaps", "starttls"])
async def test_over_tls(corp: Corp, how: str) -> None:
    ca = str(corp.slapd.home / "ca.pem")
    more = {"url": corp.slapd.tls_url} if how == "ldaps" else {"use_tls": True}
    await corp.configure(tls_cacertfile=ca, **more)
    assert (await corp.login("alice", "alice")).status == 201
    assert (await corp.login("alice", "bob")).status == 401


async def test_wrong_passwords_lock_its_users_out_too() -> None:
    async with make_corp(IdentitySettings(lockout_failure_attempts=2)) as corp:
        await corp.users()
        for _ in range(2):
            assert (await corp.login("alice", "x")).status == 401
        assert (await corp.login("alice", "alice")).status == 401
        assert (await corp.login("bob", "bob")).status == 201


async def test_a_domain_with_users_of_its_own_gets_no_directory(corp: Corp) -> None:
    reply = await corp.admin.send("PUT", "/v3/domains/default/config", {"config": {"identity": {"driver": "ldap"}}})
    assert reply.status == 409 and "new domain" in reply.json()["error"]["message"]
    await corp.users()
    await corp.configure()  # those that it has from the directory are no hindrance


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": ""},
        {"url": "ldap://[::1"},
        {"query_scope": "all"},
        {"page_size": -1},
        {"page_size": "many"},
        {"use_tls": "perhaps"},
        {"tls_req_cert": "sometimes"},
        {"user_attribute_ignore": 5},
        {"user_id_attribute": ""},
        {"pool_size": 0},
    ],
)
async def test_options_that_cannot_be_are_refused(corp: Corp, wrong: dict[str, Any]) -> None:
    path = f"/v3/domains/{corp.domain_id}/config"
    before = await corp.admin.get(path)
    reply = await corp.admin.send("PATCH", path, {"config": {"ldap": wrong}})
    assert reply.status == 400, reply.content
    assert "config.ldap" in reply.json()["error"]["message"]
    assert await corp.admin.get(path) == before


async def test_a_domain_goes_with_its_directory(corp: Corp) -> None:
    token = await corp.token("alice")
    await corp.admin.patch(f"/v3/domains/{corp.domain_id}", {"domain": {"enabled": False}})
    assert (await corp.login("alice", "alice")).status == 401 and not await corp.is_good(token)
    await corp.admin.delete(f"/v3/domains/{corp.domain_id}")
    assert (await corp.login("alice", "alice")).status == 401
    assert (await corp.admin.send("GET", f"/v3/users/{corp.id_of('alice')}")).status == 404


async def test_without_its_directory_nobody_of_it_logs_in(corp: Corp) -> None:
    await corp.token("alice")
    await corp.admin.delete(f"/v3/domains/{corp.domain_id}/config")
    for password in ("alice", ""):
        assert (await corp.login("alice", password)).status == 401
