"""What the broker lets the agents of one host do: use their own queues, speak to those who answer them, nothing else.

RabbitMQ checks every name that a connection configures, writes to or reads from against three regular expressions of
its user, and on topic exchanges every routing key, of a publication or a binding, against two more. An agent may

- make, bind, consume and delete queues of its own: `compute.node1`, `compute_fanout_node1_…`, `reply_compute.node1_…`;
- bind them to its own keys only, so that it gets no copy of what is meant for others;
- publish to `conductor` (or `q-plugin`, `cinder-scheduler`), to `trace`, and to the reply queues of the control plane.

Exchanges and the queues that an agent only uses are made for it (`shared_queues`): who may declare may also delete.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from kilonova.bus.signing import AGENT_TYPES

REPLIES_EXCHANGE: Final = "replies"  # a topic exchange, whose keys are the names of reply queues
TRACE_EXCHANGE, TRACE_TOPIC = "kilonova", "trace"
CONNECTIONS_PER_AGENT: Final = 4  # one, and those that a restart leaves behind for a moment


@dataclass(frozen=True)
class Peer:
    """Whom a type of agents speaks to, and on which exchange."""

    exchange: str
    type: str


PEERS: Final = {
    "compute": Peer("nova", "conductor"),
    "l2_agent": Peer("neutron", "q-plugin"),
    "l3_agent": Peer("neutron", "q-plugin"),
    "dhcp_agent": Peer("neutron", "q-plugin"),
    "metadata_agent": Peer("neutron", "q-plugin"),
    "cinder-volume": Peer("cinder", "cinder-scheduler"),
    "cinder-backup": Peer("cinder", "cinder-scheduler"),
}


@dataclass(frozen=True)
class TopicRight:
    """Which routing keys of an exchange may be published to (`write`) and bound (`read`)."""

    exchange: str
    write: str
    read: str


@dataclass(frozen=True)
class Rights:
    """The regular expressions of one user, as RabbitMQ has them."""

    configure: str
    write: str
    read: str
    topics: tuple[TopicRight, ...]
    connections: int


def fanout_queue(type_: str, host: str, unique: str) -> str:
    """The queue of one process for what all of its type must hear; the host's name in it says whose it is."""
    return f"{type_}_fanout_{host}_{unique}" if host else f"{type_}_fanout_{unique}"


def reply_queue(sender: str, unique: str) -> str:
    """The queue of one process for answers to its calls."""
    return f"reply_{sender}_{unique}"


def shared_queues(senders: Iterable[str]) -> list[tuple[str, str]]:
    """(exchange, queue) of each queue that these agents use and may not make."""
    found = {(TRACE_EXCHANGE, TRACE_TOPIC)}
    for sender in senders:
        type_ = sender.partition(".")[0]
        peer = PEERS[type_]
        found |= {(peer.exchange, type_), (peer.exchange, peer.type)}
    return sorted(found)


def rights_of(senders: Sequence[str]) -> Rights:
    """What the user of one host may do, whose agents are `senders`: `compute.node1`, `l2_agent.node1`."""
    types = sorted({sender.partition(".")[0] for sender in senders})
    own = [pattern for sender in senders for pattern in _own_queues(sender)]
    exchanges = sorted({PEERS[type_].exchange for type_ in types})
    everywhere = [*map(re.escape, exchanges), re.escape(REPLIES_EXCHANGE)]
    others = "|".join(sorted(re.escape(type_) for type_ in AGENT_TYPES))
    replies = TopicRight(
        REPLIES_EXCHANGE,
        write=rf"^reply_(?!({others})\.)",
        read=_any(rf"reply_{re.escape(sender)}_.*" for sender in senders),
    )
    return Rights(
        configure=_any(own),
        write=_any([*own, *everywhere, re.escape(TRACE_EXCHANGE)]),
        read=_any([*own, *map(re.escape, types), *everywhere]),
        topics=(
            *(_topics(exchange, senders) for exchange in exchanges),
            replies,
            TopicRight(TRACE_EXCHANGE, write=_any([TRACE_TOPIC]), read="^$"),
        ),
        connections=CONNECTIONS_PER_AGENT * len(senders),
    )


def _own_queues(sender: str) -> list[str]:
    type_, _, host = map(re.escape, sender.partition("."))
    return [re.escape(sender), f"{type_}_fanout_{host}_.*", f"reply_{re.escape(sender)}_.*"]


def _topics(exchange: str, senders: Sequence[str]) -> TopicRight:
    mine = [sender for sender in senders if PEERS[sender.partition(".")[0]].exchange == exchange]
    peers = sorted({PEERS[sender.partition(".")[0]].type for sender in mine})
    fanouts = sorted({f"{sender.partition('.')[0]}_fanout" for sender in mine})
    return TopicRight(exchange, write=_any(map(re.escape, peers)), read=_any(map(re.escape, [*mine, *fanouts])))


def _any(patterns: Iterable[str]) -> str:
    """Any of the patterns, from end to end."""
    return f"^({'|'.join(patterns)})$"
