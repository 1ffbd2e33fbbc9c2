"""Typed RPC from a Protocol: `Client` turns its methods into bus messages, `handlers` serves an object that has them.

A contract is a Protocol class whose async methods are marked @call, @cast or @fanout. Arguments and results are
JSON types or msgspec Structs; both ends convert and check them by the annotations.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import cache
from typing import Any, Literal, TypedDict, TypeVar, get_type_hints

import msgspec

from kilonova.base.faults import invalid
from kilonova.bus.contract import CALL_TIMEOUT_SECONDS, Bus, Handler, Json, Message, Target

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
P = TypeVar("P")


class Verb(msgspec.Struct, frozen=True):
    """How a contract method crosses the bus."""

    kind: Literal["call", "cast", "fanout"]
    timeout_seconds: float = CALL_TIMEOUT_SECONDS


_handled: ContextVar[Message | None] = ContextVar("kilonova_bus_message", default=None)


def handle(message: Message) -> None:
    """The rest of this task is the handling of `message`; only bus adapters say so, after they proved its sender."""
    _handled.set(message)


def sender() -> str:
    """The proven sender of the message being handled, `compute.node1`; "" outside a handler."""
    message = _handled.get()
    return message.sender if message else ""


def deadline_at() -> float:
    """When the one who sent the message being handled stops waiting, in wall-clock seconds; 0.0: never."""
    message = _handled.get()
    return message.deadline_at if message else 0.0


def call(timeout_seconds: float = CALL_TIMEOUT_SECONDS) -> Callable[[F], F]:
    """Mark a contract method as request and reply."""
    return lambda method: _mark(method, Verb("call", timeout_seconds))


def cast(method: F) -> F:
    """Mark a contract method as one way."""
    return _mark(method, Verb("cast"))


def fanout(method: F) -> F:
    """Mark a contract method as told to every worker of the type."""
    return _mark(method, Verb("fanout"))


def _mark(method: F, verb: Verb) -> F:
    method.__rpc__ = verb  # type: ignore[attr-defined]
    return method


@cache
def _methods(contract: type) -> dict[str, tuple[Verb, tuple[str, ...], dict[str, Any]]]:
    """name → (verb, parameter names, type hints) of the marked methods of `contract` and its bases."""
    found = {}
    for name, method in inspect.getmembers(contract, inspect.isfunction):
        verb = getattr(method, "__rpc__", None)
        if verb is not None:
            names = tuple(inspect.signature(method).parameters)[1:]
            found[name] = (verb, names, get_type_hints(method))
    return found


class _Client:
    """Stands in for a contract: each marked method sends a message."""

    def __init__(self, bus: Bus, target: Target, contract: type) -> None:
        self._bus, self._target, self._contract = bus, target, contract

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """Made when it is first asked for: many a client is made for one message."""
        try:
            verb, names, hints = _methods(self._contract)[name]
        except KeyError:
            raise AttributeError(f"{self._contract.__name__} has no method {name} that crosses the bus") from None
        send = _sender(self._bus, self._target, name, verb, names, hints)
        setattr(self, name, send)
        return send


def _sender(
    bus: Bus, target: Target, name: str, verb: Verb, names: tuple[str, ...], hints: dict[str, Any]
) -> Callable[..., Awaitable[Any]]:
    result = hints.get("return", Any)

    async def send(*args: Any, **named: Any) -> Any:
        wire: dict[str, Json] = dict(zip(names, args, strict=False)) | named
        wire = msgspec.to_builtins(wire)
        if verb.kind == "cast":
            return await bus.cast(target, name, wire)
        if verb.kind == "fanout":
            return await bus.fanout(target, name, wire)
        answer = await bus.call(target, name, wire, timeout_seconds=verb.timeout_seconds)
        return None if result in (None, type(None)) else msgspec.convert(answer, result)

    return send


def client(contract: type[P], bus: Bus, target: Target) -> P:
    """An object with `contract`'s methods that sends each to `target`."""
    return _Client(bus, target, contract)  # type: ignore[return-value]


def handlers(contract: type, served: object) -> Mapping[str, Handler]:
    """Bus handlers for every marked method of `contract`, done by `served`."""
    return {
        name: _receiver(getattr(served, name), names, hints) for name, (_, names, hints) in _methods(contract).items()
    }


_Arguments: Any = TypedDict  # made of what a method's annotations say, which mypy has no name for


def _receiver(method: Callable[..., Awaitable[Any]], names: tuple[str, ...], hints: dict[str, Any]) -> Handler:
    arguments: Any = _Arguments("arguments", {name: hints.get(name, Any) for name in names}, total=False)

    async def receive(message: Message) -> Json:
        try:
            args = msgspec.convert(message.args, arguments)  # what the method does not know is left out
        except msgspec.ValidationError as error:
            raise invalid(f"Message {message.method} is malformed: {error}") from error
        return msgspec.to_builtins(await method(**args))

    return receive
