"""Traces to draw: a server's creation on one host, hop by hop as the published request flow has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kilonova.trace.spans import Span, SpanKind

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
REQUEST = "req-8d0d29b4-9f0c-4e5a-9d52-6b0f6e3f2a11"
SERVER = "c2f1c3b0-6f1e-4b58-9b1f-52c7e3a1d9aa"
BEGUN = 1_800_000_000.0


class Tracer:
    """Makes spans with times that a test chooses."""

    def __init__(self, participant: str = "client") -> None:
        self.spans: list[Span] = []
        self.now = BEGUN
        self._stack: list[tuple[str, str]] = [("", participant)]

    @contextmanager
    def span(self, target: str, name: str, kind: SpanKind = "call", **extra: str) -> Iterator[Span]:
        parent, source = self._stack[-1]
        made = Span(
            TRACE, f"{len(self.spans) + 1:016x}", parent, source, target, name, kind, self.now,
            request_id=REQUEST, resource=SERVER, where=extra.pop("where", ""), attributes=dict(extra),
        )  # fmt: skip
        self.spans.append(made)
        self._stack.append((made.span_id, target))
        self.now += 0.0006
        try:
            yield made
        except RuntimeError as error:
            made.error = str(error)
            raise
        finally:
            self._stack.pop()
            made.end = self.now = self.now + 0.0004

    def hop(self, target: str, name: str, seconds: float = 0.001, kind: SpanKind = "call", **extra: str) -> None:
        with self.span(target, name, kind, **extra):
            self.now += max(0.0, seconds - 0.001)

    def sql(self, name: str, seconds: float = 0.0012, **extra: str) -> None:
        self.hop("database", name, seconds, **extra)

    def note(self, text: str, **extra: str) -> None:
        with self.span(self._stack[-1][1], text, "note", **extra) as made:
            pass
        made.end = made.start
        self.now = made.start + 0.0001


def create_server(*, hosts: tuple[str, ...] = ("node1",), fails_on: tuple[str, ...] = ()) -> list[Span]:
    """About 80 spans of POST /servers with a network and a root volume; a host of `fails_on` refuses the build."""
    t = Tracer()
    with t.span("keystone", "POST /v3/auth/tokens", where="kilonova/identity/token/issue.py:issue"):
        t.sql("SELECT users by name")
        t.note("password matches (argon2id)")
        t.now += 0.021
        t.sql("SELECT roles on project demo")
    t.now += 0.004
    with t.span("nova_api", "POST /v2.1/servers", where="kilonova/compute/server/create.py:create"):
        _check_and_record(t)
        t.hop("nova_conductor", "build_instances", 0.0012, "cast")
    built = t.spans[-1]
    t._stack = [(built.span_id, "nova_conductor")]
    t.now += 0.0015
    _build(t, hosts, fails_on)
    return t.spans


def _check_and_record(t: Tracer) -> None:
    with t.span("keystone", "GET /v3/auth/tokens", where="kilonova/identity/token/validate.py:validate"):
        t.sql("SELECT revocations since")
    t.note("policy os_compute_api:servers:create: allowed (member)", where="kilonova/compute/server/create.py:create")
    with t.span("glance", "GET /v2/images/cirros"):
        t.sql("SELECT images by id")
    t.note("image is active, m1.tiny has room: min_disk 1 ≤ 1, min_ram 0 ≤ 512")
    with t.span("neutron", "GET /v2.0/networks?name=private"):
        t.sql("SELECT networks by name")
    t.note("quota servers 3 of 10, cores 5 of 20, ram 4096 of 51200")
    t.sql("INSERT servers vm_state=building task_state=scheduling", 0.0031)
    t.sql("INSERT operations create, instance_actions create")
    t.note("notification instance.create.start")


def _build(t: Tracer, hosts: tuple[str, ...], fails_on: tuple[str, ...]) -> None:
    t.sql("SELECT operations lease")
    t.sql("UPDATE operations lease epoch=1")
    with t.span("nova_scheduler", "select_destinations", where="kilonova/compute/scheduler/pick.py:pick"):
        with t.span("placement", "GET /allocation_candidates", where="kilonova/placement/candidates.py:find"):
            t.sql("SELECT resource providers with 1 VCPU, 512 MEMORY_MB")
        t.note("filters: 3 hosts, ComputeFilter 3, ImageProperties 3, Affinity 2")
        t.note("weighers: " + ", ".join(f"{host} {2.4 - n / 2:.1f}" for n, host in enumerate(hosts)))
        with t.span("placement", f"PUT /allocations/{SERVER}"):
            t.sql("INSERT allocations generation=7", 0.002)
    for host in hosts:
        t.sql(f"UPDATE servers host={host}")
        with t.span("nova_compute", "build_and_run_instance", "cast", host=host) as built:
            pass
        t._stack.append((built.span_id, "nova_compute"))
        t.now += 0.002
        done = _on_host(t, host, refuses=host in fails_on)
        t._stack.pop()
        if done:
            break
        with t.span("placement", f"DELETE /allocations/{SERVER}"):
            t.sql("DELETE allocations")
    else:
        t.sql("UPDATE servers vm_state=error")
        t.note("fault: no host could build the server", where="kilonova/compute/server/create.py:give_up")
        return
    t.sql("UPDATE servers vm_state=active task_state=None power_state=running", 0.0028)
    t.note("notification instance.create.end")
    t.sql("UPDATE operations state=finished")


def _on_host(t: Tracer, host: str, *, refuses: bool) -> bool:
    with t.span("nova_conductor", "read_server flavor, image, mappings"):
        t.sql("SELECT servers by id")
        t.sql("SELECT block device mappings")
    with t.span("glance", "GET /v2/images/cirros", where="kilonova/node/images/fetch.py:fetch"):
        t.hop("keystone", "GET /v3/auth/tokens", 0.0009)
        t.sql("SELECT images by id")
    t.hop("nova_compute", "image cirros is in the cache", 0.0008, "self", where="kilonova/node/images/cache.py:have")
    _state(t, "networking")
    with t.span("neutron", "POST /v2.0/ports", where="kilonova/network/port/create.py:create"):
        t.hop("keystone", "GET /v3/auth/tokens", 0.0009)
        t.note("10.0.0.14 from subnet private-v4")
        t.sql("INSERT ports, ip allocations", 0.0024)
        t.hop("l2_agent", "wire port", 0.0015, "cast")
    _state(t, "block_device_mapping")
    with t.span("cinder", "POST /v3/attachments"):
        t.sql("UPDATE volumes status=attaching")
        t.hop("cinder_volume", "initialize_connection", 0.034)
    for _ in range(5):
        with t.span("cinder", "GET /v3/volumes/{id}"):
            t.sql("SELECT volumes by id")
        t.now += 0.1
    _state(t, "spawning")
    return _spawn(t, host, refuses=refuses)


def _spawn(t: Tracer, host: str, *, refuses: bool) -> bool:
    t.hop("nova_compute", "make root disk: overlay on cached base", 0.043, "self",
          where="kilonova/node/images/disk.py:overlay")  # fmt: skip
    t.hop("nova_compute", "make config drive", 0.012, "self", where="kilonova/node/hypervisor/config_drive.py:make")
    try:
        t.hop("libvirt", "define domain", 0.009, where="kilonova/node/hypervisor/domain.py:define")
        with t.span("libvirt", "start domain", where="kilonova/node/hypervisor/domain.py:start"):
            t.now += 0.412
            if refuses:
                raise RuntimeError(f"cannot set up guest memory 'pc.ram': Cannot allocate memory on {host}")
    except RuntimeError as error:
        with t.span("nova_conductor", "step_done failed", "cast"):
            pass
        t.spans[-1].error = str(error)
        return False
    with t.span("nova_api", "POST /os-server-external-events network-vif-plugged"):
        t.hop("nova_compute", "external_instance_event", 0.0011, "cast")
    t.note("hypervisor says running, all ports are up")
    t.hop("nova_conductor", "step_done spawn", 0.0011, "cast")
    return True


def _state(t: Tracer, state: str) -> None:
    with t.span("nova_conductor", "step progress", "cast"):
        t.sql(f"UPDATE servers task_state={state}")
