"""Who reads the headers of images: a child that is shut in, or, in simulations, this process itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

import kilonova
from kilonova.base.faults import Fault, Kind
from kilonova.base.world import World
from kilonova.image.contract import Ends, Found
from kilonova.node.images.formats import verdict
from kilonova.node.images.inspect_child import READY, REPLY, REQUEST

log = logging.getLogger(__name__)

Left = Callable[[], float]

AT_ONCE: Final = 2  # so that one whose reading takes long does not hold up the next
START_SECONDS: Final = 60.0  # a busy machine starts programs slowly
REPLY_BYTES: Final = 4096
_START: Final = "import sys; sys.path[:0] = sys.argv[1:2]; from kilonova.node.images.inspect_child import main; main()"


class InlineInspector:
    """Implements `image.contract.DiskInspector` in this process: for simulations, whose images are our own."""

    async def judge(self, ends: Ends) -> Found:
        return Found(*verdict(ends.head, ends.tail, ends.size_bytes))


class ConfinedInspector:
    """Implements `image.contract.DiskInspector` with children that outlive one image and end when nobody asks.

    One that takes longer than `seconds` for an image, or dies of it, is replaced, and the image refused. One that has
    worked for `tired_seconds` (of CPU) in all makes place for a new one.
    """

    def __init__(
        self, world: World, *, seconds: float = 10.0, idle_seconds: float = 30.0, tired_seconds: float = 10.0
    ) -> None:
        self._world = world
        self._seconds = seconds
        self._idle_seconds = idle_seconds
        self._tired_seconds = tired_seconds
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._resting: list[_Child] = []
        self._asked = 0
        self._retiring: asyncio.Task[None] | None = None

    async def judge(self, ends: Ends) -> Found:
        async with self._turns:
            self._asked += 1
            self._look_for_idle()
            try:
                return await self._world.blocking(self._ask, ends)
            finally:
                self._look_for_idle()  # the child rests now: whoever looked while it worked did not see it

    def _look_for_idle(self) -> None:
        if self._retiring is None or self._retiring.done():
            self._retiring = self._world.spawn(self._retire(), "inspectors")

    def children(self) -> list[int]:
        """Process ids of the children that wait."""
        return [child.process.pid for child in self._resting]

    def _ask(self, ends: Ends) -> Found:
        for _ in range(2):  # a new one is not tired
            child = self._rested()
            try:
                found = child.judge(ends, self._within(self._seconds))
            except _Retired:
                child.end()
            except BaseException:  # edge: no child is left half asked, whatever ended it
                child.end()
                raise
            else:
                self._resting.append(child)
                return found
        raise _stopped("the inspector ended unasked")

    def _rested(self) -> _Child:
        while child := self._taken():
            if child.process.poll() is None:
                return child
            child.end()
        return _Child(self._tired_seconds, self._within(START_SECONDS))

    def _taken(self) -> _Child | None:
        """One of those at rest, for whoever asks first: threads and the loop do."""
        try:
            return self._resting.pop()
        except IndexError:
            return None

    def _within(self, seconds: float) -> Left:
        """How many seconds are left, from now on; TimeoutError when none are."""
        until = self._world.clock.monotonic() + seconds

        def left() -> float:
            if (rest := until - self._world.clock.monotonic()) <= 0:
                raise TimeoutError
            return rest

        return left

    async def _retire(self) -> None:
        """Whether anybody asked lately? If not, an idle cloud need not keep the children."""
        try:
            asked = -1
            while asked != self._asked:
                asked = self._asked
                await self._world.clock.sleep(self._idle_seconds)
        finally:
            while child := self._taken():
                child.end()


class _Retired(Exception):
    """The child had worked long enough, and ended by itself before it was asked."""


class _Child:
    """One child, fenced and waiting."""

    def __init__(self, tired_seconds: float, left: Left) -> None:
        self._socket, theirs = socket.socketpair()
        root = str(Path(kilonova.__file__).parent.parent)
        try:
            with theirs:
                self.process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-B", "-c", _START, root, str(tired_seconds)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={},
                    start_new_session=True,
                )
        except OSError as error:  # the machine has no room for one more process
            self._socket.close()
            raise _stopped(f"the inspector did not start: {error!r}") from error
        try:
            told = self._reply(left)
        except (OSError, EOFError) as error:
            told = repr(error).encode()
        if told != READY:
            self.end()
            raise _stopped(f"the inspector did not start: {told.decode(errors='replace')}")

    def judge(self, ends: Ends, left: Left) -> Found:
        """What the data is. UNAVAILABLE: it took too long, or the child died of it."""
        try:
            self._socket.settimeout(left())
            self._socket.sendall(REQUEST.pack(len(ends.head), len(ends.tail), ends.size_bytes) + ends.head + ends.tail)
            return msgspec.json.decode(self._reply(left), type=Found)
        except TimeoutError:
            raise _stopped("the inspector took too long") from None
        except (OSError, EOFError, msgspec.DecodeError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self.process.wait(1) == 0:
                    raise _Retired from error
            raise _stopped(f"the inspector died: exit code {self.process.poll()}, {error!r}") from error

    def end(self) -> None:
        """No process is left."""
        self._socket.close()
        self.process.kill()
        self.process.wait()

    def _reply(self, left: Left) -> bytes:
        (length,) = REPLY.unpack(self._receive(REPLY.size, left))
        if length > REPLY_BYTES:
            raise EOFError(f"an answer of {length} bytes")
        return self._receive(length, left)

    def _receive(self, length: int, left: Left) -> bytes:
        got = bytearray()
        while len(got) < length:
            self._socket.settimeout(left())
            piece = self._socket.recv(length - len(got))
            if not piece:
                raise EOFError("no answer")
            got += piece
        return bytes(got)


def _stopped(inside: str) -> Fault:
    log.warning("an image was refused: %s", inside)
    return Fault(
        Kind.UNAVAILABLE,
        "The headers of the image could not be read within the limits of time and memory, and it was refused.",
        hint="Try again. If it is refused again, write the disk anew: qemu-img convert IN OUT.",
        inside=inside,
    )
