"""What may cross a network in clear: nothing, unless the operator says so."""

from __future__ import annotations

import pytest

from kilonova.base.faults import Fault
from kilonova.cli.encryption import database_url, listens_encrypted, plain_connections, refuse_plain
from kilonova.cli.settings import ClusterSettings
from kilonova.pki.contexts import Tls

PLAIN = ClusterSettings(
    url="http://cloud.example",
    endpoints={"identity": "http://10.0.0.1:5000/identity", "image": "http://127.0.0.1:9292/image"},
    brokers=("amqp://u:secret@mq/", "amqps://u:p@mq/", "amqp://u:p@[::1]/"),
    database="postgresql://u:p@db/{service}?tls=off",
    broker_admin="http://u:p@mq:15672/",
)


def test_what_is_not_encrypted_is_named_without_its_passwords() -> None:
    assert list(plain_connections(PLAIN)) == [
        "url (http://cloud.example)",
        "broker_admin (http://mq)",
        "brokers (amqp://mq)",
        "endpoints.identity (http://10.0.0.1)",
        "database (db, tls=off)",
    ]
    with pytest.raises(Fault, match="Not encrypted") as told:
        refuse_plain(PLAIN)
    assert "secret" not in repr(told.value)


def test_one_machine_and_what_is_encrypted_pass() -> None:
    refuse_plain(ClusterSettings(url="https://cloud", database="mysql://u:p@db/x_{service}"))
    refuse_plain(ClusterSettings(url="http://127.0.0.1:1", database="mysql://u:p@localhost/x_{service}"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p@db/x", ("postgresql://u:p@db/x", True)),
        ("postgresql://u:p@127.0.0.1/x", ("postgresql://u:p@127.0.0.1/x", False)),
        ("postgresql://u:p@127.0.0.1/x?tls=on", ("postgresql://u:p@127.0.0.1/x", True)),
        ("mysql://u:p@db/x?charset=utf8mb4&tls=off", ("mysql://u:p@db/x?charset=utf8mb4", False)),
    ],
)
def test_databases_elsewhere_are_spoken_to_over_tls(url: str, expected: tuple[str, bool]) -> None:
    assert database_url(url) == expected


def test_a_word_that_is_neither_on_nor_off() -> None:
    with pytest.raises(Fault, match="tls=maybe"):
        database_url("postgresql://u:p@db/x?tls=maybe")


def test_an_api_that_others_reach_needs_a_certificate() -> None:
    cluster, none = ClusterSettings(), Tls()
    assert not listens_encrypted(cluster, "127.0.0.1", "", none), "behind a load balancer of this machine"
    assert not listens_encrypted(cluster, "127.0.0.1", "http://127.0.0.1:1/image", none)
    for host, url in (("10.0.0.1", ""), ("0.0.0.0", ""), ("127.0.0.1", "https://127.0.0.1:1/image")):
        with pytest.raises(Fault, match="needs a certificate"):
            listens_encrypted(cluster, host, url, none)
    assert not listens_encrypted(ClusterSettings(plain=True), "10.0.0.1", "http://10.0.0.1:1/image", none)
