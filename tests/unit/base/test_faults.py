"""Faults cross the bus and the journal unchanged; what is our own mistake is not shown to users."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilonova.base.faults import Fault, Kind, bug, conflict, over_quota

words = st.text(max_size=20)


@given(st.sampled_from(Kind), words, words, words, words, st.dictionaries(words, st.integers(0, 9), max_size=2))
def test_the_wire_keeps_everything(
    kind: Kind, message: str, hint: str, inside: str, code: str, data: dict[str, int]
) -> None:
    fault = Fault(kind, message, hint=hint, inside=inside, code=code, data=data)
    wire = msgspec.json.decode(msgspec.json.encode(fault.to_wire()))
    assert vars(Fault.from_wire(wire)) == vars(fault)


def test_a_newer_peers_kind_is_a_bug_with_its_sentence() -> None:
    fault = Fault.from_wire({"kind": "melted", "message": "The disk melted."})
    assert (fault.kind, fault.message) == (Kind.BUG, "The disk melted.")


def test_an_unexpected_exception_is_vague_to_users_and_plain_in_the_log() -> None:
    fault = Fault.wrap(KeyError("/var/lib/secret-path"))
    assert fault.kind is Kind.BUG
    assert "secret-path" not in fault.told
    assert "secret-path" in fault.inside
    assert "secret-path" in repr(fault)


def test_a_fault_is_not_wrapped_again() -> None:
    fault = conflict("It is locked.", hint="Unlock it.")
    assert Fault.wrap(fault) is fault
    assert fault.told == conflict("It is locked", hint="Unlock it.").told == "It is locked. Unlock it."
    assert conflict("It is locked").told == "It is locked"


def test_over_quota_tells_the_numbers() -> None:
    fault = over_quota("cores", wanted=4, used=18, limit=20)
    assert fault.data == {"resource": "cores", "wanted": 4, "used": 18, "limit": 20}
    with pytest.raises(Fault, match="Requested 4, but already used 18 of 20 cores"):
        raise fault


def test_a_bug_tells_users_where_the_reason_is() -> None:
    assert "request's id" in bug("x").told
