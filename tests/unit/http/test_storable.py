"""Bodies with what no database holds are refused at the door, wherever in them it stands."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.base.faults import Fault
from kilonova.http.schema import decode_json


@pytest.mark.parametrize(
    "raw",
    [
        rb'{"a": "\u0000"}',
        rb'{"a\u0000b": 1}',
        rb'{"a": [[{"b": "x\u0000"}]]}',
        rb'"\u0000"',
        b'{"a": 9223372036854775808}',
        b'{"a": [-9223372036854775809000]}',
        b"1" * 400,
    ],
)
def test_what_no_database_holds(raw: bytes) -> None:
    with pytest.raises(Fault, match=r"NUL|too large"):
        decode_json(raw)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (rb'{"script": "printf \\u0000"}', {"script": "printf \\u0000"}),
        (b'{"a": 9223372036854775807}', {"a": 2**63 - 1}),
        (b'{"a": "1234567890123456789012"}', {"a": "1234567890123456789012"}),
        (b'{"a": 0.12345678901234567890}', {"a": 0.12345678901234567890}),
    ],
)
def test_what_only_looks_like_it(raw: bytes, value: Any) -> None:
    assert decode_json(raw) == value
