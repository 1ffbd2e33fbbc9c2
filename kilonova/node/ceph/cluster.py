"""One connection to a Ceph cluster, shared by all that this process keeps there. Everything blocks."""

from __future__ import annotations

import configparser
import json
import threading
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from kilonova.base.faults import unavailable
from kilonova.node.ceph.library import ceph_faults, library

CONNECT_SECONDS = 15


class CephCluster:
    """Connected when it is first asked. `user` is the name without `client.`; its key stands in a keyring."""

    def __init__(self, conf: str, user: str) -> None:
        self.conf = conf
        self.user = user
        self._lock = threading.Lock()
        self._connection: Any = None
        self._fsid = ""
        self._pools: dict[str, Any] = {}

    def connection(self) -> Any:
        """The connection; UNAVAILABLE when the cluster does not answer in time."""
        with self._lock:
            if self._connection is None:
                self._connection = self._connect()
            return self._connection

    def _connect(self) -> Any:
        rados, _ = library()
        if not Path(self.conf).exists():
            raise unavailable(f"There is no {self.conf}.", hint="[ceph] conf names the cluster's configuration file.")
        with ceph_faults("The storage cluster"):
            connection = rados.Rados(conffile=self.conf, rados_id=self.user)
            connection.connect(timeout=CONNECT_SECONDS)
        return connection

    def pool(self, name: str) -> Any:
        """What rbd's calls take for a pool."""
        connection = self.connection()
        with self._lock, ceph_faults(f"Pool {name}"):
            if name not in self._pools:
                self._pools[name] = connection.open_ioctx(name)
            return self._pools[name]

    def fsid(self) -> str:
        """The cluster's own id, which stands in locations."""
        if not self._fsid:
            with ceph_faults("The storage cluster"):
                self._fsid = str(self.connection().get_fsid())
        return self._fsid

    def room(self) -> tuple[int, int]:
        """(total, free) in bytes."""
        with ceph_faults("The storage cluster"):
            told = self.connection().get_cluster_stats()
        return int(told["kb"]) * 1024, int(told["kb_avail"]) * 1024

    def monitors(self) -> list[tuple[str, int]]:
        """Host and port of each monitor, for QEMU."""
        with ceph_faults("The storage cluster"):
            asked = json.dumps({"prefix": "mon dump", "format": "json"})
            code, answer, said = self.connection().mon_command(asked, b"")
        if code:
            raise unavailable("The storage cluster does not tell its monitors.", inside=str(said))
        return [_address(one) for one in json.loads(answer)["mons"]]

    def secret_uuid(self) -> str:
        """The id of the key at libvirt: the same on every host."""
        return str(uuid5(NAMESPACE_URL, f"ceph://{self.fsid()}/client.{self.user}"))

    def key(self) -> str:
        """The user's key, for QEMU. UNAVAILABLE when no keyring has it."""
        name = f"client.{self.user}"
        for path in str(self.connection().conf_get("keyring") or "").split(","):
            rings = configparser.ConfigParser()
            if rings.read(path.strip()) and rings.has_option(name, "key"):
                return rings.get(name, "key").strip()
        raise unavailable(f"No keyring has the key of {name}.", hint=f"Put it where {self.conf} says keyrings are.")

    def close(self) -> None:
        """Let go."""
        with self._lock:
            for pool in self._pools.values():
                pool.close()
            self._pools.clear()
            if self._connection is not None:
                self._connection.shutdown()
                self._connection = None


def _address(monitor: dict[str, Any]) -> tuple[str, int]:
    """The address by the older protocol when there is one, as every client speaks it."""
    known = monitor.get("public_addrs", {}).get("addrvec") or [{"addr": monitor["addr"].partition("/")[0]}]
    chosen = next((one for one in known if one.get("type") == "v1"), known[0])
    host, _, port = str(chosen["addr"]).rpartition(":")
    return host.strip("[]"), int(port)
