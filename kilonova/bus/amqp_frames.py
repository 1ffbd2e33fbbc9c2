"""The frames of AMQP 0-9-1 that every message needs, packed by hand: publish, content header, body, acknowledgement.

pamqp packs and reads all other methods. These are made and met for each call on the bus, and a general codec takes ten
times as long: it looks at every field's type anew.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Any, Final

import pamqp.frame

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END: Final = 0xCE
HEARTBEAT_FRAME: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"
FRAME_OVERHEAD: Final = 8  # bytes around each payload

# Class 60, Basic; RabbitMQ's confirmations are the acknowledgements of the other direction.
PUBLISH, RETURN, DELIVER, ACK, NACK = 0x003C0028, 0x003C0032, 0x003C003C, 0x003C0050, 0x003C0078

frame_start: Final = Struct(">BHI")  # type, channel, bytes of payload
method_id: Final = Struct(">I")
long_long: Final = Struct(">Q")
_ack: Final = Struct(">BHIIQBB")
_header: Final = Struct(">BHIHHQ")
# Bits of the properties' flags, from the first one down; the values follow in the same order.
_CONTENT_TYPE, _DELIVERY_MODE, _EXPIRATION, _MESSAGE_ID, _TYPE, _APP_ID = 0x8000, 0x1000, 0x0100, 0x0080, 0x0020, 0x0008
_PERSISTENT: Final = b"\x02"


def short(text: str) -> bytes:
    """A short string. ValueError: more than 255 bytes."""
    raw = text.encode()
    return bytes((len(raw),)) + raw


_FLAGS: Final = (_CONTENT_TYPE | _DELIVERY_MODE | _EXPIRATION | _MESSAGE_ID | _TYPE | _APP_ID).to_bytes(2, "big")
_FIRST: Final = _FLAGS + short("application/vnd.kilonova.signed+json") + _PERSISTENT


def properties(id_: str, method: str, sender: str, expires_milliseconds: int) -> bytes:
    """What the broker keeps beside a message's body; it drops the message when that much time has passed."""
    return _FIRST + short(str(expires_milliseconds)) + short(id_) + _named(method, sender)


@lru_cache(1024)
def _named(method: str, sender: str) -> bytes:
    return short(method) + short(sender)


@lru_cache(1024)
def publish(channel: int, exchange: str, key: str, mandatory: bool) -> bytes:
    """The frame that begins a publication. `mandatory`: it comes back when no queue takes it."""
    payload = b"".join((method_id.pack(PUBLISH), b"\0\0", short(exchange), short(key), bytes((mandatory,))))
    return b"".join((frame_start.pack(METHOD, channel, len(payload)), payload, b"\xce"))


def content(channel: int, wire: bytes, body: bytes, frame_limit: int) -> list[bytes]:
    """What follows it: the header, and the body in as many frames as the broker's limit asks for."""
    size = len(body)
    parts = [_header.pack(HEADER, channel, 12 + len(wire), 60, 0, size), wire]
    step = frame_limit - FRAME_OVERHEAD
    for at in range(0, size, step):
        piece = body if size <= step else body[at : at + step]
        parts += [b"\xce" + frame_start.pack(BODY, channel, len(piece)), piece]
    parts.append(b"\xce")
    return parts


def acknowledgement(channel: int, tag: int, *, multiple: bool) -> bytes:
    """The frame that lets the broker forget delivery `tag`, or (`multiple`) all that are open up to it."""
    return _ack.pack(METHOD, channel, 13, ACK, tag, multiple, END)


def read(frame: bytes) -> Any:
    """The method or content header in one whole frame, by pamqp."""
    return pamqp.frame.unmarshal(frame)[2]
