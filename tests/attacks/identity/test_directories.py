"""Domains with a directory (LDAP): injected filters, empty passwords, servers that are dead, slow or somebody else."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest
import sqlalchemy as sa

from kilonova.base.faults import Fault, Kind
from kilonova.http.client import AsgiTransport, Client
from kilonova.identity.core import IdentityService
from kilonova.identity.domain_config import store as option_store
from kilonova.identity.ldap.refresh import refresh_directories
from kilonova.identity.schema import metadata
from kilonova.identity.service import identity_app
from kilonova.identity.validator import TokenValidator
from tests.api.identity.directory import Corp, corp
from tests.api.identity.slapd import LIMIT, READER_PASSWORD, person
from tests.api.identity.support import ADMIN_PASSWORD
from tests.api.support import ApiClient

__all__ = ["corp"]
_HOSTILE = (
    "*", "ali*", "alice)(uid=*", "*)(objectClass=*", "alice)(|(uid=bob", "\\2a", "alice\\00", "alice\0", "(&)",
    "uid=alice,ou=People,dc=corp,dc=example", "alice,ou=People", "a" * 100_000, "é" * 300, "\ud7ff",
)  # fmt: skip


@pytest.mark.parametrize("name", _HOSTILE)
async def test_a_name_is_never_a_part_of_a_filter_or_of_a_dn(corp: Corp, name: str) -> None:
    before = set(await corp.users())
    for password in ("alice", "bob", ""):
        # a NUL is refused at the door, before anybody is asked
        assert (await corp.login(name, password)).status == (400 if "\0" in name else 401)
    assert set(await corp.users()) == before


async def test_odd_names_and_dns_are_names_and_dns(corp: Corp) -> None:
    """What people are really called: commas, brackets, stars, letters of all kinds."""
    for uid in ("o*(b)", "a\\, b+c=d", "Jürgen", "#x", " lead"):
        name = uid.replace("\\", "")
        escaped = name.strip().replace(",", "\\,").replace("+", "\\+").replace("=", "\\=").replace("#", "\\#")
        corp.slapd.add(person(escaped), objectClass="inetOrgPerson", cn=name.strip(), sn="x", uid=name.strip(),
                       userPassword="canary")  # fmt: skip
        assert (await corp.login(name, "canary")).status == 201, name
        assert (await corp.login(name, "wrong")).status == 401
    assert len(await corp.users()) == 9


async def test_a_password_of_the_cloud_opens_nothing_in_a_domain_with_a_directory(corp: Corp) -> None:
    """A user that was made while the domain had no directory, and stayed."""
    path = f"/v3/domains/{corp.domain_id}/config"
    await corp.admin.delete(path)
    body = {"name": "mole", "password": "mole", "domain_id": corp.domain_id}
    mole = (await corp.admin.post("/v3/users", {"user": body}, 201))["user"]["id"]
    assert (await corp.login("mole", "mole")).status == 201
    config = {"identity": {"driver": "ldap"}, "ldap": corp.slapd.options()}
    assert (await corp.admin.send("PUT", path, {"config": config})).status == 409
    sealed = {place: corp.cloud.service.sealer.seal({"value": value}) for place, value in _places(config)}
    await corp.cloud.service.change(option_store.write, corp.domain_id, sealed)  # as a race would have it
    user = {"id": mole, "password": "mole"}
    by_id = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
    assert (await corp.cloud.send("POST", "/v3/auth/tokens", by_id)).status == 401
    assert (await corp.login("mole", "mole")).status == 401
    corp.slapd.add_person("mole", userPassword="other")  # nor does an entry of its name become that user
    assert (await corp.login("mole", "other")).status == 401
    assert (await corp.login("alice", "alice")).status == 201


def _places(config: dict[str, Any]) -> list[tuple[tuple[str, str], Any]]:
    return [((group, name), value) for group, options in config.items() for name, value in options.items()]


async def test_an_empty_password_binds_nobody(corp: Corp) -> None:
    """LDAP lets a name with an empty password in, as nobody; here that is a wrong password."""
    await corp.users()
    for name in ("alice", "nobody"):
        assert (await corp.login(name, "")).status == 401
    change = {"user": {"original_password": "", "password": "x"}}
    assert (await corp.cloud.send("POST", f"/v3/users/{corp.id_of('alice')}/password", change)).status == 401


async def _slowest_turn(until: asyncio.Event) -> float:
    """The longest time that the event loop did not come round."""
    slowest, last = 0.0, time.monotonic()
    while not until.is_set():
        await asyncio.sleep(0.01)
        now = time.monotonic()
        slowest, last = max(slowest, now - last), now
    return slowest


@pytest.mark.parametrize("how", ["plain", "ldaps", "starttls"])
async def test_a_directory_that_says_nothing_stops_nobody_else(corp: Corp, how: str) -> None:
    await corp.refresh()
    scope = await corp.give("ops")
    token = await corp.token("alice", scope)
    ca = str(corp.slapd.home / "ca.pem")
    tls = {"plain": {}, "ldaps": {"url": corp.slapd.tls_url}, "starttls": {"use_tls": True}}[how]
    await corp.configure(tls_cacertfile=ca, connection_timeout=1, **tls)
    await corp.token("alice")  # a connection is kept
    corp.slapd.freeze()
    done = asyncio.Event()
    watch = asyncio.ensure_future(_slowest_turn(done))
    began = time.monotonic()
    try:
        tries = [corp.login("alice", "alice") for _ in range(12)]
        others = [corp.cloud.try_login("admin", ADMIN_PASSWORD) for _ in range(3)]
        replies, good = await asyncio.gather(*tries), await asyncio.gather(*others)
        took = time.monotonic() - began
        assert {reply.status for reply in replies} == {503}, [reply.status for reply in replies]
        assert {reply.status for reply in good} == {201}
        assert took < 15, took
        assert all("127.0.0.1" not in reply.content.decode() for reply in replies)
        assert await corp.is_good(token)  # tokens do not ask the directory
        began = time.monotonic()
        assert (await corp.admin.send("GET", f"/v3/users?domain_id={corp.domain_id}")).status == 503
        assert time.monotonic() - began < 12
    finally:
        done.set()
        corp.slapd.freeze(False)
    assert await watch < 0.5
    await _answers_again(corp)


async def _answers_again(corp: Corp) -> None:
    for _ in range(100):
        if (await corp.login("alice", "alice")).status == 201:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the directory answers, and is not asked")


async def test_a_directory_that_is_dead_fails_clearly_and_comes_back(corp: Corp) -> None:
    token = await corp.token("alice")
    corp.slapd.stop()
    for path in (f"/v3/users?domain_id={corp.domain_id}", f"/v3/users/{corp.id_of('alice')}"):
        reply = await corp.admin.send("GET", path)
        assert reply.status == 503 and "directory" in reply.json()["error"]["message"], reply.content
    reply = await corp.login("alice", "alice")
    assert reply.status == 503 and str(corp.slapd.port) not in reply.content.decode()
    assert await corp.is_good(token)
    assert (await corp.admin.send("GET", "/v3/users")).status == 200  # without a domain, what is known
    corp.slapd.start()
    await _answers_again(corp)


async def test_a_server_that_is_somebody_else_hears_no_password(corp: Corp) -> None:
    """A certificate of another authority, for another host, or none at all on the way."""
    ca, other = str(corp.slapd.home / "ca.pem"), str(corp.slapd.home / "other.pem")
    elsewhere = corp.slapd.tls_url.replace("127.0.0.1", "localhost")
    for wrong in (
        {"url": corp.slapd.tls_url, "tls_cacertfile": other},
        {"use_tls": True, "tls_cacertfile": other},
        {"url": elsewhere, "tls_cacertfile": ca},
        {"url": corp.slapd.tls_url, "tls_cacertfile": "/dev/null"},
    ):
        await corp.configure(**wrong)
        assert (await corp.login("alice", "alice")).status == 503, wrong
    await corp.configure(url="http://127.0.0.1")
    assert "ldaps://" in (await corp.login("alice", "alice")).json()["error"]["message"]
    await corp.configure(url="ldap://192.0.2.1")
    reply = await corp.admin.send("GET", f"/v3/users?domain_id={corp.domain_id}")
    assert reply.status == 503 and "use_tls" in reply.json()["error"]["message"]


async def test_an_account_that_the_directory_refuses_is_not_the_users_mistake(corp: Corp) -> None:
    await corp.configure(password="wrong")
    reply = await corp.login("alice", "alice")
    assert reply.status == 503 and "wrong" not in reply.json()["error"]["message"].lower().replace("is wrong", "")
    await corp.configure(user_filter="(((")
    assert (await corp.login("alice", "alice")).status == 503
    await corp.configure(user_tree_dn="ou=Nowhere,dc=corp,dc=example")
    assert (await corp.login("alice", "alice")).status == 503


async def test_a_directory_that_tells_only_some_is_not_taken_for_all(corp: Corp) -> None:
    """Whoever is beyond the directory's own limit is not gone: nothing changes, and the reason is told."""
    await corp.configure(user_objectclass="inetOrgPerson")
    before = await corp.users()
    for number in range(LIMIT):
        corp.slapd.add_person(f"more{number}")
    reply = await corp.admin.send("GET", f"/v3/users?domain_id={corp.domain_id}")
    assert reply.status == 503 and "page_size" in reply.json()["error"]["message"]
    every = {one["name"]: one for one in (await corp.admin.get("/v3/users"))["users"]}
    assert {name: every[name] for name in before} == before
    assert (await corp.login("alice", "alice")).status == 201


async def test_who_asks_cannot_tell_by_the_time(corp: Corp) -> None:
    await corp.users()
    spent = {"alice": list[float](), "nobody": list[float]()}
    for _ in range(20):
        for name, times in spent.items():
            began = time.perf_counter()
            assert (await corp.login(name, "wrong")).status == 401
            times.append(time.perf_counter() - began)
    fastest = [sorted(times)[5] for times in spent.values()]
    assert max(fastest) < 2 * min(fastest), fastest


async def test_users_of_one_directory_are_not_those_of_another(corp: Corp) -> None:
    """The same names in two domains: other ids, and nothing of one is the other's."""
    config = {"identity": {"driver": "ldap"}, "ldap": corp.slapd.options()}
    other = (await corp.admin.post("/v3/domains", {"domain": {"name": "other"}}, 201))["domain"]["id"]
    await corp.admin.put(f"/v3/domains/{other}/config", {"config": config}, 201)
    await corp.refresh()
    scope = await corp.give("ops")
    there = await corp.cloud.try_login("alice", "alice", scope, {"id": other})
    assert there.status == 401
    theirs = (await corp.cloud.try_login("alice", "alice", None, {"id": other})).json()["token"]["user"]["id"]
    assert theirs != corp.id_of("alice")


async def test_members_learn_and_change_nothing_of_the_configuration(corp: Corp) -> None:
    await corp.refresh()
    scope = await corp.give("ops", "manager")
    mine = ApiClient(corp.cloud.app, await corp.token("alice", scope))
    path = f"/v3/domains/{corp.domain_id}/config"
    assert (await mine.send("GET", path)).status == 403
    assert (await mine.send("PATCH", path, {"config": {"ldap": {"url": "ldap://127.0.0.1:1"}}})).status == 403
    assert READER_PASSWORD not in str(await corp.admin.get(path))


async def test_passwords_are_in_no_log_and_in_no_row(corp: Corp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    corp.slapd.add_person("eve", userPassword="person-canary-4711")
    assert (await corp.login("eve", "person-canary-4711")).status == 201
    assert (await corp.login("eve", "mistyped-canary-4711")).status == 401
    await corp.users()
    corp.slapd.stop()
    assert (await corp.login("eve", "person-canary-4711")).status == 503
    rows = await corp.cloud.service.db.read(_everything)
    assert "canary-4711" not in caplog.text and "canary-4711" not in rows


def _everything(connection: sa.Connection) -> str:
    return "\n".join(str(row) for table in metadata.sorted_tables for row in connection.execute(sa.select(table)))


async def test_what_one_process_learns_of_a_directory_counts_in_all(corp: Corp) -> None:
    """A second copy of identity shares nothing but the database."""
    service = corp.cloud.service
    second = IdentityService(service.world, service.db, service.sealer)
    validator = TokenValidator(service.world, Client(AsgiTransport(identity_app(second))))
    token = await corp.token("alice")
    assert (await validator.authenticate(token, "")).user_name == "alice"
    assert await second.directories.is_one(corp.domain_id)
    corp.slapd.set(person("alice"), title="FALSE")
    assert await refresh_directories(service) > 0
    assert await refresh_directories(service) == 0  # not due again
    began = time.monotonic()
    while time.monotonic() - began < 1.0:
        try:
            await validator.authenticate(token, "")
        except Fault as fault:
            assert fault.kind is Kind.UNAUTHENTICATED
            break
        await asyncio.sleep(0.02)
    else:
        raise AssertionError("the token is still believed after a second")
    await corp.admin.delete(f"/v3/domains/{corp.domain_id}/config")
    await asyncio.sleep(service.settings.revocation_poll_seconds)
    assert not await second.directories.is_one(corp.domain_id)


async def test_a_directory_that_is_away_keeps_no_other_from_being_read(corp: Corp) -> None:
    for name in ("away", "odd"):
        domain = (await corp.admin.post("/v3/domains", {"domain": {"name": name}}, 201))["domain"]["id"]
        options = corp.slapd.options(url="ldap://127.0.0.1:1") if name == "away" else {"url": "ldap://192.0.2.1"}
        config = {"identity": {"driver": "ldap"}, "ldap": options}
        await corp.admin.put(f"/v3/domains/{domain}/config", {"config": config}, 201)
    with pytest.raises(Fault, match="could not be read") as caught:
        await refresh_directories(corp.cloud.service)
    assert len(caught.value.inside.split("; ")) == 2 and READER_PASSWORD not in repr(caught.value)
    assert "alice" in {one["name"] for one in (await corp.admin.get("/v3/users"))["users"]}
