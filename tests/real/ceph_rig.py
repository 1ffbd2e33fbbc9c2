"""A Ceph of one node for tests: a monitor, a manager and an OSD on a file, on loopback, all gone afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kilonova.node.ceph.cluster import CephCluster
from kilonova.node.ceph.library import PLACES, library
from kilonova.node.ceph.pool import RbdPool
from kilonova.node.volumes.rbd import CONNECTIONS
from tests.fake_cloud import free_port

NEEDS = "needs Ceph (Debian: ceph-mon ceph-mgr ceph-osd ceph-common python3-rbd)"
PROGRAMS = ("ceph", "ceph-mon", "ceph-mgr", "ceph-osd", "ceph-authtool", "monmaptool")
POOLS = ("images", "disks", "volumes")
USER = "kilonova"
OSD_BYTES = 4 << 30

CONF = """[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{port},v1:127.0.0.1:{old_port}]
mon initial members = a
public network = 127.0.0.0/8
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
run dir = {home}
log file = {home}/$name.log
admin socket = {home}/$name.asok
pid file = {home}/$name.pid
keyring = {home}/$name.keyring
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
osd memory target = 939524096
mon data = {home}/mon
mgr data = {home}/mgr
osd data = {home}/osd
bluestore block size = {osd_bytes}
ms bind port min = {first}
ms bind port max = {last}
"""


class CephRig:
    """The running cluster: where its configuration is, and whom clients are."""

    def __init__(self) -> None:
        if os.geteuid() != 0 or not all(shutil.which(name) for name in PROGRAMS):
            pytest.skip(NEEDS)
        if not any(list(Path(place).glob("rbd.*.so")) for place in PLACES):
            pytest.skip(NEEDS)
        self.home = Path(tempfile.mkdtemp(prefix="kn-ceph-"))
        self.conf = self.home / "ceph.conf"
        self._pids: list[Path] = []

    def start(self) -> None:
        """Up, with its pools and a user who may use them. About 20 s."""
        fsid, osd, port = str(uuid.uuid4()), str(uuid.uuid4()), free_port()
        first = 20000 + os.getpid() % 20000
        where = {"home": self.home, "fsid": fsid, "port": port, "old_port": free_port(), "osd_bytes": OSD_BYTES}
        self.conf.write_text(CONF.format(**where, first=first, last=first + 40))
        for name in ("mon", "mgr", "osd"):
            (self.home / name).mkdir()
        self._keys()
        run("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{port},v1:127.0.0.1:{where['old_port']}]",
            "--fsid", fsid, str(self.home / "monmap"))  # fmt: skip
        self._daemon("ceph-mon", "-i", "a", "--mkfs", "--monmap", f"{self.home}/monmap", "--keyring", self._ring("mon"))
        shutil.copy(self._ring("mon"), self.home / "mon/keyring")
        self._start("ceph-mon", "mon", "a")
        self._grant("mgr.x", "mon", "allow profile mgr", "osd", "allow *", "mds", "allow *")
        self._start("ceph-mgr", "mgr", "x")
        self._ceph("osd", "new", osd)
        self._grant("osd.0", "mon", "allow profile osd", "mgr", "allow profile osd", "osd", "allow *")
        key = run("ceph-authtool", "-p", "-n", "osd.0", f"{self.home}/osd.0.keyring").strip()
        self._daemon("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd, "--key", key)
        self._start("ceph-osd", "osd", "0")
        for pool in POOLS:
            self._ceph("osd", "pool", "create", pool, "8")
            self._ceph("osd", "pool", "application", "enable", pool, "rbd")
        caps = ", ".join(f"profile rbd pool={pool}" for pool in POOLS)
        self._grant(f"client.{USER}", "mon", "profile rbd", "osd", caps)
        self._until_room()

    def cluster(self) -> CephCluster:
        """As the product connects."""
        return CephCluster(str(self.conf), USER)

    def stop(self) -> None:
        """No process and no file is left."""
        for path in reversed(self._pids):
            if path.exists() and path.read_text().strip():
                _end(int(path.read_text()))
        shutil.rmtree(self.home)

    def _keys(self) -> None:
        everything = [word for kind in ("mon", "osd", "mgr", "mds") for word in ("--cap", kind, "allow *")]
        admin = f"{self.home}/client.admin.keyring"
        for ring, name, caps in ((self._ring("mon"), "mon.", everything[:3]), (admin, "client.admin", everything)):
            run("ceph-authtool", "--create-keyring", ring, "--gen-key", "-n", name, *caps)
        run("ceph-authtool", self._ring("mon"), "--import-keyring", admin)

    def _ring(self, name: str) -> str:
        return f"{self.home}/{name}.keyring"

    def _grant(self, name: str, *caps: str) -> None:
        self._ceph("auth", "get-or-create", name, *caps, "-o", self._ring(name))

    def _ceph(self, *words: str) -> str:
        return run("ceph", "-c", str(self.conf), "--connect-timeout", "60", *words)

    def _daemon(self, program: str, *words: str) -> None:
        run(program, "-c", str(self.conf), *words)

    def _start(self, program: str, kind: str, id_: str) -> None:
        self._pids.append(self.home / f"{kind}.{id_}.pid")
        self._daemon(program, "-i", id_)

    def _until_room(self) -> None:
        """The manager has told how much room there is, and every placement group takes writes."""
        cluster = self.cluster()
        try:
            for _ in range(240):
                if cluster.room()[1] > 1 << 30:
                    return
                time.sleep(0.5)
        finally:
            cluster.close()
        raise RuntimeError(f"Ceph has no room: {self._ceph('-s')}")


def _end(pid: int) -> None:
    """The daemon has ended; it is no child of ours."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for _ in range(100):
            try:
                os.kill(pid, number if _ == 0 else 0)
            except ProcessLookupError:
                return
            time.sleep(0.1)


@contextmanager
def ceph() -> Iterator[CephRig]:
    """A cluster that is up, gone in the end."""
    rig = CephRig()
    try:
        rig.start()
        yield rig
    finally:
        rig.stop()


def empty(pool: RbdPool) -> None:
    """Nothing is left in the pool, nor in its trash, where nothing of it is cloned elsewhere; nobody is connected."""
    _, rbd = library()
    for key in pool.keys(CONNECTIONS):
        pool.drop_key(CONNECTIONS, key)
    for name in pool.names():
        pool.remove(name)
    pool.sweep()
    assert pool.names() == []
    assert list(rbd.RBD().trash_list(pool.cluster.pool(pool.name))) == []


def run(*command: str) -> str:
    """What the command printed; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
