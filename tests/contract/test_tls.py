"""TLS at every part (A107): encrypted for real; a certificate for another name or of another authority is refused."""

from __future__ import annotations

import asyncio
import hashlib
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import uvloop

from kilonova.base.faults import Fault, Kind
from kilonova.base.world import LiveWorld
from kilonova.bus.amqp import AmqpBus
from kilonova.bus.amqp_link import Access
from kilonova.bus.broker_admin import BrokerAdmin
from kilonova.bus.contract import Target
from kilonova.bus.signing import DerivedKeys
from kilonova.cli.serve import Listener
from kilonova.db.server import ServerDatabase, probe
from kilonova.http.client import HttpTransport
from kilonova.pki.authority import issue_for_host, issue_for_user, new_authority
from kilonova.pki.contexts import Tls, trusting
from tests.services import RabbitMQ, authority, free_port, trusting_tests

NOW = datetime.now(UTC)
STRANGER = new_authority("somebody else", NOW)


def elsewhere(url: str) -> str:
    """The same place by a name that its certificate does not have."""
    return url.replace("127.0.0.1", "localhost")


async def refusal(asked: Awaitable[Any]) -> Kind:
    with pytest.raises(Fault) as told:
        await asked
    return told.value.kind


# ── databases


@pytest.mark.cluster
@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_databases(request: pytest.FixtureRequest, server: str, run: Callable[[Any], Any]) -> None:
    with request.getfixturevalue(server).database() as url:
        run(databases(url))


async def databases(url: str) -> None:
    async def asked(url: str, tls: ssl.SSLContext) -> str:
        world = LiveWorld("tls")
        database = ServerDatabase("compute", url, world, tls=tls)
        try:
            await database.read(probe)
            return await database.read(cipher)
        finally:
            await database.close()
            await world.close()

    assert (await asked(url, trusting_tests())).startswith("TLSv1.")
    assert await refusal(asked(elsewhere(url), trusting_tests())) is Kind.UNAVAILABLE
    assert await refusal(asked(url, trusting(STRANGER.certificate))) is Kind.UNAVAILABLE


def cipher(connection: sa.Connection) -> str:
    """What the server says this connection is encrypted with."""
    if connection.dialect.name == "postgresql":
        mine = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return str(connection.scalar(sa.text(mine)))
    return str(connection.execute(sa.text("SHOW SESSION STATUS LIKE 'Ssl_version'")).one()[1])


async def test_a_database_server_that_speaks_no_tls_is_not_spoken_to() -> None:
    """Whoever stands in between may say that the server has none: then nothing is sent, above all no password."""
    heard: list[bytes] = []

    async def say_no(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(8))
        writer.write(b"N")
        heard.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(say_no, "127.0.0.1", port := free_port())
    world = LiveWorld("tls")
    database = ServerDatabase("x", f"postgresql://u:pw@127.0.0.1:{port}/x", world, tls=trusting_tests())
    assert await refusal(database.read(probe)) is Kind.UNAVAILABLE
    await database.close()
    await world.close()
    server.close()
    assert heard[0][4:] == (80877103).to_bytes(4, "big")  # SSLRequest
    assert not any(heard[1:])


# ── the broker


@pytest.mark.cluster
async def test_the_broker(rabbitmq: RabbitMQ) -> None:
    assert await answer(rabbitmq.tls_url, trusting_tests()) == "heard"
    assert await refusal(answer(elsewhere(rabbitmq.tls_url), trusting_tests())) is Kind.UNAVAILABLE
    assert await refusal(answer(rabbitmq.tls_url, trusting(STRANGER.certificate))) is Kind.UNAVAILABLE


async def answer(url: str, tls: ssl.SSLContext) -> Any:
    """What a call to ourselves over this broker brings back."""
    world = LiveWorld("tls")
    to = Target("nova", f"tls-{world.ids.hex32()}")
    bus = AmqpBus(world, [url], to.type, DerivedKeys(b"s"), Access(tls=tls))

    async def hear(_: Any) -> str:
        return "heard"

    try:
        async with asyncio.timeout(5):
            await bus.serve("nova", to.type, "", {"hear": hear})
        return await bus.call(to, "hear", {}, timeout_seconds=5)
    except TimeoutError:
        raise Fault(Kind.UNAVAILABLE, "not connected") from None
    finally:
        await bus.close()
        await world.close()


@pytest.mark.cluster
async def test_the_brokers_administration(rabbitmq: RabbitMQ) -> None:
    async def ask(url: str, tls: ssl.SSLContext) -> None:
        admin = BrokerAdmin(url, "/", verify=tls)
        try:
            await admin.delete_user("nobody-of-that-name")
        finally:
            await admin.close()

    await ask(rabbitmq.admin_url, trusting_tests())
    assert await refusal(ask(elsewhere(rabbitmq.admin_url), trusting_tests())) is Kind.UNAVAILABLE
    assert await refusal(ask(rabbitmq.admin_url, trusting(STRANGER.certificate))) is Kind.UNAVAILABLE


# ── APIs


class Papers:
    """A host's files, which can be renewed."""

    def __init__(self, directory: Path) -> None:
        self.certificate, self.key = directory / "host.pem", directory / "host.key"
        self.renew()

    def renew(self, *names: str) -> None:
        issued = issue_for_host(authority(), names or ["127.0.0.1"], NOW)
        self.certificate.write_text(issued.certificate)
        self.key.write_text(issued.key)
        self.key.chmod(0o600)


@asynccontextmanager
async def api(tls: Tls | None) -> AsyncIterator[str]:
    """The URL of an API that says hello, and the hash of what it is sent."""

    async def hello(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "PUT":
            await echo_hash(receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})

    listener = Listener(hello, ("127.0.0.1", port := free_port()), tls.server if tls else None)
    await listener.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    finally:
        await listener.close()


async def echo_hash(receive: Any, send: Any) -> None:
    digest, more = hashlib.sha256(), True
    while more:
        message = await receive()
        digest.update(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"32")]})
    await send({"type": "http.response.body", "body": digest.digest()})


async def get(url: str, tls: ssl.SSLContext) -> bytes:
    transport = HttpTransport(url, verify=tls)
    try:
        return (await transport.send("GET", "/", {}, b"")).content
    finally:
        await transport.close()


async def test_apis(tmp_path: Path) -> None:
    papers = Papers(tmp_path)
    async with api(Tls("", str(papers.certificate), str(papers.key))) as url:
        assert await get(url, trusting_tests()) == b"hello"
        assert await refusal(get(elsewhere(url), trusting_tests())) is Kind.UNAVAILABLE
        assert await refusal(get(url, trusting(STRANGER.certificate))) is Kind.UNAVAILABLE
        assert await refusal(get(url.replace("https", "http"), trusting_tests())) is Kind.UNAVAILABLE


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_a_long_body_comes_whole(tmp_path: Path, run: Callable[[Any], Any], encrypted: bool) -> None:
    papers = Papers(tmp_path)
    run(long_bodies(Tls("", str(papers.certificate), str(papers.key)), encrypted=encrypted))


async def long_bodies(tls: Tls, *, encrypted: bool) -> None:
    async with api(tls if encrypted else None) as url:
        transport = HttpTransport(url, verify=trusting_tests())
        try:
            for length in (5 << 20, 3_000_001, 10, 1 << 20):  # one after the other, on one connection
                body = random.Random(length).randbytes(length)
                assert (await transport.send("PUT", "/", {}, body)).content == hashlib.sha256(body).digest()
            assert (await transport.send("GET", "/", {}, b"")).content == b"hello"
        finally:
            await transport.close()


async def test_a_users_certificate_is_no_servers(tmp_path: Path) -> None:
    """Who got one by os-certificates, under an authority that a client trusts, cannot pose as a service."""
    papers = Papers(tmp_path)
    user = issue_for_user(authority(), ("127.0.0.1", "project"), NOW)
    papers.certificate.write_text(user.certificate)
    papers.key.write_text(user.key)
    async with api(Tls("", str(papers.certificate), str(papers.key))) as url:
        assert await refusal(get(url, trusting_tests())) is Kind.UNAVAILABLE


async def test_certificates_are_read_again_while_it_serves(tmp_path: Path) -> None:
    papers = Papers(tmp_path)
    tls = Tls("", str(papers.certificate), str(papers.key))
    async with api(tls) as url:
        papers.renew("localhost")
        assert await get(url, trusting_tests()) == b"hello", "not yet"
        tls.reload()
        assert await refusal(get(url, trusting_tests())) is Kind.UNAVAILABLE
        assert await get(elsewhere(url), trusting_tests()) == b"hello"
        papers.key.write_text(issue_for_host(STRANGER, ["x"], NOW).key)
        assert _refused(tls.reload) is Kind.CONFLICT
        assert await get(elsewhere(url), trusting_tests()) == b"hello", "a pair that does not fit changes nothing"
        papers.key.chmod(0o604)
        assert _refused(tls.reload) is Kind.CONFLICT


def _refused(do: Callable[[], None]) -> Kind:
    with pytest.raises(Fault) as told:
        do()
    return told.value.kind
