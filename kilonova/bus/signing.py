"""Signed envelopes: every message carries a keyed BLAKE2b digest (RFC 7693), of a key that only its two ends hold.

On the wire a message is 64 hex digits, then the JSON that they sign. Which key is used follows from the ends:

- an agent (a type that runs on hosts) signs with its own key, `compute.node1`; nobody can speak in its name;
- the control plane, speaking to an agent, uses that agent's key, so a host never holds a key of another;
- a message to every agent of a type uses the type's key (`l2_agent`): such messages are hints, not orders;
- inside the control plane one key, `control`, is shared.

The control plane derives all keys from one secret; a host is given its few (`agent_keys`) when it joins.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Final

import msgspec

from kilonova.base.clock import Clock
from kilonova.base.faults import Fault, Kind, too_large, unauthenticated
from kilonova.bus.contract import Message

AGENT_TYPES: Final = frozenset(
    {"compute", "l2_agent", "l3_agent", "dhcp_agent", "metadata_agent", "cinder-volume", "cinder-backup"}
)
FRESH_SECONDS: Final = 300.0  # calls, fanouts and replies older than this are refused
CAST_KEPT_SECONDS: Final = 3600.0  # a cast without a deadline may wait this long for its worker
SKEW_SECONDS: Final = 60.0  # how far ahead a sender's clock may be
DERIVED_LIMIT: Final = 10_000
MESSAGE_BYTES_LIMIT: Final = 8 * 1024 * 1024
_SIGNATURE_BYTES: Final = 64
_signature: Final = partial(hashlib.blake2b, digest_size=_SIGNATURE_BYTES // 2)
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Message)


def is_agent(sender: str) -> bool:
    """Whether the sender of a message runs on a host: it speaks for itself, and must not be taken for a driver."""
    return sender.partition(".")[0] in AGENT_TYPES


class DerivedKeys(dict[str, bytes]):
    """Every key of a deployment, each derived from one secret when it is first asked for as `keys[name]`; only the
    control plane may hold it."""

    def __init__(self, secret: bytes) -> None:
        super().__init__()
        self._secret = secret

    def __missing__(self, name: str) -> bytes:
        if len(self) >= DERIVED_LIMIT:  # names come from frames not proven yet: forged ones must not fill memory
            self.clear()
        self[name] = hmac.digest(self._secret, b"bus:" + name.encode(), "sha256")
        return self[name]


def agent_keys(secret: bytes, *senders: str) -> dict[str, bytes]:
    """What a host is given when it joins: the keys of its own agents (`compute.node1`) and of their types."""
    keys = DerivedKeys(secret)
    return {name: keys[name] for sender in senders for name in (sender, sender.partition(".")[0])}


class KeyRing:
    """Signs what `sender` sends and checks what it gets, with the keys that `sender` may know."""

    def __init__(self, sender: str, keys: Mapping[str, bytes]) -> None:
        self.sender = sender
        self._keys = keys

    def seal(self, message: Message) -> bytes:
        """The signed frame of `message`. FORBIDDEN when this ring has no key for its two ends."""
        key = self._key(message)
        if key is None or message.sender != self.sender:
            raise Fault(
                Kind.FORBIDDEN,
                f"{self.sender} may not send messages to {message.type}.",
                hint="Agents speak with the control plane only.",
                inside=f"no key from {message.sender} to {message.type} in the ring of {self.sender}",
            )
        body = _encoder.encode(message)
        if len(body) > MESSAGE_BYTES_LIMIT:
            raise too_large(f"A {message.method} message of {len(body)} bytes is larger than {MESSAGE_BYTES_LIMIT}.")
        return _signature(body, key=key).hexdigest().encode() + body

    def unseal(self, frame: bytes, clock: Clock) -> Message:
        """The message of a frame, its sender proven. UNAUTHENTICATED: unreadable, forged, stale or from the future."""
        signature, body = frame[:_SIGNATURE_BYTES], frame[_SIGNATURE_BYTES:]
        try:
            message = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise unauthenticated("A bus message cannot be read.", inside=str(error)) from error
        key = self._key(message)
        if key is None or not hmac.compare_digest(_signature(body, key=key).hexdigest().encode(), signature):
            raise unauthenticated(
                "A bus message is not signed by its sender.",
                inside=f"{message.kind} {message.method} {message.id} says it is from {message.sender}",
            )
        age = clock.now().timestamp() - message.sent_at
        if not -SKEW_SECONDS <= age <= kept_seconds(message):
            raise unauthenticated(
                "A bus message is too old or from the future.",
                inside=f"{message.kind} {message.method} {message.id} from {message.sender} is {age:.0f} s old",
            )
        return message

    def _key(self, message: Message) -> bytes | None:
        try:
            return self._keys[key_name(message.sender, message.type, message.host)]
        except KeyError:
            return None


def kept_seconds(message: Message) -> float:
    """How long after `sent_at` a message may still be taken."""
    if message.kind != "cast":
        return FRESH_SECONDS
    return message.deadline_at - message.sent_at if message.deadline_at else CAST_KEPT_SECONDS


@lru_cache(DERIVED_LIMIT)
def key_name(sender: str, type_: str, host: str) -> str:
    """The name of the key that both ends of a message from `sender` to `type_` on `host` hold."""
    if is_agent(sender):
        return sender
    if type_ in AGENT_TYPES:
        return f"{type_}.{host}" if host else type_
    return "control"


class SeenIds:
    """Ids of the last messages taken, so that a message that comes twice is noticed. Bounded: the oldest go first."""

    def __init__(self, limit: int = 50_000) -> None:
        self._limit = limit
        self._ids: dict[str, None] = {}

    def first_time(self, id_: str) -> bool:
        """Whether `id_` was not seen before; it is from now on."""
        if id_ in self._ids:
            return False
        self._ids[id_] = None
        if len(self._ids) > self._limit:
            del self._ids[next(iter(self._ids))]
        return True

    def forget(self, id_: str) -> None:
        """Take `id_` as new when it comes again: its first run was cut short."""
        self._ids.pop(id_, None)
