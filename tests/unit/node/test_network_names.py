"""Names of interfaces and namespaces: within Linux's 15 characters, distinct, and the cloud's own."""

from __future__ import annotations

import uuid

import pytest

from kilonova.base.faults import Fault
from kilonova.node.vswitch.names import Names, prefix_of


def test_every_name_fits_linux_and_begins_with_the_prefix() -> None:
    names, id_ = Names(prefix_of("/var/lib/somewhere"), "a-host-with-a-long-name"), str(uuid.uuid4())
    made = [names.tap(id_), names.inner(id_), names.bridge(id_), names.vxlan(id_)]
    made += [names.dhcp_namespace(id_), names.router_namespace(id_)]
    assert len(set(made)) == len(made)
    assert all(len(name) <= 15 and name.startswith(names.prefix) for name in made)


def test_ten_thousand_ports_have_ten_thousand_names() -> None:
    names = Names("kn01", "h1")
    assert len({names.tap(str(uuid.uuid5(uuid.NAMESPACE_DNS, str(n)))) for n in range(10_000)}) == 10_000


def test_two_hosts_of_one_machine_may_serve_the_same_network() -> None:
    assert Names("kn01", "h1").dhcp_namespace("n") != Names("kn01", "h2").dhcp_namespace("n")


@pytest.mark.parametrize("prefix", ["", "toolong", "1abc", "ab-c"])
def test_a_prefix_that_could_collide_is_refused(prefix: str) -> None:
    with pytest.raises(Fault):
        Names(prefix, "h1")
