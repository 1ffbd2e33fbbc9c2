"""Servers for tests marked `cluster`, and Ceph: one of each per run, started when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.real.ceph_rig import CephRig, ceph
from tests.services import MariaDB, Memcached, PostgreSQL, RabbitMQ


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """A RabbitMQ broker; `.url`, `.restart(kill=True)`. Tests share it: use exchanges of your own."""
    with RabbitMQ() as service:
        yield service


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL server; `with postgresql.database() as url` for a database of your own."""
    with PostgreSQL() as service:
        yield service


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """A MariaDB server; `with mariadb.database() as url` for a database of your own."""
    with MariaDB() as service:
        yield service


@pytest.fixture(scope="session")
def ceph_rig() -> Iterator[CephRig]:
    """A Ceph of one node with pools `images`, `disks` and `volumes`; tests share it and leave the pools empty."""
    with ceph() as rig:
        yield rig


@pytest.fixture(scope="session")
def memcached() -> Iterator[Memcached]:
    """A memcached; `.url`."""
    with Memcached() as service:
        yield service
