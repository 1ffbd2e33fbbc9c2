"""The regular expressions that a host's user has on the broker."""

from __future__ import annotations

import re

import pytest

from kilonova.bus.rights import Rights, fanout_queue, reply_queue, rights_of, shared_queues

NODE1 = rights_of(["compute.node1", "l2_agent.node1"])
OWN = [
    "compute.node1",
    "l2_agent.node1",
    fanout_queue("compute", "node1", "5f"),
    fanout_queue("l2_agent", "node1", "5f"),
    reply_queue("compute.node1", "5f"),
    reply_queue("l2_agent.node1", "5f"),
]
OTHERS = [
    *("compute.node2", "compute.node10", "compute.node1x", "computeXnode1", "l2_agent.node2", "dhcp_agent.node1"),
    *("conductor", "scheduler", "q-plugin", "trace", "nova", "neutron", "cinder", "replies", "kilonova", "amq.default"),
    *(fanout_queue("compute", "node2", "5f"), fanout_queue("compute", "node1-b", "5f"), "compute_fanout_5f"),
    *(reply_queue("conductor", "5f"), reply_queue("compute.node2", "5f"), reply_queue("compute.node10", "5f"), ""),
]


def may(pattern: str, name: str) -> bool:
    return re.search(pattern, name) is not None


def topic(rights: Rights, exchange: str) -> tuple[str, str]:
    found = next(one for one in rights.topics if one.exchange == exchange)
    return found.write, found.read


def test_a_host_configures_its_own_queues_only() -> None:
    assert [name for name in OWN if not may(NODE1.configure, name)] == []
    assert [name for name in OTHERS if may(NODE1.configure, name)] == []


def test_a_host_reads_its_own_queues_and_those_of_its_type() -> None:
    assert [name for name in [*OWN, "compute", "l2_agent"] if not may(NODE1.read, name)] == []
    assert [name for name in OTHERS if may(NODE1.read, name)] == ["nova", "neutron", "replies"]  # to bind


def test_a_host_writes_to_exchanges_not_to_queues_of_others() -> None:
    assert [name for name in OTHERS if may(NODE1.write, name)] == ["nova", "neutron", "replies", "kilonova"]
    assert not may(NODE1.write, "compute")


def test_routing_keys() -> None:
    write, read = topic(NODE1, "nova")
    assert [key for key in [*OWN, *OTHERS, "compute", "compute_fanout", "#"] if may(write, key)] == ["conductor"]
    assert [key for key in [*OWN, *OTHERS, "compute_fanout", "#", "*"] if may(read, key)] == [
        "compute.node1",
        "compute_fanout",
    ]
    write, read = topic(NODE1, "replies")
    assert [key for key in [*OWN, *OTHERS] if may(write, key)] == [reply_queue("conductor", "5f")]
    assert [key for key in [*OWN, *OTHERS, "#", "reply_#"] if may(read, key)] == OWN[4:]
    assert topic(NODE1, "kilonova") == ("^(trace)$", "^$")


@pytest.mark.parametrize("senders", [["cinder-volume.keep@files"], ["l3_agent.net1", "dhcp_agent.net1"]])
def test_every_exchange_that_may_be_written_has_its_keys_limited(senders: list[str]) -> None:
    """RabbitMQ allows every key on an exchange that has no rule for the user."""
    rights = rights_of(senders)
    exchanges = {"nova", "neutron", "cinder", "glance", "kilonova", "replies"}
    assert {name for name in exchanges if may(rights.write, name)} == {one.exchange for one in rights.topics}
    assert {name for name in exchanges if may(rights.read, name)} <= {one.exchange for one in rights.topics}


def test_what_is_made_for_a_host() -> None:
    assert shared_queues(["compute.node1", "l2_agent.node1"]) == [
        ("kilonova", "trace"),
        ("neutron", "l2_agent"),
        ("neutron", "q-plugin"),
        ("nova", "compute"),
        ("nova", "conductor"),
    ]
