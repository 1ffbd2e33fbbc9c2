"""Envelopes: who may say what, and for how long it is believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kilonova.base.faults import Fault, Kind
from kilonova.bus.contract import Message
from kilonova.bus.signing import DerivedKeys, KeyRing, SeenIds, agent_keys

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


class FixedClock:
    def __init__(self, later_seconds: float = 0.0) -> None:
        self._now = NOW + timedelta(seconds=later_seconds)

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None: ...


def message(sender: str = "conductor", type_: str = "conductor", host: str = "", **more: object) -> Message:
    values = {"id": "m1", "exchange": "nova", "version": 1, "method": "do", "args": {"n": 1}, "kind": "call"}
    return Message(sender=sender, type=type_, host=host, sent_at=NOW.timestamp(), **(values | more))  # type: ignore[arg-type]


def control(sender: str = "conductor") -> KeyRing:
    return KeyRing(sender, DerivedKeys(b"secret"))


def node(name: str) -> KeyRing:
    return KeyRing(name, agent_keys(b"secret", name))


def refused(ring: KeyRing, frame: bytes, later_seconds: float = 0.0) -> str:
    with pytest.raises(Fault) as told:
        ring.unseal(frame, FixedClock(later_seconds))
    assert told.value.kind is Kind.UNAUTHENTICATED
    return told.value.message


def test_a_sealed_message_opens_as_it_was() -> None:
    opened = control().unseal(control().seal(message()), FixedClock())
    assert (opened.args, opened.sender) == ({"n": 1}, "conductor")


def test_one_changed_byte_is_refused() -> None:
    frame = bytearray(control().seal(message()))
    frame[frame.index(b'"n":1') + 4] = ord("2")
    assert "not signed" in refused(control(), bytes(frame))


def test_rubbish_is_refused_not_crashed_on() -> None:
    for frame in (b"", b"x", b"\xff" * 100, b"0" * 64 + b"[]", b"0" * 64 + b'{"id": 1}'):
        assert "cannot be read" in refused(control(), frame)


def test_an_agent_speaks_for_itself_only() -> None:
    assert control().unseal(node("compute.n1").seal(message("compute.n1")), FixedClock()).sender == "compute.n1"
    frame = KeyRing("compute.n2", {"compute.n2": agent_keys(b"secret", "compute.n1")["compute.n1"]}).seal(
        message("compute.n2")
    )
    assert "not signed" in refused(control(), frame)


def test_a_host_opens_orders_to_itself_but_not_to_others() -> None:
    order = message("conductor", "compute", "n1")
    frame = control().seal(order)
    assert node("compute.n1").unseal(frame, FixedClock()).sender == "conductor"
    assert "not signed" in refused(node("compute.n2"), frame)


def test_a_host_cannot_sign_as_the_control_plane() -> None:
    forger = KeyRing("conductor", agent_keys(b"secret", "compute.n1"))
    for to in (("conductor", ""), ("compute", "n2")):
        with pytest.raises(Fault, match="may not send"):
            forger.seal(message("conductor", *to))


@pytest.mark.parametrize(
    ("kind", "deadline_seconds", "accepted", "stale"),
    [("call", 10, 299, 301), ("fanout", 0, 299, 301), ("cast", 0, 3599, 3601), ("cast", 900, 899, 901)],
)
def test_messages_go_stale(kind: str, deadline_seconds: int, accepted: int, stale: int) -> None:
    deadline = NOW.timestamp() + deadline_seconds if deadline_seconds else 0.0
    frame = control().seal(message(kind=kind, deadline_at=deadline))
    control().unseal(frame, FixedClock(accepted))
    assert "too old" in refused(control(), frame, stale)


def test_a_message_from_the_future_is_refused() -> None:
    assert "from the future" in refused(control(), control().seal(message()), -61)


def test_seen_ids_are_bounded() -> None:
    seen = SeenIds(limit=2)
    assert [seen.first_time(i) for i in ("a", "b", "a", "c", "a")] == [True, True, False, True, True]
